//! What is lent and not yet resolved: bounds, shares, receipts.

use std::sync::Arc;

/// Bounds of everything lent by this process, and who holds how much of it.
#[derive(Debug)]
pub struct InFlight {
    _todo: (),
}

impl InFlight {
    /// At most `messages` and `bytes` lent at once; with several apps none holds more than half.
    pub fn new(messages: usize, bytes: usize) -> Arc<Self> {
        let _ = (messages, bytes);
        Arc::new(InFlight { _todo: () })
    }
}

/// The obligation to resolve one lent message. Dropping it unresolved is a bug: logged, counted, the message lent again.
#[derive(Debug)]
pub struct Receipt {
    _todo: (),
}

impl Receipt {
    /// The message's outcome is final and reported: its offset may move.
    pub fn resolve(self) {}

    /// Not resolved on purpose (shutdown, revoked partition): the offset stays, the message comes again to whoever owns it.
    pub fn release(self) {}

    /// Whether this process may still send the message: its partition is ours and not draining, and the queue was polled
    /// within the session timeout. A `true` notes it as being on a stream until the receipt ends or `off_stream`.
    pub fn may_send(&self) -> bool {
        true
    }

    /// The attempt ended without an outcome; the message waits for a retry.
    pub fn off_stream(&self) {}

    /// Enters or leaves the waiting room for retries; counted against the app's share of waiters.
    pub fn set_waiting(&self, waiting: bool) {
        let _ = waiting;
    }
}
