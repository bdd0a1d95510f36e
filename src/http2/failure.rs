//! What a stream's end means for its request: what happened, and whether the peer may have processed it.

use super::wire::{Code, Ended};
use super::{Failure, Fate};

/// Judges the end of a request that got no answer.
pub(super) fn judge(ended: &Ended) -> (Failure, Fate) {
    match ended {
        Ended::Unsendable(_) => (Failure::Reset, Fate::NotProcessed),
        Ended::Crowded | Ended::Reset(Code::REFUSED_STREAM) => (Failure::Refused, Fate::NotProcessed),
        Ended::GoAway(_) => (Failure::GoAway, Fate::NotProcessed),
        Ended::Reset(_) | Ended::Malformed(_) => (Failure::Reset, Fate::Unknown),
        Ended::Expired => (Failure::Timeout, Fate::Unknown),
        Ended::Lost { has_left: true, .. } => (Failure::ConnectionLost, Fate::Unknown),
        Ended::Lost { has_left: false, .. } => (Failure::ConnectionLost, Fate::NotProcessed),
    }
}
