//! From what a site shows to the document that is served: pure, all of one moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::advice;
use super::document::{
    App, Change, Job, Lane, Ledger, NotReady, Order, Partition, Pool, ReasonCount, Sample, StandingStill, Status,
    Urgency,
};
use super::recent::Recent;
use super::view::View;
use super::{Reason, Silence};
use crate::http2::Stats;
use crate::jobs::Figures;
use crate::journal::Entry;
use crate::levers::orders::{Given, LISTENER, Orders, Paused};
use crate::message::Platform;
use crate::queue::Standing;
use crate::queue::standing::{PartitionStanding, TopicStanding};
use crate::tally::{End, LaneKey, Sheet};

/// Most lanes in one sample of the history.
const LANES: usize = 100;

/// What is known besides the view.
pub(super) struct Facts<'a> {
    /// The host's name.
    pub(super) instance: &'a str,
    /// When the server began, ms since the epoch.
    pub(super) since_ms: i64,
    /// The moment.
    pub(super) at_ms: i64,
    /// The same on the clock of [`Recent`].
    pub(super) now: Instant,
    /// Why no work can be done.
    pub(super) not_ready: Vec<Reason>,
    /// What does not move.
    pub(super) standing_still: Vec<Silence>,
    /// The last changes.
    pub(super) journal: Vec<Entry>,
    /// What people have ordered.
    pub(super) orders: Orders,
    /// The jobs in sight.
    pub(super) jobs: Vec<Figures>,
}

/// The document.
pub(super) fn status(view: &View, facts: Facts<'_>, recent: &Recent) -> Status {
    let mut status = Status {
        program: view.program.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        instance: facts.instance.into(),
        platforms: view.platforms.iter().map(|platform| platform.0.to_owned()).collect(),
        since_ms: facts.since_ms,
        at_ms: facts.at_ms,
        ready: facts.not_ready.is_empty(),
        healthy: facts.standing_still.is_empty(),
        not_ready: facts
            .not_ready
            .into_iter()
            .map(|one| NotReady { reason: one.what.into(), detail: one.detail })
            .collect(),
        standing_still: facts.standing_still.into_iter().map(standing_still).collect(),
        window_s: tenths(recent.window(facts.now).as_secs_f64()),
        apps: apps(view, recent, facts.now),
        jobs: jobs(&facts.orders, facts.jobs),
        pools: view.pools.iter().map(|(platform, pool, stats)| sum(*platform, pool, stats)).collect(),
        partitions: view.standing.topics.iter().flat_map(partitions).collect(),
        commit_lag_s: tenths(view.standing.uncommitted_for.as_secs_f64()),
        ledger: ledger(&view.sheets),
        journal: facts.journal.into_iter().map(change).collect(),
        ..Status::default()
    };
    pause(&mut status, &facts.orders);
    status.problems = advice::problems(&status);
    status.well = status.problems.iter().all(|problem| problem.urgency != Urgency::Act);
    status
}

/// Notes at each lane the order that it is under.
fn pause(status: &mut Status, orders: &Orders) {
    let of_listener = (status.program == "listener").then_some(LISTENER);
    for app in &mut status.apps {
        let platform = of_listener.unwrap_or(&app.platform);
        for lane in &mut app.lanes {
            let is_meant = |paused: &Paused| {
                paused.platform == platform
                    && paused.app.eq_ignore_ascii_case(&app.app)
                    && paused.lane.as_str() == lane.lane
            };
            lane.paused = orders.pauses.iter().find(|(paused, _)| is_meant(paused)).map(|(_, given)| order(given));
        }
    }
}

fn order(Given { at, by, why }: &Given) -> Order {
    Order { at_ms: *at, by: by.clone(), why: why.clone() }
}

