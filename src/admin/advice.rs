//! What is wrong with a process and what to do, in words for whoever is on call: read off the document itself, so that the page,
//! the terminal and scripts say the same. Pure.

use super::document::{App, Breaker, Job, Lane, NotReady, Order, Problem, Status, Urgency, Valve};

/// Transactional pushes older than this are late, as the alert `PusherLate` has it.
const LATE_S: f64 = 300.0;
/// A commit that nobody has taken for so long is no hiccup.
const UNCOMMITTED_S: f64 = 60.0;
/// A job that was stopped so long ago and of which nothing comes any more is history: it is among the jobs, and no news.
const NEWS_MS: i64 = 24 * 3600 * 1000;

/// Everything that is wrong, the most urgent first.
pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let mut all: Vec<Problem> = Vec::new();
    for part in &status.standing_still {
        all.push(act(
            format!(
                "{} has stood still for {:.0} s; at most {:.0} s are in order",
                part.name, part.silent_s, part.limit_s
            ),
            "Keep the log, then restart this process: here it helps. Nothing is lost.",
        ));
    }
    if !status.ledger.balances {
        all.push(act(
            format!("The ledger is off by {}", status.ledger.difference),
            "This is a bug: keep the log and this page, and report it.",
        ));
    }
    all.extend(status.not_ready.iter().map(not_ready));
    all.extend(status.apps.iter().flat_map(of_app));
    all.extend(status.jobs.iter().filter_map(|job| stopped(job, status.at_ms)));
    if status.commit_lag_s > UNCOMMITTED_S {
        all.push(act(
            format!("No commit has been taken for {:.0} s", status.commit_lag_s),
            "Look at the brokers: until one is taken, a crash repeats what was sent meanwhile.",
        ));
    }
    all.sort_by_key(|problem| problem.urgency);
    all
}

fn act(what: String, remedy: &str) -> Problem {
    Problem { urgency: Urgency::Act, what, remedy: remedy.into() }
}

fn watch(what: String, remedy: &str) -> Problem {
    Problem { urgency: Urgency::Watch, what, remedy: remedy.into() }
}

fn not_ready(reason: &NotReady) -> Problem {
    let what = format!("Not ready ({}): {}", reason.reason, reason.detail);
    match reason.reason.as_str() {
        "starting" => watch(what, "Wait; when it takes minutes, the log names the neighbour that does not answer."),
        "draining" => watch(what, "It ends by itself, within gracefulShutdownTimeout."),
        "group" => act(what, "Are the brokers there, does the app's topic exist, does another member come and go?"),
        "credentials" => act(what, "The log has the token endpoint's answer; other apps go on."),
        "feedback" => {
            act(what, "Look at the feedback brokers and topics: offsets wait until records are acknowledged.")
        }
        _ => act(what, "The log says more."),
    }
}

fn of_app(app: &App) -> Vec<Problem> {
    let name = format!("{} on {}", app.app, app.platform);
    let breaker = match app.breaker {
        Some(Breaker::Open) => Some(act(
            format!("The breaker of {name} is open: its messages wait in Kafka"),
            "Look at the provider, the network and the credentials; the journal below has the reason. It closes by itself.",
        )),
        Some(Breaker::Limited) => {
            Some(watch(format!("{name} is slowed down"), "The provider is overloaded or has just come back: wait."))
        }
        Some(Breaker::Closed) | None => None,
    };
    let valve = (app.valve == Some(Valve::Closed)).then(|| {
        act(
            format!("The valve of {name} is closed: no dead token is deleted"),
            "Check host (-p), topic and key, then: pusher valve resume",
        )
    });
    let late = app.lanes.iter().filter(|lane| is_late(lane)).map(|lane| {
        let minutes = lane.backlog_age_s.unwrap_or_default() / 60.0;
        act(
            format!("Transactional pushes of {name} wait for {minutes:.0} min"),
            "Follow the message: not read, waiting for a retry, for a connection, for feedback? See PusherLate in docs/on-call.md.",
        )
    });
    let paused = app.lanes.iter().filter_map(|lane| Some((lane, lane.paused.as_ref()?))).map(|(lane, order)| {
        watch(
            format!("{name}, lane {}, is paused by {}", lane.lane, whose(order)),
            "Its backlog waits in Kafka. To go on: the button below, or pusher resume.",
        )
    });
    breaker.into_iter().chain(valve).chain(late).chain(paused).collect()
}

