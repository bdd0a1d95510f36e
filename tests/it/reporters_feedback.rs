//! Feedback against librdkafka's mock cluster: acknowledged, away and back, too large, fatal, missing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pusher::config::Config;
use pusher::message::{Lane, Origin, Platform};
use pusher::proof::State;
use pusher::reporters::feedback::kafka::{KafkaFeedback, Settings};
use pusher::reporters::feedback::{self, topic};
use pusher::reporters::stats::{Metric, Stats};
use pusher::reporters::{FeedbackFate, FeedbackReporter, Owed, RecordSource, Reporters, StatsReporter};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::support;

const APNS: Platform = Platform("apns");
type Mock = MockCluster<'static, DefaultProducerContext>;

struct Record(usize);

impl RecordSource for Record {
    fn record(&self, truncated: bool) -> Vec<u8> {
        if truncated { br#"{"truncated":true}"#.to_vec() } else { vec![b'x'; self.0] }
    }
}

/// Too large in both forms.
struct Huge;

impl RecordSource for Huge {
    fn record(&self, _: bool) -> Vec<u8> {
        vec![b'x'; 5_000]
    }
}

fn origin() -> Origin {
    Origin { topic: "push-game_apns".into(), partition: 0, app: "game".into(), platform: APNS, lane: Lane::Single }
}

/// A record of some size that is not waited for, and where its end is told: whether it was acknowledged.
struct Posted(usize, Origin, mpsc::Sender<bool>);

impl RecordSource for Posted {
    fn record(&self, truncated: bool) -> Vec<u8> {
        Record(self.0).record(truncated)
    }
}

impl Owed for Posted {
    fn origin(&self) -> &Origin {
        &self.1
    }
    fn acknowledged(self: Box<Self>) {
        self.2.try_send(true).unwrap();
    }
    fn refused(self: Box<Self>) {
        self.2.try_send(false).unwrap();
    }
}

fn cluster() -> Mock {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(&topic("game", APNS), 1, 1).unwrap();
    mock
}

/// Statistics that remember how often each metric was counted.
#[derive(Default)]
struct Counted(Mutex<Vec<Metric>>);

impl Counted {
    fn times(&self, metric: Metric) -> usize {
        self.0.lock().unwrap().iter().filter(|counted| **counted == metric).count()
    }
}

impl StatsReporter for Counted {
    fn sent(&self, _: &Origin) {}
    fn success(&self, _: &Origin) {}
    fn failure(&self, _: &Origin, _: &'static str) {}
    fn latency(&self, _: &Origin, _: &'static str, _: Duration) {}
    fn time(&self, _: Metric, _: &[(&'static str, &str)], _: Duration) {}
    fn count(&self, metric: Metric, _: &[(&'static str, &str)], _: u64) {
        self.0.lock().unwrap().push(metric);
    }
    fn gauge(&self, _: Metric, _: &[(&'static str, &str)], _: f64) {}
}

/// A reporter of the broker at `brokers`, and what it counts.
fn reporting_to(brokers: &str, more: &[(&'static str, &'static str)]) -> (Arc<KafkaFeedback>, Arc<Counted>) {
    let mut pairs = vec![("feedback.kafka.brokers", brokers)];
    pairs.extend(more);
    let config = Config::from_pairs(pairs);
    let settings = Settings::from_config(&config, &feedback::Settings::from_config(&config).unwrap()).unwrap();
    let counted = Arc::new(Counted::default());
    let stats = Stats::new([counted.clone() as Arc<dyn StatsReporter>]);
    (Arc::new(KafkaFeedback::new(settings, stats).unwrap()), counted)
}

fn reporter(mock: &Mock, more: &[(&'static str, &'static str)]) -> Arc<KafkaFeedback> {
    counted(mock, more).0
}

fn counted(mock: &Mock, more: &[(&'static str, &'static str)]) -> (Arc<KafkaFeedback>, Arc<Counted>) {
    reporting_to(&mock.bootstrap_servers(), more)
}

/// The records of the feedback topic, `n` of them, as a consumer reads them.
fn records(mock: &Mock, n: usize) -> Vec<Vec<u8>> {
    records_until(mock, |all| all.len() >= n)
}

fn records_until(mock: &Mock, done: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&topic("game", APNS), 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut all = Vec::new();
    while !done(&all) {
        let message = consumer.poll(Duration::from_secs(20)).expect("a record within 20 s").unwrap();
        assert!(message.key().is_none());
        all.push(message.payload().unwrap().to_vec());
    }
    all
}

/// The one finding about these apps.
async fn looked(reporter: &KafkaFeedback, apps: &[(Arc<str>, Platform)], deadline: Duration) -> (State, String) {
    let findings = reporter.inspect(apps, deadline).await;
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    (finding.state, finding.to_string())
}

async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.expect("in time")
}

/// Polls a condition until it holds.
async fn until(seconds: u64, mut holds: impl FnMut() -> bool) {
    within(seconds, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn records_are_acknowledged_and_many_can_be_waited_for_at_once() {
    let mock = cluster();
    let reporter = reporter(&mock, &[]);
    let tasks: Vec<_> = (0..2_000)
        .map(|_| {
            let reporter = reporter.clone();
            tokio::spawn(async move { reporter.send_feedback(&origin(), &Record(100)).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(within(30, task).await.unwrap(), FeedbackFate::Acknowledged);
    }
    assert_eq!(reporter.backlog().waiting, 0);
    assert_eq!(records(&mock, 2_000).len(), 2_000);
}

#[tokio::test]
async fn who_posts_a_record_is_told_of_its_end_once() {
    let mock = cluster();
    let reporter = reporter(&mock, &[("feedback.kafka.options.message.max.bytes", "1000")]);
    let (told, mut ends) = mpsc::channel(2_000);
    let post = FeedbackReporter::post(&*reporter).expect("it takes them");
    (0..2_000).for_each(|_| post.post(Box::new(Posted(100, origin(), told.clone()))));
    for _ in 0..2_000 {
        assert_eq!(within(30, ends.recv()).await, Some(true));
    }
    assert_eq!((reporter.backlog().waiting, records(&mock, 2_000).len()), (0, 2_000));
    post.post(Box::new(Posted(5_000, origin(), told.clone())));
    assert_eq!(ends.recv().await, Some(false), "too large for the client");
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    post.post(Box::new(Posted(100, origin(), told.clone())));
    assert_eq!(within(30, ends.recv()).await, Some(false), "too large for the broker");
    mock.broker_down(1).unwrap();
    post.post(Box::new(Posted(100, origin(), told)));
    assert_eq!(reporter.backlog().waiting, 1);
    drop(reporter);
    assert_eq!(within(30, ends.recv()).await, Some(false), "its producer is gone");
    assert_eq!(within(30, ends.recv()).await, None, "nobody is told twice");
}

#[tokio::test]
async fn records_that_are_given_up_after_a_time_are_not_posted() {
    let reporter = reporter(&cluster(), &[("feedback.required", "false")]);
    assert!(FeedbackReporter::post(&*reporter).is_none());
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for() {
    let mock = cluster();
    let reporter = reporter(&mock, &[("feedback.kafka.options.reconnect.backoff.max.ms", "200")]);
    assert_eq!(within(20, reporter.send_feedback(&origin(), &Record(10))).await, FeedbackFate::Acknowledged);
    mock.broker_down(1).unwrap();
    let sent = tokio::spawn({
        let reporter = reporter.clone();
        async move { reporter.send_feedback(&origin(), &Record(20)).await }
    });
    // At once when the client says that all brokers are down; it does not always, and then the record's own time-out tells.
    until(60, || !reporter.backlog().stalled_for.is_zero()).await;
    assert_eq!(reporter.backlog().waiting, 1);
    assert!(!sent.is_finished());
    support::mock::broker_up(&mock);
    assert_eq!(within(30, sent).await.unwrap(), FeedbackFate::Acknowledged);
    assert_eq!(reporter.backlog().stalled_for, Duration::ZERO);
    assert_eq!(records(&mock, 2).iter().map(Vec::len).collect::<Vec<_>>(), [10, 20]);
}

/// The leader moves with records on their way, and back: each record is acknowledged, and is in the log.
#[tokio::test]
async fn a_leader_that_moves_costs_no_record() {
    let mock = MockCluster::new(2).unwrap();
    let name = topic("game", APNS);
    mock.create_topic(&name, 1, 1).unwrap();
    mock.partition_leader(&name, 0, Some(1)).unwrap();
    let (reporter, counted) = counted(&mock, &[]);
    let mut sent = Vec::new();
    let mut send = |sizes: std::ops::Range<usize>| {
        sent.extend(sizes.map(|size| {
            let reporter = reporter.clone();
            tokio::spawn(async move { reporter.send_feedback(&origin(), &Record(size)).await })
        }));
    };
    send(1..200);
    until(20, || reporter.backlog().waiting < 100).await;
    send(200..400);
    mock.partition_leader(&name, 0, Some(2)).unwrap();
    send(400..600);
    until(20, || reporter.backlog().waiting < 100).await;
    send(600..700);
    mock.partition_leader(&name, 0, Some(1)).unwrap();
    send(700..800);
    for sent in sent {
        assert_eq!(within(60, sent).await.unwrap(), FeedbackFate::Acknowledged);
    }
    assert_eq!((reporter.backlog().waiting, counted.times(Metric::FeedbackLost)), (0, 0));
    // At least once: what the old leader had taken in the very moment may have been written twice.
    let sizes = |all: &[Vec<u8>]| all.iter().map(Vec::len).collect::<BTreeSet<_>>();
    records_until(&mock, |all| sizes(all) == (1..800).collect());
}

#[tokio::test]
async fn a_record_that_is_not_required_is_lost_after_the_timeout_and_counted() {
    let mock = cluster();
    let reporter = reporter(&mock, &[("feedback.required", "false"), ("feedback.timeout", "1s")]);
    mock.broker_down(1).unwrap();
    assert_eq!(within(20, reporter.send_feedback(&origin(), &Record(10))).await, FeedbackFate::Lost);
    assert_eq!((reporter.backlog().waiting, reporter.backlog().lost), (0, 1));
}

#[tokio::test]
async fn a_record_too_large_for_the_client_goes_truncated() {
    let mock = cluster();
    let (reporter, counted) = counted(&mock, &[("feedback.kafka.options.message.max.bytes", "1000")]);
    assert_eq!(within(20, reporter.send_feedback(&origin(), &Record(5_000))).await, FeedbackFate::Acknowledged);
    assert_eq!(records(&mock, 1), [br#"{"truncated":true}"#.to_vec()]);
    assert_eq!(within(20, reporter.send_feedback(&origin(), &Huge)).await, FeedbackFate::Lost);
    assert_eq!(reporter.backlog().lost, 1);
    assert_eq!((counted.times(Metric::FeedbackTruncated), counted.times(Metric::FeedbackLost)), (2, 1));
}

#[tokio::test]
async fn a_record_too_large_for_the_broker_goes_truncated() {
    let mock = cluster();
    let reporter = reporter(&mock, &[]);
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    // In a batch, where others may be to blame, and by itself.
    mock.request_errors(RDKafkaApiKey::Produce, &[too_large, too_large]);
    assert_eq!(within(20, reporter.send_feedback(&origin(), &Record(5_000))).await, FeedbackFate::Acknowledged);
    assert_eq!(records(&mock, 1), [br#"{"truncated":true}"#.to_vec()]);
}

/// A topic that takes less than a batch refuses all records of it, be each of them small.
#[tokio::test]
async fn records_that_are_too_large_together_go_one_by_one_and_whole() {
    let mock = cluster();
    let (reporter, counted) = counted(&mock, &[("feedback.kafka.linger.ms", "200")]);
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let all: Vec<_> = (1..=50).map(Record).collect();
    let origin = origin();
    let sent = all.iter().map(|record| reporter.send_feedback(&origin, record));
    let fates = within(30, futures_util::future::join_all(sent)).await;
    assert!(fates.iter().all(|fate| *fate == FeedbackFate::Acknowledged));
    let sizes: BTreeSet<_> = records(&mock, 50).iter().map(Vec::len).collect();
    assert_eq!((sizes, counted.times(Metric::FeedbackTruncated)), ((1..=50).collect(), 0));
}

/// The same on a real broker, among records that are too large each: those alone lose what makes them large.
#[test]
fn a_topic_that_takes_less_than_a_batch_gets_every_record_that_fits_whole() {
    let (kafka, app) = (support::kafka(), support::unique("small"));
    let name = topic(&app, APNS);
    kafka.create_topic(&name, 1);
    kafka.set_topic(&name, "max.message.bytes", "2000");
    let (reporter, counted) = reporting_to(&kafka.brokers, &[("feedback.kafka.linger.ms", "100")]);
    let origin = Origin { app: app.as_str().into(), ..origin() };
    let all: Vec<_> = (1_000..1_200).chain([5_000, 6_000]).map(Record).collect();
    let sent = all.iter().map(|record| reporter.send_feedback(&origin, record));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fates = runtime.block_on(within(60, futures_util::future::join_all(sent)));
    assert!(fates.iter().all(|fate| *fate == FeedbackFate::Acknowledged));
    let mut sizes: Vec<_> = kafka.records(&name).iter().map(|record| record.payload.len()).collect();
    sizes.sort_unstable();
    let truncated = Record(0).record(true).len();
    assert_eq!(sizes, [truncated; 2].into_iter().chain(1_000..1_200).collect::<Vec<_>>());
    assert_eq!((counted.times(Metric::FeedbackTruncated), counted.times(Metric::FeedbackLost)), (2, 0));
}

#[tokio::test]
async fn a_fatal_producer_is_built_anew_and_its_records_are_sent_again() {
    let mock = cluster();
    // An idempotent producer that may not have an id is broken for good (librdkafka, rdkafka_idempotence.c).
    mock.request_errors(
        RDKafkaApiKey::InitProducerId,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED],
    );
    let (reporter, counted) = counted(&mock, &[]);
    assert_eq!(within(30, reporter.send_feedback(&origin(), &Record(10))).await, FeedbackFate::Acknowledged);
    assert_eq!(counted.times(Metric::FeedbackProducerRebuilt), 1);
    assert_eq!(records(&mock, 1).len(), 1);
}

/// A producer that stands still is not told apart from one whose broker is away: either is built anew, and the record that
/// waits goes through the new one.
#[tokio::test]
async fn a_producer_that_gets_no_answer_for_long_is_built_anew() {
    let mock = cluster();
    let (reporter, counted) = counted(&mock, &[("feedback.kafka.options.reconnect.backoff.max.ms", "200")]);
    assert_eq!(within(20, reporter.send_feedback(&origin(), &Record(10))).await, FeedbackFate::Acknowledged);
    mock.broker_down(1).unwrap();
    let sent = tokio::spawn({
        let reporter = reporter.clone();
        async move { reporter.send_feedback(&origin(), &Record(20)).await }
    });
    until(90, || counted.times(Metric::FeedbackProducerRebuilt) > 0).await;
    assert!(!sent.is_finished());
    support::mock::broker_up(&mock);
    assert_eq!(within(30, sent).await.unwrap(), FeedbackFate::Acknowledged);
    assert_eq!(reporter.backlog().stalled_for, Duration::ZERO);
    assert_eq!(records(&mock, 2).iter().map(Vec::len).collect::<Vec<_>>(), [10, 20]);
}

#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let mock = cluster();
    let reporter = reporter(&mock, &[("feedback.kafka.options.queue.buffering.max.messages", "3")]);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let reporter = reporter.clone();
            tokio::spawn(async move { reporter.send_feedback(&origin(), &Record(10)).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(within(60, task).await.unwrap(), FeedbackFate::Acknowledged);
    }
}

#[tokio::test]
async fn the_start_finds_a_missing_or_forbidden_topic_and_says_what_mends_it() {
    let mock = cluster();
    let reporter = reporter(&mock, &[]);
    let apps: [(Arc<str>, Platform); 1] = [("game".into(), APNS)];
    let deadline = Duration::from_secs(10);
    let there = looked(&reporter, &apps, deadline).await;
    assert_eq!(there.0, State::Unproved, "this cluster does not say who may write: {}", there.1);
    mock.topic_error(&topic("game", APNS), RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let (state, missing) = looked(&reporter, &apps, deadline).await;
    assert_eq!(state, State::Wrong);
    assert!(missing.contains("kafka-topics.sh --bootstrap-server"), "{missing}");
    assert!(missing.ends_with("--create --topic push-game-apns-feedbacks"), "{missing}");
    mock.topic_error(&topic("game", APNS), RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let (state, forbidden) = looked(&reporter, &apps, deadline).await;
    assert_eq!(state, State::Wrong);
    assert!(forbidden.contains("kafka-acls.sh"), "{forbidden}");
}

#[tokio::test]
async fn a_topic_forbidden_at_run_time_is_waited_for() {
    let mock = cluster();
    let reporter = reporter(&mock, &[("feedback.kafka.options.topic.metadata.refresh.interval.ms", "200")]);
    let name = topic("game", APNS);
    mock.topic_error(&name, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let sent = tokio::spawn({
        let reporter = reporter.clone();
        async move { reporter.send_feedback(&origin(), &Record(20)).await }
    });
    until(20, || !reporter.refused_topics().is_empty()).await;
    assert_eq!(reporter.refused_topics(), [name.as_str()]);
    assert!(!sent.is_finished());
    mock.topic_error(&name, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    assert_eq!(within(40, sent).await.unwrap(), FeedbackFate::Acknowledged);
    assert!(reporter.refused_topics().is_empty());
}

#[tokio::test]
async fn a_broker_that_does_not_answer_does_not_stop_the_start() {
    let mock = cluster();
    let reporter = reporter(&mock, &[]);
    mock.broker_down(1).unwrap();
    let apps: [(Arc<str>, Platform); 1] = [("game".into(), APNS)];
    let (state, away) = within(10, looked(&reporter, &apps, Duration::from_secs(1))).await;
    assert_eq!(state, State::Away, "{away}");
    let reporters = Reporters::new(Stats::default(), [reporter as Arc<dyn FeedbackReporter>], []);
    assert_eq!(within(10, reporters.check(&apps, Duration::from_secs(1))).await, Ok(()));
}

#[tokio::test]
async fn a_flush_says_whether_all_is_acknowledged() {
    let mock = cluster();
    let reporter = reporter(&mock, &[]);
    assert_eq!(within(20, reporter.send_feedback(&origin(), &Record(10))).await, FeedbackFate::Acknowledged);
    assert!(reporter.flush(Duration::from_secs(5)).await);
    mock.broker_down(1).unwrap();
    let _sent = tokio::spawn({
        let reporter = reporter.clone();
        async move { reporter.send_feedback(&origin(), &Record(20)).await }
    });
    until(20, || reporter.backlog().waiting == 1).await;
    assert!(!within(10, reporter.flush(Duration::from_millis(300))).await);
}
