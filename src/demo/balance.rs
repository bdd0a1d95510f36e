//! The demo's last word: three sets of books for each platform, which must agree to the last push.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table, presets};

use super::sinks::FeedbackSeen;
use crate::generate::Generated;
use crate::tally::Totals;

/// What the generator knows about what it made.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    /// All messages.
    pub count: u64,
    /// Those that a provider accepts, at once or after a retry.
    pub delivered: u64,
    /// The rest, by the reason key that they must end with.
    pub reasons: BTreeMap<String, u64>,
}

impl Expected {
    /// Notes one generated message.
    pub(super) fn add(&mut self, push: &Generated) {
        self.count += 1;
        match push.expected.reason_key() {
            None => self.delivered += 1,
            Some(key) => *self.reasons.entry(key.to_owned()).or_default() += 1,
        }
    }
}

/// What everybody saw of one platform's pushes.
#[derive(Clone, Debug)]
pub(super) struct Books {
    /// The provider, for people.
    pub title: &'static str,
    /// The generator.
    pub expected: Expected,
    /// The worker.
    pub ledger: Totals,
    /// The provider: different messages accepted, and accepted again.
    pub accepted: u64,
    /// Accepted a second time.
    pub repeated: u64,
    /// The consumer of the feedback topic.
    pub feedback: FeedbackSeen,
    /// Kafka: sum of committed offsets and sum of the ends of the log.
    pub committed: i64,
    /// See `committed`.
    pub end: i64,
    /// StatsD's `ack`.
    pub acknowledged: u64,
    /// StatsD's `failed`.
    pub failed: u64,
    /// Pushes by hand were possible: the generator does not know all messages.
    pub by_hand: bool,
    /// From the first push to the last outcome.
    pub took: Duration,
    /// The worker's CPU in that time.
    pub cpu: Duration,
}

impl Books {
    /// An error that names every figure that disagrees.
    pub(super) fn check(&self) -> Result<()> {
        let wrong: Vec<String> = self
            .rows()
            .into_iter()
            .filter(|row| row.2 != row.3)
            .map(|row| format!("{} {} but {} {}", row.0, row.2, row.1, row.3))
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        bail!("the books of {} do not balance: {}", self.title, wrong.join("; "))
    }

    /// Pairs that must be equal: (who, whom, figure, figure).
    fn rows(&self) -> Vec<(String, &'static str, i64, i64)> {
        let ledger = &self.ledger;
        let ended_badly = (ledger.rejected + ledger.expired + ledger.failed) as i64;
        let mut rows = vec![
            ("unaccounted for".into(), "must be", ledger.unaccounted(), 0),
            ("the simulator accepted".into(), "the ledger delivered", self.accepted as i64, ledger.delivered as i64),
            ("the simulator saw repeats".into(), "must be", self.repeated as i64, 0),
            ("the feedback topic has".into(), "the ledger refused", self.feedback.identities.len() as i64, ended_badly),
            ("unreadable feedback".into(), "must be", self.feedback.unreadable as i64, 0),
            ("committed offsets".into(), "the log ends at", self.committed, self.end),
            ("the log has".into(), "the ledger consumed", self.end, ledger.consumed() as i64),
            ("StatsD ack".into(), "the ledger delivered", self.acknowledged as i64, ledger.delivered as i64),
            ("StatsD failed".into(), "the ledger refused", self.failed as i64, ended_badly),
        ];
        if self.by_hand {
            return rows;
        }
        let (count, delivered) = (self.expected.count as i64, self.expected.delivered as i64);
        rows.push(("generated".into(), "the ledger consumed", count, ledger.consumed() as i64));
        rows.push(("expected deliveries".into(), "the ledger has", delivered, ledger.delivered as i64));
        let keys: BTreeSet<_> = self.expected.reasons.keys().chain(ledger.reasons.keys()).collect();
        let of = |map: &BTreeMap<String, u64>, key: &String| map.get(key).copied().unwrap_or(0) as i64;
        rows.extend(keys.into_iter().map(|key| {
            (format!("expected {key}"), "the ledger has", of(&self.expected.reasons, key), of(&ledger.reasons, key))
        }));
        rows
    }

    fn pushes(&self) -> f64 {
        self.ledger.consumed().max(1) as f64
    }

