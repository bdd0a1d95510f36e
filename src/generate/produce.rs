//! Produces generated lines to Kafka, at a rate, with a bounded buffer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

/// How long a broker may take to accept everything at the end.
const FLUSH: Duration = Duration::from_mins(1);

/// Writes lines to one topic.
pub struct LineProducer {
    producer: BaseProducer,
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
            .set("linger.ms", "20")
            .set("compression.type", "lz4")
            .create()
            .context("creating the producer")?;
        Ok(LineProducer { producer, topic: topic.to_owned(), rate, started: Instant::now(), sent: 0 })
    }

    /// Lines handed over so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Hands one line over, when its time has come and the buffer has room.
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
        Ok(())
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
            .with_context(|| format!("the brokers did not take everything for {} within 60 s", self.topic))
    }
}

impl std::fmt::Debug for LineProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineProducer").field("topic", &self.topic).field("sent", &self.sent).finish_non_exhaustive()
    }
}
