//! Lanes that nothing is lent from, because a person has ordered so.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::RwLock;

use crate::message::{Lane, Origin};

/// Few, and mostly none: then asking is one look at a flag.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    any: AtomicBool,
    lanes: RwLock<Vec<(String, Lane)>>,
}

impl Lanes {
    pub(super) fn set(&self, lanes: Vec<(String, Lane)>) {
        let any = !lanes.is_empty();
        *self.lanes.write() = lanes;
        self.any.store(any, Relaxed);
    }

    pub(super) fn contain(&self, origin: &Origin) -> bool {
        let is_it = |(app, lane): &(String, Lane)| *lane == origin.lane && app.eq_ignore_ascii_case(&origin.app);
        self.any.load(Relaxed) && self.lanes.read().iter().any(is_it)
    }
}
