//! The admin server of a whole worker in this process: the ledger balances in every scrape of a fault run, readiness follows
//! what happens, and `pusher health` says so.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use pusher::config::Config;
use pusher::generate::{Expected, Generated, Mix};
use pusher::shutdown::Shutdown;
use pusher::simulator::apns::Simulator;
use pusher::simulator::apns::faults::{AnswerFault, Faults};
use pusher::simulator::fcm;
use pusher::simulator::fcm::faults::{OAuthAnswer, OAuthFaults};
use pusher::simulator::handle::Provider;
use pusher::simulator::levers::Levers;
use pusher::worker::Worker;
use serde_json::Value;

use crate::support::eventually;
use crate::support::far::Far;
use crate::support::flow::{Ends, PARTITIONS, Running};
use crate::support::mock::{Mock, broker_up};
use crate::support::scrape::{Scrape, get};

const LONG: Duration = Duration::from_mins(2);
/// Bound of what is in flight, low enough to be reached.
const MOST: u64 = 400;

fn admin(running: &Running) -> SocketAddr {
    running.worker.admin().expect("an admin server")
}

/// The reasons why it is not ready.
#[track_caller]
fn not_ready(running: &Running) -> Vec<String> {
    let (status, body) = get(admin(running), "/readyz");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let reasons = body["reasons"].as_array().expect("reasons").iter();
    let reasons: Vec<_> = reasons.map(|one| one["reason"].as_str().expect("a word").to_owned()).collect();
    assert_eq!(status, if reasons.is_empty() { 200 } else { 503 }, "{body}");
    reasons
}

#[track_caller]
fn until_not_ready(running: &Running, what: &str, reasons: &[&str]) {
    eventually(what, LONG, || (not_ready(running) == reasons).then_some(()));
}

/// What a scraper has seen.
#[derive(Debug, Default)]
struct Seen {
    scrapes: usize,
    with_work: usize,
    most_in_flight: u64,
}

/// Scrapes until told to stop, and holds each scrape to the law, to the one before, and to what the provider has seen.
fn watch<F: Far>(admin: SocketAddr, simulator: &F, stop: &AtomicBool) -> Seen {
    let (mut seen, mut before) = (Seen::default(), None::<Scrape>);
    while !stop.load(SeqCst) {
        let scrape = Scrape::of(admin);
        scrape.assert_balance();
        if let Some(before) = &before {
            scrape.assert_grown_from(before);
        }
        // Asked after the scrape: what is counted as delivered has been accepted before.
        let sums = simulator.levers().ledger().sums();
        let delivered = scrape.sum("pusher_outcomes_total", &[("outcome", "delivered")]);
        assert!(delivered <= sums.accepted + sums.repeated, "{delivered} of {sums:?}");
        let accepted = scrape.sum("pusher_consumed_to_accepted_seconds_count", &[]);
        assert!(accepted >= delivered, "{accepted} accepted, {delivered} delivered");
        let in_flight = scrape.sum("pusher_in_flight_messages", &[]);
        assert!(in_flight <= MOST, "{in_flight}");
        seen.scrapes += 1;
        seen.with_work += usize::from(in_flight > 0);
        seen.most_in_flight = seen.most_in_flight.max(in_flight);
        before = Some(scrape);
    }
    seen
}

/// Every fault in turn: answers that refuse, connections that break, a second member that comes and goes, a Kafka that is away,
/// a provider that is.
fn misbehave<F: Far>(
    ends: &Ends<F>,
    first: &Running,
    bound: &[(&str, &str)],
    levers: &dyn Fn(Levers) -> <F::Levers as Provider>::Faults,
    produce_late: &dyn Fn(),
) {
    let set = |connection| ends.simulator.levers().set_faults(levers(connection)).expect("valid faults");
    first.until("a first part", |totals| totals.delivered >= 300);
    let second = ends.worker_with(bound);
    second.until("its part", |totals| totals.delivered >= 100);
    Scrape::of(admin(&second)).assert_balance();
    ends.mock.cluster().broker_down(1).expect("down");
    let delivered = || first.totals().delivered + second.totals().delivered;
    let before = delivered();
    eventually("deliveries go on", LONG, || (delivered() > before + 20).then_some(()));
    broker_up(&ends.mock.cluster());
    let healthy = levers(Levers::default());
    set(Levers { refuse_connections: true, ..Levers::default() });
    ends.simulator.levers().close_connections();
    let retries = || first.totals().retries + second.totals().retries;
    let before = retries();
    // Who is quick may have delivered all by now.
    produce_late();
    eventually("pushes that wait", LONG, || (retries() >= before + 10).then_some(()));
    ends.simulator.levers().set_faults(healthy).expect("valid faults");
    let last = second.stop();
    assert!(last.drained && last.totals.unaccounted() == 0, "{last:?}");
}

