//! The end of a message that no request leaves for.

use crate::outcome::{Outcome, Refusal};

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
