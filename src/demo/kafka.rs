//! The demo's Kafka: librdkafka's mock cluster in this process, reachable by any client on the loopback interface.
//!
//! It keeps 5 MiB per partition and silently drops what is older: the producer must not run far ahead of the worker.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, TopicPartitionList};

const CALL: Duration = Duration::from_secs(10);

/// The cluster.
pub(super) struct DemoKafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
    brokers: String,
}

impl DemoKafka {
    /// One broker with these topics (name, partitions).
    pub(super) fn start(topics: &[(String, i32)]) -> Result<DemoKafka> {
        let cluster = MockCluster::new(1).context("starting the mock cluster")?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1).with_context(|| format!("creating {topic}"))?;
        }
        let brokers = cluster.bootstrap_servers();
        Ok(DemoKafka { cluster, brokers })
    }

    /// Bootstrap address.
    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Waits until the group has committed a start for every partition of `topic`: the worker does so before it lends.
    pub(super) fn wait_for_group(&self, group: &str, topic: &str, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.has_starts(group, topic)? {
            alive()?;
            if Instant::now() > deadline {
                bail!("the worker did not join its group within 60 s");
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }

    fn has_starts(&self, group: &str, topic: &str) -> Result<bool> {
        let offsets = self.offsets(group, topic)?;
        Ok(offsets.elements().iter().all(|element| element.offset().to_raw().is_some_and(|offset| offset >= 0)))
    }

    /// The sum of the group's committed offsets.
    pub(super) fn committed(&self, group: &str, topic: &str) -> Result<i64> {
        let offsets = self.offsets(group, topic)?;
        Ok(offsets.elements().iter().filter_map(|element| element.offset().to_raw()).sum())
    }

    /// The sum of the partitions' ends.
    pub(super) fn end(&self, topic: &str) -> Result<i64> {
        let client = self.client("demo-observer")?;
        let partitions = partitions(&client, topic)?;
        let ends = (0..partitions).map(|partition| Ok(client.fetch_watermarks(topic, partition, CALL)?.1));
        ends.sum()
    }

    fn offsets(&self, group: &str, topic: &str) -> Result<TopicPartitionList> {
        let client = self.client(group)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions(&client, topic)? - 1);
        client.committed_offsets(list, CALL).context("reading committed offsets")
    }

    fn client(&self, group: &str) -> Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", group);
        config.create().context("creating a client of the mock cluster")
    }
}

impl std::fmt::Debug for DemoKafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = &self.cluster;
        f.debug_struct("DemoKafka").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

fn partitions(client: &BaseConsumer, topic: &str) -> Result<i32> {
    let metadata = client.fetch_metadata(Some(topic), CALL)?;
    Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()) as i32)
}
