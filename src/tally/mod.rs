//! The worker's own ledger: what became of every message, counted once, per app, platform and lane.
//!
//! The law that it must obey (and tests hold it to, at every moment):
//! *consumed = delivered + rejected + expired + limited + deduplicated + cancelled + failed + released + skipped + in flight*.
//! [`End`] lists the ends; it has one more, for consumers whose messages are no pushes.
//!
//! It is kept by the receipts: one that is made counts as lent and in flight, and one that goes counts as what it ended
//! with and is in flight no more, in one step. So nothing can pass by without being counted, and *in flight* is the number
//! of receipts that live, whatever the other numbers say.
//!
//! A lane's numbers lie behind one lock, held for a few additions: whoever reads sees them all of the same moment, and
//! [`Tally::sheets`], which holds the locks of all lanes together, sees the whole process of one moment. That costs the
//! sending path no more than atomics would (docs/decisions/0003).

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram as Quantiles;
use parking_lot::{Mutex, RwLock};

use crate::message::{Lane, Origin, Platform, QueueMessage};
use crate::outcome::{Attempt, Outcome, Verdict};

mod sheet;
pub use sheet::{End, Sheet, Totals};

/// Longest latency that the quantiles tell apart, µs: one hour. Longer ones count as this.
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
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    sheet: Sheet,
    accepted_after: Quantiles<u64>,
}

impl LaneTally {
    fn new(key: LaneKey) -> Self {
        let accepted_after = Quantiles::new_with_bounds(1, LONGEST_US, 2).expect("the bounds are constant and valid");
        LaneTally { key, books: Mutex::new(Books { sheet: Sheet::default(), accepted_after }) }
    }

    /// Whose they are.
    pub fn key(&self) -> &LaneKey {
        &self.key
    }

    fn write(&self, write: impl FnOnce(&mut Sheet)) {
        write(&mut self.books.lock().sheet);
    }

    /// A receipt was made, for a message of this age.
    pub fn lent(&self, age: Option<Duration>) {
        self.write(|sheet| {
            sheet.lent += 1;
            sheet.in_flight += 1;
            if let Some(age) = age {
                sheet.produced_to_lent.record(age);
            }
        });
    }

    /// A receipt ended with its message's one outcome; `reason` says why, when that is worth telling.
    pub fn ended(&self, end: End, reason: Option<&'static str>) {
        self.write(|sheet| sheet.end(end, reason));
    }

    /// A receipt ended unresolved (shutdown, revoked partition); `lost`: because of a bug, its message is lent again.
    pub fn released(&self, lost: bool) {
        self.write(|sheet| {
            sheet.in_flight -= 1;
            sheet.released += 1;
            sheet.lost += u64::from(lost);
        });
    }

    /// Messages that the queue passed over because the offset map says that they were resolved before.
    pub fn skipped(&self, n: u64) {
        self.write(|sheet| sheet.skipped += n);
    }

    /// An attempt at `message` ended; `duplicate` when an earlier one may have been accepted.
    pub fn attempted(&self, message: &QueueMessage, attempt: &Attempt, duplicate: bool) {
        let accepted = matches!(attempt.verdict, Verdict::Resolved(Outcome::Delivered(_)));
        let age = if accepted { message.age() } else { None };
        let mut books = self.books.lock();
        let Books { sheet, accepted_after } = &mut *books;
        sheet.requests += u64::from(attempt.requests);
        if attempt.requests > 0 {
            sheet.round_trip.record(attempt.round_trip);
            sheet.possible_duplicates += u64::from(duplicate);
        }
        if accepted {
            let since_lent = message.lent_at.elapsed();
            accepted_after.saturating_record(since_lent.as_micros().max(1) as u64);
            sheet.lent_to_accepted.record(since_lent);
            if let Some(age) = age {
                sheet.produced_to_accepted.record(age);
            }
        }
    }

    /// A message goes back that may have been accepted: whoever sends it next may repeat it.
    pub fn possible_duplicate(&self) {
        self.write(|sheet| sheet.possible_duplicates += 1);
    }

    /// A message begins to wait for another attempt; `held`: for the operator.
    pub fn waits(&self, held: bool) {
        self.write(|sheet| if held { sheet.holds += 1 } else { sheet.retries += 1 });
    }

    /// A feedback record reached its end.
    pub fn feedback(&self, acknowledged: bool) {
        self.write(|sheet| if acknowledged { sheet.feedback += 1 } else { sheet.feedback_lost += 1 });
    }

    /// A message that was given up was written to the dead letters, or could not be.
    pub fn dead_letter(&self, written: bool) {
        self.write(|sheet| sheet.dead_letters += u64::from(written));
    }

