//! The whole worker in this process, between a mock Kafka and the APNs simulator: three sets of books that must agree.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pusher::config::Config;
use pusher::generate::apns::Apns;
use pusher::generate::{Expected, Generated, Generator, Mix, Settings};
use pusher::shutdown::Shutdown;
use pusher::simulator::apns::faults::{AnswerFault, Faults};
use pusher::simulator::apns::{self as simulator, Simulator};
use pusher::tally::Totals;
use pusher::worker::{Summary, Worker};
use serde_json::Value;

use crate::support::mock::Mock;
use crate::support::{eventually, wait_for};

const TOPIC: &str = "push-game_apns-single";
const FEEDBACK: &str = "push-game-apns-feedbacks";
const PARTITIONS: i32 = 3;
const LONG: Duration = Duration::from_mins(1);

/// Both far ends, and what a worker needs to know about them.
struct Ends {
    mock: Mock,
    simulator: Simulator,
    folder: tempfile::TempDir,
    produced: [i64; PARTITIONS as usize],
}

/// A worker under way.
struct Running {
    worker: Worker,
    shutdown: Shutdown,
}

impl Ends {
    fn start(faults: Faults) -> Ends {
        let mock = Mock::start(&[(TOPIC, PARTITIONS), (FEEDBACK, 1)]);
        let settings = simulator::Settings { faults, topics: vec!["com.example.game".into()], ..Default::default() };
        let simulator = wait_for(Simulator::start(settings)).expect("a simulator");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key.p8"), &simulator.key().pem).expect("the key");
        std::fs::write(folder.path().join("ca.pem"), simulator.ca_pem()).expect("the CA");
        Ends { mock, simulator, folder, produced: [0; PARTITIONS as usize] }
    }

    fn worker(&self) -> Running {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let pairs = [
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
            ("feedback.reporters", "kafka".into()),
            ("feedback.kafka.brokers", self.mock.brokers.clone()),
            ("workers", "2".into()),
            ("admin.listen", "off".into()),
        ];
        let config = Config::from_pairs(pairs.iter().map(|(key, value)| (*key, value.as_str())));
        let shutdown = Shutdown::default();
        let worker = Worker::start(&config, "apns", false, shutdown.clone()).expect("a worker");
        Running { worker, shutdown }
    }

    fn produce<L: AsRef<[u8]>>(&mut self, lines: impl IntoIterator<Item = L>) {
        for (index, line) in lines.into_iter().enumerate() {
            let partition = index as i32 % PARTITIONS;
            self.produced[partition as usize] += 1;
            self.mock.append(TOPIC, partition, line);
        }
        self.mock.flush();
    }

    fn is_settled(&self) -> bool {
        (0..PARTITIONS).all(|partition| {
            self.mock.committed("test", TOPIC, partition) == Some((self.produced[partition as usize], String::new()))
        })
    }

    #[track_caller]
    fn settle(&self) {
        eventually("all offsets committed", LONG, || self.is_settled().then_some(()));
    }

    /// The feedback records by identity; none may be written twice.
    fn feedback(&self) -> BTreeMap<String, Value> {
        let records = self.mock.records(FEEDBACK, 0);
        let count = records.len();
        let text = |value: &Value| value["metadata"]["pusherId"].as_str().map(ToOwned::to_owned).expect("an identity");
        let by_id: BTreeMap<_, _> = records
            .iter()
            .map(|record| serde_json::from_slice::<Value>(record).expect("JSON"))
            .map(|record| (text(&record), record))
            .collect();
        assert_eq!(by_id.len(), count, "a record for each message that failed, and one only");
        by_id
    }
}

impl Running {
    fn stop(self) -> Summary {
        self.shutdown.begin("test");
        self.worker.join()
    }

    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(&Totals) -> bool) {
        eventually(what, LONG, || done(&self.worker.tally().totals()).then_some(()));
    }
}

fn generate(count: u64, first_serial: u64, mix: Mix) -> Vec<Generated> {
    Generator::new(Apns { app: "game".into() }, Settings { count, first_serial, mix, ..Settings::default() }).collect()
}

fn calm(count: u64) -> impl Iterator<Item = String> {
    generate(count, 0, Mix::CALM).into_iter().map(|push| push.line)
}

/// The reason key that a generated message must end with.
fn key(expected: Expected) -> Option<&'static str> {
    Some(match expected {
        Expected::Delivered { .. } => return None,
        Expected::Expired => "expired",
        Expected::Rejected("Unregistered") => "unregistered",
        Expected::Rejected("BadDeviceToken") => "bad-device-token",
        Expected::Malformed("cut off" | "not json") => "malformed-json",
        Expected::Malformed("not an object") => "not-an-object",
        Expected::Malformed("no token" | "empty token") => "missing-device-token",
        Expected::Malformed("token not a string") => "wrong-type",
        Expected::Malformed("token cannot stand in a path") => "malformed-device-token",
        Expected::Rejected(other) | Expected::Malformed(other) => panic!("{other:?} is new"),
    })
}

