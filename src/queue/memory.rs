//! A queue in memory with the same ledger, shares and receipts as Kafka's, for tests of what is behind it. A [`MemoryLog`]
//! holds the records and the commits and outlives the queues that read it, so that crash and restart can be played.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::in_flight::{Assignment, LastPoll, Share, lend};
use super::map::{self, OffsetMap};
use super::offsets::{Ledger, Lend};
use super::{InFlight, Lent, Queue, QueueError};
use crate::message::{Origin, QueueMessage};

/// Most messages lent by one call and partition.
const BATCH: usize = 500;

/// How long a call waits when records are readable and have no room: nobody tells when room returns.
const NO_ROOM: Duration = Duration::from_millis(1);

/// As Kafka's default; a test that stalls the queue for longer sees its sends refused until the next call.
const SESSION: Duration = Duration::from_secs(45);

/// Clusters are told apart by this; there is one here.
const CLUSTER: u32 = 1;

/// What a partition has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The first offset that is not resolved.
    pub offset: i64,
    /// The text of the map of what is resolved beyond it.
    pub metadata: String,
}

impl Committed {
    /// The map, read from its text; `None` when nothing is resolved beyond the offset.
    pub fn map(&self) -> Option<OffsetMap> {
        map::decode(&self.metadata).ok().flatten()
    }
}

#[derive(Debug)]
struct Partition {
    origin: Arc<Origin>,
    records: Vec<(i64, Bytes)>,
    committed: Committed,
}

#[derive(Debug, Default)]
struct Shared {
    partitions: Mutex<Vec<Partition>>,
    pushed: Condvar,
}

/// Partitions, their records and commits. Clones are the same log.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

impl MemoryLog {
    /// An empty log of these partitions, known by their index here.
    pub fn new(origins: impl IntoIterator<Item = Origin>) -> Self {
        let partition =
            |origin| Partition { origin: Arc::new(origin), records: Vec::new(), committed: Committed::default() };
        let partitions = Mutex::new(origins.into_iter().map(partition).collect());
        MemoryLog { shared: Arc::new(Shared { partitions, pushed: Condvar::new() }) }
    }

    /// Appends a record; its offset.
    pub fn push(&self, partition: usize, payload: impl Into<Bytes>) -> i64 {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut partitions = self.shared.partitions.lock();
        let records = &mut partitions[partition].records;
        records.push((since_epoch.as_millis() as i64, payload.into()));
        self.shared.pushed.notify_all();
        records.len() as i64 - 1
    }

    /// The offset that the next record of a partition gets.
    pub fn end(&self, partition: usize) -> i64 {
        self.shared.partitions.lock()[partition].records.len() as i64
    }

    /// What a partition has committed.
    pub fn committed(&self, partition: usize) -> Committed {
        self.shared.partitions.lock()[partition].committed.clone()
    }

    /// A queue that goes on where the last one committed. There may be one at a time; drop one without closing it to play
    /// a crash.
    pub fn queue(&self, in_flight: &Arc<InFlight>) -> MemoryQueue {
        let last_poll = LastPoll::new(SESSION, Instant::now());
        let partitions = self.shared.partitions.lock();
        let readers = partitions.iter().map(|partition| Reader::new(partition, in_flight, &last_poll)).collect();
        drop(partitions);
        MemoryQueue { log: self.clone(), last_poll, readers, turn: 0, stopped: false }
    }
}

#[derive(Debug)]
struct Reader {
    origin: Arc<Origin>,
    assignment: Arc<Assignment>,
    share: Arc<Share>,
    /// The offset to read next.
    at: i64,
    /// Offsets to be read again before that.
    again: VecDeque<i64>,
}

impl Reader {
    fn new(partition: &Partition, in_flight: &Arc<InFlight>, last_poll: &Arc<LastPoll>) -> Self {
        let at = partition.committed.offset;
        let timestamp = partition.records.get(at as usize).map_or(-1, |(timestamp, _)| *timestamp);
        let map = partition.committed.map();
        let ours = map.filter(|map| (map.base, map.base_timestamp_ms, map.cluster) == (at, timestamp, CLUSTER));
        let ledger = Ledger::new(at, ours.map(|map| map.resolved).unwrap_or_default());
        let lane = in_flight.tally().lane(&partition.origin);
        let assignment = Assignment::new(ledger, Arc::clone(last_poll), lane);
        let (origin, share) = (partition.origin.clone(), in_flight.share(&partition.origin.app));
        Reader { origin, assignment, share, at, again: VecDeque::new() }
    }

    fn next(&self) -> i64 {
        self.again.front().copied().unwrap_or(self.at)
    }

    fn advance(&mut self) {
        if self.again.pop_front().is_none() {
            self.at += 1;
        }
    }

