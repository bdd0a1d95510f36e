//! The receipt of one lent message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{Assignment, Place, Share};
use crate::message::{Origin, age};
use crate::outcome::Outcome;
use crate::tally::{End, LaneTally};

/// Lends the message at `offset`, which the assignment's ledger has called new; it counts against the share until the
/// receipt ends, and is in the books from here to there. `bytes` is what its payload takes.
pub fn lend(
    assignment: &Arc<Assignment>,
    share: &Arc<Share>,
    offset: i64,
    timestamp_ms: Option<i64>,
    bytes: usize,
) -> Receipt {
    share.enter(assignment.lane().key().lane, bytes);
    assignment.lane().lent(timestamp_ms.map(age));
    Receipt {
        assignment: Arc::clone(assignment),
        share: Arc::clone(share),
        offset,
        bytes,
        on_stream: AtomicBool::new(false),
        place: Mutex::new(Place::OnWay),
        fate: Fate::Open,
    }
}

/// How a receipt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Not at all, so far.
    Open,
    Resolved(End, Option<&'static str>),
    Released,
}

/// The obligation to resolve one lent message. Dropping it unresolved is a bug: logged, counted, the message lent again.
#[derive(Debug)]
pub struct Receipt {
    assignment: Arc<Assignment>,
    share: Arc<Share>,
    offset: i64,
    bytes: usize,
    on_stream: AtomicBool,
    place: Mutex<Place>,
    fate: Fate,
}

impl Receipt {
    /// The message is a push and its outcome final and reported: its offset may move.
    pub fn resolve_as(self, outcome: &Outcome) {
        self.resolve_with(outcome.into(), outcome.key());
    }

    /// The message is no push, and everything is done that it asked for: its offset may move.
    pub fn resolve(self) {
        self.resolve_with(End::Handled, None);
    }

    fn resolve_with(mut self, end: End, reason: Option<&'static str>) {
        self.fate = Fate::Resolved(end, reason);
        self.assignment.resolve(self.offset);
    }

    /// Not resolved on purpose (shutdown, revoked partition): the offset stays, the message comes again to whoever owns it.
    pub fn release(mut self) {
        self.fate = Fate::Released;
        self.assignment.give_back(self.offset);
    }

    /// Whether this process may still send the message: its partition is ours and not draining, and the queue was polled
    /// within the session timeout. A `true` notes it as being on a stream until the receipt ends or `off_stream`.
    pub fn may_send(&self) -> bool {
        if self.on_stream.swap(true, Ordering::AcqRel) {
            return self.assignment.may_send();
        }
        let may = self.assignment.enter_stream();
        self.on_stream.store(may, Ordering::Release);
        may
    }

    /// Where its message is counted.
    pub fn lane(&self) -> &Arc<LaneTally> {
        self.assignment.lane()
    }

    /// Whether the message is somebody else's by now: what this receipt says changes nothing any more.
    pub fn is_over(&self) -> bool {
        self.assignment.is_over()
    }

    /// Whether its message came from where nothing is to be lent any more by order: one that waits is given back.
    pub fn is_held_back(&self, origin: &Origin) -> bool {
        self.share.holds_back(origin)
    }

    /// The attempt ended without an outcome; the message waits for a retry.
    pub fn off_stream(&self) {
        if self.on_stream.swap(false, Ordering::AcqRel) {
            self.assignment.leave_stream();
        }
    }

    /// Enters or leaves the waiting room for retries; counted against the app's share of waiters.
    pub fn set_waiting(&self, waiting: bool) {
        self.move_to(if waiting { Place::Waiting } else { Place::OnWay });
    }

    /// Whether the message's end may be reported: its partition is known to be ours and is not being given up, or the message is
    /// with the provider anyway. A `true` notes it as under way, as on a stream, until the receipt ends: who takes the partition over would report it
    /// again.
    pub fn may_report(&self) -> bool {
        if self.on_stream.swap(true, Ordering::AcqRel) {
            return true;
        }
        let may = self.assignment.enter_stream();
        self.on_stream.store(may, Ordering::Release);
        may
    }

    /// Its outcome is known: only the report is waited for.
    pub fn set_reporting(&self) {
        self.move_to(Place::Reporting);
    }

    fn move_to(&self, to: Place) {
        let from = std::mem::replace(&mut *self.place.lock(), to);
        if from != to {
            self.share.moved(self.lane().key().lane, from, to);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let lost = self.fate == Fate::Open && self.assignment.give_back(self.offset);
        if lost {
            self.share.all.lost.fetch_add(1, Ordering::Relaxed);
            self.assignment.note_dropped();
            tracing::error!(alarm = true, app = %self.share.app, offset = self.offset, "a message was dropped without an outcome; it is sent again");
        }
        self.off_stream();
        self.move_to(Place::OnWay);
        // Before its place is free: the books never show more in flight than there are places.
        match self.fate {
            Fate::Resolved(end, reason) => self.lane().ended(end, reason),
            Fate::Open | Fate::Released => self.lane().released(lost),
        }
        self.share.leave(self.lane().key().lane, self.bytes);
    }
}