/// Those that are stopped and not in sight first: nobody must forget them.
fn jobs(orders: &Orders, in_sight: Vec<Figures>) -> Vec<Job> {
    let given = |id: &str| orders.jobs.iter().find(|(stopped, _)| stopped == id).map(|(_, given)| order(given));
    let unseen = orders.jobs.iter().filter(|(id, _)| !in_sight.iter().any(|job| job.id == *id));
    let unseen: Vec<_> =
        unseen.map(|(id, given)| Job { id: id.clone(), stopped: Some(order(given)), ..Job::default() }).collect();
    let seen = in_sight.into_iter().map(|job| {
        let refused: u64 = job.reasons.values().sum();
        Job {
            stopped: given(&job.id),
            id: job.id,
            delivered: job.delivered,
            cancelled: job.cancelled,
            otherwise: refused.saturating_sub(job.cancelled),
            ended_per_s: tenths(job.per_second),
            idle_s: Some(tenths(job.idle_s)),
        }
    });
    unseen.into_iter().chain(seen).collect()
}

fn standing_still(one: Silence) -> StandingStill {
    let (silent_s, limit_s) = (tenths(one.lasts.as_secs_f64()), tenths(one.limit.as_secs_f64()));
    StandingStill { name: one.name, silent_s, limit_s }
}

fn change(entry: Entry) -> Change {
    let Entry { at_ms, level, what, about, times } = entry;
    Change { at_ms, level: level.into(), what, about, times }
}

/// Every app that is configured, and every one that the books or the partitions know.
fn apps(view: &View, recent: &Recent, now: Instant) -> Vec<App> {
    let mut lanes: BTreeMap<LaneKey, Option<&Sheet>> =
        view.sheets.iter().map(|(key, sheet)| (key.clone(), Some(sheet))).collect();
    for TopicStanding { origin, .. } in &view.standing.topics {
        lanes.entry(LaneKey { app: origin.app.clone(), platform: origin.platform, lane: origin.lane }).or_insert(None);
    }
    let mut names: Vec<_> = view.apps.iter().map(|app| (app.app.clone(), app.platform)).collect();
    names.extend(lanes.keys().map(|key| (key.app.clone(), key.platform)));
    names.sort_unstable();
    names.dedup();
    let empty = Sheet::default();
    let of_name = |(name, platform): (Arc<str>, Platform)| {
        let known = view.apps.iter().find(|app| app.app == name && app.platform == platform);
        let usage = known.and_then(|app| app.usage);
        let ours = lanes.iter().filter(|(key, _)| key.app == name && key.platform == platform);
        App {
            app: name.to_string(),
            platform: platform.0.into(),
            breaker: known.and_then(|app| app.breaker),
            valve: known.and_then(|app| app.valve),
            retries_waiting: usage.map(|usage| usage.waiting as u64),
            reporting: usage.map(|usage| usage.reporting as u64),
            lanes: ours.map(|(key, sheet)| lane(key, sheet.unwrap_or(&empty), &view.standing, recent, now)).collect(),
        }
    };
    names.into_iter().map(of_name).collect()
}

fn lane(key: &LaneKey, sheet: &Sheet, standing: &Standing, recent: &Recent, now: Instant) -> Lane {
    let flow = recent.flow(key, sheet, now);
    let is_ours = |topic: &&TopicStanding| {
        let origin = &topic.origin;
        (&origin.app, origin.platform, origin.lane) == (&key.app, key.platform, key.lane)
    };
    let topics = || standing.topics.iter().filter(is_ours);
    // A sum of which a part is not known is not known.
    let backlog: Option<Vec<u64>> = topics().map(|topic| topic.backlog).collect();
    let mut reasons: Vec<_> = sheet
        .reasons()
        .map(|(end, reason, count)| ReasonCount { outcome: end.name().into(), reason: reason.into(), count })
        .collect();
    reasons.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    Lane {
        lane: key.lane.as_str().into(),
        paused: None,
        consumed_per_s: tenths(flow.consumed_per_s),
        delivered_per_s: tenths(flow.delivered_per_s),
        not_delivered_per_s: tenths(flow.not_delivered_per_s),
        in_flight: sheet.in_flight,
        backlog: backlog.filter(|all| !all.is_empty()).map(|all| all.iter().sum()),
        backlog_age_s: topics().filter_map(|topic| topic.oldest).max().map(|age| tenths(age.as_secs_f64())),
        accepted: flow.accepted,
        round_trip: flow.round_trip,
        consumed: sheet.consumed(),
        outcomes: outcomes(sheet).collect(),
        reasons,
    }
}

