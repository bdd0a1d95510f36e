//! What is special to FCM, with the whole worker: access tokens under load, and apps of one process that must not feel each
//! other's outages.

use std::time::{Duration, Instant};

use pusher::generate::Mix;
use pusher::simulator::apns;
use pusher::simulator::fcm::Simulator;
use pusher::simulator::fcm::faults::{AnswerFault, Faults, OAuthAnswer, OAuthFaults};
use pusher::simulator::fcm::oauth::OAuthStats;

use crate::support::flow::{Ends as EndsOf, Running};
use crate::support::{Statsd, eventually, ports};

type Ends = EndsOf<Simulator>;

/// So many pushes are on their way at once: two senders, one connection each. What is under load stays so for some seconds.
const NARROW: [(&str, &str); 1] = [("gcm.maxConnections", "2")];
const STREAMS: u32 = 10;

fn narrow(oauth: OAuthFaults) -> Faults {
    Faults { oauth, processing_ms: 100, streams: STREAMS, ..Faults::default() }
}

fn change(ends: &Ends, edit: impl FnOnce(&mut Faults)) {
    ends.simulator.handle().change(edit).expect("valid faults");
}

/// Everything produced was accepted, once; what the token endpoint saw.
#[track_caller]
fn all_accepted(ends: &Ends, running: Running, count: u64) -> OAuthStats {
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.delivered, totals.unaccounted(), totals.possible_duplicates), (count, 0, 0), "{totals:?}");
    let stats = ends.simulator.stats();
    assert_eq!((stats.messages.accepted, stats.messages.repeated), (count, 0));
    assert_eq!(stats.oauth.most_at_once, 1, "one request at a time, whoever waits");
    stats.oauth
}

#[test]
fn short_lives_under_load_cost_one_refresh_each_and_no_push() {
    let mut ends = Ends::start(narrow(OAuthFaults { expires_in_s: 4, delay_ms: 300, ..OAuthFaults::default() }));
    ends.produce(Ends::calm(2_000));
    let begun = Instant::now();
    let oauth = all_accepted(&ends, ends.worker_with(&NARROW), 2_000);
    // Each is replaced after 2.75 to 3 s.
    let lives = begun.elapsed().as_secs_f64() / 2.75;
    assert!(oauth.requests >= 3 && oauth.requests as f64 <= lives + 2.0, "{oauth:?} in {lives} lives");
}

/// Tokens that Google takes back before their time: each costs one refresh for all, and what was refused goes at once again.
#[test]
fn tokens_that_die_early_are_replaced_once_for_all() {
    let mut ends = Ends::start(narrow(OAuthFaults { lifetime_s: 3, ..OAuthFaults::default() }));
    ends.produce(Ends::calm(2_000));
    let begun = Instant::now();
    let running = ends.worker_with(&NARROW);
    let oauth = all_accepted(&ends, running, 2_000);
    let lives = begun.elapsed().as_secs() / 3;
    assert!((2..=lives + 2).contains(&oauth.requests), "{oauth:?} in {lives} lives");
    let refused = ends.simulator.stats().counts.answers.get("UNAUTHENTICATED").copied().unwrap_or(0);
    assert!(refused > 0 && refused <= oauth.requests * u64::from(2 * STREAMS), "{refused} pushes refused");
}

#[test]
fn a_token_endpoint_that_is_slow_then_fails_then_recovers_costs_no_push() {
    let slow = OAuthFaults { delay_ms: 1_500, expires_in_s: 6, ..OAuthFaults::default() };
    let mut ends = Ends::start(narrow(slow));
    ends.produce(Ends::calm(1_500));
    let running = ends.worker_with(&NARROW);
    running.until("deliveries", |totals| totals.delivered >= 50);
    change(&ends, |faults| faults.oauth.answer = Some(OAuthAnswer::Internal));
    running.until("pushes that wait for a token", |totals| totals.retries >= 20);
    assert_eq!(running.totals().holds, 0, "it is the endpoint's fault, not the credentials'");
    change(&ends, |faults| faults.oauth = OAuthFaults::default());
    let oauth = all_accepted(&ends, running, 1_500);
    assert!(oauth.requests < 30, "it is not hammered: {oauth:?}");
    assert!(oauth.answers["internal_failure"] >= 1, "{oauth:?}");
}

/// Google's answer to a clock that is wrong by more than five minutes is `invalid_grant`; the first pause of a held push is up
/// to half a minute.
#[test]
fn a_clock_that_is_a_little_wrong_does_not_matter_and_one_that_is_far_off_holds_the_pushes() {
    for ahead in [-240, 240] {
        let mut ends = Ends::start(narrow(OAuthFaults { clock_ahead_s: ahead, ..OAuthFaults::default() }));
        ends.produce(Ends::calm(20));
        assert_eq!(all_accepted(&ends, ends.worker(), 20).requests, 1, "{ahead} s ahead");
    }
    let mut ends = Ends::start(narrow(OAuthFaults { clock_ahead_s: 4_000, ..OAuthFaults::default() }));
    ends.produce(Ends::calm(50));
    let running = ends.worker();
    running.until("all held", |totals| totals.holds >= 50);
    assert_eq!((running.totals().requests, running.totals().resolved()), (0, 0));
    change(&ends, |faults| faults.oauth.clock_ahead_s = 0);
    eventually("deliveries", Duration::from_mins(2), || (running.totals().delivered == 50).then_some(()));
    let oauth = all_accepted(&ends, running, 50);
    assert!(oauth.answers["invalid_grant"] >= 1 && oauth.requests < 10, "{oauth:?}");
}

