//! Where messages come from: a queue lends each message with a receipt, and moves its offset when receipts are resolved.

use std::time::Duration;

use crate::message::QueueMessage;

pub mod in_flight;
pub mod map;
pub mod memory;
pub mod offsets;
pub mod topic;
pub use in_flight::{InFlight, Receipt};

/// A message and the receipt that must be resolved or released.
#[derive(Debug)]
pub struct Lent {
    /// What came in.
    pub message: QueueMessage,
    /// The obligation that comes with it.
    pub receipt: Receipt,
}

/// Why a queue cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The client is broken for good (fenced, authorisation, a fatal broker answer): stop the process.
    #[error("{0}")]
    Fatal(String),
}

/// A source of messages, driven by one thread of its own. Calls are synchronous and bounded in time.
pub trait Queue: Send {
    /// Serves the group (rebalances, commits on the clock), then lends what is readable and has room, appending to
    /// `out`. Waits at most `wait` when nothing is readable. Never blocks on a full share: that app is skipped.
    fn lend(&mut self, wait: Duration, out: &mut Vec<Lent>) -> Result<(), QueueError>;

    /// Stops lending for good; `lend` goes on serving the group so that the membership lasts through the drain.
    fn stop(&mut self);

    /// Commits what is resolved with the map of what is resolved beyond, leaves the group. Waits at most `deadline`.
    fn close(self: Box<Self>, deadline: Duration) -> Result<(), QueueError>;
}
