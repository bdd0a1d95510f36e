//! Reads the records that are asked for, by hand-assigned partitions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::cli::Peek;
use crate::queue::config::Settings;
use crate::queue::record::redrive_of;
use crate::shutdown::Shutdown;

/// Longest wait for an answer of the brokers.
const CALL: Duration = Duration::from_secs(15);
/// How long to wait for the next record at a time.
const TURN: Duration = Duration::from_millis(100);

/// A record of a push topic.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp_ms: Option<i64>,
    /// What it says to be a redrive of.
    pub(super) redrive_of: Option<i64>,
    pub(super) payload: Bytes,
}

impl From<BorrowedMessage<'_>> for Record {
    fn from(message: BorrowedMessage<'_>) -> Self {
        Record {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            redrive_of: redrive_of(&message),
            payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        }
    }
}

/// The records that are asked for, the oldest first.
pub(super) fn read(queue: &Settings, arguments: &Peek, shutdown: &Shutdown) -> Result<Vec<Record>> {
    let consumer = consumer(queue)?;
    let (topic, count) = (&arguments.topic, i64::from(arguments.count));
    let mut list = TopicPartitionList::new();
    let mut open = BTreeSet::new();
    for partition in partitions(&consumer, arguments)? {
        let ends = consumer.fetch_watermarks(topic, partition, CALL);
        let (low, high) = ends.with_context(|| format!("asking where partition {partition} of {topic} ends"))?;
        let start = arguments.offset.unwrap_or(high - count).max(low);
        if start < high {
            list.add_partition_offset(topic, partition, Offset::Offset(start))?;
            open.insert(partition);
        }
    }
    consumer.assign(&list).context("reading the topic")?;
    let mut records: Vec<Record> = Vec::new();
    let mut heard = Instant::now();
    // From an offset on the first will do; of the last ones each partition may have all.
    let is_enough = |read: &[Record]| arguments.offset.is_some() && read.len() as i64 >= count;
    while !(open.is_empty() || is_enough(&records) || shutdown.has_begun()) {
        match consumer.poll(TURN) {
            None => ensure!(heard.elapsed() < CALL, "nothing could be read from {topic} for {} s", CALL.as_secs()),
            Some(Ok(message)) => records.push(message.into()),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => {
                tracing::debug!(%error, "reading the topic");
                continue;
            }
        }
        if !records.is_empty() {
            heard = Instant::now();
        }
    }
    records.sort_by_key(|record| (record.timestamp_ms, record.partition, record.offset));
    let surplus = records.len().saturating_sub(arguments.count as usize);
    Ok(if arguments.offset.is_some() { records } else { records.split_off(surplus) })
}

/// A group's name is needed to assign by hand; it is not joined, and it is the one that this user may use for sure.
fn consumer(queue: &Settings) -> Result<BaseConsumer> {
    let mut client = ClientConfig::new();
    for (name, value) in &queue.options {
        client.set(name, value);
    }
    client
        .set("bootstrap.servers", &queue.brokers)
        .set("group.id", &queue.group)
        .set("client.id", "pusher-peek")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true");
    client.create().context("creating the consumer")
}

fn partitions(consumer: &BaseConsumer, arguments: &Peek) -> Result<Vec<i32>> {
    let topic = arguments.topic.as_str();
    let metadata = consumer.fetch_metadata(Some(topic), CALL).with_context(|| format!("asking about {topic}"))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let all = found.filter(|found| found.error().is_none()).map_or(0, |found| found.partitions().len() as i32);
    match arguments.partition {
        _ if all == 0 => bail!("there is no topic {topic}, or it may not be read"),
        Some(one) if one >= all => bail!("{topic} has no partition {one}: there are {all}, from 0"),
        Some(one) => Ok(vec![one]),
        None => Ok((0..all).collect()),
    }
}
