//! librdkafka's mock cluster: a Kafka in this process, with levers. It keeps 5 MiB per partition and drops what is older.
#![expect(
    unsafe_code,
    reason = "the crate does not wrap the lever that makes groups form at once, nor the one that delays answers, nor metadata that is no text"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::bindings::{
    rd_kafka_handle_mock_cluster, rd_kafka_mem_malloc, rd_kafka_mock_broker_push_request_error_rtts,
    rd_kafka_mock_group_initial_rebalance_delay_ms,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};

const REQUEST: Duration = Duration::from_secs(20);
/// The default of `control.topic`.
const CONTROL: &str = "pusher-control";
/// How long a new group waits for more members: Kafka's 3 s would be most of a test's time.
const GROUP_DELAY_MS: i32 = 100;

/// Brings the only broker of a cluster up again. librdkafka aborts the process when it cannot have the broker's port back,
/// and a client that knocks at a closed port of the ephemeral range may by chance be given that very port: so wait until
/// it is free.
pub(crate) fn broker_up<C: rdkafka::ClientContext>(cluster: &MockCluster<'_, C>) {
    let address = cluster.bootstrap_servers();
    super::eventually("the broker's port is free", REQUEST, || std::net::TcpListener::bind(&address).ok());
    cluster.broker_up(1).expect("up");
}

/// A cluster, of one broker unless said otherwise, and a producer for it.
pub(crate) struct Mock {
    producer: BaseProducer,
    /// The bootstrap address.
    pub(crate) brokers: String,
}

impl Mock {
    /// A cluster with these topics (name, partitions), and the one that the levers are kept in: this broker makes none itself.
    pub(crate) fn start(topics: &[(&str, i32)]) -> Mock {
        Mock::of_brokers(1, topics)
    }

    /// The same with so many brokers. Who leads what is to be said: see [`Mock::cluster`].
    pub(crate) fn of_brokers(brokers: i32, topics: &[(&str, i32)]) -> Mock {
        let producer: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", brokers.to_string())
            .set("linger.ms", "1")
            // A broker that was down for long is found again soon.
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .expect("a mock cluster");
        // SAFETY: the client lives, and was created with a mock cluster, which lives as long.
        unsafe {
            let cluster = rd_kafka_handle_mock_cluster(producer.client().native_ptr());
            assert!(!cluster.is_null());
            rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, GROUP_DELAY_MS);
        }
        let brokers = producer.client().mock_cluster().expect("its cluster").bootstrap_servers();
        let mock = Mock { producer, brokers };
        if !topics.iter().any(|(topic, _)| *topic == CONTROL) {
            mock.create_topic(CONTROL, 1);
        }
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions);
        }
        mock
    }

    /// The next commit that a broker gets is answered after so long.
    pub(crate) fn delay_commit(&self, broker: i32, by: Duration) {
        // SAFETY: as above; one pair of an error and a time, in ms, follows.
        let done = unsafe {
            let cluster = rd_kafka_handle_mock_cluster(self.producer.client().native_ptr());
            let commit = RDKafkaApiKey::OffsetCommit as i16;
            rd_kafka_mock_broker_push_request_error_rtts(cluster, broker, commit, 1, 0, by.as_millis() as i32)
        };
        assert_eq!(done, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    }

    /// The levers.
    pub(crate) fn cluster(&self) -> MockCluster<'_, DefaultProducerContext> {
        self.producer.client().mock_cluster().expect("its cluster")
    }

    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) {
        self.cluster().create_topic(topic, partitions, 1).expect("a new topic");
    }

    /// Appends records and waits until they are in the log.
    pub(crate) fn produce<P: AsRef<[u8]>>(&self, topic: &str, partition: i32, payloads: impl IntoIterator<Item = P>) {
        payloads.into_iter().for_each(|payload| self.append(topic, partition, payload));
        self.flush();
    }

    /// Gives one record to the producer.
    pub(crate) fn append(&self, topic: &str, partition: i32, payload: impl AsRef<[u8]>) {
        let record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(payload.as_ref());
        self.producer.send(record).map_err(|(error, _)| error).expect("room in the producer");
    }

    /// The same with a header.
    pub(crate) fn append_with(&self, topic: &str, partition: i32, payload: &str, (key, value): (&str, &str)) {
        let headers = OwnedHeaders::new().insert(Header { key, value: Some(value) });
        let record = BaseRecord::<(), str>::to(topic).partition(partition).headers(headers).payload(payload);
        self.producer.send(record).map_err(|(error, _)| error).expect("room in the producer");
    }

    /// Waits until all records are in the log.
    pub(crate) fn flush(&self) {
        self.producer.flush(REQUEST).expect("all records in the log");
    }

    /// First offset of a partition and the one after its last.
    pub(crate) fn ends(&self, topic: &str, partition: i32) -> (i64, i64) {
        self.consumer("ends").fetch_watermarks(topic, partition, REQUEST).expect("watermarks")
    }

    /// What a group has committed: offset and metadata.
    pub(crate) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<(i64, String)> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let answer = self.consumer(group).committed_offsets(list, REQUEST).expect("committed offsets");
        let element = answer.find_partition(topic, partition).expect("an answer");
        element.offset().to_raw().filter(|offset| *offset >= 0).map(|offset| (offset, element.metadata().to_owned()))
    }

    /// Commits as a group that has no member at present.
    pub(crate) fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
        list.find_partition(topic, partition).expect("it").set_metadata(metadata);
        self.consumer(group).commit(&list, CommitMode::Sync).expect("a commit");
    }

    /// The same with metadata of any bytes, as other programs may write them.
    pub(crate) fn commit_bytes(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &[u8]) {
        let (mut list, consumer) = (TopicPartitionList::new(), self.consumer(group));
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
        // SAFETY: the list has one element, which owns its metadata and frees it as librdkafka allocates.
        unsafe {
            let element = &mut *(*list.ptr()).elems;
            element.metadata = rd_kafka_mem_malloc(consumer.client().native_ptr(), metadata.len());
            std::ptr::copy_nonoverlapping(metadata.as_ptr(), element.metadata.cast(), metadata.len());
            element.metadata_size = metadata.len();
        }
        consumer.commit(&list, CommitMode::Sync).expect("a commit");
    }

    /// The payloads of a partition, from its first record to its present end.
    pub(crate) fn records(&self, topic: &str, partition: i32) -> Vec<Vec<u8>> {
        self.read(topic, partition, |record| record.payload().unwrap_or_default().to_vec())
    }

    /// The same with the headers of each.
    pub(crate) fn with_headers(&self, topic: &str, partition: i32) -> Vec<(Vec<u8>, BTreeMap<String, String>)> {
        self.read(topic, partition, |record| {
            let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).expect("text");
            let headers = record.headers().into_iter().flat_map(Headers::iter);
            let headers = headers.map(|header| (header.key.to_owned(), text(header.value))).collect();
            (record.payload().unwrap_or_default().to_vec(), headers)
        })
    }

    fn read<T>(&self, topic: &str, partition: i32, take: impl Fn(&BorrowedMessage<'_>) -> T) -> Vec<T> {
        let (consumer, mut from) = (self.consumer("records"), TopicPartitionList::new());
        from.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        consumer.assign(&from).expect("an assignment");
        let (low, high) = self.ends(topic, partition);
        (low..high).map(|_| take(&consumer.poll(REQUEST).expect("the next record").expect("a record"))).collect()
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        ClientConfig::new().set("bootstrap.servers", &self.brokers).set("group.id", group).create().expect("a consumer")
    }
}
