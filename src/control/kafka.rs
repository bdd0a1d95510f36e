//! The thread that reads and writes the topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;

use super::orders::{Change, Order, Orders};
use super::state::Applied;
use super::topic;
use super::{Settings, Stage, View};

/// Longest sleep: how late an order is noticed, and the end.
const TURN: Duration = Duration::from_millis(200);
/// The same while an order is being written: its report is waited for.
const SHORT_TURN: Duration = Duration::from_millis(20);
/// Until brokers that are away are asked again, and a topic that is not there is looked for: the first order may be what makes it, and is
/// to be obeyed as soon as any other.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Until brokers that would not let us make the topic are asked to again.
const MAKE_AGAIN: Duration = Duration::from_secs(15);
/// Until a write that failed is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// The one partition.
const PARTITION: i32 = 0;
/// Header of a record that ends an entry: who ended it. Such a record has no value to say it in.
const BY: &str = "by";

/// librdkafka's callbacks.
struct Context(Arc<Orders>);

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka, control topic");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // What matters is told by the records that it concerns, once per change of state.
        tracing::debug!(%error, reason, "control topic");
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Order>;

    fn delivery(&self, result: &DeliveryResult<'_>, order: Box<Order>) {
        if let Err((error, _)) = result {
            tracing::debug!(%error, key = %order.key, "writing an entry");
        }
        self.0.end(*order, result.is_ok());
    }
}

/// What the thread works with.
pub(super) struct Thread {
    settings: Settings,
    client: ClientConfig,
    view: watch::Sender<View>,
    orders: Arc<Orders>,
    stop: Arc<AtomicBool>,
    write_at: Instant,
    overflowed: bool,
}

impl Thread {
    pub(super) fn new(
        settings: Settings,
        view: watch::Sender<View>,
        orders: Arc<Orders>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let mut client = ClientConfig::new();
        client.set("reconnect.backoff.max.ms", "1000").set("ssl.ca.location", "probe");
        for (name, value) in &settings.options {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &settings.brokers).set("client.id", "pusher-control");
        Thread { settings, client, view, orders, stop, write_at: Instant::now(), overflowed: false }
    }

    /// Runs until the last handle is gone.
    pub(super) fn run(mut self) {
        let consumer = match self.consumer() {
            Ok(consumer) => consumer,
            Err(error) => {
                tracing::warn!(%error, "no client for the control topic: valves work in memory; check control.kafka");
                return self.set_stage(Stage::Away(error.to_string()));
            }
        };
        if let Err(error) = self.await_topic(&consumer) {
            return tracing::warn!(%error, "no client for the control topic: valves work in memory");
        }
        self.check_aside();
        let mut producer = None;
        while !self.stop.load(Ordering::Relaxed) {
            self.read(&consumer);
            self.write(&mut producer);
        }
        if let Some(producer) = producer {
            let _ = producer.flush(TURN);
        }
    }

    /// The client library wants a group's name to assign partitions by hand; nothing is joined and nothing is committed.
    fn consumer(&self) -> KafkaResult<BaseConsumer<Context>> {
        let mut client = self.client.clone();
        client
            .set("group.id", &self.settings.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("queued.min.messages", "1000");
        client.create_with_context(Context(self.orders.clone()))
    }

    /// Comes back when the topic is there and assigned, or at the end. Says once that it is not.
    fn await_topic(&self, consumer: &BaseConsumer<Context>) -> KafkaResult<()> {
        let (mut is_told, mut refused) = (false, None::<Instant>);
        while !self.stop.load(Ordering::Relaxed) {
            let may_make = refused.is_none_or(|at| at.elapsed() >= MAKE_AGAIN);
            let stage = match topic::find(&self.settings, may_make.then_some(&self.client), consumer) {
                Ok(()) => {
                    self.set_stage(Stage::Reading);
                    break;
                }
                // What it lacks was said when it was tried.
                Err(Stage::Missing(_)) if !may_make => {
                    self.rest(ASK_AGAIN);
                    continue;
                }
                Err(stage) => stage,
            };
            refused = matches!(stage, Stage::Missing(_)).then(Instant::now);
            if let Stage::Missing(why) | Stage::Away(why) = &stage
                && !std::mem::replace(&mut is_told, true)
                && self.settings.create
            {
                let (topic, error) = (&self.settings.topic, why);
                tracing::warn!(
                    topic,
                    error,
                    "the control topic cannot be used: valves work in memory, and pauses and stopped jobs are not known, until it can"
                );
            }
            self.set_stage(stage);
            self.rest(ASK_AGAIN);
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.settings.topic, PARTITION, Offset::Beginning)?;
        consumer.assign(&list)
    }

    /// On a thread of its own: a broker that does not know the question may be silent for seconds.
    fn check_aside(&self) {
        let (settings, client) = (self.settings.clone(), self.client.clone());
        let check = move || topic::warn_unless_compacted(&settings, &client);
        if !self.settings.create || self.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = std::thread::Builder::new().name("control-check".into()).spawn(check) {
            tracing::debug!(%error, "no thread to look at the control topic's policy");
        }
    }

    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.stop.load(Ordering::Relaxed) && Instant::now() < until {
            std::thread::park_timeout(TURN);
        }
    }

