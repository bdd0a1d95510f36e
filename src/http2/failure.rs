//! What an error of `h2` means for a request: what happened, and whether the peer may have processed it.

use h2::Reason;

use super::{Failure, Fate};

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// `h2` refused to begin it.
    NotBegun,
    /// `h2` has it, and let go of no byte since.
    Held,
    /// Bytes left after it was queued, so its headers may be out.
    Sent,
}

/// Judges an error that ended a request.
pub(super) fn judge(error: &h2::Error, left: Left) -> (Failure, Fate) {
    // What `h2` holds may leave all the same, before a reset and in its farewell; with a broken connection it cannot.
    let fate = |not_processed: bool| if not_processed { Fate::NotProcessed } else { Fate::Unknown };
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
        // Reset by `h2` for a malformed answer, or by us: we do so on a timeout alone.
        let failure = if error.is_library() { Failure::Reset } else { Failure::Timeout };
        return (failure, Fate::Unknown);
    }
    if error.is_go_away() {
        return (Failure::ConnectionLost, fate(left == Left::NotBegun));
    }
    if error.is_io() {
        return (Failure::ConnectionLost, fate(left != Left::Sent));
    }
    // A request that `h2` refused to begin.
    (Failure::Reset, Fate::NotProcessed)
}

/// Whether an error after the headers of an answer only says that the peer does not want the rest of our request
/// (RFC 9113 8.1: `RST_STREAM` with `NO_ERROR` after a complete answer).
pub(super) fn is_end_of_answer(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR)
}
