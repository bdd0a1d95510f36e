//! One assigned partition: its queue in librdkafka, its ledger, and the rules of lending from it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::anchors::Anchors;
use super::belief::{Belief, Judgement, Past};
use super::commit_plan::{self, Plan};
use super::context::Context;
use super::cursor::Cursor;
use super::fullness::Fullness;
use super::in_flight::{Assignment, LastPoll, Share, lend};
use super::offsets::{Ledger, Lend};
use super::record::Record;
use super::turn::Turn;
use super::wakeup::{Readable, Wakeup};
use super::{Lent, Observer};
use crate::message::Origin;

/// A partition that is ours.
pub(super) struct Partition {
    /// Where it is and whose.
    pub(super) origin: Arc<Origin>,
    /// Its epoch, shared with its receipts.
    pub(super) assignment: Arc<Assignment>,
    /// What is committed of it.
    pub(super) anchors: Anchors,
    /// Whether commits carry the map: until the broker refuses it.
    pub(super) commits_map: bool,
    /// Whether its latest commit was refused in a way that asking again at once does not mend.
    pub(super) commit_is_in_vain: bool,
    /// Whether a better commit is possible when more has been read.
    pub(super) is_unfinished: bool,
    /// When the last record read was produced.
    pub(super) last_ms: Option<i64>,
    share: Arc<Share>,
    queue: PartitionQueue<Context>,
    /// Set: its queue is looked into in the next turn.
    pub(super) readable: Readable,
    /// There until the first record is read of the log that we know, or a place in another one is.
    belief: Option<Belief>,
    /// Where it is read.
    pub(super) cursor: Cursor,
    fullness: Fullness,
    /// Whether the first record has shown that this is another log, and where to begin in it is not known yet.
    is_other_log: bool,
}

impl Partition {
    /// A partition whose next record is the ledger's.
    pub(super) fn new(
        origin: Arc<Origin>,
        assignment: Arc<Assignment>,
        share: Arc<Share>,
        mut queue: PartitionQueue<Context>,
        belief: Belief,
        wakeup: Wakeup,
    ) -> Self {
        let readable = Readable::default();
        queue.set_nonempty_callback(readable.notifier(wakeup));
        let anchors = Anchors::new(assignment.ledger.lock().next());
        Partition {
            origin,
            assignment,
            anchors,
            commits_map: true,
            commit_is_in_vain: false,
            is_unfinished: false,
            last_ms: None,
            share,
            queue,
            readable,
            belief: Some(belief),
            cursor: Cursor::default(),
            fullness: Fullness::default(),
            is_other_log: false,
        }
    }

    /// Lends up to `burst` records.
    pub(super) fn take(
        &mut self,
        burst: usize,
        now: Instant,
        context: &Context,
        observer: &dyn Observer,
        out: &mut Vec<Lent>,
    ) -> Turn {
        if self.share.is_paused() || self.share.holds_back(&self.origin) {
            return Turn::Paused;
        }
        if !self.readable.take() {
            return Turn::Empty;
        }
        let turn = self.take_readable(burst, now, context, observer, out);
        if turn != Turn::Empty {
            self.readable.set();
        }
        turn
    }

    fn take_readable(
        &mut self,
        burst: usize,
        now: Instant,
        context: &Context,
        observer: &dyn Observer,
        out: &mut Vec<Lent>,
    ) -> Turn {
        for _ in 0..burst {
            if !self.share.has_room(self.origin.lane) || self.refuses() {
                return Turn::Full;
            }
            if !self.share.has_use(self.origin.lane) {
                return Turn::Enough;
            }
            let message = match self.queue.poll(Duration::ZERO) {
                None => return Turn::Empty,
                Some(Ok(message)) => message,
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                    return Turn::OutOfRange;
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Turn::Fatal(code.to_string()),
                Some(Err(error)) => {
                    context.complain(&error, "");
                    self.readable.set();
                    return Turn::Empty;
                }
            };
            let record = Record::from(message);
            if let Some(seen_ms) = self.accept(record, now, observer, out) {
                return Turn::OtherLog { seen_ms };
            }
        }
        Turn::More
    }

    /// Whether its map has no room for what comes next. What is read again has its place in it already.
    fn refuses(&mut self) -> bool {
        let ledger = self.assignment.ledger.lock();
        !self.cursor.is_behind(&ledger) && self.fullness.refuses(&self.origin, &ledger, self.assignment.has_lost())
    }

    /// Lends a record that was read, unless the ledger knows it as resolved or in flight. Not a record that shows that this
    /// is another log: then since when nothing of it is known.
    pub(super) fn accept(
        &mut self,
        record: Record,
        now: Instant,
        observer: &dyn Observer,
        out: &mut Vec<Lent>,
    ) -> Option<i64> {
        let (offset, timestamp_ms) = (record.offset, record.timestamp.unwrap_or(-1));
        if let Some(belief) = self.belief.take() {
            match belief.judge(self.anchors.accepted().offset, offset, timestamp_ms) {
                Judgement::Agrees(belief) => self.believe(belief),
                Judgement::Silent(belief) => self.disbelieve(belief, observer),
                Judgement::OtherLog { seen_ms, belief } => {
                    observer.map_dropped(&self.origin, "of another log");
                    (self.is_other_log, self.belief) = (true, Some(belief));
                    return Some(seen_ms);
                }
            }
        }
        if self.anchors.is_another(offset, timestamp_ms) {
            // The log was cut off, and what was passed over on the way here was never sent.
            self.is_other_log = true;
            return self.since_ms();
        }
        self.cursor.read(now, offset);
        self.last_ms = record.timestamp;
        self.anchors.read(offset, timestamp_ms);
        let (lend, redrive_of) = {
            let mut ledger = self.assignment.ledger.lock();
            // What is not resolved is nobody else's to name: its outcome is still to come, under its own identity.
            let redrive_of = record.redrive_of.filter(|of| ledger.is_resolved(*of));
            (ledger.lend(offset, timestamp_ms, now), redrive_of)
        };
        match lend {
            Lend::Skip(_) => observer.skipped(&self.origin, 1),
            Lend::New => out.push(self.lent(Record { redrive_of, ..record }, now)),
        }
        None
    }

