//! librdkafka's side: how the producer is set up, its callbacks, and the check at start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::state::State;
use super::{Kind, Settings};
use crate::reporters::CheckError;

/// What a record's delivery report says.
pub(super) type Report = Result<(), KafkaError>;

/// The producer with a polling thread of its own.
pub(super) type Producer = ThreadedProducer<Context>;

/// Where the producer's events go. Called on its polling thread: short.
pub(super) struct Context {
    state: Arc<State>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(Code::AllBrokersDown) {
            self.state.unreachable(code);
        }
        // Others are told by the reports of the records that they concern.
        tracing::debug!(?code, reason, "producer of records");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<oneshot::Sender<Report>>;

    fn delivery(&self, result: &DeliveryResult<'_>, report: Self::DeliveryOpaque) {
        self.state.made_room();
        // Nobody waits any more when the record was given up or the process is ending.
        let _ = report.send(match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.clone()),
        });
    }
}

/// A new producer; it begins to connect.
pub(super) fn create(name: &str, settings: &Settings, state: Arc<State>) -> KafkaResult<Producer> {
    options(name, settings).create_with_context(Context { state })
}

/// Whether the client library knows and takes the options.
pub(super) fn try_options(name: &str, settings: &Settings) -> KafkaResult<()> {
    options(name, settings).create_native_config().map(drop)
}

fn options(name: &str, settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    // Bounds, overridable: what is lent is bounded before records come here, so these only catch the unexpected.
    config.set("queue.buffering.max.messages", "100000").set("queue.buffering.max.kbytes", "65536");
    // A new topic is found, and a missing one told, soon.
    config.set("topic.metadata.propagation.max.ms", "5000").set("reconnect.backoff.max.ms", "2000");
    config.set("client.id", format!("pusher-{}", name.replace(' ', "-")));
    for (name, value) in &settings.options {
        config.set(name, value);
    }
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", settings.linger_ms.to_string())
        .set("batch.size", settings.batch_bytes.to_string())
        .set("message.timeout.ms", settings.message_timeout().as_millis().to_string());
    config
}

/// Whether the topics are there and may be seen, asking the broker to create missing ones where it does that by itself
/// (`auto.create.topics.enable`). A broker that does not answer is no error: offsets will wait, and the log says so.
/// Blocks; `deadline` bounds it.
pub(super) fn check(
    kind: &Kind,
    producer: &Producer,
    topics: &[String],
    brokers: &str,
    deadline: Duration,
) -> Result<(), CheckError> {
    let end = Instant::now() + deadline;
    for topic in topics {
        let mut asked = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            let code = match producer.client().fetch_metadata(Some(topic), left) {
                Ok(metadata) => {
                    metadata.topics().first().and_then(rdkafka::metadata::MetadataTopic::error).map(Code::from)
                }
                Err(KafkaError::MetadataFetch(code)) => Some(code),
                Err(_) => None,
            };
            asked += 1;
            match code {
                None => break,
                Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                    return Err(forbidden(kind, topic, brokers));
                }
                // The broker creates a topic after it has answered that there is none.
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::InvalidTopic) if asked >= 5 => {
                    return Err(missing(kind, topic, brokers));
                }
                Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::LeaderNotAvailable)
                    if Instant::now() < end =>
                {
                    std::thread::park_timeout(Duration::from_millis(200));
                }
                Some(code) => {
                    let records = kind.name;
                    tracing::warn!(
                        records,
                        brokers,
                        ?code,
                        "the broker does not answer: topics of records are not checked"
                    );
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn missing(kind: &Kind, topic: &str, brokers: &str) -> CheckError {
    let Kind { name, or_else, .. } = kind;
    CheckError(format!(
        "the {name} topic {topic} does not exist{or_else}; create it: kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic}"
    ))
}

fn forbidden(kind: &Kind, topic: &str, brokers: &str) -> CheckError {
    let Kind { name, or_else, .. } = kind;
    CheckError(format!(
        "the {name} topic {topic} may not be described or written{or_else}; grant it: kafka-acls.sh --bootstrap-server {brokers} --add \
         --allow-principal User:<us> --producer --topic {topic}"
    ))
}
