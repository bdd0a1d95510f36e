//! librdkafka's side: how the producer is set up, and its callbacks.

use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::Settings;
use super::state::State;
use crate::kafka_acl;

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
        } else {
            self.state.heard(kafka_acl::plain(reason));
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
