//! The document as compact tables. Pure.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};

use super::words::{age, count, figure};
use crate::admin::document::{App, Breaker, Change, Job, Lane, Ledger, Order, Partition, Pool, Status, Urgency, Valve};

/// Changes that are shown.
const CHANGES: usize = 12;
/// Jobs that are shown.
const JOBS: usize = 12;
/// Reasons that are shown of a lane.
const REASONS: usize = 6;

/// What is printed.
pub fn of(status: &Status) -> String {
    let mut out = headline(status);
    section(&mut out, &lanes(&status.apps));
    section(&mut out, &jobs(&status.jobs, status.at_ms));
    section(&mut out, &outcomes(&status.apps));
    section(&mut out, &pools(&status.pools));
    section(&mut out, &partitions(&status.partitions));
    section(&mut out, &changes(&status.journal, status.at_ms));
    section(&mut out, &ledger(&status.ledger));
    out
}

fn section(out: &mut String, text: &str) {
    if !text.is_empty() {
        let _ = write!(out, "\n{text}");
    }
}

/// The state first, then what is wrong and what to do.
fn headline(status: &Status) -> String {
    let urgent = status.problems.iter().any(|problem| problem.urgency == Urgency::Act);
    let state = match (urgent, status.problems.is_empty()) {
        (true, _) => "NEEDS YOU",
        (false, false) => "nothing to do, but look",
        (false, true) => "all well",
    };
    let program = if status.program.is_empty() { "(starting)" } else { &status.program };
    let up = age(status.at_ms - status.since_ms);
    let (platforms, version) = (status.platforms.join(" "), &status.version);
    let mut out = format!("{state}: {program} {platforms} on {}, version {version}, up {up}\n", status.instance);
    for problem in &status.problems {
        let sign = if problem.urgency == Urgency::Act { "!!" } else { " -" };
        let _ = writeln!(out, "{sign} {}\n     {}", problem.what, problem.remedy);
    }
    out
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{}", line.trim());
        out
    })
}

fn lanes(apps: &[App]) -> String {
    let header = [
        "APP",
        "PLATFORM",
        "LANE",
        "READ/S",
        "SENT/S",
        "OTHER/S",
        "IN FLIGHT",
        "RETRIES",
        "BACKLOG",
        "AGE",
        "P50 MS",
        "P99 MS",
        "BREAKER",
        "VALVE",
    ];
    let rows = apps.iter().flat_map(|app| {
        let none = app.lanes.is_empty().then(|| row(app, None));
        app.lanes.iter().map(|lane| row(app, Some(lane))).chain(none)
    });
    table(&header, rows.collect())
}

fn row(app: &App, lane: Option<&Lane>) -> Vec<String> {
    let of = |get: fn(&Lane) -> String| lane.map_or_else(|| "-".to_owned(), get);
    let breaker = app.breaker.map_or("-", |breaker| match breaker {
        Breaker::Closed => "closed",
        Breaker::Limited => "limited",
        Breaker::Open => "OPEN",
    });
    let valve = app.valve.map_or("-", |valve| match valve {
        Valve::Open => "open",
        Valve::Closed => "CLOSED",
    });
    vec![
        app.app.clone(),
        app.platform.clone(),
        of(|lane| if lane.paused.is_some() { format!("{} (PAUSED)", lane.lane) } else { lane.lane.clone() }),
        of(|lane| figure(lane.consumed_per_s)),
        of(|lane| figure(lane.delivered_per_s)),
        of(|lane| figure(lane.not_delivered_per_s)),
        of(|lane| count(lane.in_flight)),
        count(app.retries_waiting),
        of(|lane| count(lane.backlog)),
        of(|lane| lane.backlog_age_s.map_or_else(|| "-".into(), |seconds| age((seconds * 1000.0) as i64))),
        of(|lane| figure(lane.accepted.p50_ms)),
        of(|lane| figure(lane.accepted.p99_ms)),
        breaker.into(),
        valve.into(),
    ]
}

