//! Turns the queue's facts into counters, gauges and log lines.

use std::sync::Arc;
use std::time::Duration;

use crate::message::Origin;
use crate::queue::Observer;
use crate::reporters::StatsReporter as _;
use crate::reporters::stats::{Metric, Stats};
use crate::tally::Tally;

/// The books of who consumes, as far as the queue writes in them.
pub trait Books: Send + Sync {
    /// Messages passed over because they were resolved before.
    fn skipped(&self, origin: &Origin, n: u64);
    /// Receipts that were dropped without an end, a bug: their messages count as given back.
    fn dropped(&self, origin: &Origin, n: u64);
}

impl Books for Tally {
    fn skipped(&self, origin: &Origin, n: u64) {
        self.lane(origin).skipped(n);
    }

    fn dropped(&self, origin: &Origin, n: u64) {
        self.lane(origin).dropped(n);
    }
}

/// The observer of a queue.
pub struct QueueObserver {
    books: Arc<dyn Books>,
    stats: Stats,
}

impl QueueObserver {
    /// Tells both.
    pub fn new(books: Arc<dyn Books>, stats: Stats) -> Self {
        QueueObserver { books, stats }
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
        self.books.skipped(origin, n);
        self.count(Metric::Skipped, &[("platform", origin.platform.0), ("game", &*origin.app)], n);
    }

    fn map_dropped(&self, origin: &Origin, reason: &'static str) {
        self.count(Metric::MapDropped, &[("topic", &*origin.topic), ("reason", reason)], 1);
    }

    fn out_of_range(&self, origin: &Origin, skipped: u64) {
        self.count(Metric::OffsetsOutOfRange, &[("topic", &*origin.topic)], skipped);
    }

    fn receipts_lost(&self, origin: &Origin, n: u64) {
        self.books.dropped(origin, n);
        self.count(Metric::ReceiptsLost, &[("topic", &*origin.topic)], n);
    }

    fn commit_failed(&self, error: &str) {
        tracing::warn!(error, "a commit was refused; the offsets are committed with the next one");
        self.count(Metric::CommitFailed, &[], 1);
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

    fn ignored_topics(&self, topics: usize) {
        self.gauge(Metric::IgnoredTopics, &[], topics as f64);
    }

    fn oldest_in_flight(&self, age: Duration) {
        self.gauge(Metric::InFlightOldestSeconds, &[], age.as_secs_f64());
    }
}
