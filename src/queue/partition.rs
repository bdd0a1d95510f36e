//! One assigned partition: its queue in librdkafka, its ledger, and the rules of lending from it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::types::RDKafkaErrorCode;

use super::context::Context;
use super::in_flight::{Assignment, LastPoll, Share, lend};
use super::map::{self, OffsetMap};
use super::offsets::{Ledger, Lend};
use super::{Lent, Observer};
use crate::message::{Origin, QueueMessage};

/// What a partition's queue came to in one turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing readable now.
    Empty,
    /// More may be readable: its turn was used up.
    More,
    /// Readable, but there is no room for it: its app's share or its map is full.
    Full,
    /// The log does not have the offset that comes next.
    OutOfRange,
    /// The client is broken for good.
    Fatal(String),
}

/// A record as read, copied out of the client's buffers.
#[derive(Debug)]
pub(super) struct Record {
    offset: i64,
    timestamp: Option<i64>,
    payload: Bytes,
}

impl From<BorrowedMessage<'_>> for Record {
    fn from(message: BorrowedMessage<'_>) -> Self {
        Record {
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        }
    }
}

/// A partition that is ours.
pub(super) struct Partition {
    /// Where it is and whose.
    pub(super) origin: Arc<Origin>,
    /// Its epoch, shared with its receipts.
    pub(super) assignment: Arc<Assignment>,
    /// Whether commits carry the map: until the broker refuses it.
    pub(super) commits_map: bool,
    /// Whether its latest commit was refused in a way that asking again at once does not mend.
    pub(super) commit_is_in_vain: bool,
    /// When the last record read was produced.
    pub(super) last_ms: Option<i64>,
    share: Arc<Share>,
    queue: PartitionQueue<Context>,
    /// Believed when the first record agrees with it.
    map: Option<OffsetMap>,
}

impl Partition {
    /// A partition whose next record is the ledger's.
    pub(super) fn new(
        origin: Arc<Origin>,
        assignment: Arc<Assignment>,
        share: Arc<Share>,
        queue: PartitionQueue<Context>,
        map: Option<OffsetMap>,
    ) -> Self {
        Partition { origin, assignment, commits_map: true, commit_is_in_vain: false, last_ms: None, share, queue, map }
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
        for _ in 0..burst {
            if !self.share.has_room() || self.is_map_full() {
                return Turn::Full;
            }
            let message = match self.queue.poll(std::time::Duration::ZERO) {
                None => return Turn::Empty,
                Some(Ok(message)) => message,
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                    return Turn::OutOfRange;
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Turn::Fatal(code.to_string()),
                Some(Err(error)) => {
                    context.complain(&error, "");
                    return Turn::Empty;
                }
            };
            let record = Record::from(message);
            self.accept(record, now, observer, out);
        }
        Turn::More
    }

    /// Lends a record that was read, unless the ledger knows it as resolved or in flight.
    pub(super) fn accept(&mut self, record: Record, now: Instant, observer: &dyn Observer, out: &mut Vec<Lent>) {
        let Record { offset, timestamp, payload } = record;
        self.settle_map(offset, timestamp, observer);
        self.last_ms = timestamp;
        let lend = self.assignment.ledger.lock().lend(offset, timestamp.unwrap_or(-1), now);
        match lend {
            Lend::Skip(_) => observer.skipped(&self.origin, 1),
            Lend::New => out.push(self.lent(offset, timestamp, now, payload)),
        }
    }

    fn lent(&self, offset: i64, timestamp_ms: Option<i64>, lent_at: Instant, payload: Bytes) -> Lent {
        let receipt = lend(&self.assignment, &self.share, offset, timestamp_ms, payload.len());
        let message = QueueMessage { origin: self.origin.clone(), offset, timestamp_ms, lent_at, payload };
        Lent { message, receipt }
    }

    /// The first record decides whether the map was made for this log: it must be the one at the map's base, of the same time.
    fn settle_map(&mut self, offset: i64, timestamp: Option<i64>, observer: &dyn Observer) {
        let Some(map) = self.map.take() else { return };
        if map.base == offset && map.base_timestamp_ms == timestamp.unwrap_or(-1) {
            *self.assignment.ledger.lock() = Ledger::new(offset, map.resolved);
        } else {
            observer.map_dropped(&self.origin, "of another log");
        }
    }

    /// The log was exchanged under us: a new epoch begins at `offset`, and is committed.
    pub(super) fn begin_anew(&mut self, offset: i64, last_poll: Arc<LastPoll>) {
        self.assignment.end();
        let lane = self.assignment.lane().clone();
        self.assignment = Assignment::new(Ledger::new(offset, Vec::new()), last_poll, lane);
        self.map = None;
        self.set_dirty();
    }

    /// A map that may not fit into a commit any more: nothing more is lent until its stragglers are resolved.
    fn is_map_full(&self) -> bool {
        let ledger = self.assignment.ledger.lock();
        ledger.in_flight() > 0 && ledger.map_cost() > map::CAPACITY
    }

    /// Whether something was resolved since the last commit that was asked for.
    pub(super) fn is_dirty(&self) -> bool {
        self.assignment.dirty().load(Relaxed)
    }

    /// The same, and it counts as committed from now on.
    pub(super) fn take_dirty(&self) -> bool {
        self.assignment.dirty().swap(false, Relaxed)
    }

    /// A commit failed: there is something to commit again.
    pub(super) fn set_dirty(&self) {
        self.assignment.dirty().store(true, Relaxed);
    }

    /// Throws away what librdkafka still holds of an earlier assignment.
    pub(super) fn discard_stale(queue: &PartitionQueue<Context>) {
        while queue.poll(std::time::Duration::ZERO).is_some() {}
    }
}
