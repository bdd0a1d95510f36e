//! The demo's last word: three sets of books, which must agree to the last push.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table, presets};

use super::sinks::FeedbackSeen;
use crate::generate::{Expected as Fate, Generated};
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
        match reason_key(push.expected) {
            None => self.delivered += 1,
            Some(key) => *self.reasons.entry(key.to_owned()).or_default() += 1,
        }
    }
}

/// The key with which the worker must name what becomes of a message; `None`: delivered.
fn reason_key(expected: Fate) -> Option<&'static str> {
    Some(match expected {
        Fate::Delivered { .. } => return None,
        Fate::Expired => "expired",
        Fate::Rejected("Unregistered") => "unregistered",
        Fate::Rejected("BadDeviceToken") => "bad-device-token",
        Fate::Malformed("cut off" | "not json") => "malformed-json",
        Fate::Malformed("not an object") => "not-an-object",
        Fate::Malformed("no token" | "empty token") => "missing-device-token",
        Fate::Malformed("token not a string") => "wrong-type",
        Fate::Malformed("token cannot stand in a path") => "malformed-device-token",
        Fate::Rejected(other) | Fate::Malformed(other) => other,
    })
}

/// What everybody saw.
#[derive(Clone, Debug)]
pub(super) struct Books {
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
    /// StatsD: sent, ack, failed.
    pub statsd: [u64; 3],
    /// Pushes by hand were possible: the generator does not know all messages.
    pub extra: bool,
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
        if wrong.is_empty() { Ok(()) } else { bail!("the books do not balance: {}", wrong.join("; ")) }
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
            ("StatsD ack".into(), "the ledger delivered", self.statsd[1] as i64, ledger.delivered as i64),
            ("StatsD failed".into(), "the ledger refused", self.statsd[2] as i64, ended_badly),
        ];
        if !self.extra {
            rows.push((
                "generated".into(),
                "the ledger consumed",
                self.expected.count as i64,
                ledger.consumed() as i64,
            ));
            rows.push((
                "expected deliveries".into(),
                "the ledger has",
                self.expected.delivered as i64,
                ledger.delivered as i64,
            ));
            let keys =
                self.expected.reasons.keys().chain(ledger.reasons.keys()).collect::<std::collections::BTreeSet<_>>();
            let of = |map: &BTreeMap<String, u64>, key: &String| map.get(key).copied().unwrap_or(0) as i64;
            rows.extend(keys.into_iter().map(|key| {
                (format!("expected {key}"), "the ledger has", of(&self.expected.reasons, key), of(&ledger.reasons, key))
            }));
        }
        rows
    }

    /// The table for people.
    pub(super) fn table(&self, took: Duration, cpu: Duration) -> String {
        let ledger = &self.ledger;
        let pushes = ledger.consumed().max(1);
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("consumed", ledger.consumed().to_string());
        row("delivered", ledger.delivered.to_string());
        row("rejected", ledger.rejected.to_string());
        for (reason, n) in ledger.reasons.iter().filter(|(reason, _)| *reason != "expired") {
            row(&format!("  {reason}"), n.to_string());
        }
        row("expired", ledger.expired.to_string());
        row("failed", ledger.failed.to_string());
        row("attempts (requests)", ledger.requests.to_string());
        row("waits for a retry", ledger.retries.to_string());
        row("feedback records", ledger.feedback.to_string());
        row("pushes/s", format!("{:.0}", pushes as f64 / took.as_secs_f64()));
        row("CPU µs per push (worker)", format!("{:.1}", cpu.as_secs_f64() * 1e6 / pushes as f64));
        row("latency consumed→accepted p50", millis(ledger.accepted_p50_us));
        row("latency consumed→accepted p99", millis(ledger.accepted_p99_us));
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{table}\n{}", self.balance_line())
    }

    fn balance_line(&self) -> String {
        let Totals { delivered, rejected, expired, failed, released, skipped, .. } = self.ledger;
        format!(
            "balance: consumed {} = delivered {delivered} + rejected {rejected} + expired {expired} + failed {failed} + released {released} + skipped {skipped} + in flight {}",
            self.ledger.consumed(),
            self.ledger.unaccounted(),
        )
    }
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}
