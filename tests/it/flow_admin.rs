//! The admin server of a whole worker in this process: the ledger balances in every scrape of a fault run, readiness follows
//! what happens, and `pusher health` says so.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use pusher::config::Config;
use pusher::generate::apns::Apns;
use pusher::generate::{Expected, Generated, Generator, Mix, Settings};
use pusher::shutdown::Shutdown;
use pusher::simulator::apns::faults::{AnswerFault, Faults};
use pusher::simulator::apns::{self as simulator, Simulator};
use pusher::simulator::levers::Levers;
use pusher::worker::{Summary, Worker};
use serde_json::Value;

use crate::support::mock::{Mock, broker_up};
use crate::support::scrape::{Scrape, get};
use crate::support::{eventually, wait_for};

const SINGLE: &str = "push-game_apns-single";
const MASSIVE: &str = "push-game_apns-massive";
const FEEDBACK: &str = "push-game-apns-feedbacks";
const PARTITIONS: i32 = 2;
const LONG: Duration = Duration::from_mins(2);

/// Both far ends, and what a worker needs to know about them.
struct Ends {
    mock: Mock,
    /// The push topics, with their numbers of partitions.
    topics: Vec<(&'static str, i32)>,
    simulator: Simulator,
    folder: tempfile::TempDir,
}

/// A worker under way.
struct Running {
    worker: Worker,
    shutdown: Shutdown,
    admin: SocketAddr,
}

impl Ends {
    fn start(topics: &[(&'static str, i32)], faults: Faults) -> Ends {
        let mock = Mock::start(topics);
        mock.create_topic(FEEDBACK, 1);
        let settings = simulator::Settings { faults, ..Default::default() };
        let simulator = wait_for(Simulator::start(settings)).expect("a simulator");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key.p8"), &simulator.key().pem).expect("the key");
        std::fs::write(folder.path().join("ca.pem"), simulator.ca_pem()).expect("the CA");
        Ends { mock, topics: topics.to_vec(), simulator, folder }
    }

    fn config(&self, more: &[(&str, &str)]) -> Config {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let pairs = [
            ("admin.listen", "127.0.0.1:0".into()),
            ("queue.brokers", self.mock.brokers.clone()),
            ("queue.offsetResetStrategy", "earliest".into()),
            ("queue.commitInterval", "100ms".into()),
            ("apns.apps", "game".into()),
            ("apns.certs.game.authKeyPath", path("key.p8")),
            ("apns.certs.game.keyID", self.simulator.key().key_id.clone()),
            ("apns.certs.game.teamID", self.simulator.key().team_id.clone()),
            ("apns.certs.game.topic", "com.example.game".into()),
            ("apns.endpoint", format!("https://{}", self.simulator.address())),
            ("apns.caFile", path("ca.pem")),
            ("apns.retry.interval", "100ms".into()),
            ("feedback.reporters", "kafka".into()),
            ("feedback.kafka.brokers", self.mock.brokers.clone()),
            ("workers", "2".into()),
        ];
        Config::from_pairs(pairs.iter().map(|(key, value)| (*key, value.as_str()))).with(more.iter().copied())
    }

    fn worker(&self, more: &[(&str, &str)]) -> Running {
        let shutdown = Shutdown::default();
        let worker = Worker::start(&self.config(more), "apns", false, shutdown.clone()).expect("a worker");
        let admin = worker.admin().expect("an admin server");
        Running { worker, shutdown, admin }
    }

    /// Puts these pushes into both lanes, in turn over all partitions.
    fn produce(&self, pushes: &[Generated]) {
        for (index, push) in pushes.iter().enumerate() {
            let topic = if index % 3 == 0 { MASSIVE } else { SINGLE };
            self.mock.append(topic, index as i32 / 3 % PARTITIONS, &push.line);
        }
        self.mock.flush();
    }

    fn is_settled(&self) -> bool {
        let mut places = self.topics.iter().flat_map(|(topic, of)| (0..*of).map(move |one| (topic, one)));
        places.all(|(topic, partition)| {
            let end = self.mock.ends(topic, partition).1;
            end == 0 || self.mock.committed("test", topic, partition) == Some((end, String::new()))
        })
    }

    fn set(&self, faults: Faults) {
        self.simulator.handle().set_faults(faults).expect("valid faults");
    }
}

impl Running {
    fn stop(self) -> Summary {
        self.shutdown.begin("test");
        self.worker.join()
    }

    fn delivered(&self) -> u64 {
        self.worker.tally().totals().delivered
    }

    /// The reasons why it is not ready.
    #[track_caller]
    fn not_ready(&self) -> Vec<String> {
        let (status, body) = get(self.admin, "/readyz");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let reasons = body["reasons"].as_array().expect("reasons").iter();
        let reasons: Vec<_> = reasons.map(|one| one["reason"].as_str().expect("a word").to_owned()).collect();
        assert_eq!(status, if reasons.is_empty() { 200 } else { 503 }, "{body}");
        reasons
    }

    #[track_caller]
    fn until_not_ready(&self, what: &str, reasons: &[&str]) {
        eventually(what, LONG, || (self.not_ready() == reasons).then_some(()));
    }
}

fn generate(count: u64, mix: Mix) -> Vec<Generated> {
    Generator::new(Apns { app: "game".into() }, Settings { count, mix, ..Settings::default() }).collect()
}

/// What a scraper has seen.
#[derive(Debug, Default)]
struct Seen {
    scrapes: usize,
    with_work: usize,
    with_waiters: usize,
    most_in_flight: u64,
}

/// Scrapes until told to stop, and holds each scrape to the law, to the one before, and to what APNs has seen.
fn watch(admin: SocketAddr, simulator: &Simulator, produced: u64, stop: &AtomicBool) -> Seen {
    let (mut seen, mut before) = (Seen::default(), None::<Scrape>);
    while !stop.load(SeqCst) {
        let scrape = Scrape::of(admin);
        scrape.assert_balance();
        if let Some(before) = &before {
            scrape.assert_grown_from(before);
        }
        // Asked after the scrape: what is counted as delivered has been accepted before.
        let messages = simulator.stats().messages;
        let delivered = scrape.sum("pusher_outcomes_total", &[("outcome", "delivered")]);
        assert!(delivered <= messages.accepted + messages.repeated, "{delivered} of {messages:?}");
        let accepted = scrape.sum("pusher_consumed_to_accepted_seconds_count", &[]);
        assert!(accepted >= delivered, "{accepted} accepted, {delivered} delivered");
        let in_flight = scrape.sum("pusher_in_flight_messages", &[]);
        assert!(in_flight <= produced.min(400), "{in_flight}");
        seen.scrapes += 1;
        seen.with_work += usize::from(in_flight > 0);
        seen.with_waiters += usize::from(scrape.sum("pusher_retry_waiting", &[]) > 0);
        seen.most_in_flight = seen.most_in_flight.max(in_flight);
        before = Some(scrape);
    }
    seen
}

fn troubled() -> Faults {
    let answer = |status, reason, share| AnswerFault { share, ..AnswerFault::all(status, reason) };
    Faults {
        answers: vec![answer(503, "ServiceUnavailable", 0.1), answer(429, "TooManyRequests", 0.1)],
        reset_share: 0.02,
        refuse_share: 0.05,
        answer_lost_share: 0.02,
        goaway_every: 60,
        break_every: 250,
        processing_ms: 20,
        ..Faults::default()
    }
}

fn refusing() -> Faults {
    Faults { connection: Levers { refuse_connections: true, ..Levers::default() }, break_every: 5, ..Faults::default() }
}

/// Every fault in turn, while two scrapers look as fast as they can.
fn misbehave(ends: &Ends, first: &Running) {
    let until = |what: &str, delivered: u64| {
        eventually(what, LONG, || (first.delivered() >= delivered).then_some(()));
    };
    until("a first part", 300);
    let second = ends.worker(&[("maxInFlight", "400")]);
    eventually("the second worker's part", LONG, || (second.delivered() >= 100).then_some(()));
    Scrape::of(second.admin).assert_balance();
    ends.mock.cluster().broker_down(1).expect("down");
    let before = first.delivered() + second.delivered();
    eventually("deliveries go on", LONG, || (first.delivered() + second.delivered() > before + 20).then_some(()));
    broker_up(&ends.mock.cluster());
    ends.set(refusing());
    eventually("waiters", LONG, || (first.worker.in_flight().usage("game").waiting >= 20).then_some(()));
    ends.set(troubled());
    let last = second.stop();
    assert!(last.drained && last.totals.unaccounted() == 0, "{last:?}");
}

#[test]
fn the_ledger_balances_in_every_scrape_of_a_fault_run() {
    let ends = Ends::start(&[(SINGLE, PARTITIONS), (MASSIVE, PARTITIONS)], troubled());
    let pushes = generate(4_000, Mix([850, 40, 30, 30, 30, 10, 10]));
    ends.produce(&pushes);
    let first = ends.worker(&[("maxInFlight", "400")]);
    let (stop, produced) = (AtomicBool::new(false), pushes.len() as u64);
    let seen = std::thread::scope(|scope| {
        let scraper = || scope.spawn(|| watch(first.admin, &ends.simulator, produced, &stop));
        let scrapers = [scraper(), scraper()];
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            misbehave(&ends, &first);
            eventually("all offsets committed", LONG, || ends.is_settled().then_some(()));
        }));
        stop.store(true, SeqCst);
        let seen = scrapers.map(|scraper| scraper.join().expect("a scraper that found nothing wrong"));
        work.expect("the faults");
        seen
    });
    for seen in seen {
        assert!(seen.scrapes > 100 && seen.with_work > 50 && seen.with_waiters > 0, "{seen:?}");
        assert!(seen.most_in_flight > 100, "{seen:?}");
    }
    let last = Scrape::of(first.admin);
    assert_eq!((last.assert_balance(), last.sum("pusher_in_flight_messages", &[])), (2, 0));
    for counter in
        ["pusher_attempts_total", "pusher_goaways_total", "pusher_connections_lost_total", "pusher_retries_total"]
    {
        assert!(last.sum(counter, &[]) > 0, "{counter}");
    }
    assert_eq!(last.sum("pusher_receipts_lost_total", &[]), 0);
    assert_eq!(last.sum("pusher_outcomes_total", &[("outcome", "handled")]), 0, "every message is a push");
    let totals = first.stop().totals;
    assert_eq!(totals.delivered, last.sum("pusher_outcomes_total", &[("outcome", "delivered")]));
    assert_eq!((totals.consumed(), totals.unaccounted()), (last.sum("pusher_consumed_messages_total", &[]), 0));
    let ledger = ends.simulator.handle().ledger();
    let due = pushes.iter().filter(|push| matches!(push.expected, Expected::Delivered { .. }));
    let missing: Vec<_> = due.filter(|push| !ledger.accepted(push.serial)).map(|push| push.serial).collect();
    assert_eq!(missing, [0; 0], "nothing is lost");
}

