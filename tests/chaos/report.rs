//! What a run shows: a line per fault and platform, and the promises that were broken.

use std::path::Path;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::audit::Findings;
use super::world::World;

/// How much more memory a worker may have in hand while a provider is ill, and while the backlog of that time goes out with
/// `maxInFlight` pushes in flight.
const MAY_GROW: u64 = 64 << 20;

/// Lines of a worker's log that are shown.
const LAST_WORDS: usize = 6;

/// One fault on one platform.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) fault: &'static str,
    pub(crate) platform: &'static str,
    pub(crate) findings: Findings,
    /// Most repeats that the promise allows.
    pub(crate) may_repeat: u64,
    /// The most that this may be, where the machine is judged too.
    pub(crate) promised: Option<u64>,
    /// The longest time without a new acceptance.
    pub(crate) stalled: Duration,
    pub(crate) may_stall: Option<Duration>,
    /// From the end of the fault until the speed was back; `None`: not in time.
    pub(crate) recovered: Option<Duration>,
    pub(crate) may_recover_within: Duration,
    /// By how much the worker's resident memory grew at most, bytes, where it is looked at.
    pub(crate) grown: Option<u64>,
    /// What else went wrong, in words.
    pub(crate) complaints: Vec<String>,
}

impl Line {
    /// Whether more was repeated than the fault explains.
    pub(crate) fn has_excess(&self) -> bool {
        self.findings.repeated > self.may_repeat
    }

    /// So many more repeats are not the fault's doing.
    pub(crate) fn allow(&mut self, more: u64) {
        self.may_repeat += more;
        self.promised = self.promised.map(|most| most + more);
    }

    /// The promises that this line breaks.
    pub(crate) fn broken(&self) -> Vec<String> {
        let findings = &self.findings;
        let mut broken = self.complaints.clone();
        let mut unless = |kept: bool, what: String| {
            if !kept {
                broken.push(what);
            }
        };
        unless(findings.lost == 0, format!("{} lost", findings.lost));
        unless(findings.wrong == 0, format!("{} wrong records", findings.wrong));
        unless(
            findings.repeated <= self.may_repeat,
            format!("{} repeated, at most {}", findings.repeated, self.may_repeat),
        );
        unless(
            self.promised.is_none_or(|most| self.may_repeat <= most),
            format!("{} might have been repeated, at most {:?} are promised", self.may_repeat, self.promised),
        );
        unless(
            self.may_stall.is_none_or(|most| self.stalled <= most),
            format!("stood still for {:.1?}, at most {:.1?}", self.stalled, self.may_stall.unwrap_or_default()),
        );
        unless(
            self.recovered.is_some_and(|after| after <= self.may_recover_within),
            format!("back to speed after {:.1?}, at most {:.1?}", self.recovered, self.may_recover_within),
        );
        let grown = self.grown.unwrap_or(0);
        unless(grown <= MAY_GROW, format!("memory grew by {} MiB, at most {}", grown >> 20, MAY_GROW >> 20));
        if !broken.is_empty() {
            broken.extend(findings.examples.iter().cloned());
        }
        broken
    }

    fn cells(&self) -> [String; 11] {
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        let none = || "–".to_owned();
        [
            self.fault.into(),
            self.platform.into(),
            self.findings.pushes.to_string(),
            self.findings.lost.to_string(),
            self.findings.wrong.to_string(),
            self.findings.repeated.to_string(),
            self.may_repeat.to_string(),
            seconds(self.stalled),
            self.recovered.map_or_else(none, seconds),
            self.grown.map_or_else(none, |bytes| (bytes >> 20).to_string()),
            if self.broken().is_empty() { "kept".into() } else { "BROKEN".into() },
        ]
    }
}

/// The table.
pub(crate) fn table(lines: &[Line]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let head = [
        "fault",
        "platform",
        "pushes",
        "lost",
        "wrong",
        "repeated",
        "at most",
        "stalled s",
        "recovered s",
        "grown MiB",
        "promise",
    ];
    table.set_header(head);
    table.add_rows(lines.iter().map(Line::cells));
    table.column_iter_mut().skip(2).take(8).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// What tells where a worker stands, of its metrics.
const STANDING: [&str; 10] = [
    "pusher_assigned_partitions",
    "pusher_backlog_age_seconds",
    "pusher_breaker_state",
    "pusher_commit_lag_seconds",
    "pusher_feedback_stalled_seconds",
    "pusher_in_flight_messages",
    "pusher_paused_partitions",
    "pusher_ready",
    "pusher_unsettled_partitions",
    "pusher_valve_closed",
];

/// Leaves what the workers of a broken promise say behind, and says where; returns the end of it, for where no files are kept.
pub(crate) fn keep_logs(world: &World, fault: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos");
    std::fs::create_dir_all(&folder).expect("a folder for logs");
    let keep = |name: String, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("room for a log");
        eprintln!("of a worker: {}", path.display());
    };
    let mut last_words = Vec::new();
    for side in &world.sides {
        for (number, log) in side.logs().enumerate() {
            let lines: Vec<String> = log.iter().map(ToString::to_string).collect();
            keep(format!("{fault}-{}-{number}.log", side.platform), lines.join("\n"));
            let last = lines.iter().rev().take(LAST_WORDS).rev();
            last_words.extend(last.map(|line| format!("{} said {line}", side.platform)));
        }
        for (number, metrics) in side.metrics().enumerate() {
            let standing = metrics.lines().filter(|line| STANDING.iter().any(|name| line.starts_with(name)));
            last_words.extend(standing.map(|line| format!("{} {line}", side.platform)));
            keep(format!("{fault}-{}-{number}.metrics", side.platform), metrics);
        }
    }
    last_words
}
