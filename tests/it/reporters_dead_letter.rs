//! Dead letters against librdkafka's mock cluster: what is written where, too large, forbidden; and whose topics are whose.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use proptest::prelude::*;
use pusher::config::Config;
use pusher::message::{Lane, Origin, Platform, QueueMessage};
use pusher::proof::State;
use pusher::queue::topic;
use pusher::reporters::dead_letter::kafka::KafkaDeadLetters;
use pusher::reporters::stats::told::Total;
use pusher::reporters::stats::{Metric, Stats};
use pusher::reporters::{DeadLetter, DeadLetterReporter, FeedbackFate, Reporters, dead_letter, feedback};
use pusher::settings::catalogue;
use rdkafka::types::RDKafkaRespErr;
use regex::Regex;

use crate::support::mock::Mock;

const APNS: Platform = Platform("apns");
const GCM: Platform = Platform("gcm");
const TOPIC: &str = "deadletters-game-apns";
const LONG: Duration = Duration::from_secs(40);

fn reporter(mock: &Mock, more: &[(&str, &str)]) -> Arc<KafkaDeadLetters> {
    let pairs = [("queue.brokers", mock.brokers.as_str())];
    let config = Config::from_pairs(pairs.into_iter().chain(more.iter().copied()));
    Arc::new(KafkaDeadLetters::from_config(&config, Stats::default()).expect("settings"))
}

fn message(payload: &'static [u8]) -> QueueMessage {
    of("game", payload)
}

fn of(app: &str, payload: &'static [u8]) -> QueueMessage {
    let topic = format!("push-{app}_apns-single").into();
    let origin = Origin { topic, partition: 3, app: app.into(), platform: APNS, lane: Lane::Single };
    let payload = Bytes::from_static(payload);
    QueueMessage {
        origin: Arc::new(origin),
        offset: 42,
        timestamp_ms: None,
        redrive_of: None,
        lent_at: Instant::now(),
        payload: payload.into(),
    }
}

fn letter(message: &QueueMessage) -> DeadLetter<'_> {
    DeadLetter {
        message,
        reason: "internal-server-error",
        description: "Apple failed inside",
        status: 500,
        attempts: 7,
        first_attempt: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        last_attempt: UNIX_EPOCH + Duration::from_millis(1_700_000_009_456),
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("in time")
}

#[tokio::test]
async fn a_letter_is_the_message_with_its_reason_and_its_origin() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let (reporter, message) = (reporter(&mock, &[]), message(b"{\"any\": \"bytes\"\xff"));
    assert_eq!(within(reporter.send_dead_letter(&letter(&message))).await, FeedbackFate::Acknowledged);
    let letters = mock.with_headers(TOPIC, 0);
    let [(payload, headers)] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(payload, b"{\"any\": \"bytes\"\xff");
    let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let id = message.identity();
    assert_eq!(
        headers,
        [
            "attempts=7",
            "description=Apple failed inside",
            "firstAttempt=1700000000123",
            "lastAttempt=1700000009456",
            "offset=42",
            "partition=3",
            &format!("pusherId={id}"),
            "reason=internal-server-error",
            "status=500",
            "topic=push-game_apns-single",
        ]
    );
}

/// What failed again after a redrive says where it came first, so that it keeps its identity once more.
#[tokio::test]
async fn a_letter_of_a_redriven_message_names_the_first_offset() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let (reporter, message) = (reporter(&mock, &[]), QueueMessage { redrive_of: Some(7), ..message(b"{}") });
    assert_eq!(within(reporter.send_dead_letter(&letter(&message))).await, FeedbackFate::Acknowledged);
    let headers = mock.with_headers(TOPIC, 0).remove(0).1;
    assert_eq!((headers["offset"].as_str(), headers["redriveOf"].as_str()), ("42", "7"));
    assert_eq!(headers["pusherId"], pusher::message::identity("push-game_apns-single", 3, 7).to_string());
}

#[tokio::test]
async fn one_too_large_for_its_topic_keeps_everything_but_the_payload() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let reporter = reporter(&mock, &[("deadLetters.kafka.options.message.max.bytes", "1000")]);
    let message = message(&[b'x'; 2_000]);
    assert_eq!(within(reporter.send_dead_letter(&letter(&message))).await, FeedbackFate::Acknowledged);
    let letters = mock.with_headers(TOPIC, 0);
    assert!(letters[0].0.is_empty());
    assert_eq!((letters[0].1["truncated"].as_str(), letters[0].1["offset"].as_str()), ("true", "42"));
}

