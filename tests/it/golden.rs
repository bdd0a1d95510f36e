//! The contract with who comes from the original: its configuration files and its producers' messages in, feedback records
//! and StatsD datagrams out, compared field by field with `tests/fixtures/original`. What is written there is what operators'
//! consumers and dashboards read today; beside it a record may hold more, and each message has an outcome.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pusher::config::{ConfigFile, Notice, load};
use pusher::reporters::stats::{Descent, Kind, Metric};
use pusher::settings::catalogue;
use pusher::simulator::apns::{self as apns, Key, Simulator as Apns};
use pusher::simulator::fcm::{self, Simulator as Fcm};
use serde_json::Value;

use crate::support::mock::Mock;
use crate::support::statsd::{Line, Statsd};
use crate::support::worker::Worker;
use crate::support::{eventually, process, redis, root, wait_for};

const LONG: Duration = Duration::from_mins(2);
/// The keys of a record that the original writes, and ours beside them.
const APNS_KEYS: &[&str] =
    &["Sent", "StatusCode", "Reason", "ApnsID", "Err", "DeviceToken", "timestamp", "metadata", "Notification"];
const APNS_MORE: &[&str] = &["unregisteredAt"];
const GCM_KEYS: &[&str] = &["from", "error", "error_description"];
const GCM_MORE: &[&str] = &["message_id", "error_code", "status", "status_code", "timestamp", "metadata"];
/// Keys of `metadata` that are ours; the original's are in the fixtures.
const METADATA_MORE: &[&str] = &["pusherId", "platform", "deviceToken"];

fn fixture(name: &str) -> String {
    std::fs::read_to_string(root().join("tests/fixtures/original").join(name)).expect("a fixture")
}

