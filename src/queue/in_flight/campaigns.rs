//! What campaigns may hold of a bound. The rest is kept for what is urgent, which need not wait until a backlog of millions
//! has made room for it.

use super::{Counters, Gate, Place, Usage};

/// The bound of the lane `massive`.
#[derive(Debug)]
pub(super) struct Campaigns {
    gate: Gate,
    held: Counters,
}

impl Campaigns {
    /// Three quarters of so many messages and bytes.
    pub(super) fn of(messages: usize, bytes: usize) -> Self {
        let (messages, bytes) = most(messages, bytes);
        Campaigns { gate: Gate::new(messages, bytes), held: Counters::default() }
    }

    /// The same of another bound.
    pub(super) fn resize(&self, messages: usize, bytes: usize) {
        let (messages, bytes) = most(messages, bytes);
        self.gate.resize(messages, bytes);
    }

    pub(super) fn has_room(&self) -> bool {
        self.gate.has_room(self.held.usage())
    }

    pub(super) fn usage(&self) -> Usage {
        self.held.usage()
    }

    pub(super) fn moved(&self, from: Place, to: Place) {
        self.held.moved(from, to);
    }

    pub(super) fn enter(&self, bytes: usize) {
        self.held.enter(bytes);
    }

    pub(super) fn leave(&self, bytes: usize) {
        self.held.leave(bytes);
    }
}

fn most(messages: usize, bytes: usize) -> (usize, usize) {
    (messages - messages / 4, bytes - bytes / 4)
}
