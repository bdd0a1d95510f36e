//! The worker's own ledger: what became of every message, counted once, per app, platform and lane.
//!
//! The law that it must obey (and tests hold it to):
//! *consumed = delivered + rejected + expired + limited + deduplicated + failed + released + skipped + in flight*.
//! Counting is one relaxed addition; reading is for people, tests and the summary at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::{Mutex, RwLock};

use crate::message::{Lane, Origin, Platform};
use crate::outcome::{Attempt, Outcome};

/// Longest latency that the histogram tells apart, µs: one hour. Longer ones count as this.
const LONGEST_US: u64 = 3_600_000_000;

/// Whose messages are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey {
    /// The app.
    pub app: Arc<str>,
    /// Its platform.
    pub platform: Platform,
    /// Its lane.
    pub lane: Lane,
}

/// Counters of one lane.
#[derive(Debug)]
pub struct LaneTally {
    key: LaneKey,
    lent: AtomicU64,
    skipped: AtomicU64,
    delivered: AtomicU64,
    rejected: AtomicU64,
    expired: AtomicU64,
    limited: AtomicU64,
    deduplicated: AtomicU64,
    failed: AtomicU64,
    released: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    holds: AtomicU64,
    possible_duplicates: AtomicU64,
    feedback: AtomicU64,
    feedback_lost: AtomicU64,
    dead_letters: AtomicU64,
    reasons: Mutex<BTreeMap<&'static str, u64>>,
    accepted_after: Mutex<Histogram<u64>>,
}

impl LaneTally {
    fn new(key: LaneKey) -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 2).expect("the bounds are constant and valid");
        LaneTally {
            key,
            lent: AtomicU64::default(),
            skipped: AtomicU64::default(),
            delivered: AtomicU64::default(),
            rejected: AtomicU64::default(),
            expired: AtomicU64::default(),
            limited: AtomicU64::default(),
            deduplicated: AtomicU64::default(),
            failed: AtomicU64::default(),
            released: AtomicU64::default(),
            requests: AtomicU64::default(),
            retries: AtomicU64::default(),
            holds: AtomicU64::default(),
            possible_duplicates: AtomicU64::default(),
            feedback: AtomicU64::default(),
            feedback_lost: AtomicU64::default(),
            dead_letters: AtomicU64::default(),
            reasons: Mutex::default(),
            accepted_after: Mutex::new(histogram),
        }
    }

    /// A message was taken from the queue with a receipt.
    pub fn lent(&self) {
        self.lent.fetch_add(1, Relaxed);
    }

    /// Messages that the queue passed over because the offset map says that they were resolved before.
    pub fn skipped(&self, n: u64) {
        self.skipped.fetch_add(n, Relaxed);
    }

    /// An attempt ended; `duplicate` when an earlier one of the same message may have been accepted.
    pub fn attempted(&self, attempt: &Attempt, duplicate: bool) {
        self.requests.fetch_add(attempt.requests.into(), Relaxed);
        if duplicate && attempt.requests > 0 {
            self.possible_duplicates.fetch_add(1, Relaxed);
        }
    }

    /// A message goes back that may have been accepted: whoever sends it next may repeat it.
    pub fn possible_duplicate(&self) {
        self.possible_duplicates.fetch_add(1, Relaxed);
    }

    /// A message begins to wait for another attempt; `held`: for the operator.
    pub fn waits(&self, held: bool) {
        if held { &self.holds } else { &self.retries }.fetch_add(1, Relaxed);
    }

    /// A message came to its one outcome, this long after it was lent.
    pub fn resolved(&self, outcome: &Outcome, after: Duration) {
        let counter = match outcome {
            Outcome::Delivered(_) => &self.delivered,
            Outcome::Rejected(_) => &self.rejected,
            Outcome::Expired(_) => &self.expired,
            Outcome::Limited(_) => &self.limited,
            Outcome::Deduplicated(_) => &self.deduplicated,
            Outcome::Failed(_) => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
        match outcome.key() {
            None => self.accepted_after.lock().saturating_record(after.as_micros().max(1) as u64),
            Some(key) => *self.reasons.lock().entry(key).or_default() += 1,
        }
    }

    /// A message was given back unresolved (shutdown, revoked partition, paused app).
    pub fn released(&self) {
        self.released.fetch_add(1, Relaxed);
    }

    /// Receipts that were dropped without an end, a bug: their messages count as given back, for they are lent again.
    pub fn dropped(&self, n: u64) {
        self.released.fetch_add(n, Relaxed);
    }

    /// A feedback record reached its end.
    pub fn feedback(&self, acknowledged: bool) {
        if acknowledged { &self.feedback } else { &self.feedback_lost }.fetch_add(1, Relaxed);
    }

    /// A message that was given up was written to the dead letters, or could not be.
    pub fn dead_letter(&self, written: bool) {
        self.dead_letters.fetch_add(u64::from(written), Relaxed);
    }

    fn totals(&self) -> Totals {
        let accepted_after = self.accepted_after.lock().clone();
        Totals {
            lent: self.lent.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            expired: self.expired.load(Relaxed),
            limited: self.limited.load(Relaxed),
            deduplicated: self.deduplicated.load(Relaxed),
            failed: self.failed.load(Relaxed),
            released: self.released.load(Relaxed),
            requests: self.requests.load(Relaxed),
            retries: self.retries.load(Relaxed),
            holds: self.holds.load(Relaxed),
            possible_duplicates: self.possible_duplicates.load(Relaxed),
            feedback: self.feedback.load(Relaxed),
            feedback_lost: self.feedback_lost.load(Relaxed),
            dead_letters: self.dead_letters.load(Relaxed),
            reasons: self.reasons.lock().iter().map(|(key, n)| ((*key).to_owned(), *n)).collect(),
            accepted_p50_us: accepted_after.value_at_quantile(0.5),
            accepted_p99_us: accepted_after.value_at_quantile(0.99),
        }
    }
}

