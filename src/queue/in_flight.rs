//! What is lent and not yet resolved: bounds, shares of apps, epochs of partitions, receipts.
//!
//! Everything is counted from live receipts: a receipt counts when it is made and stops counting when it ends, however it
//! ends. All counters are atomics; the only lock is the ledger's own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::offsets::Ledger;

/// What somebody holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Messages lent and not resolved.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Those of them that wait for another attempt.
    pub waiting: usize,
}

#[derive(Debug, Default)]
struct Counters {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    waiting: AtomicUsize,
}

impl Counters {
    fn usage(&self) -> Usage {
        Usage {
            messages: self.messages.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
        }
    }
}

/// Bounds of everything lent by this process, and who holds how much of it.
#[derive(Debug)]
pub struct InFlight {
    bounds: Usage,
    total: Counters,
    shares: RwLock<HashMap<Arc<str>, Arc<Share>>>,
    /// 1, or 2 with several apps: no app holds more than this part of the bounds.
    parts: AtomicUsize,
}

impl InFlight {
    /// At most `messages` and `bytes` lent at once; with several apps none holds more than half.
    pub fn new(messages: usize, bytes: usize) -> Arc<Self> {
        let bounds = Usage { messages, bytes, waiting: 0 };
        Arc::new(InFlight { bounds, total: Counters::default(), shares: RwLock::default(), parts: AtomicUsize::new(1) })
    }

    /// The apps that share the bounds.
    pub fn set_apps(&self, apps: &[Arc<str>]) {
        self.parts.store(apps.len().clamp(1, 2), Relaxed);
    }

    /// The share of an app.
    pub fn share(self: &Arc<Self>, app: &str) -> Arc<Share> {
        if let Some(share) = self.shares.read().get(app) {
            return share.clone();
        }
        let make = || Arc::new(Share { process: self.clone(), own: Counters::default(), full: AtomicBool::new(false) });
        self.shares.write().entry(app.into()).or_insert_with(make).clone()
    }

    /// What an app holds.
    pub fn usage(&self, app: &str) -> Usage {
        self.shares.read().get(app).map(|share| share.own.usage()).unwrap_or_default()
    }

    /// What everybody holds.
    pub fn total(&self) -> Usage {
        self.total.usage()
    }
}

/// One app's part of the bounds.
#[derive(Debug)]
pub struct Share {
    process: Arc<InFlight>,
    own: Counters,
    /// Was found full, and has not fallen below the low watermark since.
    full: AtomicBool,
}

impl Share {
    /// Whether another message of the app may be lent. Once full, not before a tenth of what it was full of is free: a
    /// share at its bound would else be asked, and answer, for each message.
    pub fn has_room(&self) -> bool {
        let was_full = self.full.load(Relaxed);
        let limit = |bound: usize| if was_full { bound - bound.div_ceil(10) } else { bound };
        let Usage { messages, bytes, .. } = self.process.bounds;
        let parts = self.process.parts.load(Relaxed);
        let (own, total) = (self.own.usage(), self.process.total.usage());
        let room = own.messages < limit(messages / parts)
            && own.bytes < limit(bytes / parts)
            && own.waiting < limit(messages / parts / 2)
            && total.messages < messages
            && total.bytes < bytes;
        // Full for the sake of others is no reason to keep away from the own watermark.
        let own_full = own.messages >= limit(messages / parts)
            || own.bytes >= limit(bytes / parts)
            || own.waiting >= limit(messages / parts / 2);
        self.full.store(own_full, Relaxed);
        room
    }

    fn add(&self, bytes: usize) {
        for counters in [&self.own, &self.process.total] {
            counters.messages.fetch_add(1, Relaxed);
            counters.bytes.fetch_add(bytes, Relaxed);
        }
    }

    fn subtract(&self, bytes: usize) {
        for counters in [&self.own, &self.process.total] {
            counters.messages.fetch_sub(1, Relaxed);
            counters.bytes.fetch_sub(bytes, Relaxed);
        }
    }

    fn waits(&self, waiting: bool) {
        for counters in [&self.own, &self.process.total] {
            if waiting {
                counters.waiting.fetch_add(1, Relaxed)
            } else {
                counters.waiting.fetch_sub(1, Relaxed)
            };
        }
    }
}

/// When the queue was polled last, and how long the group waits for a poll. A process that was stopped and continued must
/// not send what others own by now.
#[derive(Debug)]
pub struct LastPoll {
    begin: Instant,
    millis: AtomicU64,
    session: Duration,
}

impl LastPoll {
    /// Polled just now.
    pub fn new(session: Duration) -> Arc<Self> {
        Arc::new(LastPoll { begin: Instant::now(), millis: AtomicU64::new(0), session })
    }

