//! Turns the queue's facts into counters, gauges and log lines.

use std::sync::Arc;
use std::time::Duration;

use crate::message::Origin;
use crate::queue::Observer;
use crate::reporters::stats::Metric;
use crate::reporters::{Reporters, StatsReporter as _};
use crate::tally::Tally;

/// The observer of a worker's queue.
#[derive(Debug)]
pub struct WorkerObserver {
    tally: Arc<Tally>,
    reporters: Arc<Reporters>,
}

impl WorkerObserver {
    /// Tells both.
    pub fn new(tally: Arc<Tally>, reporters: Arc<Reporters>) -> Self {
        WorkerObserver { tally, reporters }
    }

    fn count(&self, metric: Metric, tags: &[(&'static str, &str)], n: u64) {
        self.reporters.stats().count(metric, tags, n);
    }

    fn gauge(&self, metric: Metric, tags: &[(&'static str, &str)], value: f64) {
        self.reporters.stats().gauge(metric, tags, value);
    }
}

impl Observer for WorkerObserver {
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
        self.tally.lane(origin).dropped(n);
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
