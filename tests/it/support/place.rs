//! An app with a topic and a group of its own on the real Kafka, for tests of the queue.

use std::time::{Duration, SystemTime};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::reader::{LONG, Reader};
use super::{eventually, kafka, unique, wait_for};

/// See the module.
pub(crate) struct Place {
    pub(crate) app: String,
    /// `push-<app>_apns-single`.
    pub(crate) topic: String,
    pub(crate) group: String,
    producer: BaseProducer,
}

impl Place {
    pub(crate) fn new(partitions: i32) -> Place {
        let app = unique("queue");
        let producer = kafka().config().set("linger.ms", "1").create().expect("a producer");
        let place = Place { topic: format!("push-{app}_apns-single"), group: unique("group"), app, producer };
        create(&place.topic, partitions);
        place
    }

    pub(crate) fn reader(&self, more: &[(&str, &str)], messages: usize) -> Reader {
        let group = [("queue.group", self.group.as_str())];
        let pairs: Vec<_> = group.iter().chain(more).copied().collect();
        Reader::new(&kafka().brokers, &[&self.app], &pairs, messages)
    }

    pub(crate) fn produce(&self, partition: i32, n: usize) {
        self.produce_to(&self.topic, partition, n);
    }

    pub(crate) fn produce_to(&self, topic: &str, partition: i32, n: usize) {
        (0..n).for_each(|_| self.append(topic, partition, Duration::ZERO));
        self.producer.flush(LONG).expect("all records in the log");
    }

    /// The same with records that were made so long ago.
    pub(crate) fn produce_old(&self, topic: &str, partition: i32, n: usize, age: Duration) {
        (0..n).for_each(|_| self.append(topic, partition, age));
        self.producer.flush(LONG).expect("all records in the log");
    }

    /// Records of these times, ms since the epoch.
    pub(crate) fn produce_at(&self, partition: i32, times: impl Iterator<Item = i64>) {
        times.for_each(|time| self.append_at(&self.topic, partition, time));
        self.producer.flush(LONG).expect("all records in the log");
    }

    /// Gives one record to the producer.
    pub(crate) fn append(&self, topic: &str, partition: i32, age: Duration) {
        self.append_at(topic, partition, made_before(age));
    }

    fn append_at(&self, topic: &str, partition: i32, time_ms: i64) {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).timestamp(time_ms).payload("push");
        self.producer.send(record).map_err(|(error, _)| error).expect("room in the producer");
        self.producer.poll(Duration::ZERO);
    }

    /// Records of one transaction, which leaves its mark behind them.
    pub(crate) fn produce_at_once(&self, partition: i32, n: usize) {
        let producer: BaseProducer =
            kafka().config().set("transactional.id", unique("transaction")).create().expect("a producer");
        producer.init_transactions(LONG).expect("a coordinator");
        producer.begin_transaction().expect("a transaction");
        for _ in 0..n {
            let record = BaseRecord::<(), str>::to(&self.topic).partition(partition).payload("push");
            producer.send(record).map_err(|(error, _)| error).expect("room in the producer");
        }
        producer.commit_transaction(LONG).expect("its end");
    }

    /// What is committed for partition 0.
    pub(crate) fn committed(&self) -> (Option<i64>, String) {
        let committed = kafka().committed(&self.group, &self.topic).swap_remove(0);
        (committed.offset, committed.metadata)
    }

    /// Commits for partition 0 as a group without members.
    pub(crate) fn commit(&self, offset: i64, metadata: &str) {
        let consumer: BaseConsumer = kafka().config().set("group.id", &self.group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(offset)).expect("a valid offset");
        list.find_partition(&self.topic, 0).expect("it").set_metadata(metadata);
        consumer.commit(&list, CommitMode::Sync).expect("a commit");
    }
}

/// The timestamp of a record that was made so long ago.
pub(crate) fn made_before(age: Duration) -> i64 {
    let then = SystemTime::now().checked_sub(age).expect("after 1970");
    then.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Creates a topic.
pub(crate) fn create(topic: &str, partitions: i32) {
    kafka().create_topic(topic, partitions);
}

/// Deletes a topic and waits until it is gone.
pub(crate) fn delete(topic: &str) {
    let admin: AdminClient<DefaultClientContext> = kafka().config().create().expect("an admin client");
    let deleted = wait_for(async { admin.delete_topics(&[topic], &AdminOptions::new()).await });
    deleted.expect("an answer").remove(0).map_err(|(_, error)| error).expect("a topic less");
    let client: BaseConsumer = kafka().config().set("group.id", "delete").create().expect("a consumer");
    eventually("the topic's end", LONG, || {
        let topics = client.fetch_metadata(None, LONG).ok()?;
        topics.topics().iter().all(|left| left.name() != topic).then_some(())
    });
}
