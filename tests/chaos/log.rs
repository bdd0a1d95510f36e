//! Kafka's side of the books: the records of a topic, each once, and what a group has committed. The clients live through
//! restarts of the broker.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

/// How long one answer or record may take.
const REQUEST: Duration = Duration::from_mins(1);
/// How long a look may take that is repeated.
const LOOK: Duration = Duration::from_secs(5);

/// Reads a topic, at each look as far as it goes.
pub(crate) struct Log {
    consumer: BaseConsumer,
    topic: String,
    /// Each partition's next offset.
    next: Vec<i64>,
}

/// A record's place and value.
pub(crate) struct Record<'a> {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// When it was produced, Unix ms.
    pub(crate) at_ms: i64,
    pub(crate) value: &'a [u8],
}

impl Log {
    /// From these offsets on, one of each partition.
    pub(crate) fn open(brokers: &str, topic: &str, next: Vec<i64>) -> Log {
        Log { consumer: client(brokers, "chaos"), topic: topic.to_owned(), next }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// The records that have come since the last look.
    pub(crate) fn read(&mut self, mut each: impl FnMut(Record<'_>)) {
        let ends: Vec<i64> = (0..self.next.len() as i32).map(|partition| self.end(partition)).collect();
        let mut from = TopicPartitionList::new();
        for (partition, next) in self.next.iter().enumerate() {
            from.add_partition_offset(&self.topic, partition as i32, Offset::Offset(*next)).expect("a valid offset");
        }
        self.consumer.assign(&from).expect("an assignment");
        while self.next.iter().zip(&ends).any(|(next, end)| next < end) {
            let Some(polled) = self.consumer.poll(REQUEST) else { panic!("{}: no record in {REQUEST:?}", self.topic) };
            // The client goes on by itself, also when a broker comes back after a restart.
            let Ok(message) = polled else { continue };
            let next = &mut self.next[message.partition() as usize];
            if message.offset() >= *next && message.offset() < ends[message.partition() as usize] {
                *next = message.offset() + 1;
                each(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    at_ms: message.timestamp().to_millis().unwrap_or_default(),
                    value: message.payload().unwrap_or_default(),
                });
            }
        }
        self.consumer.unassign().expect("nothing assigned");
    }

    fn end(&self, partition: i32) -> i64 {
        self.consumer.fetch_watermarks(&self.topic, partition, REQUEST).expect("the end of the log").1
    }
}

/// What a group has committed.
pub(crate) struct Committed {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Committed {
    pub(crate) fn watch(brokers: &str, group: &str, topic: &str, partitions: i32) -> Committed {
        Committed { consumer: client(brokers, group), topic: topic.to_owned(), partitions }
    }

    /// Whether the end of each partition is committed, without a map: then nothing is in flight and nothing waits.
    pub(crate) fn is_at_end(&self) -> bool {
        self.look().is_some_and(|all| all.iter().all(|(committed, map, end)| *committed == *end && map.is_empty()))
    }

    /// Each partition's committed offset (0: none), its map, and the log's end.
    pub(crate) fn look(&self) -> Option<Vec<(i64, String, i64)>> {
        let mut asked = TopicPartitionList::new();
        for partition in 0..self.partitions {
            asked.add_partition(&self.topic, partition);
        }
        let answer = self.consumer.committed_offsets(asked, LOOK).ok()?;
        let of = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let end = self.consumer.fetch_watermarks(&self.topic, element.partition(), LOOK).ok()?.1;
            let offset = if let Offset::Offset(offset) = element.offset() { offset } else { 0 };
            Some((offset, element.metadata().to_owned(), end))
        };
        answer.elements().into_iter().map(of).collect()
    }
}

fn client(brokers: &str, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    // The broker is stopped and started: a client would say so, and goes on.
    config.set("bootstrap.servers", brokers).set("group.id", group).set("log_level", "0");
    config.set("enable.auto.commit", "false").create().expect("a client")
}
