//! The keys of a section such as `queue`.

use crate::config::{Config, Key, Source};

/// The keys of one consumer's section: the worker's `queue`, and what reads other topics in the same way.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// What the names of its keys begin with.
    pub name: &'static str,
    pub(super) brokers: Key,
    pub(super) group: Key,
    pub(super) topics: Key,
    pub(super) session_timeout: Key,
    pub(super) fetch_min_bytes: Key,
    pub(super) fetch_wait: Key,
    pub(super) reset: Key,
    pub(super) commit_interval: Key,
    pub(super) assignment: Key,
    pub(super) topic_interval: Key,
    pub(super) prefetch_bytes: Key,
    pub(super) options: Key,
}

impl Section {
    /// Whether the configuration says where its Kafka is.
    pub fn is_written(&self, config: &Config) -> bool {
        config.source_of(&self.brokers, None) != Source::Default
    }

    /// Its keys, in the order of the documentation.
    pub const fn keys(&self) -> [Key; 12] {
        [
            self.brokers,
            self.group,
            self.topics,
            self.session_timeout,
            self.fetch_min_bytes,
            self.fetch_wait,
            self.reset,
            self.commit_interval,
            self.assignment,
            self.topic_interval,
            self.prefetch_bytes,
            self.options,
        ]
    }
}

/// The section of this name (a literal, for keys are constants), with the default and the meaning of its `topics`.
macro_rules! section {
    ($name:literal, topics: $topics:literal, $topics_doc:literal) => {
        $crate::queue::config::Section::new(
            $name,
            [
                concat!($name, ".brokers"),
                concat!($name, ".group"),
                concat!($name, ".topics"),
                concat!($name, ".sessionTimeout"),
                concat!($name, ".fetch.min.bytes"),
                concat!($name, ".fetch.wait.max.ms"),
                concat!($name, ".offsetResetStrategy"),
                concat!($name, ".commitInterval"),
                concat!($name, ".assignment"),
                concat!($name, ".topicInterval"),
                concat!($name, ".prefetchBytes"),
                concat!($name, ".kafka.*"),
            ],
            $topics,
            $topics_doc,
        )
    };
}
pub(crate) use section;

impl Section {
    /// See [`section!`].
    pub(crate) const fn new(
        name: &'static str,
        keys: [&'static str; 12],
        topics: &'static str,
        topics_doc: &'static str,
    ) -> Section {
        let [
            brokers,
            group,
            topics_key,
            session,
            min_bytes,
            wait,
            reset,
            commit,
            assignment,
            interval,
            prefetch,
            options,
        ] = keys;
        Section {
            name,
            brokers: Key::new(brokers, "localhost:9092", "Kafka, host:port separated by commas"),
            group: Key::new(group, "test", "consumer group"),
            topics: Key::new(topics_key, topics, topics_doc),
            session_timeout: Key::new(
                session,
                "6000",
                "milliseconds without a sign of life after which Kafka gives our partitions to others; with the client's group.protocol consumer the brokers' group.consumer.session.timeout.ms counts, 45 s where nobody set it",
            ),
            fetch_min_bytes: Key::new(min_bytes, "1", "a fetch waits for this many bytes"),
            fetch_wait: Key::new(wait, "100", "at most for this many milliseconds"),
            reset: Key::new(
                reset,
                "latest",
                "where to begin without a committed offset: latest or earliest; a topic that appears later begins at its beginning",
            ),
            commit_interval: Key::new(
                commit,
                "1s",
                "within this time of its outcome a message is committed: the clock strikes twice in it; also at each rebalance and at the end",
            ),
            assignment: Key::new(
                assignment,
                "range,roundrobin",
                "how partitions are shared: range,roundrobin as the original; cooperative-sticky only when every member has it; without effect when the client's group.protocol is consumer",
            ),
            topic_interval: Key::new(interval, "10s", "how often new topics are looked for"),
            prefetch_bytes: Key::new(
                prefetch,
                "67108864",
                "bytes that are fetched ahead at most, shared by all partitions; each has from 64 KiB to 1.25 MiB, a fifth of it for a fetch as the broker sends it (compressed)",
            ),
            options: Key::optional(options, "any other option of librdkafka's consumer"),
        }
    }
}
