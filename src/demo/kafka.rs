//! The demo's Kafka: librdkafka's mock cluster in this process, reachable by any client on the loopback interface.
//!
//! It keeps 5 MiB per partition and silently drops what is older, so the producer holds back when the worker falls behind.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, TopicPartitionList};

const CALL: Duration = Duration::from_secs(10);

/// The cluster.
pub struct DemoKafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
    brokers: String,
}

impl DemoKafka {
    /// One broker with these topics (name, partitions).
    pub fn start(topics: &[(&str, i32)]) -> Result<DemoKafka> {
        let cluster = MockCluster::new(1).context("starting the mock cluster")?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1).with_context(|| format!("creating {topic}"))?;
        }
        let brokers = cluster.bootstrap_servers();
        Ok(DemoKafka { cluster, brokers })
    }

    /// Bootstrap address.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Waits until the group has committed a start for every partition of `topic`: the worker does so before it lends.
    pub fn wait_for_group(&self, group: &str, topic: &str, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
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
    pub fn committed(&self, group: &str, topic: &str) -> Result<i64> {
        let offsets = self.offsets(group, topic)?;
        Ok(offsets.elements().iter().filter_map(|element| element.offset().to_raw()).sum())
    }

    /// The sum of the partitions' ends.
    pub fn end(&self, topic: &str) -> Result<i64> {
        let client = self.client("demo-observer")?;
        let partitions = partitions(&client, topic)?;
        let ends = (0..partitions).map(|partition| Ok(client.fetch_watermarks(topic, partition, CALL)?.1));
        ends.sum()
    }

    /// A producer for `topic` that keeps to `rate` a second.
    pub fn producer(&self, topic: &str, rate: Option<u32>) -> Result<DemoProducer> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("linger.ms", "20")
            .set("sticky.partitioning.linger.ms", "0")
            .create()
            .context("creating the producer")?;
        Ok(DemoProducer { producer, topic: topic.into(), rate, started: Instant::now(), sent: Cell::new(0) })
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

/// Produces lines at a rate.
pub struct DemoProducer {
    producer: BaseProducer,
    topic: String,
    rate: Option<u32>,
    started: Instant,
    sent: Cell<u64>,
}

impl DemoProducer {
    /// Sends one line when its time has come; `backlog` tells how many of all sent have an outcome.
    pub fn send(&self, line: &[u8], mut backlog: impl FnMut() -> u64) -> Result<()> {
        let sent = self.sent.get();
        if let Some(rate) = self.rate {
            let due = self.started + Duration::from_secs_f64(sent as f64 / f64::from(rate.max(1)));
            std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        }
        if sent % 256 == 0 {
            self.hold_back(sent, &mut backlog)?;
        }
        self.sent.set(sent + 1);
        let mut record = BaseRecord::<(), [u8]>::to(&self.topic).payload(line);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((rdkafka::error::KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    record = refused;
                    self.producer.poll(Duration::from_millis(20));
                }
                Err((error, _)) => return Err(error).context("producing to the mock cluster"),
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Never more than the cluster keeps: 40,000 records of some 500 bytes over 8 partitions.
    fn hold_back(&self, sent: u64, backlog: &mut impl FnMut() -> u64) -> Result<()> {
        let since = Instant::now();
        while sent.saturating_sub(backlog()) > 40_000 {
            self.producer.poll(Duration::from_millis(20));
            if since.elapsed() > super::STALL {
                bail!("the worker has made no room for {} s", super::STALL.as_secs());
            }
        }
        Ok(())
    }

    /// Waits until the cluster has everything.
    pub fn flush(&self) -> Result<()> {
        self.producer.flush(CALL).context("flushing the producer")
    }
}

impl std::fmt::Debug for DemoProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DemoProducer").field("topic", &self.topic).field("sent", &self.sent.get()).finish_non_exhaustive()
    }
}
