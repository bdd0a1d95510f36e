//! The way from the original and back on real Kafka. The original stands in as what it is to the group: a stock librdkafka
//! consumer with its assignors and automatic commits, which takes what it reads for sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pusher::generate::{Generated, Mix, Settings};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};

use crate::support::rig::{PATIENCE, Rig};
use crate::support::{eventually, kafka};

const TURN: Duration = Duration::from_millis(50);

/// A member of the group as the original is one.
struct Original {
    read: Arc<AtomicU64>,
    assigned: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Original {
    fn start(rig: &Rig) -> Original {
        let consumer: BaseConsumer = kafka()
            .config()
            .set("group.id", &rig.group)
            .set("session.timeout.ms", "6000")
            .set("enable.auto.commit", "true")
            .set("auto.offset.reset", "earliest")
            .create()
            .expect("a consumer");
        consumer.subscribe(&[&rig.topic]).expect("a subscription");
        let (read, assigned, stop) = (Arc::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, share, end) = (Arc::<AtomicU64>::clone(&read), assigned.clone(), stop.clone());
        let body = move || {
            while !end.load(Ordering::Relaxed) {
                if let Some(message) = consumer.poll(TURN) {
                    message.expect("a record");
                    count.fetch_add(1, Ordering::Relaxed);
                }
                share.store(consumer.assignment().map_or(0, |list| list.count() as u64), Ordering::Relaxed);
            }
            // What the original fails to do (D4), so that the count is exact here.
            let _ = consumer.commit_consumer_state(CommitMode::Sync);
        };
        Original { read, assigned, stop, thread: Some(std::thread::spawn(body)) }
    }

    fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn share(&self) -> u64 {
        self.assigned.load(Ordering::Relaxed)
    }

    /// How much it has read when it is gone.
    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("ends once").join().expect("a good end");
        self.read()
    }
}

fn made(rig: &mut Rig, count: u64) -> Vec<Generated> {
    rig.generate(Settings { count, mix: Mix::CALM, ..Settings::default() })
}

/// Side by side, ours alone, and back: every message is read by one of them, none by both, and what ours leaves behind after
/// it has drained is an offset that the original can read: without a map.
#[test]
fn both_share_a_group_and_the_original_goes_on_where_ours_has_drained() {
    let mut rig = Rig::new("migrate", 4);
    let old = Original::start(&rig);
    eventually("the original has all partitions", PATIENCE, || (old.share() == 4).then_some(()));
    let mut worker = rig.worker(&[]);
    eventually("both have a share", PATIENCE, || (old.share() == 2).then_some(()));
    worker.until("ours has its share", PATIENCE, || (old.share() == 2).then_some(()));

    let both = made(&mut rig, 400);
    rig.produce(&both, None);
    let total = || old.read() + rig.accepted();
    worker.until("each message is read by one of them", PATIENCE, || (total() >= 400).then_some(()));
    assert_eq!(total(), 400, "none is read by both");
    assert!(old.read() > 0 && rig.accepted() > 0, "both had a part: {} and {}", old.read(), rig.accepted());
    let (by_old, by_ours) = (old.read(), rig.accepted());
    assert_eq!(old.end(), by_old);

    let alone = made(&mut rig, 200);
    rig.produce(&alone, None);
    worker.until("ours alone", PATIENCE, || (rig.accepted() == by_ours + 200).then_some(()));
    worker.stop();
    let ends = kafka().end_offsets(&rig.topic);
    for (committed, end) in kafka().committed(&rig.group, &rig.topic).iter().zip(&ends) {
        assert_eq!((committed.offset, committed.metadata.as_str()), (Some(*end), ""), "drained: the end, and no map");
    }

    let back = Original::start(&rig);
    eventually("the original has all partitions again", PATIENCE, || (back.share() == 4).then_some(()));
    let after = made(&mut rig, 100);
    rig.produce(&after, None);
    eventually("the original goes on", PATIENCE, || (back.read() >= 100).then_some(()));
    assert_eq!((back.end(), rig.accepted()), (100, by_ours + 200), "nothing comes again");
}