#[test]
fn the_books_of_worker_simulator_and_feedback_agree() {
    let mut ends = Ends::start(Faults::default());
    let pushes = generate(1_500, 0, Mix([800, 40, 30, 30, 60, 20, 20]));
    ends.produce(pushes.iter().map(|push| &push.line));
    let running = ends.worker();
    ends.settle();
    let Summary { totals, drained } = running.stop();
    let mut reasons = BTreeMap::<String, u64>::new();
    pushes.iter().filter_map(|push| key(push.expected)).for_each(|key| *reasons.entry(key.into()).or_default() += 1);
    let refused: u64 = reasons.values().sum();
    let waited = pushes.iter().filter(|push| matches!(push.expected, Expected::Delivered { after: Some(_) })).count();
    assert!(drained && reasons.len() == 8 && waited > 20, "{reasons:?} {waited}");
    assert_eq!((totals.lent, totals.unaccounted(), totals.released, totals.skipped), (1_500, 0, 0, 0));
    assert_eq!((totals.delivered, &totals.reasons), (1_500 - refused, &reasons));
    assert_eq!((totals.retries, totals.feedback, totals.feedback_lost), (waited as u64, refused, 0));
    let seen = ends.simulator.stats();
    assert_eq!(
        (seen.messages.accepted, seen.messages.repeated, seen.messages.identity_changes),
        (totals.delivered, 0, 0)
    );
    assert_eq!((seen.counts.requests, seen.counts.protocol_errors), (totals.requests, 0));
    assert_eq!(ends.feedback().len() as u64, refused);
}

#[test]
fn a_stop_in_the_middle_loses_and_repeats_nothing() {
    let mut ends = Ends::start(Faults { processing_ms: 30, ..Faults::default() });
    ends.produce(calm(3_000));
    let first = ends.worker();
    first.until("a good part", |totals| totals.delivered >= 400);
    let first = first.stop();
    assert!(first.drained && first.totals.delivered < 3_000, "{:?}", first.totals);
    assert_eq!((first.totals.unaccounted(), first.totals.resolved()), (0, first.totals.delivered));
    assert_eq!(ends.simulator.stats().messages.accepted, first.totals.delivered);
    let second = ends.worker();
    ends.settle();
    let second = second.stop().totals;
    assert_eq!((second.lent, second.delivered), (3_000 - first.totals.delivered, second.lent));
    let seen = ends.simulator.stats().messages;
    assert_eq!((seen.accepted, seen.repeated, seen.identity_changes), (3_000, 0, 0));
}

#[test]
fn a_provider_that_refuses_everything_for_a_while_gets_everything_in_the_end() {
    let refusing = Faults { answers: vec![AnswerFault::all(503, "ServiceUnavailable")], ..Faults::default() };
    let mut ends = Ends::start(refusing);
    ends.produce(calm(300));
    let running = ends.worker();
    running.until("every message refused", |totals| totals.retries >= 300);
    assert_eq!(running.worker.tally().totals().resolved(), 0, "a provider's fault fails no message");
    ends.simulator
        .handle()
        .set_faults(Faults { break_every: 70, goaway_every: 40, ..Faults::default() })
        .expect("valid");
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.delivered, totals.unaccounted()), (300, 0));
    let seen = ends.simulator.stats().messages;
    assert_eq!((seen.accepted, seen.identity_changes), (300, 0));
}

#[test]
fn a_message_that_expires_while_it_waits_says_why_it_was_not_delivered() {
    let mut ends = Ends::start(Faults::default());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    // Whole seconds: what is sent as `apns-expiration` has no more.
    let expiry = (now / 1000 + 3) * 1000;
    let line = format!(
        r#"{{"DeviceToken":"dead050300{:054}","Payload":{{"aps":{{"alert":"x"}}}},"push_expiry":{expiry}}}"#,
        0
    );
    ends.produce([line.as_str()]);
    let running = ends.worker();
    ends.produced = [1, 0, 0];
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.expired, totals.lent, totals.unaccounted()), (1, 1, 0));
    assert!(
        totals.requests >= 1 && totals.retries == u64::from(u32::try_from(totals.requests).expect("few")),
        "{totals:?}"
    );
    let feedback = ends.feedback();
    let record = feedback.values().next().expect("one");
    assert!(record.to_string().contains("while it waited"), "{record}");
}

#[test]
fn a_kafka_that_is_away_for_a_while_costs_nothing() {
    let mut ends = Ends::start(Faults { processing_ms: 20, ..Faults::default() });
    let pushes = generate(2_000, 0, Mix([90, 5, 5, 0, 0, 0, 0]));
    ends.produce(pushes.iter().map(|push| &push.line));
    let running = ends.worker();
    running.until("a good part", |totals| totals.delivered >= 200);
    ends.mock.cluster().broker_down(1).expect("down");
    let refused = pushes.iter().filter(|push| key(push.expected).is_some()).count() as u64;
    let before = running.worker.tally().totals().delivered;
    running.until("deliveries go on", |totals| totals.delivered > before + 50);
    crate::support::mock::broker_up(&ends.mock.cluster());
    ends.settle();
    let totals = running.stop().totals;
    assert_eq!((totals.delivered, totals.rejected, totals.unaccounted()), (2_000 - refused, refused, 0));
    let seen = ends.simulator.stats().messages;
    assert_eq!((seen.accepted, seen.repeated), (totals.delivered, 0));
    assert_eq!(ends.feedback().len() as u64, refused);
}