    /// The queue is polled.
    pub fn touch(&self, now: Instant) {
        self.millis.store(now.saturating_duration_since(self.begin).as_millis() as u64, Relaxed);
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let last = Duration::from_millis(self.millis.load(Relaxed));
        now.saturating_duration_since(self.begin).saturating_sub(last) < self.session
    }
}

/// One partition under one epoch: from its assignment to its revocation. Shared with the receipts of its messages.
#[derive(Debug)]
pub struct Assignment {
    ledger: Mutex<Ledger>,
    last_poll: Arc<LastPoll>,
    /// Nothing may be sent any more; what is on a stream may end.
    stopped: AtomicBool,
    /// The epoch is over: receipts change nothing.
    ended: AtomicBool,
    dirty: AtomicBool,
    on_stream: AtomicU32,
    lost: Mutex<Vec<i64>>,
}

impl Assignment {
    /// A new epoch.
    pub fn new(ledger: Ledger, last_poll: Arc<LastPoll>) -> Arc<Self> {
        Arc::new(Assignment {
            ledger: Mutex::new(ledger),
            last_poll,
            stopped: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            on_stream: AtomicU32::new(0),
            lost: Mutex::default(),
        })
    }

    /// The partition's ledger.
    pub fn ledger(&self) -> &Mutex<Ledger> {
        &self.ledger
    }

    /// A revocation or shutdown begins: nothing may be sent any more.
    pub fn stop_sending(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// The epoch is over.
    pub fn end(&self) {
        self.stop_sending();
        self.ended.store(true, Relaxed);
    }

    /// Messages that are on a stream or being reported.
    pub fn on_stream(&self) -> u32 {
        self.on_stream.load(Relaxed)
    }

    /// Offsets whose receipts were dropped unresolved: to be lent again.
    pub fn take_lost(&self) -> Vec<i64> {
        std::mem::take(&mut *self.lost.lock())
    }

    /// Whether something was resolved since the last commit that was asked for.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Relaxed)
    }

    /// The same, and it counts as committed from now on.
    pub fn take_dirty(&self) -> bool {
        self.dirty.swap(false, Relaxed)
    }

    /// A commit failed: there is something to commit again.
    pub fn set_dirty(&self) {
        self.dirty.store(true, Relaxed);
    }
}

/// Lends the message at `offset` of `bytes` bytes; the ledger must have called it new.
pub fn lend(assignment: &Arc<Assignment>, share: &Arc<Share>, offset: i64, bytes: usize) -> Receipt {
    share.add(bytes);
    Receipt {
        assignment: assignment.clone(),
        share: share.clone(),
        offset,
        bytes,
        on_stream: AtomicBool::new(false),
        waiting: AtomicBool::new(false),
        ended: false,
    }
}

/// The obligation to resolve one lent message. Dropping it unresolved is a bug: logged, counted, the message lent again.
#[derive(Debug)]
pub struct Receipt {
    assignment: Arc<Assignment>,
    share: Arc<Share>,
    offset: i64,
    bytes: usize,
    on_stream: AtomicBool,
    waiting: AtomicBool,
    ended: bool,
}

impl Receipt {
    /// The message's outcome is final and reported: its offset may move.
    pub fn resolve(mut self) {
        self.ended = true;
        if !self.assignment.ended.load(Relaxed) && self.assignment.ledger.lock().resolve(self.offset) {
            self.assignment.set_dirty();
        }
    }

    /// Not resolved on purpose (shutdown, revoked partition): the offset stays, the message comes again to whoever owns it.
    pub fn release(mut self) {
        self.ended = true;
        self.forget();
    }

    fn forget(&self) -> bool {
        !self.assignment.ended.load(Relaxed) && self.assignment.ledger.lock().forget(self.offset)
    }

    /// Whether this process may still send the message: its partition is ours and not draining, and the queue was polled
    /// within the session timeout. A `true` notes it as being on a stream until the receipt ends or `off_stream`.
    pub fn may_send(&self) -> bool {
        // Noted first: a revocation that begins in between then waits for it.
        if !self.on_stream.swap(true, Relaxed) {
            self.assignment.on_stream.fetch_add(1, Relaxed);
        }
        let may = !self.assignment.stopped.load(Relaxed) && self.assignment.last_poll.is_fresh(Instant::now());
        if !may {
            self.off_stream();
        }
        may
    }

    /// The attempt ended without an outcome; the message waits for a retry.
    pub fn off_stream(&self) {
        if self.on_stream.swap(false, Relaxed) {
            self.assignment.on_stream.fetch_sub(1, Relaxed);
        }
    }

