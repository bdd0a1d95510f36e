//! From a lent record to a batch of one table's tokens. Runs on the poll thread: it parses, counts and collects, and never
//! waits.
//!
//! A batch goes when it is full, when its first token has waited long enough, or when half of all that may be in flight is:
//! tokens that wait for company must not keep others out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::mpsc;

use super::config::Settings;
use super::ledger::Ledger;
use super::record::{self, Reading};
use crate::message::Platform;
use crate::outcome::InvalidToken;
use crate::queue::{InFlight, Lent, Receipt};
use crate::reporters::StatsReporter as _;
use crate::reporters::invalid_token::batch::Batches;
use crate::reporters::stats::{Metric, Stats};

/// The app and the platform whose table it is.
pub(super) type Table = (Arc<str>, Platform);

/// A dead token and the record that told it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) token: InvalidToken,
    /// When the record was written, ms since the epoch; `None` when it does not say.
    pub(super) told_at_ms: Option<i64>,
    pub(super) receipt: Receipt,
}

/// Tokens of one table.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) table: Table,
    pub(super) items: Vec<Item>,
}

/// Records in, batches out.
pub(super) struct Intake {
    collected: Batches<Table, Item>,
    out: mpsc::Sender<Batch>,
    enabled: bool,
    in_flight: Arc<InFlight>,
    /// From so many in flight on nothing waits for company.
    crowd: usize,
    ledger: Arc<Ledger>,
    counts: HashMap<(Table, &'static str), u64>,
    stats: Stats,
    /// Tokens collected, for the gauge.
    buffered: Arc<AtomicUsize>,
}

impl Intake {
    /// `most`: records that may be in flight. As many batches must find room in `out`.
    pub(super) fn new(
        settings: &Settings,
        most: usize,
        in_flight: Arc<InFlight>,
        out: mpsc::Sender<Batch>,
        ledger: Arc<Ledger>,
        stats: Stats,
    ) -> Self {
        Intake {
            collected: Batches::new(settings.batch_size, settings.batch_interval),
            out,
            enabled: settings.enabled,
            in_flight,
            crowd: most.div_ceil(2),
            ledger,
            counts: HashMap::new(),
            stats,
            buffered: Arc::default(),
        }
    }

    /// How many tokens are collected and in no batch yet.
    pub(super) fn buffered(&self) -> Arc<AtomicUsize> {
        self.buffered.clone()
    }

    /// Takes a record: its token is collected, or it is resolved at once.
    pub(super) fn take(&mut self, lent: Lent, now: Instant) {
        let Lent { message, receipt } = lent;
        let table = (message.origin.app.clone(), message.origin.platform);
        let (kind, dead) = match record::read(message.origin.platform, &message.payload) {
            Reading::Dead(dead) => ("dead", Some(dead)),
            Reading::Other => ("other", None),
            Reading::Unreadable => ("unreadable", None),
        };
        *self.counts.entry((table.clone(), kind)).or_default() += 1;
        let Some(dead) = dead.filter(|_| self.enabled) else {
            self.ledger.passed();
            return receipt.resolve();
        };
        // Without the provider's word for it the token was dead at the latest when the record was written: who registers it
        // after that is not meant.
        let unregistered_at_ms = dead.unregistered_at_ms.or(message.timestamp_ms);
        let token = InvalidToken { token: dead.token.into_owned(), unregistered_at_ms };
        let item = Item { token, told_at_ms: message.timestamp_ms, receipt };
        if let Some((table, items)) = self.collected.add(table, item, now) {
            self.send(table, items);
        }
    }

    /// After each turn of the queue: sends what is due and tells statistics.
    pub(super) fn turn(&mut self, now: Instant) {
        let is_crowded = self.in_flight.total().messages >= self.crowd;
        let due = if is_crowded { self.collected.take_all() } else { self.collected.take_due(now) };
        for (table, items) in due {
            self.send(table, items);
        }
        self.buffered.store(self.collected.len(), Relaxed);
        for (((app, platform), kind), n) in self.counts.drain() {
            let tags = [("platform", platform.0), ("game", &*app), ("kind", kind)];
            self.stats.count(Metric::FeedbackRecords, &tags, n);
        }
    }

    /// When something will be due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.collected.due()
    }

    /// The end: what is collected stays in Kafka.
    pub(super) fn give_back(mut self) {
        let left = self.collected.take_all();
        left.into_iter().flat_map(|(_, items)| items).for_each(|item| {
            item.receipt.release();
        });
        self.buffered.store(0, Relaxed);
    }