/// Both lanes, two scrapers as fast as they can, and the books at the end.
fn fault_run<F: Far>(levers: &(dyn Fn(Levers) -> <F::Levers as Provider>::Faults + Sync)) {
    let mut ends = Ends::<F>::start(levers(Levers::default()));
    let pushes = Ends::<F>::generate("game", 4_000, 0, Mix([850, 40, 30, 30, 30, 10, 10]));
    let (massive, single): (Vec<_>, Vec<_>) = pushes.iter().partition(|push| push.serial % 3 == 0);
    let topic = format!("push-game_{}-massive", F::PLATFORM);
    ends.mock.create_topic(&topic, 1);
    ends.produce(single.iter().map(|push| &push.line));
    let (early, late) = massive.split_at(massive.len() - 300);
    let produce = |part: &[&Generated]| ends.mock.produce(&topic, 0, part.iter().map(|push| &push.line));
    produce(early);
    let bound = [("maxInFlight", "400")];
    let first = ends.worker_with(&bound);
    let all_committed = || {
        let end = Some((massive.len() as i64, String::new()));
        ends.is_settled("game") && ends.mock.committed("test", &topic, 0) == end
    };
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let scraper = || scope.spawn(|| watch(admin(&first), &ends.simulator, &stop));
        let scrapers = [scraper(), scraper()];
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            misbehave(&ends, &first, &bound, levers, &|| produce(late));
            eventually("all offsets committed", LONG, || all_committed().then_some(()));
        }));
        stop.store(true, SeqCst);
        let seen = scrapers.map(|scraper| scraper.join().expect("a scraper that found nothing wrong"));
        work.expect("the faults");
        seen
    });
    for seen in seen {
        assert!(seen.scrapes > 100 && seen.with_work > 50, "{seen:?}");
        assert!(seen.most_in_flight > 100, "{seen:?}");
    }
    assert_books(&ends, first, &pushes);
}

fn assert_books<F: Far>(ends: &Ends<F>, running: Running, pushes: &[Generated]) {
    let last = Scrape::of(admin(&running));
    assert_eq!((last.assert_balance(), last.sum("pusher_in_flight_messages", &[])), (2, 0));
    let grown =
        ["pusher_attempts_total", "pusher_goaways_total", "pusher_connections_lost_total", "pusher_retries_total"];
    for counter in grown {
        assert!(last.sum(counter, &[]) > 0, "{counter}");
    }
    assert_eq!(last.sum("pusher_receipts_lost_total", &[]), 0);
    assert_eq!(last.sum("pusher_outcomes_total", &[("outcome", "handled")]), 0, "every message is a push");
    let totals = running.stop().totals;
    assert_eq!(totals.delivered, last.sum("pusher_outcomes_total", &[("outcome", "delivered")]));
    assert_eq!((totals.consumed(), totals.unaccounted()), (last.sum("pusher_consumed_messages_total", &[]), 0));
    let ledger = ends.simulator.levers().ledger();
    let due = pushes.iter().filter(|push| matches!(push.expected, Expected::Delivered { .. }));
    let missing: Vec<_> = due.filter(|push| !ledger.accepted(push.serial)).map(|push| push.serial).collect();
    assert_eq!(missing, [0; 0], "nothing is lost");
}

#[test]
fn the_ledger_balances_in_every_scrape_of_a_fault_run() {
    let answer = |status, reason| AnswerFault { share: 0.1, ..AnswerFault::all(status, reason) };
    fault_run::<Simulator>(&|connection| Faults {
        connection,
        answers: vec![answer(503, "ServiceUnavailable"), answer(429, "TooManyRequests")],
        reset_share: 0.02,
        refuse_share: 0.05,
        answer_lost_share: 0.02,
        goaway_every: 60,
        break_every: 250,
        processing_ms: 20,
        ..Faults::default()
    });
}

#[test]
fn the_ledger_of_fcm_balances_as_well() {
    fault_run::<fcm::Simulator>(&|given| {
        let usual = fcm::faults::Faults::default().connection;
        fcm::faults::Faults {
            connection: Levers { refuse_connections: given.refuse_connections, ..usual },
            answers: vec![fcm::faults::AnswerFault { share: 0.1, ..fcm::faults::AnswerFault::all(500, 0) }],
            reset_share: 0.02,
            refuse_share: 0.05,
            answer_lost_share: 0.02,
            goaway_every: 60,
            break_every: 250,
            processing_ms: 20,
            ..fcm::faults::Faults::default()
        }
    });
}