    fn totals(&self) -> Totals {
        let books = self.books.lock();
        let quantile = |q| books.accepted_after.value_at_quantile(q);
        books.sheet.totals(quantile(0.5), quantile(0.99))
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

    /// Each lane's numbers, all of the same moment.
    pub fn sheets(&self) -> Vec<(LaneKey, Sheet)> {
        let lanes = self.lanes.read();
        // Always in the order of the list, so that two readers cannot block each other; writers hold one at a time.
        let books: Vec<_> = lanes.iter().map(|lane| (&lane.key, lane.books.lock())).collect();
        let mut all: Vec<_> = books.iter().map(|(key, books)| ((*key).clone(), books.sheet.clone())).collect();
        drop(books);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
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
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;
    use crate::message::Payload;
    use crate::outcome::Acceptance;

    fn origin(lane: Lane) -> Origin {
        Origin { topic: "t".into(), partition: 0, app: "game".into(), platform: Platform("apns"), lane }
    }

    fn message(timestamp_ms: Option<i64>) -> QueueMessage {
        let origin = Arc::new(origin(Lane::Single));
        QueueMessage {
            origin,
            offset: 0,
            timestamp_ms,
            redrive_of: None,
            lent_at: Instant::now(),
            payload: Payload::default(),
        }
    }

    fn delivered() -> Verdict {
        Verdict::Resolved(Outcome::Delivered(Acceptance { status: 200, provider_id: None }))
    }

    #[test]
    fn every_end_is_counted_once_and_the_law_holds() {
        let tally = Tally::default();
        let lane = tally.lane(&origin(Lane::Single));
        for _ in 0..6 {
            lane.lent(None);
        }
        lane.ended(End::Delivered, None);
        lane.ended(End::Rejected, Some("bad"));
        lane.ended(End::Expired, Some("expired"));
        assert_eq!((tally.totals().unaccounted(), tally.sheets()[0].1.in_flight), (3, 3));
        lane.released(false);
        lane.released(true);
        lane.ended(End::Rejected, Some("worse"));
        let totals = tally.totals();
        assert_eq!((totals.unaccounted(), totals.consumed(), totals.resolved(), totals.released), (0, 6, 4, 2));
        let reasons: Vec<_> = totals.reasons.into_iter().collect();
        assert_eq!(reasons, [("bad".into(), 1), ("expired".into(), 1), ("worse".into(), 1)]);
        let (_, sheet) = tally.sheets().remove(0);
        assert_eq!((sheet.in_flight, sheet.lost, sheet.of(End::Rejected)), (0, 1, 2));
    }

    #[test]
    fn lanes_are_counted_apart_and_summed() {
        let tally = Tally::default();
        tally.lane(&origin(Lane::Single)).lent(None);
        tally.lane(&origin(Lane::Massive)).lent(None);
        tally.lane(&origin(Lane::Massive)).skipped(2);
        assert_eq!((tally.lanes().len(), tally.sheets().len()), (2, 2));
        assert_eq!(tally.totals().consumed(), 4);
    }

    #[test]
    fn what_an_attempt_took_is_recorded_by_what_it_came_to() {
        let tally = Tally::default();
        let lane = tally.lane(&origin(Lane::Single));
        let attempt = |verdict, requests| Attempt { verdict, requests, round_trip: Duration::from_millis(20) };
        lane.attempted(&message(Some(0)), &attempt(delivered(), 2), false);
        lane.attempted(&message(None), &attempt(delivered(), 1), true);
        lane.attempted(&message(Some(0)), &attempt(Verdict::Resolved(Outcome::Expired(None)), 0), true);
        let (_, sheet) = tally.sheets().remove(0);
        assert_eq!((sheet.requests, sheet.possible_duplicates, sheet.round_trip.count()), (3, 1, 2));
        assert_eq!((sheet.lent_to_accepted.count(), sheet.produced_to_accepted.count()), (2, 1));
        assert!(tally.totals().accepted_p99_us > 0);
    }

    /// Two threads lend and end as fast as they can; whoever looks never finds a message twice or not at all.
    #[test]
    fn a_reader_sees_one_moment_whatever_goes_on() {
        let (tally, stop) = (Tally::default(), AtomicBool::new(false));
        let work = |lane: Lane| {
            let lane = tally.lane(&origin(lane));
            while !stop.load(Ordering::Relaxed) {
                lane.lent(Some(Duration::from_millis(1)));
                lane.lent(None);
                lane.ended(End::Delivered, None);
                lane.skipped(1);
                lane.released(false);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| work(Lane::Single));
            scope.spawn(|| work(Lane::Single));
            scope.spawn(|| work(Lane::Massive));
            for _ in 0..20_000 {
                for (key, sheet) in tally.sheets() {
                    assert_eq!(sheet.consumed(), sheet.accounted() + sheet.in_flight, "{key:?}: {sheet:?}");
                    assert!(sheet.in_flight <= 4 && sheet.produced_to_lent.count() <= sheet.lent);
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
