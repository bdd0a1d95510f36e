//! Which topics a queue reads, and whose they are: what tells a queue of pushes from one of feedback.

use std::borrow::Cow;
use std::sync::Arc;

use crate::message::{Lane, Origin, Platform};

/// Whose a topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The app, as configured or as the topic spells it.
    pub app: Arc<str>,
    /// Its platform.
    pub platform: Platform,
    /// How urgent it is.
    pub lane: Lane,
}

/// The choice among the cluster's topics. Asked on the poll thread, for every topic at each look.
pub trait Selection: Send {
    /// Whose a topic is; `None`: not ours, and never consumed.
    fn owner(&self, topic: &str) -> Option<Owner>;

    /// Whether a topic that is not ours looks as if it could be: such ones are named in the log and counted.
    fn is_akin(&self, topic: &str) -> bool;

    /// The share of the bounds that a partition's messages count against; the app's unless somebody knows better.
    fn share<'a>(&self, origin: &'a Origin) -> Cow<'a, str> {
        Cow::Borrowed(&origin.app)
    }
}