#[tokio::test]
async fn a_topic_that_is_missing_or_forbidden_is_named_with_what_mends_it() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let reporter = reporter(&mock, &[]);
    let apps: [(Arc<str>, Platform); 1] = [("game".into(), APNS)];
    let looked = async || reporter.inspect(&apps, LONG).await.remove(0);
    assert_eq!(looked().await.state, State::Unproved, "this cluster does not say who may write");
    let refuse = |code| mock.cluster().topic_error(TOPIC, code).expect("a topic");
    refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    let missing = looked().await;
    assert_eq!(missing.state, State::Wrong);
    let missing = missing.to_string();
    assert!(
        missing.contains("deadLetters.enabled: false") && missing.ends_with("--create --topic deadletters-game-apns"),
        "{missing}"
    );
    refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert!(looked().await.to_string().contains("kafka-acls.sh"));
    // Whoever comes from the original has no such topic, and starts.
    let reporters =
        Reporters::new(Stats::default(), [], []).with_dead_letters([reporter as Arc<dyn DeadLetterReporter>]);
    assert_eq!(reporters.check(&apps, LONG).await, Ok(()));
}

/// One app's topic is forbidden, another's is not: the alert must not be silenced by the letters that pass.
#[tokio::test]
async fn a_refused_topic_is_seen_while_others_take_their_letters() {
    let mock = Mock::start(&[(TOPIC, 1), ("deadletters-other-apns", 1)]);
    let reporter = reporter(&mock, &[("deadLetters.kafka.options.topic.metadata.refresh.interval.ms", "200")]);
    let reporters = Reporters::new(Stats::default(), [], []).with_dead_letters([reporter.clone() as _]);
    let gauges = || {
        reporters.publish();
        let readings = reporters.stats().told().readings();
        [Metric::DeadLettersWaiting, Metric::DeadLettersStalledSeconds, Metric::DeadLettersRefusedTopics].map(
            |metric| match readings.iter().find(|one| one.metric == metric).map(|one| &one.total) {
                Some(Total::Gauge(value)) => value.ceil() as u64,
                other => panic!("{other:?}"),
            },
        )
    };
    assert_eq!(gauges(), [0; 3]);
    let refuse = |code| mock.cluster().topic_error(TOPIC, code).expect("a topic");
    refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    let (refused, passes) = (message(b"refused"), of("other", b"passes"));
    let (refused, passes) = (letter(&refused), letter(&passes));
    let mut waits = Box::pin(reporter.send_dead_letter(&refused));
    let look = async {
        while gauges() != [1, 0, 1] {
            assert_eq!(reporter.send_dead_letter(&passes).await, FeedbackFate::Acknowledged);
        }
    };
    tokio::select! {
        _ = &mut waits => panic!("its topic is forbidden"),
        () = within(look) => {}
    }
    refuse(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_eq!(within(waits).await, FeedbackFate::Acknowledged);
    assert_eq!(gauges(), [0; 3]);
}

/// Every pattern of push and feedback topics that this program or the original has, or had, in code, files or documents.
fn documented_patterns() -> Vec<Regex> {
    let ours =
        catalogue().keys().find(|key| key.name == "queue.topics").and_then(|key| key.default).expect("a default");
    let theirs = [
        "^push-[^-_]+_(apns|gcm)",
        "^push-[^-_]+_(apns|gcm)[_-](single|massive)",
        "^push-[^-_]+-(apns|gcm)-feedbacks",
        r"^push-([\w]+(?:[_-][\w]+)*)[-_](gcm|apns)",
    ];
    theirs.into_iter().chain([ours]).map(|pattern| Regex::new(pattern).expect("a pattern")).collect()
}

proptest! {
    #[test]
    fn no_pattern_of_push_or_feedback_topics_takes_dead_letters_for_its_own(
        app in prop_oneof![
            "[a-zA-Z0-9_]{1,12}(-[a-zA-Z0-9_]{1,8}){0,2}",
            Just("push-game_apns".to_owned()),
            Just("push-game-apns-feedbacks".to_owned()),
            Just("x_push-game_gcm-single".to_owned()),
        ],
        gcm in any::<bool>(),
    ) {
        let platform = if gcm { GCM } else { APNS };
        let name = dead_letter::topic(&app, platform);
        prop_assert_eq!(topic::parse(&name, &[APNS, GCM]), None);
        prop_assert!(documented_patterns().iter().all(|pattern| !pattern.is_match(&name)), "{}", name);
        prop_assert_ne!(name, feedback::topic(&app, platform));
    }
}
