//! What a request without an answer means: the same for every provider, for it was the way that failed.

use crate::http2::{Failure, Fate, SendError};
use crate::outcome::{Class, Outcome, Refusal, Verdict};

/// Whether the peer certainly did not process the request, and might another time.
pub(in crate::handlers) fn was_turned_away(error: &SendError) -> bool {
    error.fate == Fate::NotProcessed && !matches!(error.failure, Failure::Closed | Failure::Reset)
}

/// The verdict on a request without an answer.
pub(in crate::handlers) fn failed(error: &SendError) -> Verdict {
    let (key, reason) = match error.failure {
        Failure::Closed => return Verdict::Released,
        // The transport's word for a request that HTTP/2 cannot carry.
        Failure::Reset if error.fate == Fate::NotProcessed => {
            let description = error.detail.clone();
            let refusal = Refusal::local(Class::Message, "unsendable", "Unsendable", description);
            return Verdict::Resolved(Outcome::Rejected(refusal));
        }
        Failure::Connect => ("connect", "ConnectFailed"),
        Failure::ConnectionLost => ("connection-lost", "ConnectionLost"),
        Failure::GoAway => ("goaway", "GoAway"),
        Failure::Refused => ("stream-refused", "StreamRefused"),
        Failure::Reset => ("stream-reset", "StreamReset"),
        Failure::Timeout => ("timeout", "Timeout"),
    };
    Verdict::Retry(Refusal::network(key, reason, error.detail.clone(), error.fate == Fate::Unknown))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http2::ConnectionRef;

    fn verdict(failure: Failure, fate: Fate) -> Verdict {
        let (connection, after) = (ConnectionRef::default(), Duration::ZERO);
        failed(&SendError { failure, fate, detail: "127.0.0.1:443: gone".into(), connection, after })
    }

    #[test]
    fn a_request_without_an_answer_is_retried_and_says_whether_it_may_show_twice() {
        for failure in [
            Failure::Connect,
            Failure::ConnectionLost,
            Failure::GoAway,
            Failure::Refused,
            Failure::Reset,
            Failure::Timeout,
        ] {
            for (fate, maybe) in [(Fate::Unknown, true), (Fate::NotProcessed, false)] {
                if (failure, fate) == (Failure::Reset, Fate::NotProcessed) {
                    assert!(matches!(verdict(failure, fate), Verdict::Resolved(Outcome::Rejected(_))));
                    continue;
                }
                let Verdict::Retry(refusal) = verdict(failure, fate) else { panic!("{failure:?} is not retried") };
                assert_eq!(refusal.maybe_delivered, maybe);
                assert_eq!(refusal.status, 0);
            }
        }
        assert_eq!(verdict(Failure::Closed, Fate::NotProcessed), Verdict::Released);
    }
}
