//! librdkafka's side: how the producer is set up, and its callbacks.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};
use tokio::sync::oneshot;

use super::Settings;
use super::state::State;
use crate::kafka_acl;

/// What a record's delivery report says.
pub(super) type Report = Result<(), KafkaError>;

/// How long one poll for reports waits. The crate's poll ends with up to a millisecond of looking again and again, for the
/// client counts in milliseconds: with the 100 ms of its `ThreadedProducer` an idle producer takes a hundredth of a core.
const POLL: Duration = Duration::from_secs(1);

/// The producer with a polling thread of its own, which ends soon after it was dropped.
pub(super) struct Producer {
    client: Arc<BaseProducer<Context>>,
    is_over: Arc<AtomicBool>,
}

impl Producer {
    fn start(client: BaseProducer<Context>) -> std::io::Result<Self> {
        let (client, is_over) = (Arc::new(client), Arc::new(AtomicBool::new(false)));
        let (polled, ended) = (client.clone(), is_over.clone());
        std::thread::Builder::new().name("producer".into()).spawn(move || {
            while !ended.load(Relaxed) {
                polled.poll(POLL);
            }
        })?;
        Ok(Producer { client, is_over })
    }
}

impl Deref for Producer {
    type Target = BaseProducer<Context>;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
    }
}

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
    let client = options(name, settings).create_with_context(Context { state })?;
    Producer::start(client).map_err(|error| KafkaError::ClientCreation(format!("no thread for its reports: {error}")))
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