    fn has_room(&self) -> bool {
        self.share.has_room(self.origin.lane)
            && self.share.has_use(self.origin.lane)
            && !self.assignment.ledger.lock().map_is_full(false)
            && !self.share.holds_back(&self.origin)
    }

    /// Lends what is readable; whether something is left that has no room.
    fn lend(&mut self, partition: &Partition, now: Instant, out: &mut Vec<Lent>) -> bool {
        self.again.extend(self.assignment.take_lost());
        for _ in 0..BATCH {
            let offset = self.next();
            let Some((timestamp, payload)) = partition.records.get(offset as usize) else { return false };
            if !self.has_room() {
                return true;
            }
            self.advance();
            if self.assignment.ledger.lock().lend(offset, *timestamp, now) != Lend::New {
                continue;
            }
            let message = QueueMessage {
                origin: Arc::clone(&partition.origin),
                offset,
                timestamp_ms: Some(*timestamp),
                redrive_of: None,
                lent_at: now,
                payload: payload.clone().into(),
            };
            let receipt = lend(&self.assignment, &self.share, offset, Some(*timestamp), payload.len());
            out.push(Lent { message, receipt });
        }
        false
    }

    fn commit(&self, partition: &mut Partition) {
        if !self.assignment.dirty().swap(false, Ordering::AcqRel) {
            return;
        }
        let ledger = self.assignment.ledger.lock();
        let offset = ledger.position();
        let map = OffsetMap {
            base: offset,
            base_timestamp_ms: ledger.position_time().known().unwrap_or(-1),
            cluster: CLUSTER,
            resolved: ledger.resolved_beyond().collect(),
        };
        partition.committed = Committed { offset, metadata: map::encode(&map).unwrap_or_default() };
    }
}

/// Reads a [`MemoryLog`]; commits at the beginning of every call.
#[derive(Debug)]
pub struct MemoryQueue {
    log: MemoryLog,
    last_poll: Arc<LastPoll>,
    readers: Vec<Reader>,
    /// The partition to serve first.
    turn: usize,
    stopped: bool,
}

impl MemoryQueue {
    /// One round over the partitions; whether something is left that has no room.
    fn serve(&mut self, partitions: &mut [Partition], out: &mut Vec<Lent>) -> bool {
        let now = Instant::now();
        if self.last_poll.touch(now).is_some() {
            // There is nobody else who could own anything.
            self.last_poll.vouch(now);
        }
        let mut left = false;
        let count = self.readers.len();
        for index in (0..count).map(|step| (self.turn + step) % count) {
            let (reader, partition) = (&mut self.readers[index], &mut partitions[index]);
            reader.commit(partition);
            left |= !self.stopped && reader.lend(partition, now, out);
        }
        self.turn = (self.turn + 1) % count.max(1);
        left
    }
}

