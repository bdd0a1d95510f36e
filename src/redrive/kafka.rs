//! Kafka's side: letters are read, republished and noted as done in one transaction.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::letter::{Letter, Raw};
use super::progress::{Commit, Extent};
use crate::message::REDRIVE_OF;

/// Longest wait for an answer of the brokers.
const CALL: Duration = Duration::from_secs(30);
/// Longest wait for one step of a transaction, below its own timeout.
const STEP: Duration = Duration::from_secs(10);

/// Where the letters are, and how to get there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) brokers: String,
    /// librdkafka's options of the connection.
    pub(super) options: Vec<(String, String)>,
    /// The topic of the letters.
    pub(super) topic: String,
    /// The group that progress is kept in; the name of the transactions too, so that a second run ends the first.
    pub(super) group: String,
}

impl Place {
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("reconnect.backoff.max.ms", "1000").set("ssl.ca.location", "probe");
        for (name, value) in &self.options {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.brokers).set("client.id", "pusher-redrive");
        client
    }
}

/// What comes next from the topic of the letters.
pub(super) enum Read {
    Letter(Raw),
    /// A partition has no more for now.
    End(i32),
    /// Nothing yet.
    Nothing,
}

/// Reads the letters.
pub(super) struct Reader {
    consumer: BaseConsumer,
    topic: String,
    /// How many partitions each push topic has that was asked about; 0: there is none.
    partitions: HashMap<String, i32>,
}

impl Reader {
    pub(super) fn open(place: &Place) -> Result<Reader> {
        let mut client = place.client();
        client
            .set("group.id", &place.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed");
        let consumer = client.create().context("creating the consumer")?;
        Ok(Reader { consumer, topic: place.topic.clone(), partitions: HashMap::new() })
    }

    /// Partitions of a topic; 0 when it is not there.
    fn count(&self, topic: &str) -> Result<i32> {
        let metadata =
            self.consumer.fetch_metadata(Some(topic), CALL).with_context(|| format!("asking about {topic}"))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let is_there = found.filter(|found| found.error().is_none());
        Ok(is_there.map_or(0, |found| found.partitions().len() as i32))
    }

    /// What there is, and what the group has committed of it.
    pub(super) fn extents(&self) -> Result<Vec<Extent>> {
        let topic = &self.topic;
        let count = self.count(topic)?;
        if count == 0 {
            bail!("there is no topic {topic}, or it may not be read: no dead letters");
        }
        let mut asked = TopicPartitionList::new();
        for partition in 0..count {
            asked.add_partition(topic, partition);
        }
        let committed =
            self.consumer.committed_offsets(asked, CALL).context("asking what earlier runs have redriven")?;
        let of = |partition: i32| {
            let (low, high) = self
                .consumer
                .fetch_watermarks(topic, partition, CALL)
                .with_context(|| format!("asking where partition {partition} of {topic} ends"))?;
            let committed = committed.find_partition(topic, partition).and_then(|found| match found.offset() {
                Offset::Offset(offset) => Some((offset, found.metadata().to_owned())),
                _ => None,
            });
            Ok(Extent { partition, low, high, committed })
        };
        (0..count).map(of).collect()
    }

    pub(super) fn begin(&self, starts: &[(i32, i64)]) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in starts {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        self.consumer.assign(&list).context("reading from where the last run ended")
    }

    pub(super) fn next(&self, wait: Duration) -> Result<Read> {
        let message = match self.consumer.poll(wait) {
            None => return Ok(Read::Nothing),
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(partition))) => return Ok(Read::End(partition)),
            Some(Err(KafkaError::MessageConsumption(Code::AutoOffsetReset))) => {
                bail!("letters ran out of their retention while they were read: run it again")
            }
            // The client goes on trying; who waits for too long gives up.
            Some(Err(error)) => {
                tracing::debug!(%error, "reading dead letters");
                return Ok(Read::Nothing);
            }
        };
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        Ok(Read::Letter(Raw {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            headers: headers.map(|header| (header.key.to_owned(), text(header.value))).collect(),
            payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        }))
    }

    /// Whether the partition that a letter came from is there.
    pub(super) fn has_place(&mut self, letter: &Letter) -> Result<bool> {
        if !self.partitions.contains_key(&letter.topic) {
            let count = self.count(&letter.topic)?;
            self.partitions.insert(letter.topic.clone(), count);
        }
        Ok(self.partitions.get(&letter.topic).is_some_and(|count| letter.partition < *count))
    }

    fn group(&self) -> Result<ConsumerGroupMetadata> {
        self.consumer.group_metadata().ok_or_else(|| anyhow!("the consumer has no group"))
    }
}

/// Republishes letters, each batch in a transaction with the note that it was.
pub(super) struct Writer {
    producer: BaseProducer,
    group: String,
}

impl Writer {
    /// Ends the transaction of a run that was killed, and a run that is still under way.
    pub(super) fn open(place: &Place) -> Result<Writer> {
        let mut client = place.client();
        client
            .set("transactional.id", &place.group)
            // What lies behind an open transaction in a push topic waits for its end: not for long, if this process is killed.
            .set("transaction.timeout.ms", "15000")
            .set("compression.type", "lz4")
            // What the letters' topic took is for the push topic's broker to judge.
            .set("message.max.bytes", "100000000");
        let producer: BaseProducer = client.create().context("creating the producer")?;
        let writer = Writer { producer, group: place.group.clone() };
        writer.producer.init_transactions(CALL).map_err(|error| writer.explained(&error)).with_context(|| {
            format!("beginning transactions as {} (needed: Write on this transactional id and group)", writer.group)
        })?;
        Ok(writer)
    }

    /// All of it, or nothing.
    pub(super) fn publish(&self, letters: &[Letter], commit: &[Commit], reader: &Reader) -> Result<()> {
        let published = self.try_publish(letters, commit, reader);
        if published.is_err() {
            // Best effort: the next run's beginning does the same.
            let _ = self.producer.abort_transaction(CALL);
        }
        published.context("the last batch was not redriven, all before it were: run it again")
    }

    fn try_publish(&self, letters: &[Letter], commit: &[Commit], reader: &Reader) -> Result<()> {
        let explained = |error: KafkaError| self.explained(&error);
        self.producer.begin_transaction().map_err(explained)?;
        for letter in letters {
            let of = letter.redrive_of();
            let headers = OwnedHeaders::new().insert(Header { key: REDRIVE_OF, value: Some(&of) });
            let record: BaseRecord<'_, (), [u8]> =
                BaseRecord::to(&letter.topic).partition(letter.partition).headers(headers).payload(&letter.payload);
            self.producer.send(record).map_err(|(error, _)| self.explained(&error))?;
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, offset, map) in commit {
            offsets.add_partition_offset(&reader.topic, *partition, Offset::Offset(*offset))?;
            if let Some(mut element) = offsets.find_partition(&reader.topic, *partition) {
                element.set_metadata(map);
            }
        }
        self.producer.send_offsets_to_transaction(&offsets, &reader.group()?, STEP).map_err(explained)?;
        self.producer.flush(STEP).map_err(explained)?;
        self.producer.commit_transaction(STEP).map_err(explained)
    }

    fn explained(&self, error: &KafkaError) -> anyhow::Error {
        match self.producer.client().fatal_error() {
            Some((Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch, _)) => {
                anyhow!("another redrive of these letters has begun and goes on with them")
            }
            Some((_, text)) => anyhow!(text),
            None => anyhow!("{error}"),
        }
    }
}
