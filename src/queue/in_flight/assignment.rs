//! One partition under one epoch of the group: the ledger, and what its receipts may still do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::LastPoll;
use crate::queue::offsets::Ledger;
use crate::tally::LaneTally;

/// Lending and sending.
const LIVE: u8 = 0;
/// No more sending; what is on a stream may still end.
const STOPPING: u8 = 1;
/// Somebody else's, as far as we know; what ends here is still noted, in case the partition comes back untouched.
const SUSPENDED: u8 = 2;
/// What receipts say is ignored: under these offsets are other records, or somebody else has gone on.
const ENDED: u8 = 3;

/// One partition from assignment to revocation, shared by its receipts. It is revived when the partition comes back and
/// nobody else has gone on in it.
#[derive(Debug)]
pub struct Assignment {
    /// What is lent and what may be committed. Held for moments, never over an await.
    pub ledger: Mutex<Ledger>,
    last_poll: Arc<LastPoll>,
    lane: Arc<LaneTally>,
    stage: AtomicU8,
    on_stream: AtomicUsize,
    dirty: AtomicBool,
    to_lend_again: Mutex<Vec<i64>>,
    /// Whether that list holds anything, so that asking takes no lock.
    any_to_lend_again: AtomicBool,
    /// Receipts dropped without an end while live.
    dropped: AtomicU64,
}

impl Assignment {
    /// A partition that has just become ours, read from where its ledger begins; its messages are counted in `lane`.
    pub fn new(ledger: Ledger, last_poll: Arc<LastPoll>, lane: Arc<LaneTally>) -> Arc<Self> {
        Arc::new(Assignment {
            ledger: Mutex::new(ledger),
            last_poll,
            lane,
            stage: AtomicU8::new(LIVE),
            on_stream: AtomicUsize::new(0),
            dirty: AtomicBool::new(false),
            to_lend_again: Mutex::default(),
            any_to_lend_again: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        })
    }

    /// The partition is being given up, or the process ends: nothing more is sent, what is on a stream may end, and a
    /// receipt that is dropped counts as released.
    pub fn stop_sending(&self) {
        self.stage.fetch_max(STOPPING, Ordering::SeqCst);
    }

    /// The partition is taken away. Its messages are somebody else's now; what of them ends here is noted, not committed.
    pub fn suspend(&self) {
        self.stage.fetch_max(SUSPENDED, Ordering::SeqCst);
    }

    /// The partition has come back as it was: what its receipts say counts again. Not one that has ended.
    pub fn revive(&self) {
        // A failure is an end, which is final.
        let _ = self.stage.compare_exchange(SUSPENDED, LIVE, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The epoch is over: what receipts say from now on is ignored.
    pub fn end(&self) {
        self.stage.store(ENDED, Ordering::SeqCst);
    }

    /// Receipts whose message may be with the provider now, or whose end is being reported. When it is 0 after [`Assignment::stop_sending`] it stays 0,
    /// and all that ended as resolved is in the ledger.
    pub fn on_stream(&self) -> usize {
        self.on_stream.load(Ordering::SeqCst)
    }

    /// Offsets to be read and lent again, ascending, each told once: their receipts were dropped without an end, or
    /// released although the partition stays ours. They hold the position until then.
    pub fn take_lost(&self) -> Vec<i64> {
        if !self.any_to_lend_again.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let mut offsets = std::mem::take(&mut *self.to_lend_again.lock());
        offsets.sort_unstable();
        offsets
    }

    /// Whether [`Assignment::take_lost`] would tell of any.
    pub fn has_lost(&self) -> bool {
        self.any_to_lend_again.load(Ordering::Acquire)
    }

    /// Receipts dropped without an end since this was asked last: bugs, told apart from what was released.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Where its messages are counted.
    pub fn lane(&self) -> &Arc<LaneTally> {
        &self.lane
    }

    /// Whether its messages are somebody else's.
    pub fn is_over(&self) -> bool {
        self.stage() >= SUSPENDED
    }

    /// Set whenever an offset is resolved; whoever commits clears it before reading the ledger.
    pub fn dirty(&self) -> &AtomicBool {
        &self.dirty
    }

    pub(super) fn resolve(&self, offset: i64) {
        if self.stage() != ENDED && self.ledger.lock().resolve(offset) {
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Gives the offset back; whether the partition is live, so that it must be lent again here.
    pub(super) fn give_back(&self, offset: i64) -> bool {
        // Until it is noted: who sees in the ledger that nothing is in flight sees that it comes again.
        let mut ledger = self.ledger.lock();
        // The stage is asked again after the ledger has it: a partition that is revived is read again from before it.
        if self.stage() == ENDED || !ledger.forget(offset) || self.stage() != LIVE {
            return false;
        }
        self.to_lend_again.lock().push(offset);
        self.any_to_lend_again.store(true, Ordering::Release);
        true
    }

    pub(super) fn note_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn may_send(&self) -> bool {
        self.stage() == LIVE && self.last_poll.is_recent(Instant::now())
    }

    /// To send, or to report an end that needed no provider: both are to be of what is ours, and a process that stood still may not
    /// know yet that somebody else has it, and has sent what passed its expiry here meanwhile. Counted first, asked then: either
    /// this sees the stop, or whoever stopped sees the count.
    pub(super) fn enter_stream(&self) -> bool {
        self.on_stream.fetch_add(1, Ordering::SeqCst);
        let may = self.may_send();
        if !may {
            self.leave_stream();
        }
        may
    }

    pub(super) fn leave_stream(&self) {
        self.on_stream.fetch_sub(1, Ordering::SeqCst);
    }

    fn stage(&self) -> u8 {
        self.stage.load(Ordering::SeqCst)
    }
}
