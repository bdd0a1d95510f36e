//! Offsets and metadata in the group that are not this log's or not ours: the worker skips nothing that was not sent.

use std::time::Duration;

use pusher::generate::{Generated, Mix, Settings};
use pusher::queue::map::{self, OffsetMap};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::support::rig::{Fate, PATIENCE, Repeats, Rig};
use crate::support::{self, Statsd, eventually, wait_for};

/// Records of each partition.
const EACH: u64 = 60;
/// Records of the log that comes in the place of another.
const SHORTER: u64 = EACH / 2;
/// When the first record of each was written; each next one a second later. Ms since the epoch.
const WRITTEN_MS: i64 = 1_750_000_000_000;
const REQUEST: Duration = Duration::from_secs(20);

/// What is committed for a partition before the worker starts.
struct Case {
    what: &'static str,
    offset: i64,
    metadata: String,
    /// Offsets that need not be sent: below the committed one, or known from a map that is right.
    settled: Vec<i64>,
}

/// The map of a worker that resolved these offsets beyond `base`, in this log and cluster.
fn true_map(base: i64) -> OffsetMap {
    let resolved = vec![base + 1..base + 10, base + 20..base + 40];
    OffsetMap { base, base_timestamp_ms: WRITTEN_MS + base * 1_000, cluster: cluster(), resolved }
}

fn cluster() -> u32 {
    let client: BaseConsumer = support::kafka().config().set("group.id", "cluster").create().expect("a client");
    crc32fast::hash(client.client().fetch_cluster_id(REQUEST).expect("the cluster's id").as_bytes())
}

fn text(map: &OffsetMap) -> String {
    map::encode(map).expect("a small map")
}

fn cases() -> Vec<Case> {
    let foreign = |what, offset: i64, metadata| Case { what, offset, metadata, settled: (0..offset).collect() };
    let right = true_map(5);
    let known = (0..5).chain(right.resolved.iter().cloned().flatten()).collect();
    vec![
        // Without it the others would show nothing.
        Case { what: "the right map", offset: 5, metadata: text(&right), settled: known },
        foreign("another program's note", 0, "checkpointed by somebody".into()),
        foreign("what looks like a map", 0, format!("pmap{}", "A".repeat(200))),
        foreign("a map with one character changed", 5, text(&right).replacen(&text(&right)[20..21], "+", 1)),
        foreign("the longest metadata that Kafka takes", 0, "x".repeat(4096)),
        // As a mirror does: offsets translated, metadata as they were.
        foreign("a map of another offset", 4, text(&right)),
        foreign("a map of another cluster", 5, text(&OffsetMap { cluster: !cluster(), ..true_map(5) })),
        // The record at the committed offset is not the one that was seen there: nothing of this log is known to be sent.
        Case {
            what: "a map of an older topic of this name",
            offset: 5,
            metadata: text(&OffsetMap { base_timestamp_ms: 7, ..true_map(5) }),
            settled: Vec::new(),
        },
        foreign("a map that claims more than the log has", 5, {
            text(&OffsetMap { resolved: vec![6..9, 10..EACH as i64 + 1], ..true_map(5) })
        }),
        // As Kafka's own tool resets, by an operator's wish.
        foreign("an offset that was reset to the beginning", 0, String::new()),
        foreign("an offset that was reset to the middle", 30, String::new()),
    ]
}

fn produce(topic: &str, partition: i32, pushes: &[Generated]) {
    let producer: BaseProducer = support::kafka().config().create().expect("a producer");
    for (offset, push) in pushes.iter().enumerate() {
        let written = WRITTEN_MS + offset as i64 * 1_000;
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(&push.line).timestamp(written);
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(REQUEST).expect("all records in the log");
}

fn commit(group: &str, topic: &str, offsets: impl IntoIterator<Item = (i32, i64, String)>) {
    let consumer: BaseConsumer = support::kafka().config().set("group.id", group).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for (partition, offset, metadata) in offsets {
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
        list.find_partition(topic, partition).expect("it").set_metadata(metadata);
    }
    consumer.commit(&list, CommitMode::Sync).expect("a commit");
}

fn calm(rig: &mut Rig, count: u64) -> Vec<Generated> {
    rig.generate(Settings { count, mix: Mix::CALM, ..Settings::default() })
}

#[test]
fn foreign_offsets_and_metadata_skip_nothing_that_was_not_sent() {
    let cases = cases();
    let mut rig = Rig::new("foreign", cases.len() as i32);
    for (partition, case) in cases.iter().enumerate() {
        let pushes = calm(&mut rig, EACH);
        for offset in &case.settled {
            rig.note(pushes[*offset as usize].line.clone(), Fate::Ignored);
        }
        produce(&rig.topic, partition as i32, &pushes);
    }
    let offsets = cases.iter().enumerate().map(|(at, case)| (at as i32, case.offset, case.metadata.clone()));
    commit(&rig.group, &rig.topic, offsets);
    let statsd = Statsd::start();
    let host = statsd.address.to_string();
    let mut worker = rig.worker(&[("STATS_REPORTERS", "statsd"), ("STATS_STATSD_HOST", &host)]);
    rig.settle(&mut worker, PATIENCE);
    worker.stop();
    let said: Vec<_> = cases.iter().map(|case| case.what).collect();
    assert_eq!(rig.assert_nothing_lost(&rig.placed()), Repeats::default(), "of {said:?}");
    // All that is no empty text, but for the right map.
    let dropped = cases.iter().filter(|case| !case.metadata.is_empty()).count() - 1;
    statsd.await_sum("pushmap_dropped", &[("topic", &rig.topic)], dropped as f64, REQUEST);
}

/// While the worker reads it. Kafka forgets the group's offsets with the topic; the new log begins anew. It is the shorter
/// one, which shows that it is another: see the last row of the guarantee's table.
#[test]
fn a_topic_that_is_made_anew_under_the_worker_is_sent_from_its_beginning() {
    let mut rig = Rig::new("anew", 1);
    let mut worker = rig.worker(&[]);
    let pushes = calm(&mut rig, EACH);
    rig.produce(&pushes, None);
    rig.settle(&mut worker, PATIENCE);
    // What was sent before is no record of the new log.
    for push in &pushes {
        rig.note(push.line.clone(), Fate::Ignored);
    }
    remake(&rig.topic);
    let pushes = calm(&mut rig, SHORTER);
    rig.produce(&pushes, None);
    worker.until("all of the new log", PATIENCE, || (rig.accepted() == EACH + SHORTER).then_some(()));
    worker.until("its end committed", PATIENCE, || {
        let committed = support::kafka().committed(&rig.group, &rig.topic).swap_remove(0);
        (committed.offset == Some(SHORTER as i64) && committed.metadata.is_empty()).then_some(())
    });
    worker.stop();
    let sums = rig.simulator.handle().ledger().sums();
    assert_eq!((sums.accepted, sums.repeated), (EACH + SHORTER, 0));
}

fn remake(topic: &str) {
    let admin: AdminClient<DefaultClientContext> = support::kafka().config().create().expect("an admin client");
    let deleted = wait_for(async { admin.delete_topics(&[topic], &AdminOptions::new()).await });
    deleted.expect("an answer").remove(0).map_err(|(_, error)| error).expect("a topic less");
    let client: BaseConsumer = support::kafka().config().set("group.id", "remake").create().expect("a consumer");
    eventually("the topic's end", PATIENCE, || {
        let topics = client.fetch_metadata(None, REQUEST).ok()?;
        topics.topics().iter().all(|left| left.name() != topic).then_some(())
    });
    support::kafka().create_topic(topic, 1);
}