    fn lent(&self, record: Record, lent_at: Instant) -> Lent {
        let receipt = lend(&self.assignment, &self.share, record.offset, record.timestamp, record.payload.len());
        Lent { message: record.into_message(self.origin.clone(), lent_at), receipt }
    }

    fn believe(&mut self, Belief { map, only_base, past }: Belief) {
        let claimed = map.filter(|_| !only_base).map(|map| map.resolved).unwrap_or_default();
        if let Some(Past { assignment, anchors, .. }) = past {
            self.anchors.go_on(&anchors);
            assignment.ledger.lock().claim(claimed);
            assignment.revive();
            self.assignment = assignment;
        } else if !claimed.is_empty() {
            let mut ledger = self.assignment.ledger.lock();
            let next = ledger.next();
            *ledger = Ledger::new(next, claimed);
        }
    }

    fn disbelieve(&self, mut belief: Belief, observer: &dyn Observer) {
        if belief.map.is_some() {
            observer.map_dropped(&self.origin, "without its base");
        }
        belief.forget();
    }

    /// Whether its records are taken as soon as they are there.
    pub(super) fn is_read(&self) -> bool {
        let share = &self.share;
        let is_full = self.fullness.is_full() && !self.cursor.is_behind(&self.assignment.ledger.lock());
        let is_wanted = share.has_room(self.origin.lane) && share.has_use(self.origin.lane) && !is_full;
        is_wanted && !share.is_paused() && !share.holds_back(&self.origin)
    }

    /// What to commit of it; `None`: nothing before more is read.
    pub(super) fn plan(&self, cluster: u32) -> Option<Plan> {
        if self.is_other_log {
            // What is committed is the proof of it, and is kept until a place in this log can be put instead.
            return None;
        }
        let unread = self.belief.as_ref().and_then(|belief| belief.map.as_ref());
        let cluster = self.commits_map.then_some(cluster);
        commit_plan::plan(&self.assignment.ledger.lock(), &self.anchors, unread, cluster)
    }

    /// The log was exchanged under us: a new epoch begins at `offset`, and is committed.
    pub(super) fn begin_anew(&mut self, offset: i64, last_poll: Arc<LastPoll>) {
        self.assignment.end();
        self.belief.take().iter_mut().for_each(Belief::forget);
        let lane = self.assignment.lane().clone();
        self.assignment = Assignment::new(Ledger::new(offset, Vec::new()), last_poll, lane);
        (self.anchors, self.is_other_log) = (Anchors::new(offset), false);
        self.cursor.goes_on_at(offset);
        self.set_dirty();
    }

    /// The partition is taken away: what we know of it, in case it comes back untouched.
    pub(super) fn into_past(self, lost: bool) -> Option<Past> {
        self.assignment.suspend();
        if let Some(Belief { past, .. }) = self.belief {
            // Nothing was read: what was known before is still all.
            return past;
        }
        Some(Past { assignment: self.assignment, anchors: self.anchors, lost })
    }

    /// What was known of it when it was ours before, until something is read.
    pub(super) fn past(&self) -> Option<&Past> {
        self.belief.as_ref().and_then(|belief| belief.past.as_ref())
    }

    /// As [`Anchors::since_ms`].
    pub(super) fn since_ms(&self) -> Option<i64> {
        self.anchors.since_ms(&self.assignment.ledger.lock())
    }

    /// As [`Cursor::is_cut_off`]; then nothing more is committed of it until it begins anew.
    pub(super) fn is_cut_off(&mut self, end: (i64, Instant), now: Instant) -> bool {
        let next = self.assignment.ledger.lock().next();
        // Before the first record it is known by what that says.
        self.is_other_log |= self.belief.is_none() && self.cursor.is_cut_off(next, end, now);
        self.is_other_log
    }

    /// As [`Cursor::at`].
    pub(super) fn reads_at(&self) -> i64 {
        self.cursor.at(&self.assignment.ledger.lock())
    }

    /// Whether nothing more is lent of it, for its map to fit into a commit, since that was told.
    pub(super) fn is_full(&mut self) -> bool {
        self.fullness.look(&self.origin, &self.assignment.ledger.lock())
    }

    /// Whether something was resolved since the last commit that was asked for.
    pub(super) fn is_dirty(&self) -> bool {
        self.assignment.dirty().load(Relaxed)
    }

    /// Whether there is something to commit, which counts as committed from now on.
    pub(super) fn take_dirty(&mut self) -> bool {
        let is_unfinished = std::mem::take(&mut self.is_unfinished);
        self.assignment.dirty().swap(false, Relaxed) || is_unfinished
    }

    /// A commit failed: there is something to commit again.
    pub(super) fn set_dirty(&self) {
        self.assignment.dirty().store(true, Relaxed);
    }
}