/// A folder as a deployment has it: `config/` with the file, `tls/` with the key. The leash of its worker removes it.
fn deployment(file: &str, key: &str) -> PathBuf {
    let folder = process::folder("deployment");
    for (name, text) in [("config/pusher.yaml", fixture(&format!("config/{file}"))), ("tls/authkey.p8", key.to_owned())]
    {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    folder
}

/// An APNs whose key has the ids of the fixtures' files.
fn apns_simulator(faults: apns::faults::Faults) -> Apns {
    let key = Key { key_id: "ABC123DEFG".into(), team_id: "ABC123DEFG".into(), ..Key::generate().expect("a key") };
    let topics = vec!["com.example.game".into()];
    let settings = apns::Settings { keys: vec![key], topics, faults, ..Default::default() };
    wait_for(Apns::start(settings)).expect("the APNs simulator")
}

/// Where everybody is: all that a deployment of the fixtures must say by variables.
fn places(mock: &Mock, statsd: &Statsd) -> Vec<(String, String)> {
    [
        ("PUSHER_QUEUE_BROKERS", mock.brokers.clone()),
        ("PUSHER_QUEUE_OFFSETRESETSTRATEGY", "earliest".into()),
        ("PUSHER_FEEDBACK_KAFKA_BROKERS", mock.brokers.clone()),
        ("PUSHER_STATS_STATSD_HOST", statsd.address.to_string()),
        ("PUSHER_RATELIMITER_REDIS_PORT", redis().port.to_string()),
        ("PUSHER_RATELIMITER_TLS_DISABLED", "true".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn set(environment: &mut Vec<(String, String)>, name: &str, value: impl Into<String>) {
    environment.push((format!("PUSHER_{name}"), value.into()));
}

fn start(platform: &str, folder: &Path, environment: &[(String, String)]) -> Worker {
    Worker::start_in(&[platform, "--config", "config/pusher.yaml"], environment, folder.to_owned())
}

/// Runs a worker over the fixture's messages; its feedback records. Its log has no token and no text of any of them.
fn run(mut worker: Worker, mock: &Mock, topic: &str, feedback: &str, messages: &str) -> Vec<Value> {
    let lines: Vec<_> = messages.lines().collect();
    mock.produce(topic, 0, &lines);
    let end = (lines.len() as i64, String::new());
    worker.until("an outcome for each message", LONG, || {
        mock.committed("pushers", topic, 0).filter(|committed| *committed == end)
    });
    let log = worker.log();
    worker.stop();
    for line in &lines {
        let words =
            serde_json::from_str::<Value>(line).map_or_else(|_| vec![(*line).to_owned()], |line| secrets(&line));
        let told = log.iter().find(|said| words.iter().any(|word| said.to_string().contains(word)));
        assert_eq!(told, None, "a log line holds something of {line}");
    }
    let records = mock.records(feedback, 0);
    records.iter().map(|record| serde_json::from_slice(record).expect("JSON")).collect()
}

/// What of a message nobody may read in a log: tokens, texts, values of the producer's.
fn secrets(message: &Value) -> Vec<String> {
    match message {
        Value::Object(fields) => fields.values().flat_map(secrets).collect(),
        Value::String(text) if text.len() > 8 => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// Whether the record has what the fixture says, and nothing that is not known.
#[track_caller]
fn assert_covers(expected: &Value, actual: &Value, at: &str) {
    match expected {
        Value::Object(fields) => {
            for (key, value) in fields {
                let found = actual.get(key).unwrap_or_else(|| panic!("{at}.{key} is missing in {actual}"));
                assert_covers(value, found, &format!("{at}.{key}"));
            }
        }
        Value::String(text) if text == "<uuid>" => {
            assert!(actual.as_str().is_some_and(|text| text.parse::<uuid::Uuid>().is_ok()), "{at}: {actual}");
        }
        Value::String(text) if text == "<now>" => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
            assert!(actual.as_u64().is_some_and(|at| at <= now && at + 3_600 > now), "{at}: {actual}");
        }
        Value::String(text) if text == "<hostname>" => {
            assert_eq!(actual, gethostname::gethostname().to_str().expect("a name"), "{at}");
        }
        Value::String(text) if text == "<text>" => {
            assert!(actual.as_str().is_some_and(|text| !text.is_empty()), "{at}: {actual}");
        }
        other => assert_eq!(other, actual, "{at}"),
    }
}

#[track_caller]
fn assert_keys(expected: &Value, actual: &Value, known: &[&[&str]], at: &str) {
    let written = |key: &String| expected.get(key).is_some() || known.concat().contains(&key.as_str());
    let strangers: Vec<_> = actual.as_object().expect("an object").keys().filter(|key| !written(key)).collect();
    assert!(strangers.is_empty(), "{at} has {strangers:?}, which no documentation names: {actual}");
}

/// Each record of the fixture is there once, in whatever order, by the token that it is about.
#[track_caller]
fn assert_feedback(expected: &str, records: &[Value], token: &str, known: &[&[&str]]) {
    let by_token = |record: &Value| record[token].as_str().unwrap_or_default().to_owned();
    let actual: BTreeMap<_, _> = records.iter().map(|record| (by_token(record), record)).collect();
    assert_eq!((actual.len(), records.len()), (expected.lines().count(), expected.lines().count()), "{records:#?}");
    for line in expected.lines() {
        let expected: Value = serde_json::from_str(line).expect("the fixture is JSON");
        let name = by_token(&expected);
        let record = actual.get(&name).unwrap_or_else(|| panic!("no record about {name:?}: {records:#?}"));
        assert_covers(&expected, record, &name);
        assert_keys(&expected, record, known, &name);
        assert_keys(&expected["metadata"], &record["metadata"], &[METADATA_MORE], &format!("{name}.metadata"));
    }
}

/// Sums of counters, numbers of timings, by name, type and tags; of those metrics that the original has.
fn sums(lines: &[Line]) -> BTreeMap<String, i64> {
    let original = |line: &&Line| {
        let metric = line.name.strip_prefix("push").and_then(Metric::named);
        metric.is_some_and(|metric| metric.descent() == Descent::Original)
    };
    let mut sums = BTreeMap::new();
    for line in lines.iter().filter(original) {
        let add = if line.kind == "c" { line.value as i64 } else { 1 };
        *sums.entry(format!("{}|{}|{:?}", line.name, line.kind, line.tags)).or_default() += add;
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

#[track_caller]
fn assert_statsd(expected: &str, statsd: &Statsd) {
    let written = crate::support::statsd::parse_all(expected).into_iter();
    // A timing's value in the fixture is how many there are.
    let expected: BTreeMap<_, _> =
        written.map(|line| (format!("{}|{}|{:?}", line.name, line.kind, line.tags), line.value as i64)).collect();
    assert_eq!(sums(&statsd.lines()), expected);
}

#[test]
fn apns_messages_of_the_original_lead_to_its_feedback_and_statistics() {
    let (topic, feedback) = ("push-game_apns-massive", "push-game-apns-feedbacks");
    let slow = apns::faults::Faults { processing_ms: 40, ..Default::default() };
    let (mock, statsd, simulator) = (Mock::start(&[(topic, 1), (feedback, 1)]), Statsd::start(), apns_simulator(slow));
    let folder = deployment("default.yaml", &simulator.key().pem);
    std::fs::write(folder.join("tls/ca.pem"), simulator.ca_pem()).expect("a file");
    let mut environment = places(&mock, &statsd);
    set(&mut environment, "APNS_ENDPOINT", format!("https://{}", simulator.address()));
    set(&mut environment, "APNS_CAFILE", "tls/ca.pem");
    let worker = start("apns", &folder, &environment);
    let records = run(worker, &mock, topic, feedback, &fixture("apns.messages.jsonl"));
    assert_feedback(&fixture("apns.feedback.jsonl"), &records, "DeviceToken", &[APNS_KEYS, APNS_MORE]);
    assert_statsd(&fixture("apns.statsd.txt"), &statsd);
    let lines = statsd.lines();
    let mut latencies = lines.iter().filter(|line| line.name == "pushsend_notification_latency");
    assert!(latencies.all(|line| line.value >= 40.0), "a latency is a round trip: {lines:?}");
    assert_eq!(simulator.stats().counts.requests, 10, "one more than messages: the one that was too many at first");
}

#[test]
fn gcm_messages_of_the_original_lead_to_its_feedback_and_statistics() {
    let (topic, feedback) = ("push-mygame_gcm-single", "push-mygame-gcm-feedbacks");
    let (mock, statsd) = (Mock::start(&[(topic, 1), (feedback, 1)]), Statsd::start());
    let simulator = wait_for(Fcm::start(fcm::Settings::default())).expect("the FCM simulator");
    let folder = deployment("default.yaml", "");
    std::fs::write(folder.join("tls/ca.pem"), simulator.ca_pem()).expect("a file");
    let mut environment = places(&mock, &statsd);
    set(&mut environment, "GCM_ENDPOINT", format!("https://{}", simulator.address()));
    set(&mut environment, "GCM_CAFILE", "tls/ca.pem");
    let credentials = simulator.credentials("simulated-project").expect("the default project");
    set(&mut environment, "GCM_FIREBASECREDENTIALS_MYGAME", credentials);
    let worker = start("gcm", &folder, &environment);
    let records = run(worker, &mock, topic, feedback, &fixture("gcm.messages.jsonl"));
    assert_feedback(&fixture("gcm.feedback.jsonl"), &records, "from", &[GCM_KEYS, GCM_MORE]);
    assert_statsd(&fixture("gcm.statsd.txt"), &statsd);
}

/// The files of the original's shape start a worker as they are; what has no effect is named, and why.
#[test]
fn the_originals_files_start_a_worker_unchanged() {
    let simulator = apns_simulator(apns::faults::Faults::default());
    for file in ["default.yaml", "test.yaml", "docker_test.yaml"] {
        let (mock, statsd) = (Mock::start(&[("push-game-apns-feedbacks", 1)]), Statsd::start());
        let worker = start("apns", &deployment(file, &simulator.key().pem), &places(&mock, &statsd));
        eventually(&format!("{file} starts a worker"), LONG, || worker.has_said("started").then_some(()));
        let log = worker.log();
        let said = log.iter().filter_map(|line| line["msg"].as_str());
        let notices: Vec<_> = said.filter(|text| text.contains("no effect") || text.contains("unknown")).collect();
        insta::assert_snapshot!(file, notices.join("\n"));
        worker.stop();
    }
}

/// An app that cannot be set up is counted before the program ends, as the original does.
#[test]
fn a_key_that_cannot_be_used_is_counted_as_an_initialize_failure() {
    let (mock, statsd) = (Mock::start(&[]), Statsd::start());
    let worker = start("apns", &deployment("default.yaml", "no key"), &places(&mock, &statsd));
    assert_eq!(worker.ends().code(), Some(2));
    let tags = [("platform", "apns"), ("game", "game")];
    statsd.await_sum("pushinitialize_failure", &tags, 1.0, LONG);
}

/// Contract 2.7: the original's metrics, with their types and tags.
#[test]
fn every_metric_of_the_original_has_its_name_type_and_tags() {
    let contract = [
        ("sent", "c", "platform game topic"),
        ("ack", "c", "platform game"),
        ("failed", "c", "platform game reason"),
        ("initialize_failure", "c", "platform game"),
        ("rate_limit_reached", "c", "platform game"),
        ("rate_limit_failed", "c", "platform game"),
        ("duplicated_messages", "c", "hostname game platform"),
        ("dedup_errors", "c", "hostname game platform"),
        ("send_notification_latency", "ms", "platform game client"),
        ("firebase_latency", "ms", "game"),
        ("tokens_delete_success", "c", "hostname game platform"),
        ("tokens_delete_error", "c", "hostname game platform"),
        ("tokens_delete_nonexistent", "c", "hostname game platform"),
        ("feedback_listener_restart", "c", "hostname"),
        ("queue_out_channel", "g", "hostname"),
        ("broker_invalid_token_channel", "g", "hostname"),
        ("invalid_token_handler_buffer", "g", "hostname"),
    ];
    for (name, kind, tags) in contract {
        let metric = Metric::named(name).unwrap_or_else(|| panic!("no metric {name}"));
        let ours = match metric.kind() {
            Kind::Counter => "c",
            Kind::Gauge => "g",
            Kind::Timer => "ms",
        };
        assert_eq!((ours, metric.tags().join(" ").as_str()), (kind, tags), "{name}");
        assert_eq!(metric.descent(), Descent::Original, "{name}");
    }
    let claimed = Metric::ALL.iter().filter(|metric| metric.descent() == Descent::Original).map(|metric| metric.name());
    let strangers: Vec<_> = claimed.filter(|name| contract.iter().all(|(known, ..)| known != name)).collect();
    assert!(strangers.is_empty(), "said to be the original's: {strangers:?}");
}

/// Contract 2.8: every key that the original reads, or that its files and documents name, as a variable of apps `game` and
/// `my-game`: understood, or accepted with the reason why it has no effect. Nothing is unknown.
#[test]
fn every_name_of_the_original_is_understood_or_has_a_reason() {
    let keys = "gracefulShutdownTimeout log.level sentry.url stats.reporters stats.statsd.host stats.statsd.prefix \
        stats.statsd.buflen stats.statsd.flushIntervalMs stats.statsd.flushIntervalInMs stats.flush.s apns.apps gcm.apps \
        apns.certs.game.authKeyPath apns.certs.game.keyID apns.certs.game.teamID apns.certs.game.topic \
        apns.concurrentWorkers apns.connectionPoolSize apns.pushQueueSize apns.responseChannelSize apns.logStatsInterval \
        apns.retry.interval apns.retry.maxRetryAttempts apns.rateLimit.rpm apns.dedup.ttl gcm.rateLimit.rpm gcm.dedup.ttl \
        gcm.firebaseCredentials.game gcm.concurrentWorkers gcm.pingInterval gcm.pingTimeout gcm.maxPendingMessages \
        gcm.logStatsInterval gcm.certs.game.apiKey gcm.certs.game.senderID queue.topics queue.brokers queue.group \
        queue.sessionTimeout queue.channelSize queue.fetch.min.bytes queue.fetch.wait.max.ms queue.offsetResetStrategy \
        queue.handleAllMessagesBeforeExiting feedback.reporters feedback.kafka.brokers feedback.kafka.topics \
        feedback.kafka.linger.ms feedback.kafka.batch.size feedback.cache.requestTimeout feedback.cache.cleaningInterval \
        rateLimiter.redis.host rateLimiter.redis.port rateLimiter.redis.password rateLimiter.tls.disabled dedup.redis.host \
        dedup.redis.port dedup.redis.password dedup.tls.disabled dedup.games dedup.games.game.percentage pprof.enabled \
        pprof.host pprof.port feedbackListeners.queue.topics feedbackListeners.queue.brokers feedbackListeners.queue.group \
        feedbackListeners.queue.sessionTimeout feedbackListeners.queue.channelSize feedbackListeners.queue.fetch.min.bytes \
        feedbackListeners.queue.fetch.wait.max.ms feedbackListeners.queue.offsetResetStrategy \
        feedbackListeners.queue.handleAllMessagesBeforeExiting feedbackListeners.gracefulShutdownTimeout \
        feedbackListeners.broker.invalidTokenChan.size feedbackListeners.broker.invalidTokenEnabled \
        feedbackListeners.invalidToken.flush.time.ms feedbackListeners.invalidToken.buffer.size \
        feedbackListeners.invalidToken.pg.host feedbackListeners.invalidToken.pg.port feedbackListeners.invalidToken.pg.user \
        feedbackListeners.invalidToken.pg.pass feedbackListeners.invalidToken.pg.database \
        feedbackListeners.invalidToken.pg.poolSize feedbackListeners.invalidToken.pg.maxRetries \
        feedbackListeners.invalidToken.pg.connectionTimeout feedbackListeners.invalidToken.pg.sslmode invalidToken.handlers \
        invalidToken.flush.time.ms invalidToken.buffer.size invalidToken.pg.table invalidToken.pg.host invalidToken.pg.port \
        invalidToken.pg.user invalidToken.pg.pass invalidToken.pg.database invalidToken.pg.poolSize \
        invalidToken.pg.maxRetries invalidToken.pg.connectionTimeout gracefullShutdownTimeout apns.certs.my-game \
        push.db.host push.db.user push.db.pass push.db.database push.db.port push.db.poolSize push.db.maxRetries \
        push.db.connectionTimeout";
    let variable = |key: &str| format!("PUSHER_{}", key.to_uppercase().replace(['.', '-'], "_"));
    let variables = keys.split_whitespace().map(|key| {
        let value = if key.rsplit('.').next() == Some("apps") { "game,my-game" } else { "1" };
        (variable(key).into(), value.into())
    });
    let loaded =
        load(ConfigFile::Default(Path::new("/nowhere.yaml")), variables, catalogue()).expect("no file to read");
    let unknown: Vec<_> = loaded.notices.iter().filter(|one| matches!(one, Notice::Unknown { .. })).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}