fn stopped(job: &Job, now_ms: i64) -> Option<Problem> {
    let order = job.stopped.as_ref().filter(|order| {
        job.idle_s.is_some_and(|idle_s| idle_s * 1000.0 < NEWS_MS as f64)
            || now_ms.saturating_sub(order.at_ms) < NEWS_MS
    })?;
    Some(watch(
        format!("Job {} is stopped by {}", job.id, whose(order)),
        "Its messages are cancelled for good, also those that come. To send what comes: the button below, or pusher job start.",
    ))
}

/// By whom and why.
fn whose(order: &Order) -> String {
    order.why.as_ref().map_or_else(|| order.by.clone(), |why| format!("{}: {why}", order.by))
}

fn is_late(lane: &Lane) -> bool {
    lane.lane == "single" && lane.paused.is_none() && lane.backlog_age_s.is_some_and(|age| age > LATE_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_well_says_nothing() {
        let mut status = Status { healthy: true, ready: true, ..Status::default() };
        status.ledger.balances = true;
        status.apps = vec![App { breaker: Some(Breaker::Closed), valve: Some(Valve::Open), ..App::default() }];
        assert_eq!(problems(&status), []);
    }

    #[test]
    fn each_trouble_has_a_remedy_and_what_needs_a_person_comes_first() {
        let late = Lane { lane: "single".into(), backlog_age_s: Some(900.0), ..Lane::default() };
        let campaign = Lane { lane: "massive".into(), ..late.clone() };
        let app = |breaker, valve, lanes| App {
            app: "game".into(),
            platform: "apns".into(),
            breaker: Some(breaker),
            valve: Some(valve),
            lanes,
            ..App::default()
        };
        let reason = |reason: &str| NotReady { reason: reason.into(), detail: "why".into() };
        let status = Status {
            apps: vec![
                app(Breaker::Limited, Valve::Open, vec![campaign]),
                app(Breaker::Open, Valve::Closed, vec![late]),
            ],
            not_ready: ["starting", "group", "feedback"].map(reason).into(),
            commit_lag_s: 90.0,
            ..Status::default()
        };
        let shown = |problem: &Problem| format!("{:?}: {}", problem.urgency, problem.what);
        insta::assert_snapshot!(problems(&status).iter().map(shown).collect::<Vec<_>>().join("\n"));
        assert!(problems(&status).iter().all(|problem| problem.remedy.len() > 10));
    }

    #[test]
    fn a_stopped_job_is_told_with_who_and_why_while_it_is_news_or_comes() {
        let job = |id: &str, at_ms, idle_s| Job {
            id: id.into(),
            stopped: Some(Order { at_ms, by: "ann".into(), why: (id == "a").then(|| "wrong text".into()) }),
            idle_s,
            ..Job::default()
        };
        let mut status = Status { at_ms: 2 * NEWS_MS, ..Status::default() };
        status.ledger.balances = true;
        status.jobs = vec![
            job("a", 2 * NEWS_MS - 1, None),
            job("b", 0, Some(5.0)),
            job("c", NEWS_MS, None),
            Job { id: "d".into(), idle_s: Some(1.0), ..Job::default() },
        ];
        let problems = problems(&status);
        let told: Vec<_> = problems.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(told, ["Job a is stopped by ann: wrong text", "Job b is stopped by ann"]);
        assert!(problems.iter().all(|one| one.urgency == Urgency::Watch));
    }
}