#[test]
fn readiness_follows_group_feedback_and_the_end_and_health_does_not() {
    let ends = Ends::start(&[], Faults::default());
    let feedback = Mock::start(&[(FEEDBACK, 1)]);
    let running = ends.worker(&[("feedback.kafka.brokers", &feedback.brokers)]);
    assert_eq!(running.not_ready(), ["group"], "no topic, no assignment");
    ends.mock.create_topic(SINGLE, PARTITIONS);
    running.until_not_ready("an assignment", &[]);
    let health = |arguments: &[&str]| {
        let admin = running.admin.to_string();
        let output =
            Command::new(env!("CARGO_BIN_EXE_pusher")).args(["health", "--admin", &admin]).args(arguments).output();
        let output = output.expect("pusher health");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    assert_eq!(health(&["--ready"]), (Some(0), r#"{"reasons":[],"status":"ready"}"#.into()));
    feedback.cluster().broker_down(1).expect("down");
    ends.mock.produce(SINGLE, 0, ["no message"]);
    running.until_not_ready("a stall", &["feedback"]);
    let (code, said) = health(&["--ready"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("has acknowledged nothing for"), "{said}");
    assert_eq!(
        health(&[]),
        (Some(0), r#"{"standing_still":[],"status":"healthy"}"#.into()),
        "a restart mends no outage"
    );
    broker_up(&feedback.cluster());
    running.until_not_ready("acknowledgements", &[]);

    ends.set(Faults { silent_share: 1.0, ..Faults::default() });
    ends.mock.produce(SINGLE, 0, generate(1, Mix::CALM).into_iter().map(|push| push.line));
    eventually("a request", LONG, || (ends.simulator.stats().counts.requests > 0).then_some(()));
    running.shutdown.begin("test");
    assert_eq!(running.not_ready(), ["draining"], "and it still answers");
    assert!(!running.stop().drained);
}

#[test]
fn a_taken_port_is_a_configuration_error_and_nothing_is_consumed() {
    let ends = Ends::start(&[(SINGLE, 1)], Faults::default());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let config = ends.config(&[("admin.listen", &address)]);
    let error = Worker::start(&config, "apns", false, Shutdown::default()).expect_err("no worker");
    assert!(error.is_configuration());
    assert!(error.to_string().contains("admin.listen") && error.to_string().contains(&address), "{error}");
}

#[test]
fn the_page_has_the_metrics_of_the_documentation() {
    let refusing = Faults { answers: vec![AnswerFault::all(503, "ServiceUnavailable")], ..Faults::default() };
    let ends = Ends::start(&[(SINGLE, PARTITIONS)], refusing);
    let pushes = generate(60, Mix::CALM);
    pushes.iter().for_each(|push| ends.mock.append(SINGLE, 0, &push.line));
    ends.mock.flush();
    let running = ends.worker(&[("maxInFlight", "10")]);
    let scrape = eventually("a known backlog", LONG, || {
        Some(Scrape::of(running.admin)).filter(|scrape| scrape.sum("pusher_backlog_messages", &[]) > 0)
    });
    let topic = [("app", "game"), ("platform", "apns"), ("lane", "single"), ("topic", SINGLE)];
    assert_eq!(scrape.value("pusher_partitions", &topic), Some(f64::from(PARTITIONS)));
    assert!(scrape.value("pusher_backlog_age_seconds", &topic).is_some_and(|age| age > 0.0));
    assert!(scrape.sum("pusher_connections", &[("pool", "game"), ("state", "open")]) >= 1);
    assert_eq!(scrape.value("pusher_feedback_lost_total", &[("app", "game")]), Some(0.0), "before the first");
    ends.set(Faults::default());
    eventually("all offsets committed", LONG, || ends.is_settled().then_some(()));
    let last = eventually("a commit that was taken", LONG, || {
        let scrape = Scrape::of(running.admin);
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
