//! How our partitions stand, for whoever watches: told to the observer at each strike of the commit clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kafka::KafkaQueue;
use super::offsets::PositionTime;
use super::partition::Partition;
use super::place::Place;
use crate::message::{Origin, age};

/// The partitions that are ours.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Each topic with a partition of ours.
    pub topics: Vec<TopicStanding>,
    /// For how long what is resolved has waited for a commit that the broker takes; zero when all is committed.
    pub uncommitted_for: Duration,
}

/// Our partitions of one topic.
#[derive(Clone, Debug)]
pub struct TopicStanding {
    /// Where one of them is, and whose all of them are.
    pub origin: Arc<Origin>,
    /// Each of them, by number.
    pub partitions: Vec<PartitionStanding>,
    /// Messages in their logs that are not read yet; `None` while the brokers have not told where a log ends.
    pub backlog: Option<u64>,
    /// Age of the oldest message that is read and has no outcome, or of the last one read when more are waiting.
    pub oldest: Option<Duration>,
    /// For how long the topic keeps its messages, when that may be known.
    pub retention: Option<Duration>,
    /// Bytes that the fullest map of resolved offsets needs in the next commit; it may have [`super::map::CAPACITY`].
    pub map_bytes: usize,
}

/// One partition of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStanding {
    /// Its number.
    pub partition: i32,
    /// The offset that the group has committed, as far as we were told.
    pub committed: i64,
    /// The first offset whose message has no outcome: what the next commit will say.
    pub position: i64,
    /// The offset that is read next.
    pub next: i64,
    /// Offsets between the two that are resolved.
    pub resolved_beyond: u64,
    /// Messages lent and not resolved.
    pub in_flight: usize,
    /// One past the last offset of the log; `None` while the brokers have not told it.
    pub end: Option<i64>,
}

impl KafkaQueue {
    pub(super) fn tell_standing(&self, now: Instant) {
        let mut topics: Vec<TopicStanding> = Vec::new();
        let mut ours: Vec<_> = self.partitions.iter().collect();
        ours.sort_unstable_by_key(|partition| partition.origin.partition);
        for partition in ours {
            let one = self.standing_of(partition);
            match topics.iter_mut().find(|topic| topic.origin.topic == one.origin.topic) {
                Some(topic) => topic.add(&one),
                None => topics.push(one),
            }
        }
        self.observer.standing(Standing { topics, uncommitted_for: self.commits.lag(now) });
    }

    fn standing_of(&self, partition: &Partition) -> TopicStanding {
        let origin = &partition.origin;
        let end = self.logs.end(&Place::from(&**origin)).map(|(end, _)| end);
        let ledger = partition.assignment.ledger.lock();
        let backlog = end.map(|end| (end - ledger.next()).max(0) as u64);
        let waiting = backlog.is_some_and(|backlog| backlog > 0);
        let oldest_ms = match ledger.position_time() {
            PositionTime::At(timestamp_ms) => Some(timestamp_ms),
            PositionTime::Unread => partition.last_ms.filter(|_| waiting),
            PositionTime::Without => None,
        };
        TopicStanding {
            origin: origin.clone(),
            partitions: vec![PartitionStanding {
                partition: origin.partition,
                committed: partition.anchors.accepted().offset,
                position: ledger.position(),
                next: ledger.next(),
                resolved_beyond: ledger.resolved_beyond_position(),
                in_flight: ledger.in_flight(),
                end,
            }],
            backlog,
            oldest: oldest_ms.map(age),
            retention: self.logs.retention(&origin.topic),
            map_bytes: ledger.map_cost(),
        }
    }

    /// What is ours has changed.
    pub(super) fn watch_logs(&self) {
        self.logs.watch(self.partitions.iter().map(|partition| Place::from(&*partition.origin)));
    }
}

impl TopicStanding {
    fn add(&mut self, other: &TopicStanding) {
        self.partitions.extend(&other.partitions);
        self.backlog = self.backlog.zip(other.backlog).map(|(a, b)| a + b);
        self.oldest = self.oldest.max(other.oldest);
        self.map_bytes = self.map_bytes.max(other.map_bytes);
    }
}