/// A lane's counters at one moment, or the sum of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Taken from the queue with a receipt.
    pub lent: u64,
    /// Passed over because they were resolved before a restart.
    pub skipped: u64,
    /// Accepted by the provider.
    pub delivered: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Too old to be sent.
    pub expired: u64,
    /// Over the rate limit of their devices.
    pub limited: u64,
    /// Copies of what went to their devices already.
    pub deduplicated: u64,
    /// Given up.
    pub failed: u64,
    /// Given back unresolved.
    pub released: u64,
    /// Requests that left us: every attempt and every immediate resend.
    pub requests: u64,
    /// Waits for another attempt.
    pub retries: u64,
    /// Waits for the operator.
    pub holds: u64,
    /// Requests sent although an earlier one of the same message may have been accepted.
    pub possible_duplicates: u64,
    /// Feedback records acknowledged.
    pub feedback: u64,
    /// Feedback records lost by configuration.
    pub feedback_lost: u64,
    /// Dead letters acknowledged.
    pub dead_letters: u64,
    /// Everything that was not delivered, by reason key.
    pub reasons: BTreeMap<String, u64>,
    /// Median from lent to accepted, µs; of a sum, the largest of its parts.
    pub accepted_p50_us: u64,
    /// 99th percentile from lent to accepted, µs; of a sum, the largest of its parts.
    pub accepted_p99_us: u64,
}

impl Totals {
    /// Everything that was read from Kafka for a lane.
    pub fn consumed(&self) -> u64 {
        self.lent + self.skipped
    }

    /// Messages with a final outcome.
    pub fn resolved(&self) -> u64 {
        self.delivered + self.rejected + self.expired + self.limited + self.deduplicated + self.failed
    }

    /// What the law of conservation leaves in flight; 0 after a drain.
    pub fn unaccounted(&self) -> i64 {
        self.lent as i64 - (self.resolved() + self.released) as i64
    }

