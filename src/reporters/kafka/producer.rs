//! librdkafka's side: how the producer is set up, and its callbacks.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::given::Given;
use super::next::Next;
use super::state::State;
use super::{REPORT_GRACE, Settings};
use crate::kafka_acl;

/// How often it is looked for records whose report does not come; meanwhile a poll waits for reports. The crate's poll ends with up
/// to a millisecond of looking again and again, for the client counts in milliseconds: with the 100 ms of its `ThreadedProducer` an idle
/// producer takes a hundredth of a core.
const LOOK: Duration = Duration::from_secs(3);

/// The producer with a polling thread of its own, which ends soon after it was dropped.
pub(super) struct Producer {
    client: Arc<BaseProducer<Context>>,
    is_over: Arc<AtomicBool>,
}

impl Producer {
    /// `limit` bounds how long a report may take.
    fn start(client: BaseProducer<Context>, limit: Duration) -> std::io::Result<Self> {
        let (client, is_over) = (Arc::new(client), Arc::new(AtomicBool::new(false)));
        let (polled, ended, most) = (client.clone(), is_over.clone(), limit.as_secs().div_ceil(LOOK.as_secs()) as u32);
        std::thread::Builder::new().name("producer".into()).spawn(move || {
            while !ended.load(Relaxed) {
                polled.poll(LOOK);
                polled.context().look(most);
            }
        })?;
        Ok(Producer { client, is_over })
    }

    /// What it has not reported on.
    pub(super) fn given(&self) -> &Given {
        &self.client.context().given
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

/// Where the producer's events go. Called on its polling thread, and at its end on whichever flushes or drops it: short.
pub(super) struct Context {
    state: Arc<State>,
    given: Given,
}

impl Context {
    /// Looks for records whose report does not come.
    fn look(&self, most: u32) {
        if self.given.look(most) {
            self.state.unreachable(None, None);
        }
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(Code::AllBrokersDown) {
            self.state.unreachable(None, code);
        } else {
            self.state.heard(kafka_acl::plain(reason));
        }
        // Others are told by the reports of the records that they concern.
        tracing::debug!(?code, reason, "producer of records");
    }
}

impl ProducerContext for Context {
    /// Its number in [`Given`].
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        self.state.made_room();
        let waiter = self.given.leave(number);
        let report = match result {
            Ok(record) => {
                self.state.acknowledged(record.topic());
                Ok(())
            }
            Err((error, record)) => {
                // Told here, for who posted a record hears only that it is not acknowledged.
                let code = error.rdkafka_error_code();
                if Next::after(code) == Next::Again && waiter.is_some() {
                    self.state.unreachable(Some(record.topic()), code);
                }
                Err(error.clone())
            }
        };
        if let Some(waiter) = waiter {
            waiter.tell(report);
        }
    }
}

/// A new producer; it begins to connect.
pub(super) fn create(name: &str, settings: &Settings, state: Arc<State>) -> KafkaResult<Producer> {
    let client = options(name, settings).create_with_context(Context { state, given: Given::default() })?;
    Producer::start(client, settings.message_timeout() + REPORT_GRACE)
        .map_err(|error| KafkaError::ClientCreation(format!("no thread for its reports: {error}")))
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