    fn send(&self, table: Table, items: Vec<Item>) {
        if let Err(refused) = self.out.try_send(Batch { table, items }) {
            // Only when the deletions have ended, which begins the end of the process.
            for item in refused.into_inner().items {
                item.receipt.release();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::feedback_listener::ledger::Totals;
    use crate::feedback_listener::valve::Limits;
    use crate::message::{Lane, Origin};
    use crate::queue::Queue as _;
    use crate::queue::memory::{MemoryLog, MemoryQueue};

    struct Place {
        log: MemoryLog,
        queue: MemoryQueue,
        intake: Intake,
        batches: mpsc::Receiver<Batch>,
        ledger: Arc<Ledger>,
    }

    impl Place {
        fn new(batch_size: usize, most: usize, enabled: bool) -> Place {
            let origin = |app: &str| Origin {
                topic: format!("push-{app}-gcm-feedbacks").into(),
                partition: 0,
                app: app.into(),
                platform: Platform("gcm"),
                lane: Lane::Single,
            };
            let log = MemoryLog::new([origin("a"), origin("b")]);
            let in_flight = InFlight::new(most, 1 << 20);
            let ledger = Arc::new(Ledger::new(in_flight.tally().clone()));
            let limits = Limits { max_share: 1.0, window: Duration::from_hours(1), min_rows: 0 };
            let batch_interval = Duration::from_secs(1);
            let settings = Settings { grace: Duration::from_secs(1), enabled, batch_size, batch_interval, limits };
            let (out, batches) = mpsc::channel(most);
            let queue = log.queue(&in_flight);
            let intake = Intake::new(&settings, most, in_flight, out, ledger.clone(), Stats::default());
            Place { log, queue, intake, batches, ledger }
        }

        fn dead(&self, partition: usize, token: &str) {
            self.log.push(partition, format!(r#"{{"error":"DEVICE_UNREGISTERED","from":"{token}"}}"#));
        }

        fn read(&mut self, now: Instant) {
            let mut lent = Vec::new();
            self.queue.lend(Duration::ZERO, &mut lent).unwrap();
            for lent in lent {
                self.intake.take(lent, now);
            }
            self.intake.turn(now);
        }

        fn batch(&mut self) -> Option<(String, Vec<String>)> {
            let Batch { table, items } = self.batches.try_recv().ok()?;
            let tokens = items.iter().map(|item| item.token.token.clone()).collect();
            for item in items {
                item.receipt.resolve();
            }
            Some((table.0.to_string(), tokens))
        }
    }

    #[test]
    fn tokens_are_collected_by_table_until_a_batch_is_full_or_due() {
        let (mut place, now) = (Place::new(2, 100, true), Instant::now());
        for (partition, token) in [(0, "1"), (1, "2"), (0, "3")] {
            place.dead(partition, token);
        }
        place.read(now);
        assert_eq!(place.batch(), Some(("a".into(), vec!["1".into(), "3".into()])));
        assert_eq!((place.batch(), place.intake.buffered().load(Relaxed)), (None, 1));
        place.intake.turn(now + Duration::from_secs(1));
        assert_eq!(place.batch(), Some(("b".into(), vec!["2".into()])));
        assert_eq!(place.intake.buffered().load(Relaxed), 0);
    }

    #[test]
    fn what_tells_no_dead_token_is_resolved_and_counted_at_once() {
        let (mut place, now) = (Place::new(2, 100, true), Instant::now());
        place.log.push(0, r#"{"from":"x","error":"UNAVAILABLE"}"#);
        place.log.push(0, "no record");
        place.read(now);
        place.read(now);
        assert_eq!((place.batch(), place.log.committed(0).offset), (None, 2));
        assert_eq!(place.ledger.totals(), Totals { lent: 2, passed: 2, ..Totals::default() });
    }

    #[test]
    fn when_half_of_what_may_be_in_flight_is_nobody_waits_for_company() {
        let (mut place, now) = (Place::new(1000, 10, true), Instant::now());
        (0..4).for_each(|n| place.dead(0, &n.to_string()));
        place.read(now);
        assert_eq!(place.batch(), None);
        place.dead(1, "4");
        place.read(now);
        let mut sizes = [place.batch().unwrap().1.len(), place.batch().unwrap().1.len()];
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 4]);
    }

    #[test]
    fn a_listener_that_is_switched_off_passes_everything() {
        let (mut place, now) = (Place::new(1, 100, false), Instant::now());
        place.dead(0, "1");
        place.read(now);
        place.read(now);
        assert_eq!((place.batch(), place.log.committed(0).offset), (None, 1));
    }

    #[test]
    fn what_is_collected_at_the_end_stays_in_kafka() {
        let (mut place, now) = (Place::new(10, 100, true), Instant::now());
        place.dead(0, "1");
        place.read(now);
        let ledger = place.ledger.clone();
        place.queue.stop();
        place.intake.give_back();
        assert_eq!(ledger.totals(), Totals { lent: 1, released: 1, ..Totals::default() });
        Box::new(place.queue).close(Duration::ZERO).unwrap();
        assert_eq!(place.log.committed(0).offset, 0);
    }
}
