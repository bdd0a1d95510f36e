//! What an error of `h2` means for a request: what happened, and whether the peer may have processed it.

use h2::Reason;

use super::{Failure, Fate};

/// Judges an error that ended a request. `sent`: bytes left after the request was queued, so its headers may be out.
pub(super) fn judge(error: &h2::Error, sent: bool) -> (Failure, Fate) {
    let unless_unsent = if sent { Fate::Unknown } else { Fate::NotProcessed };
    if error.is_go_away() && error.is_remote() {
        // `h2` gives a peer's GOAWAY to those streams alone that are above its last stream id, and to new ones.
        return (Failure::GoAway, Fate::NotProcessed);
    }
    if error.is_reset() && error.is_remote() {
        return match error.reason() {
            Some(Reason::REFUSED_STREAM) => (Failure::Refused, Fate::NotProcessed),
            _ => (Failure::Reset, Fate::Unknown),
        };
    }
    if error.is_reset() {
        // Reset by `h2` for a malformed answer, or by us: we do so on a timeout alone. What `h2` had not sent by then may leave
        // all the same, before the reset.
        let failure = if error.is_library() { Failure::Reset } else { Failure::Timeout };
        return (failure, Fate::Unknown);
    }
    if error.is_go_away() {
        return (Failure::ConnectionLost, Fate::Unknown); // ours, and the same
    }
    if error.is_io() {
        return (Failure::ConnectionLost, unless_unsent);
    }
    // A request that `h2` refused to begin.
    (Failure::Reset, Fate::NotProcessed)
}

/// Whether an error after the headers of an answer only says that the peer does not want the rest of our request
/// (RFC 9113 8.1: `RST_STREAM` with `NO_ERROR` after a complete answer).
pub(super) fn is_end_of_answer(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR)
}