    fn balance_line(&self) -> String {
        let Totals { delivered, rejected, expired, failed, released, skipped, .. } = self.ledger;
        format!(
            "{}: consumed {} = delivered {delivered} + rejected {rejected} + expired {expired} + failed {failed} + released {released} + skipped {skipped} + in flight {}",
            self.title,
            self.ledger.consumed(),
            self.ledger.unaccounted(),
        )
    }
}

/// The table for people, one column for each platform, and each one's balance.
pub(super) fn table(all: &[Books]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(std::iter::once("").chain(all.iter().map(|books| books.title)));
    let mut row = |name: &str, figure: &dyn Fn(&Books) -> String| {
        table.add_row(std::iter::once(name.to_owned()).chain(all.iter().map(figure)));
    };
    row("consumed", &|books| books.ledger.consumed().to_string());
    row("delivered", &|books| books.ledger.delivered.to_string());
    row("rejected", &|books| books.ledger.rejected.to_string());
    let reasons: BTreeSet<_> = all.iter().flat_map(|books| books.ledger.reasons.keys()).collect();
    for reason in reasons.into_iter().filter(|reason| *reason != "expired") {
        row(&format!("  {reason}"), &|books| books.ledger.reasons.get(reason).map_or_else(String::new, u64::to_string));
    }
    row("expired", &|books| books.ledger.expired.to_string());
    row("failed", &|books| books.ledger.failed.to_string());
    row("attempts (requests)", &|books| books.ledger.requests.to_string());
    row("waits for a retry", &|books| books.ledger.retries.to_string());
    row("feedback records", &|books| books.ledger.feedback.to_string());
    row("pushes/s", &|books| format!("{:.0}", books.pushes() / books.took.as_secs_f64()));
    row("CPU µs per push (worker)", &|books| format!("{:.1}", books.cpu.as_secs_f64() * 1e6 / books.pushes()));
    row("latency consumed→accepted p50", &|books| millis(books.ledger.accepted_p50_us));
    row("latency consumed→accepted p99", &|books| millis(books.ledger.accepted_p99_us));
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let balance: Vec<_> = all.iter().map(Books::balance_line).collect();
    format!("{table}\nbalance\n{}", balance.join("\n"))
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(title: &'static str) -> Books {
        let reasons = BTreeMap::from([("expired".to_owned(), 1)]);
        let ledger = Totals { lent: 3, delivered: 2, expired: 1, reasons: reasons.clone(), ..Totals::default() };
        let feedback = FeedbackSeen { identities: [uuid::Uuid::nil()].into(), unreadable: 0 };
        Books {
            title,
            expected: Expected { count: 3, delivered: 2, reasons },
            ledger,
            accepted: 2,
            repeated: 0,
            feedback,
            committed: 3,
            end: 3,
            acknowledged: 2,
            failed: 1,
            by_hand: false,
            took: Duration::from_secs(1),
            cpu: Duration::ZERO,
        }
    }

    #[test]
    fn books_that_agree_pass_and_every_difference_is_named() {
        books("APNs").check().unwrap();
        let wrong = Books { accepted: 1, repeated: 1, committed: 2, failed: 0, ..books("FCM") };
        insta::assert_snapshot!(wrong.check().unwrap_err().to_string(), @"the books of FCM do not balance: the simulator accepted 1 but the ledger delivered 2; the simulator saw repeats 1 but must be 0; committed offsets 2 but the log ends at 3; StatsD failed 0 but the ledger refused 1");
        let unexpected = Books { expected: Expected::default(), ..books("FCM") };
        assert!(unexpected.check().is_err());
        assert!(Books { by_hand: true, ..unexpected }.check().is_ok());
    }

    #[test]
    fn the_table_has_a_column_for_each_platform() {
        let (apns, mut fcm) = (books("APNs"), books("FCM"));
        fcm.ledger.reasons.insert("BAD_REGISTRATION".into(), 7);
        let table = table(&[apns, fcm]);
        let line = |name: &str| table.lines().find(|line| line.contains(name)).unwrap().replace([' ', '│'], "");
        assert_eq!((line("delivered"), line("BAD_REG")), ("delivered22".into(), "BAD_REGISTRATION7".into()));
        assert!(table.ends_with(
            "FCM: consumed 3 = delivered 2 + rejected 0 + expired 1 + failed 0 + released 0 + skipped 0 + in flight 0"
        ));
    }
}