#[test]
fn an_app_without_its_token_endpoint_waits_and_another_goes_on() {
    let mut ends = Ends::of(&["game", "other"], Faults::default());
    let folder = tempfile::tempdir().expect("a folder");
    let nobody = ports::free();
    let account = ends.simulator.credentials("other").expect("a project");
    let account = account.replace(ends.simulator.token_uri(), &format!("https://127.0.0.1:{nobody}/token"));
    let file = folder.path().join("other.json");
    std::fs::write(&file, account).expect("the account's file");
    let waiting = Ends::generate("other", 300, 1_000_000, Mix::CALM);
    ends.produce_for("other", waiting.iter().map(|push| &push.line));
    let running = ends.worker_with(&[("gcm.firebaseCredentialsFile.other", file.to_str().expect("a path"))]);
    eventually("waiting pushes", Duration::from_mins(1), || (running.totals_of("other").retries >= 300).then_some(()));
    ends.produce(Ends::calm(1_000));
    eventually("our app's pushes", Duration::from_mins(1), || ends.is_settled("game").then_some(()));
    let (ours, theirs) = (running.totals_of("game"), running.totals_of("other"));
    assert_eq!((ours.delivered, ours.retries), (1_000, 0));
    assert_eq!((theirs.requests, theirs.resolved(), theirs.holds), (0, 0, 0), "it waits, and costs no request");
    assert!(running.stop().drained);
}

#[test]
fn statistics_have_the_originals_names() {
    let statsd = Statsd::start();
    let mut ends = Ends::start(Faults::default());
    let pushes = Ends::generate("game", 500, 0, Mix([80, 10, 0, 10, 0, 0, 0]));
    ends.produce(pushes.iter().map(|push| &push.line));
    let running = ends.worker_with(&[
        ("stats.reporters", "statsd"),
        ("stats.statsd.host", &statsd.address.to_string()),
        ("stats.statsd.flushInterval", "100ms"),
    ]);
    ends.settle();
    let totals = running.stop().totals;
    let game = [("platform", "gcm"), ("game", "game")];
    let soon = Duration::from_secs(20);
    statsd.await_sum("pushack", &game, totals.delivered as f64, soon);
    let of_topic = [("platform", "gcm"), ("game", "game"), ("topic", "push-game_gcm-single")];
    statsd.await_sum("pushsent", &of_topic, (totals.delivered + totals.rejected) as f64, soon);
    for (reason, count) in &totals.reasons {
        statsd.await_sum("pushfailed", &[game[0], game[1], ("reason", reason)], *count as f64, soon);
    }
    let timed = |name: &str, tag: (&str, &str)| {
        let lines = statsd.lines().into_iter().filter(|line| line.name == name && line.kind == "ms");
        lines.filter(|line| line.tags.get(tag.0).is_some_and(|value| value == tag.1)).count()
    };
    assert!(timed("pushsend_notification_latency", ("client", "fcm")) > 0);
    assert!(timed("pushfirebase_latency", ("game", "game")) > 0);
}

/// One app's project fails in every way that stalls: its backlog waits, and the other app of
/// the process goes on as if it were alone.
fn outage(fault: Faults, beside: impl FnOnce(&Ends)) {
    let mut ends = Ends::of(&["game", "other"], Faults { project: Some("other".into()), ..fault });
    let backlog = Ends::generate("other", 3_000, 1_000_000, Mix::CALM);
    ends.produce_for("other", backlog.iter().map(|push| &push.line));
    let running = ends.worker_with(&[("maxInFlight", "1000"), ("gcm.timeout", "10s")]);
    eventually("the other app has met it", Duration::from_mins(1), || {
        (running.totals_of("other").lent >= 100).then_some(())
    });
    ends.produce(Ends::calm(3_000));
    eventually("our app's pushes", Duration::from_mins(1), || ends.is_settled("game").then_some(()));
    beside(&ends);
    let (ours, theirs) = (running.totals_of("game"), running.totals_of("other"));
    assert_eq!((ours.delivered, ours.retries, theirs.delivered), (3_000, 0, 0));
    assert!(ours.accepted_p99_us < 5_000_000, "p99 {} µs while the other's pushes wait for more", ours.accepted_p99_us);
    ends.simulator.handle().set_faults(Faults::default()).expect("valid faults");
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.delivered, totals.unaccounted()), (6_000, 0), "and nothing of the other's is lost");
}

#[test]
fn a_silent_project_slows_neither_another_app_nor_apns() {
    outage(Faults { silent_share: 1.0, ..Faults::default() }, |fcm| {
        // In the same group, as the original's default configuration has it.
        let mut apns = EndsOf::<apns::Simulator>::on(fcm.mock.clone(), &["game"], apns::faults::Faults::default());
        apns.produce(EndsOf::<apns::Simulator>::calm(1_000));
        let running = apns.worker();
        apns.settle();
        let totals = running.stop().totals;
        assert_eq!((totals.delivered, totals.retries, totals.possible_duplicates), (1_000, 0, 0));
    });
}

#[test]
fn a_project_over_its_quota_or_overloaded_does_not_slow_another_app() {
    for status in [429, 503] {
        outage(Faults { answers: vec![AnswerFault::all(status, 1)], ..Faults::default() }, |_| ());
    }
}