#[test]
fn readiness_follows_group_feedback_and_the_end_and_health_does_not() {
    let ends = Ends::<Simulator>::of(&[], Faults::default());
    let feedback = Mock::start(&[("push-game-apns-feedbacks", 1)]);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = ends.simulator.settings(&["game"], folder.path());
    let mut more: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    more.push(("feedback.kafka.brokers", &feedback.brokers));
    let running = ends.worker_with(&more);
    assert_eq!(not_ready(&running), ["group"], "no topic, no assignment");
    let topic = "push-game_apns-single";
    ends.mock.create_topic(topic, PARTITIONS);
    until_not_ready(&running, "an assignment", &[]);
    let health = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
        let output = command.args(["health", "--admin", &admin(&running).to_string()]).args(arguments).output();
        let output = output.expect("pusher health");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    assert_eq!(health(&["--ready"]), (Some(0), r#"{"reasons":[],"status":"ready"}"#.into()));

    feedback.cluster().broker_down(1).expect("down");
    ends.mock.produce(topic, 0, ["no message"]);
    until_not_ready(&running, "a stall", &["feedback"]);
    let (code, said) = health(&["--ready"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("feedback is not acknowledged for"), "{said}");
    assert_eq!(
        health(&[]),
        (Some(0), r#"{"standing_still":[],"status":"healthy"}"#.into()),
        "a restart mends no outage"
    );
    broker_up(&feedback.cluster());
    until_not_ready(&running, "acknowledgements", &[]);

    let silent = Faults { silent_share: 1.0, ..Faults::default() };
    ends.simulator.levers().set_faults(silent).expect("valid faults");
    ends.mock.produce(topic, 0, Ends::<Simulator>::calm(1));
    eventually("a request", LONG, || (ends.simulator.counts().requests > 0).then_some(()));
    running.begin_stop();
    assert_eq!(not_ready(&running), ["draining"], "and it still answers");
    assert!(!running.stop().drained);
}

#[test]
fn without_an_access_token_it_is_not_ready() {
    let faults = |answer| fcm::faults::Faults {
        oauth: OAuthFaults { answer, ..OAuthFaults::default() },
        ..fcm::faults::Faults::default()
    };
    let ends = Ends::<fcm::Simulator>::start(faults(Some(OAuthAnswer::Unavailable)));
    let running = ends.worker();
    until_not_ready(&running, "an assignment", &["credentials"]);
    assert!(get(admin(&running), "/readyz").1.contains("no access token for game"));
    ends.simulator.levers().set_faults(faults(None)).expect("valid faults");
    until_not_ready(&running, "a token", &[]);
    running.stop();
}

#[test]
fn a_taken_port_is_a_configuration_error_and_nothing_is_consumed() {
    let ends = Ends::<Simulator>::start(Faults::default());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let settings = ends.settings();
    let config = Config::from_pairs(settings.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let config = config.with([("admin.listen", address.as_str())]);
    let error = Worker::start(&config, "apns", false, Shutdown::default()).expect_err("no worker");
    assert!(error.is_configuration());
    assert!(error.to_string().contains("admin.listen") && error.to_string().contains(&address), "{error}");
}

#[test]
fn the_page_has_the_metrics_of_the_documentation() {
    let refusing = Faults { answers: vec![AnswerFault::all(503, "ServiceUnavailable")], ..Faults::default() };
    let mut ends = Ends::<Simulator>::start(refusing);
    ends.produce(Ends::<Simulator>::calm(60));
    let running = ends.worker_with(&[("maxInFlight", "10")]);
    let scrape = eventually("a known backlog", LONG, || {
        Some(Scrape::of(admin(&running))).filter(|scrape| scrape.sum("pusher_backlog_messages", &[]) > 0)
    });
    let topic = [("app", "game"), ("platform", "apns"), ("lane", "single"), ("topic", "push-game_apns-single")];
    assert_eq!(scrape.value("pusher_partitions", &topic), Some(f64::from(PARTITIONS)));
    assert!(scrape.value("pusher_backlog_age_seconds", &topic).is_some_and(|age| age > 0.0));
    assert!(scrape.sum("pusher_connections", &[("pool", "game"), ("state", "open")]) >= 1);
    assert_eq!(scrape.value("pusher_feedback_lost_total", &[("app", "game")]), Some(0.0), "before the first");
    ends.simulator.levers().set_faults(Faults::default()).expect("valid faults");
    ends.settle();
    let last = eventually("a commit that was taken", LONG, || {
        let scrape = Scrape::of(admin(&running));
        let idle = scrape.value("pusher_commit_lag_seconds", &[]).is_some_and(|lag| lag < 0.1);
        (idle && scrape.sum("pusher_backlog_messages", &[]) == 0).then_some(scrape)
    });
    assert_eq!(last.value("pusher_backlog_age_seconds", &topic), Some(0.0));
    assert_eq!(last.value("pusher_ready", &[]), Some(1.0));
    let documented = std::fs::read_to_string(crate::support::root().join("docs/metrics.md")).expect("the page");
    for name in last.families() {
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not documented");
    }
    running.stop();
}
