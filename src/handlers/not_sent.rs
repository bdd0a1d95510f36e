//! The end of a message that no request leaves for.

use crate::clock;
use crate::outcome::{Outcome, Refusal};

/// Whether a push that was in time when it was read is too late now: it may have waited long for its place.
pub(in crate::handlers) fn is_late(expires_at_ms: Option<i64>) -> bool {
    expires_at_ms.is_some_and(|end| end < clock::now_ms())
}

/// Why a record is not sent.
#[derive(Debug)]
pub(in crate::handlers) enum NotSent {
    /// It cannot be.
    Refused(Box<Refusal>),
    /// It is too late.
    Expired,
}

impl From<NotSent> for Outcome {
    fn from(not_sent: NotSent) -> Self {
        match not_sent {
            NotSent::Refused(refusal) => Outcome::Rejected(*refusal),
            NotSent::Expired => Outcome::Expired(None),
        }
    }
}

impl From<Box<Refusal>> for NotSent {
    fn from(refusal: Box<Refusal>) -> Self {
        NotSent::Refused(refusal)
    }
}
