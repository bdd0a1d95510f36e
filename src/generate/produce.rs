//! Produces generated lines to Kafka, at a rate, with a bounded buffer.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};

/// How long a broker may take to accept everything at the end.
const FLUSH: Duration = Duration::from_mins(1);

/// Hears what became of each line; keeps the first refusal.
#[derive(Default)]
struct Refusals(OnceLock<KafkaError>);

impl ClientContext for Refusals {}

impl ProducerContext for Refusals {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = delivered {
            let _ = self.0.set(error.clone()); // refused: there is a first one
        }
    }
}

/// Writes lines to one topic.
pub struct LineProducer {
    producer: BaseProducer<Refusals>,
    topic: String,
    rate: Option<u32>,
    started: Instant,
    sent: u64,
}

impl LineProducer {
    /// For `topic` at `brokers` (comma-separated), at most `rate` lines a second.
    pub fn new(brokers: &str, topic: &str, rate: Option<u32>) -> Result<LineProducer> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("linger.ms", if rate.is_some() { "5" } else { "20" })
            .set("compression.type", "lz4")
            // By default, a fast producer fills one partition for 10 ms, which is some megabytes, and then another one.
            .set("sticky.partitioning.linger.ms", "0")
            .create_with_context(Refusals::default())
            .context("creating the producer")?;
        Ok(LineProducer { producer, topic: topic.to_owned(), rate, started: Instant::now(), sent: 0 })
    }

    /// Lines handed over so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Hands one line over, when its time has come and the buffer has room. Fails as well when the brokers have refused an
    /// earlier one.
    pub fn send(&mut self, line: &[u8]) -> Result<()> {
        self.keep_pace();
        let mut record = BaseRecord::<(), [u8]>::to(&self.topic).payload(line);
        loop {
            record = match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => refused,
                Err((error, _)) => return Err(error).with_context(|| format!("producing to {}", self.topic)),
            };
            self.producer.poll(Duration::from_millis(20));
        }
        self.producer.poll(Duration::ZERO);
        self.sent += 1;
        self.check()
    }

    fn keep_pace(&self) {
        let Some(rate) = self.rate else { return };
        let due = self.started + Duration::from_secs_f64(self.sent as f64 / f64::from(rate.max(1)));
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.producer.poll(left);
        }
    }

    /// Waits until the brokers have everything.
    pub fn flush(&self) -> Result<()> {
        self.producer
            .flush(FLUSH)
            .with_context(|| format!("the brokers did not take everything for {} within 60 s", self.topic))?;
        self.check()
    }

    fn check(&self) -> Result<()> {
        match self.producer.context().0.get() {
            Some(error) => bail!("the brokers refused a message for {}: {error}", self.topic),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for LineProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineProducer").field("topic", &self.topic).field("sent", &self.sent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    const TOPIC: &str = "push-game_apns-single";

    fn cluster(partitions: i32) -> MockCluster<'static, DefaultProducerContext> {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, partitions, 1).unwrap();
        cluster
    }

    #[test]
    fn a_line_that_the_brokers_refuse_is_an_error() {
        let cluster = cluster(1);
        let mut producer = LineProducer::new(&cluster.bootstrap_servers(), TOPIC, None).unwrap();
        producer.send(b"{}").unwrap();
        producer.flush().unwrap();
        let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        cluster.request_errors(RDKafkaApiKey::Produce, &[refused]);
        producer.send(b"{}").unwrap();
        let error = producer.flush().unwrap_err().to_string();
        assert!(error.contains(TOPIC) && error.contains("authorization"), "{error}");
    }

    #[test]
    fn a_fast_producer_fills_all_partitions_alike() {
        let cluster = cluster(8);
        let brokers = cluster.bootstrap_servers();
        let mut producer = LineProducer::new(&brokers, TOPIC, None).unwrap();
        (0..8_000).for_each(|_| producer.send(b"{}").unwrap());
        producer.flush().unwrap();
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
        for partition in 0..8 {
            let end = client.fetch_watermarks(TOPIC, partition, FLUSH).unwrap().1;
            assert!((750..1_250).contains(&end), "partition {partition} has {end}: 1000 on average, 30 more or less");
        }
    }
}