    /// Adds another lane's figures.
    pub fn add(&mut self, other: &Totals) {
        self.lent += other.lent;
        self.skipped += other.skipped;
        self.delivered += other.delivered;
        self.rejected += other.rejected;
        self.expired += other.expired;
        self.limited += other.limited;
        self.deduplicated += other.deduplicated;
        self.failed += other.failed;
        self.released += other.released;
        self.requests += other.requests;
        self.retries += other.retries;
        self.holds += other.holds;
        self.possible_duplicates += other.possible_duplicates;
        self.feedback += other.feedback;
        self.feedback_lost += other.feedback_lost;
        self.dead_letters += other.dead_letters;
        for (key, n) in &other.reasons {
            *self.reasons.entry(key.clone()).or_default() += n;
        }
        self.accepted_p50_us = self.accepted_p50_us.max(other.accepted_p50_us);
        self.accepted_p99_us = self.accepted_p99_us.max(other.accepted_p99_us);
    }
}

/// All lanes that this process has seen.
#[derive(Debug, Default)]
pub struct Tally {
    lanes: RwLock<Vec<Arc<LaneTally>>>,
}

impl Tally {
    /// The counters of the lane that `origin` belongs to. Lanes are few: a scan beats a hash.
    pub fn lane(&self, origin: &Origin) -> Arc<LaneTally> {
        let known = |lanes: &[Arc<LaneTally>]| {
            let same =
                |key: &LaneKey| key.lane == origin.lane && key.platform == origin.platform && key.app == origin.app;
            lanes.iter().find(|lane| same(&lane.key)).cloned()
        };
        if let Some(lane) = known(&self.lanes.read()) {
            return lane;
        }
        let mut lanes = self.lanes.write();
        known(&lanes).unwrap_or_else(|| {
            let key = LaneKey { app: origin.app.clone(), platform: origin.platform, lane: origin.lane };
            let lane = Arc::new(LaneTally::new(key));
            lanes.push(lane.clone());
            lane
        })
    }

    /// Each lane's figures.
    pub fn lanes(&self) -> Vec<(LaneKey, Totals)> {
        let mut all: Vec<_> = self.lanes.read().iter().map(|lane| (lane.key.clone(), lane.totals())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The sum of all lanes.
    pub fn totals(&self) -> Totals {
        self.lanes().iter().fold(Totals::default(), |mut sum, (_, totals)| {
            sum.add(totals);
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Acceptance, Class, Refusal};

    fn origin(lane: Lane) -> Origin {
        Origin { topic: "t".into(), partition: 0, app: "game".into(), platform: Platform("apns"), lane }
    }

    #[test]
    fn every_outcome_is_counted_once_and_the_law_holds() {
        let tally = Tally::default();
        let lane = tally.lane(&origin(Lane::Single));
        for _ in 0..6 {
            lane.lent();
        }
        let accepted = Outcome::Delivered(Acceptance { status: 200, provider_id: None });
        lane.resolved(&accepted, Duration::from_millis(3));
        lane.resolved(&Outcome::Rejected(Refusal::local(Class::Message, "bad", "Bad", "")), Duration::ZERO);
        lane.resolved(&Outcome::Expired(None), Duration::ZERO);
        lane.resolved(&Outcome::Limited(Refusal::local(Class::Message, "limited", "L", "")), Duration::ZERO);
        lane.resolved(&Outcome::Deduplicated(Refusal::local(Class::Message, "copy", "C", "")), Duration::ZERO);
        assert_eq!(tally.totals().unaccounted(), 1);
        lane.released();
        let totals = tally.totals();
        assert_eq!((totals.unaccounted(), totals.consumed(), totals.resolved()), (0, 6, 5));
        assert_eq!((totals.limited, totals.deduplicated), (1, 1));
        let reasons: Vec<_> = totals.reasons.into_keys().collect();
        assert_eq!(reasons, ["bad", "copy", "expired", "limited"]);
    }

    #[test]
    fn lanes_are_counted_apart_and_summed() {
        let tally = Tally::default();
        tally.lane(&origin(Lane::Single)).lent();
        tally.lane(&origin(Lane::Massive)).lent();
        tally.lane(&origin(Lane::Massive)).skipped(2);
        assert_eq!(tally.lanes().len(), 2);
        assert_eq!(tally.totals().consumed(), 4);
    }
}