    /// Enters or leaves the waiting room for retries; counted against the app's share of waiters.
    pub fn set_waiting(&self, waiting: bool) {
        if self.waiting.swap(waiting, Relaxed) != waiting {
            self.share.waits(waiting);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.off_stream();
        self.set_waiting(false);
        self.share.subtract(self.bytes);
        if !self.ended && self.forget() && !self.assignment.stopped.load(Relaxed) {
            tracing::error!(
                alarm = true,
                offset = self.offset,
                "a receipt was dropped unresolved, a bug; its message is lent again"
            );
            self.assignment.lost.lock().push(self.offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        in_flight: Arc<InFlight>,
        assignment: Arc<Assignment>,
        poll: Arc<LastPoll>,
    }

    fn rig(messages: usize, apps: &[&str]) -> Rig {
        let in_flight = InFlight::new(messages, 1 << 20);
        in_flight.set_apps(&apps.iter().map(|app| Arc::from(*app)).collect::<Vec<_>>());
        let poll = LastPoll::new(Duration::from_secs(6));
        Rig { in_flight, assignment: Assignment::new(Ledger::new(0, Vec::new()), poll.clone()), poll }
    }

    impl Rig {
        fn lend(&self, app: &str, offset: i64) -> Receipt {
            self.assignment.ledger().lock().lend(offset, -1, Instant::now());
            lend(&self.assignment, &self.in_flight.share(app), offset, 10)
        }
    }

    #[test]
    fn an_app_alone_may_hold_everything_and_of_several_none_more_than_half() {
        let alone = rig(10, &["a"]);
        let held: Vec<_> = (0..10).map(|offset| alone.lend("a", offset)).collect();
        assert!(!alone.in_flight.share("a").has_room());
        assert_eq!(alone.in_flight.total(), Usage { messages: 10, bytes: 100, waiting: 0 });
        drop(held);
        let two = rig(10, &["a", "b"]);
        let _held: Vec<_> = (0..5).map(|offset| two.lend("a", offset)).collect();
        assert!(!two.in_flight.share("a").has_room());
        assert!(two.in_flight.share("b").has_room());
    }

    #[test]
    fn a_full_share_opens_again_at_the_low_watermark() {
        let rig = rig(100, &["a"]);
        let mut held: Vec<_> = (0..100).map(|offset| rig.lend("a", offset)).collect();
        let share = rig.in_flight.share("a");
        assert!(!share.has_room());
        held.truncate(95);
        assert!(!share.has_room(), "five free places of a hundred are not yet room");
        held.truncate(89);
        assert!(share.has_room());
        assert_eq!(rig.assignment.take_lost().len(), 11, "dropped, not resolved");
    }

    #[test]
    fn those_that_wait_hold_at_most_half_of_a_share() {
        let rig = rig(10, &["a"]);
        let held: Vec<_> = (0..5).map(|offset| rig.lend("a", offset)).collect();
        assert!(rig.in_flight.share("a").has_room());
        held.iter().for_each(|receipt| receipt.set_waiting(true));
        assert!(!rig.in_flight.share("a").has_room());
        held.into_iter().for_each(Receipt::resolve);
        assert!(rig.in_flight.share("a").has_room());
        assert_eq!(rig.in_flight.usage("a"), Usage::default());
    }

    #[test]
    fn a_resolved_receipt_moves_the_offset_and_a_released_one_does_not() {
        let rig = rig(10, &["a"]);
        let (first, second) = (rig.lend("a", 0), rig.lend("a", 1));
        first.resolve();
        assert!(rig.assignment.take_dirty() && !rig.assignment.is_dirty());
        second.release();
        assert_eq!(rig.assignment.ledger().lock().position(), 1);
        assert!(!rig.assignment.is_dirty());
        assert_eq!(rig.assignment.take_lost(), [] as [i64; 0]);
    }

    #[test]
    fn after_its_epoch_a_receipt_changes_nothing() {
        let rig = rig(10, &["a"]);
        let (resolved, dropped) = (rig.lend("a", 0), rig.lend("a", 1));
        rig.assignment.end();
        resolved.resolve();
        drop(dropped);
        assert_eq!(rig.assignment.ledger().lock().position(), 0);
        assert!(!rig.assignment.is_dirty());
        assert_eq!(rig.assignment.take_lost(), [] as [i64; 0]);
        assert_eq!(rig.in_flight.total(), Usage::default());
    }

    #[test]
    fn the_gate_closes_with_the_partition_and_with_a_late_poll() {
        let rig = rig(10, &["a"]);
        let receipt = rig.lend("a", 0);
        assert!(receipt.may_send() && receipt.may_send());
        assert_eq!(rig.assignment.on_stream(), 1);
        receipt.off_stream();
        assert_eq!(rig.assignment.on_stream(), 0);
        assert!(!rig.poll.is_fresh(Instant::now() + Duration::from_secs(7)));
        rig.assignment.stop_sending();
        assert!(!receipt.may_send());
        assert_eq!(rig.assignment.on_stream(), 0);
        receipt.release();
    }
}
