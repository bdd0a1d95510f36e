//! Turns the queue's facts into counters, gauges, log lines and signs of life, and remembers how the queue stands.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::message::Origin;
use crate::pulse::{Pulse, Pulses};
use crate::queue::{Observer, Standing};
use crate::reporters::StatsReporter as _;
use crate::reporters::stats::{Metric, Stats};
use crate::tally::Tally;

/// A poll thread that has not come round for so long stands still. A turn may ask brokers that do not answer, a few seconds
/// for each question.
const STANDSTILL: Duration = Duration::from_mins(1);

/// The same of the scout. While no broker answers it asks the one after the other, half a minute in one turn at most.
const SCOUT_STANDSTILL: Duration = Duration::from_secs(90);

/// Where this process stands with its consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The group has not given an assignment yet.
    Joining,
    /// It has. There may be no partition for us.
    Member,
    /// All partitions were taken back, to be handed out anew.
    Rebalancing,
}

impl Group {
    /// Why nothing can be done in this state; `None` when something can.
    pub fn why_not(self) -> Option<&'static str> {
        match self {
            Group::Member => None,
            Group::Joining => Some("no assignment yet: the brokers are away, or no topic of a configured app exists"),
            Group::Rebalancing => Some("partitions are being handed out anew"),
        }
    }
}

/// The observer of a queue.
#[derive(Debug)]
pub struct QueueObserver {
    tally: Arc<Tally>,
    stats: Stats,
    poll: Pulse,
    commit_clock: Pulse,
    scout: Pulse,
    group: Mutex<Group>,
    standing: Mutex<Standing>,
}

impl QueueObserver {
    /// Tells both; beats for the poll thread, for the commit clock, which strikes within each `interval`, and for the scout.
    pub fn new(tally: Arc<Tally>, stats: Stats, pulses: &Pulses, interval: Duration) -> Self {
        QueueObserver {
            tally,
            stats,
            poll: pulses.start("poll thread", STANDSTILL),
            commit_clock: pulses.start("commit clock", STANDSTILL + interval),
            scout: pulses.start("scout", SCOUT_STANDSTILL),
            group: Mutex::new(Group::Joining),
            standing: Mutex::default(),
        }
    }

    /// Where we stand with the group.
    pub fn group(&self) -> Group {
        *self.group.lock()
    }

    /// How our partitions stand, as of the last strike of the commit clock.
    pub fn last_standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    fn count(&self, metric: Metric, tags: &[(&'static str, &str)], n: u64) {
        self.stats.count(metric, tags, n);
    }

    fn gauge(&self, metric: Metric, tags: &[(&'static str, &str)], value: f64) {
        self.stats.gauge(metric, tags, value);
    }
}

impl Observer for QueueObserver {
    fn skipped(&self, origin: &Origin, n: u64) {
        self.tally.lane(origin).skipped(n);
        self.count(Metric::Skipped, &[("platform", origin.platform.0), ("game", &*origin.app)], n);
    }

    fn map_dropped(&self, origin: &Origin, reason: &'static str) {
        self.count(Metric::MapDropped, &[("topic", &*origin.topic), ("reason", reason)], 1);
    }

    fn out_of_range(&self, origin: &Origin, skipped: u64) {
        self.count(Metric::OffsetsOutOfRange, &[("topic", &*origin.topic)], skipped);
    }

    fn receipts_lost(&self, origin: &Origin, n: u64) {
        self.count(Metric::ReceiptsLost, &[("topic", &*origin.topic)], n);
    }

    fn commit_failed(&self) {
        self.count(Metric::CommitFailed, &[], 1);
    }

    fn client_replaced(&self) {
        self.count(Metric::ClientReplaced, &[], 1);
    }

    fn map_bytes(&self, origin: &Origin, length: usize) {
        self.gauge(Metric::MapBytes, &[("topic", &*origin.topic)], length as f64);
    }

    fn assigned(&self, partitions: usize) {
        self.gauge(Metric::AssignedPartitions, &[], partitions as f64);
    }

    fn unsettled(&self, partitions: usize) {
        self.gauge(Metric::UnsettledPartitions, &[], partitions as f64);
    }

    fn starved(&self, partitions: usize) {
        self.gauge(Metric::PausedPartitions, &[], partitions as f64);
    }

    fn full(&self, partitions: usize) {
        self.gauge(Metric::FullPartitions, &[], partitions as f64);
    }

    fn ignored_topics(&self, topics: usize) {
        self.gauge(Metric::IgnoredTopics, &[], topics as f64);
    }

    fn oldest_in_flight(&self, age: Duration) {
        self.gauge(Metric::InFlightOldestSeconds, &[], age.as_secs_f64());
    }

    fn polled(&self) {
        self.poll.beat();
    }

    fn scouted(&self) {
        self.scout.beat();
    }

    fn standing(&self, standing: Standing) {
        self.commit_clock.beat();
        *self.standing.lock() = standing;
    }

    fn joined(&self) {
        *self.group.lock() = Group::Member;
    }

    fn rebalancing(&self) {
        *self.group.lock() = Group::Rebalancing;
    }
}