fn outcomes(sheet: &Sheet) -> impl Iterator<Item = (String, u64)> {
    let ends = End::ALL.iter().map(|end| (end.name(), sheet.of(*end)));
    ends.chain([("released", sheet.released), ("skipped", sheet.skipped)]).map(|(name, n)| (name.to_owned(), n))
}

fn ledger(sheets: &[(LaneKey, Sheet)]) -> Ledger {
    let mut ledger = Ledger { outcomes: outcomes(&Sheet::default()).collect(), ..Ledger::default() };
    for (_, sheet) in sheets {
        ledger.consumed += sheet.consumed();
        ledger.in_flight += sheet.in_flight;
        for (outcome, n) in outcomes(sheet) {
            *ledger.outcomes.entry(outcome).or_default() += n;
        }
    }
    ledger.difference = ledger.consumed as i64 - (ledger.outcomes.values().sum::<u64>() + ledger.in_flight) as i64;
    ledger.balances = ledger.difference == 0;
    ledger
}

fn sum(platform: Platform, pool: &str, stats: &[Stats]) -> Pool {
    let sum = |of: fn(&Stats) -> u64| stats.iter().map(of).sum::<u64>();
    Pool {
        platform: platform.0.into(),
        pool: pool.into(),
        open: sum(|stats| stats.connections as u64),
        draining: sum(|stats| stats.draining as u64),
        connecting: sum(|stats| stats.connecting as u64),
        streams: sum(|stats| stats.in_flight as u64),
        waiting: sum(|stats| stats.waiting as u64),
        connect_failures: sum(|stats| stats.connect_failures),
        goaways: sum(|stats| stats.goaways),
        lost: sum(|stats| stats.lost),
    }
}

fn partitions(topic: &TopicStanding) -> impl Iterator<Item = Partition> {
    // The log is at least as long as what was read of it, whenever the brokers were asked.
    let end = |one: &PartitionStanding| one.end.map(|end| end.max(one.next));
    topic.partitions.iter().map(move |one| Partition {
        topic: topic.origin.topic.to_string(),
        partition: one.partition,
        committed: one.committed,
        position: one.position,
        resolved_beyond: one.resolved_beyond,
        in_flight: one.in_flight as u64,
        log_end: end(one),
        lag: end(one).map(|end| (end - one.committed).max(0) as u64),
    })
}

/// What the history keeps of a document.
pub(super) fn sample(status: &Status) -> Sample {
    let lanes = || status.apps.iter().flat_map(|app| app.lanes.iter().map(move |lane| (app, lane)));
    let p99 = lanes().filter_map(|(_, lane)| lane.accepted.p99_ms).max_by(f64::total_cmp);
    let of_lane = |(app, lane): (&App, &Lane)| (lane_name(app, lane), lane.delivered_per_s);
    // Not `sum()`, which is -0 of nothing, and a page says that.
    let all = |rate: fn(&Lane) -> f64| tenths(lanes().fold(0.0, |all, (_, lane)| all + rate(lane)));
    Sample {
        at_ms: status.at_ms,
        delivered_per_s: all(|lane| lane.delivered_per_s),
        not_delivered_per_s: all(|lane| lane.not_delivered_per_s),
        in_flight: status.ledger.in_flight,
        backlog: lanes().filter_map(|(_, lane)| lane.backlog).sum(),
        accepted_p99_ms: p99,
        lanes: lanes().take(LANES).map(of_lane).collect(),
    }
}

/// A lane's name in a sample.
fn lane_name(app: &App, lane: &Lane) -> String {
    format!("{}/{}/{}", app.platform, app.app, lane.lane)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests;