impl Queue for MemoryQueue {
    fn lend(&mut self, wait: Duration, out: &mut Vec<Lent>) -> Result<(), QueueError> {
        let shared = Arc::clone(&self.log.shared);
        let before = out.len();
        let mut partitions = shared.partitions.lock();
        let left = self.serve(&mut partitions, out);
        if out.len() == before {
            let wait = if left { wait.min(NO_ROOM) } else { wait };
            shared.pushed.wait_for(&mut partitions, wait);
            self.serve(&mut partitions, out);
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.readers.iter().for_each(|reader| reader.assignment.stop_sending());
    }

    fn close(mut self: Box<Self>, _deadline: Duration) -> Result<(), QueueError> {
        self.stop();
        let mut partitions = self.log.shared.partitions.lock();
        for (reader, partition) in self.readers.iter().zip(partitions.iter_mut()) {
            reader.commit(partition);
        }
        drop(partitions);
        Ok(())
    }
}

impl Drop for MemoryQueue {
    /// What was lent is the next queue's from here on.
    fn drop(&mut self) {
        self.readers.iter().for_each(|reader| reader.assignment.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Lane, Platform};

    fn log(apps: &[&str]) -> MemoryLog {
        MemoryLog::new(apps.iter().enumerate().map(|(index, app)| Origin {
            topic: format!("push-{app}_apns").into(),
            partition: index as i32,
            app: Arc::from(*app),
            platform: Platform("apns"),
            lane: Lane::Single,
        }))
    }

    fn fill(log: &MemoryLog, records: usize) {
        for _ in 0..records {
            log.push(0, "push");
        }
    }

    fn resolve(lent: impl IntoIterator<Item = Lent>) {
        for lent in lent {
            lent.receipt.resolve();
        }
    }

    fn lend_now(queue: &mut MemoryQueue) -> Vec<Lent> {
        let mut out = Vec::new();
        queue.lend(Duration::ZERO, &mut out).unwrap();
        out
    }

    fn offsets(lent: &[Lent]) -> Vec<i64> {
        lent.iter().map(|lent| lent.message.offset).collect()
    }

    #[test]
    fn lends_from_every_partition_and_commits_what_is_resolved() {
        let (log, in_flight) = (log(&["a", "b"]), InFlight::new(100, 10_000));
        for payload in ["one", "two"] {
            log.push(0, payload);
            log.push(1, payload);
        }
        let mut queue = log.queue(&in_flight);
        let lent = lend_now(&mut queue);
        assert_eq!(lent.len(), 4);
        assert_eq!(&lent[0].message.payload[..], b"one");
        resolve(lent);
        assert_eq!(log.committed(0), Committed::default(), "not before the next call");
        assert!(lend_now(&mut queue).is_empty());
        assert_eq!((log.committed(0).offset, log.committed(1).offset, log.end(1)), (2, 2, 2));
    }

    #[test]
    fn a_restart_repeats_exactly_what_was_not_resolved() {
        let (log, in_flight) = (log(&["a"]), InFlight::new(100, 10_000));
        fill(&log, 10);
        let mut queue = log.queue(&in_flight);
        let mut late = Vec::new();
        for lent in lend_now(&mut queue) {
            if [2, 5].contains(&lent.message.offset) { late.push(lent) } else { lent.receipt.resolve() }
        }
        lend_now(&mut queue);
        assert_eq!(log.committed(0).offset, 2);
        assert_eq!(log.committed(0).map().unwrap().resolved, [3..5, 6..10]);
        drop(queue);
        resolve(late);
        let mut queue = log.queue(&in_flight);
        let lent = lend_now(&mut queue);
        assert_eq!(offsets(&lent), [2, 5], "what ended after the crash is not believed");
        resolve(lent);
        Box::new(queue).close(Duration::ZERO).unwrap();
        assert_eq!(log.committed(0), Committed { offset: 10, metadata: String::new() });
        assert_eq!(in_flight.total().messages, 0);
    }

    #[test]
    fn a_full_app_is_skipped_and_the_other_is_served() {
        let (log, in_flight) = (log(&["a", "b"]), InFlight::new(20, 10_000));
        in_flight.set_apps(&["a".into(), "b".into()]);
        fill(&log, 30);
        let mut queue = log.queue(&in_flight);
        let mut held = lend_now(&mut queue);
        assert_eq!(offsets(&held), (0..10).collect::<Vec<_>>());
        log.push(1, "push");
        let other = lend_now(&mut queue);
        assert_eq!(other.iter().map(|lent| &*lent.message.origin.app).collect::<Vec<_>>(), ["b"]);
        resolve(held.drain(..));
        assert_eq!(offsets(&lend_now(&mut queue)), (10..20).collect::<Vec<_>>());
        resolve(other);
    }

    #[test]
    fn a_lost_message_is_lent_again_before_what_follows() {
        let (log, in_flight) = (log(&["a"]), InFlight::new(100, 10_000));
        fill(&log, 3);
        let mut queue = log.queue(&in_flight);
        let mut lent = lend_now(&mut queue);
        drop(lent.remove(1));
        log.push(0, "push");
        let again = lend_now(&mut queue);
        assert_eq!((offsets(&again), in_flight.lost()), (vec![1, 3], 1));
        resolve(lent.into_iter().chain(again));
        lend_now(&mut queue);
        assert_eq!(log.committed(0).offset, 4);
    }

    #[test]
    fn after_the_stop_nothing_is_lent_or_sent_and_what_ends_is_committed() {
        let (log, in_flight) = (log(&["a"]), InFlight::new(100, 10_000));
        fill(&log, 2);
        let mut queue = log.queue(&in_flight);
        let mut lent = lend_now(&mut queue);
        queue.stop();
        log.push(0, "push");
        assert!(lend_now(&mut queue).is_empty());
        let last = lent.pop().unwrap();
        assert!(!last.receipt.may_send());
        last.receipt.release();
        lent.pop().unwrap().receipt.resolve();
        Box::new(queue).close(Duration::ZERO).unwrap();
        assert_eq!(log.committed(0).offset, 1);
    }

    #[test]
    fn a_push_ends_the_wait() {
        let (log, in_flight) = (log(&["a"]), InFlight::new(100, 10_000));
        let mut queue = log.queue(&in_flight);
        let pushing = log.clone();
        let pusher = std::thread::spawn(move || pushing.push(0, "push"));
        let mut out = Vec::new();
        while out.is_empty() {
            queue.lend(Duration::from_mins(1), &mut out).unwrap();
        }
        assert_eq!(offsets(&out), [pusher.join().unwrap()]);
        resolve(out);
    }
}