    /// Whatever can be read now, waiting a moment for the first.
    fn read(&mut self, consumer: &BaseConsumer<Context>) {
        let mut wait = if self.orders.are_open() { SHORT_TURN } else { TURN };
        while let Some(read) = consumer.poll(wait) {
            match read {
                Ok(message) => {
                    let (key, value) =
                        (message.key().map(std::str::from_utf8), message.payload().map(std::str::from_utf8));
                    // Anything else is a record that somebody else put there.
                    if let (Some(Ok(key)), Ok(value)) = (key, value.transpose()) {
                        self.apply(key, value, by(&message));
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => self.reached_the_end(),
                // The client goes on trying, and nothing depends on it meanwhile.
                Err(error) => tracing::debug!(%error, "reading the control topic"),
            }
            wait = Duration::ZERO;
        }
    }

    fn apply(&mut self, key: &str, value: Option<&str>, by: Option<&str>) {
        self.view.send_if_modified(|view| {
            let state = Arc::make_mut(&mut view.state);
            let applied = if value.is_some() { state.apply(key, value) } else { state.end(key, by) };
            if applied == Applied::Refused && !std::mem::replace(&mut self.overflowed, true) {
                tracing::error!(alarm = true, key, "the control topic holds more, or longer, entries than are kept");
            }
            // Nobody acts on a part of what was there at the start.
            applied == Applied::Changed && view.stage == Stage::Complete
        });
    }

    fn reached_the_end(&self) {
        if self.view.borrow().stage != Stage::Complete {
            tracing::info!(topic = self.settings.topic, "the control topic is read and followed");
            self.set_stage(Stage::Complete);
        }
    }

    fn set_stage(&self, stage: Stage) {
        self.view.send_modify(|view| view.stage = stage);
    }

    /// Gives what was set to the producer, and learns what became of what was given before.
    fn write(&mut self, producer: &mut Option<BaseProducer<Context>>) {
        if let Some(producer) = producer {
            producer.poll(Duration::ZERO);
        }
        if self.orders.take_failure() {
            self.write_at = Instant::now() + WRITE_AGAIN;
        }
        // Before all is read, who sets may not know what was decided.
        if Instant::now() < self.write_at || self.view.borrow().stage != Stage::Complete {
            return;
        }
        let orders = self.orders.begin();
        if orders.is_empty() {
            return;
        }
        match self.producer(producer) {
            Ok(producer) => orders.into_iter().for_each(|order| self.send(producer, order)),
            Err(error) => {
                tracing::debug!(%error, "a producer for the control topic");
                for order in orders {
                    self.orders.end(order, false);
                }
            }
        }
    }

    fn producer<'a>(&self, producer: &'a mut Option<BaseProducer<Context>>) -> KafkaResult<&'a BaseProducer<Context>> {
        if let Some(producer) = producer {
            return Ok(producer);
        }
        let mut client = self.client.clone();
        client.set("acks", "all").set("message.timeout.ms", "10000").set("max.in.flight", "1").set("linger.ms", "0");
        Ok(producer.insert(client.create_with_context(Context(self.orders.clone()))?))
    }

    fn send(&self, producer: &BaseProducer<Context>, order: Order) {
        let (key, change) = (order.key.clone(), order.change.clone());
        let mut record: BaseRecord<'_, str, str, Box<Order>> =
            BaseRecord::with_opaque_to(&self.settings.topic, Box::new(order)).key(&*key).partition(PARTITION);
        record = match &change {
            Change::Value(value) => record.payload(value),
            Change::End(by) => record.headers(OwnedHeaders::new().insert(Header { key: BY, value: Some(&**by) })),
        };
        if let Err((error, record)) = producer.send(record) {
            tracing::debug!(%error, "writing an entry");
            self.orders.end(*record.delivery_opaque, false);
        }
    }
}

/// Who ended an entry, as the record says.
fn by<'a>(message: &'a BorrowedMessage<'_>) -> Option<&'a str> {
    let header = message.headers()?.iter().find(|header| header.key == BY)?;
    std::str::from_utf8(header.value?).ok()
}
