//! The end of a message that no request leaves for.

use super::Gate;
use crate::clock;
use crate::outcome::{Outcome, Refusal, Verdict};

/// Whether a push is not worth sending any more; the clock is asked where it expires at all.
pub(in crate::handlers) fn is_late(expires_at_ms: Option<i64>, now_ms: impl FnOnce() -> i64) -> bool {
    expires_at_ms.is_some_and(|end| end < now_ms())
}

/// What becomes of a push that has a place and must not leave all the same; `None`: it leaves. It may have expired since it was read, for
/// a place can be waited for.
pub(in crate::handlers) fn kept_back(gate: &dyn Gate, expires_at_ms: Option<i64>) -> Option<Verdict> {
    if is_late(expires_at_ms, clock::now_ms) {
        return Some(Verdict::Resolved(NotSent::Expired.into()));
    }
    (!gate.pass()).then_some(Verdict::Released)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::OpenGate;

    /// Of a partition that is somebody else's by now.
    struct Closed;

    impl Gate for Closed {
        fn pass(&self) -> bool {
            false
        }
    }

    #[test]
    fn what_expired_on_the_way_to_its_place_does_not_leave_whatever_the_gate_says() {
        let (past, future) = (Some(clock::now_ms() - 1_000), Some(clock::now_ms() + 60_000));
        for gate in [&OpenGate as &dyn Gate, &Closed] {
            assert_eq!(kept_back(gate, past), Some(Verdict::Resolved(Outcome::Expired(None))));
        }
        for in_time in [None, future] {
            assert_eq!(kept_back(&OpenGate, in_time), None);
            assert_eq!(kept_back(&Closed, in_time), Some(Verdict::Released));
        }
    }
}