fn jobs(jobs: &[Job], now_ms: i64) -> String {
    let header = ["JOB", "STATE", "ENDED/S", "DELIVERED", "CANCELLED", "OTHER", "SEEN"];
    let row = |job: &Job| {
        let stopped = |order: &Order| format!("STOPPED {} ago by {}", age(now_ms - order.at_ms), order.by);
        let seen = |seconds: f64| format!("{} ago", age((seconds * 1000.0) as i64));
        vec![
            job.id.clone(),
            job.stopped.as_ref().map_or_else(|| "sent".into(), stopped),
            figure(job.ended_per_s),
            count(job.delivered),
            count(job.cancelled),
            count(job.otherwise),
            job.idle_s.map_or_else(|| "-".into(), seen),
        ]
    };
    table(&header, jobs.iter().take(JOBS).map(row).collect())
}

fn outcomes(apps: &[App]) -> String {
    let lanes = apps.iter().flat_map(|app| app.lanes.iter().map(move |lane| (app, lane)));
    let row = |(app, lane): (&App, &Lane)| {
        let ends = lane.outcomes.iter().filter(|(_, n)| **n > 0);
        let ends: Vec<_> = ends.map(|(outcome, n)| format!("{outcome} {}", count(*n))).collect();
        let reasons = lane.reasons.iter().take(REASONS);
        let reasons: Vec<_> = reasons.map(|one| format!("{} {}", one.reason, count(one.count))).collect();
        (!ends.is_empty()).then(|| {
            let name = format!("{} {} {}", app.app, app.platform, lane.lane);
            vec![name, ends.join(", "), reasons.join(", ")]
        })
    };
    table(&["SINCE THE START", "OUTCOMES", "REASONS"], lanes.filter_map(row).collect())
}

fn pools(pools: &[Pool]) -> String {
    let header = ["POOL", "OPEN", "CONNECTING", "DRAINING", "STREAMS", "WAITING", "FAILED", "GOAWAYS", "LOST"];
    let row = |pool: &Pool| {
        let numbers = [pool.open, pool.connecting, pool.draining, pool.streams, pool.waiting];
        let totals = [pool.connect_failures, pool.goaways, pool.lost];
        let name = format!("{} {}", pool.platform, pool.pool);
        [name].into_iter().chain(numbers.into_iter().chain(totals).map(count)).collect()
    };
    table(&header, pools.iter().map(row).collect())
}

fn partitions(partitions: &[Partition]) -> String {
    let header = ["TOPIC", "PARTITION", "COMMITTED", "BEYOND", "IN FLIGHT", "END", "LAG"];
    let offset = |offset: i64| count(offset.max(0) as u64);
    let row = |one: &Partition| {
        vec![
            one.topic.clone(),
            one.partition.to_string(),
            offset(one.committed),
            count(one.resolved_beyond),
            count(one.in_flight),
            one.log_end.map_or_else(|| "-".into(), offset),
            count(one.lag),
        ]
    };
    table(&header, partitions.iter().map(row).collect())
}

fn changes(journal: &[Change], now_ms: i64) -> String {
    let row = |one: &Change| {
        let about: Vec<_> = one.about.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let times = if one.times > 1 { format!(" ({} times)", count(one.times)) } else { String::new() };
        vec![
            format!("{} ago", age(now_ms - one.at_ms)),
            one.level.clone(),
            format!("{}{times}", one.what),
            about.join(" "),
        ]
    };
    table(&["LAST CHANGES", "", "", ""], journal.iter().rev().take(CHANGES).map(row).collect())
}

fn ledger(ledger: &Ledger) -> String {
    let parts = ledger.outcomes.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{} {name}", count(*n)));
    let parts: Vec<_> = parts.chain([format!("{} in flight", count(ledger.in_flight))]).collect();
    let says = if ledger.balances { "it balances".into() } else { format!("IT IS OFF BY {}", ledger.difference) };
    format!("LEDGER: {} consumed = {}: {says}\n", count(ledger.consumed), parts.join(" + "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_as_tables() {
        let sample = include_str!("../../tests/fixtures/status.json");
        insta::assert_snapshot!(of(&serde_json::from_str(sample).unwrap()));
        insta::assert_snapshot!("a_start", of(&Status { at_ms: 5_000, ..Status::default() }));
    }
}
