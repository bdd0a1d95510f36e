//! A partition by its name. Pure.

use std::sync::Arc;

use crate::message::Origin;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The topic.
    pub(super) topic: Arc<str>,
    /// The partition's number.
    pub(super) partition: i32,
}

impl Place {
    pub(super) fn new(topic: &str, partition: i32) -> Self {
        Place { topic: topic.into(), partition }
    }
}

impl From<&Origin> for Place {
    fn from(origin: &Origin) -> Self {
        Place { topic: origin.topic.clone(), partition: origin.partition }
    }
}
