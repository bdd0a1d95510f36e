//! What the Kafka queue tells of itself, on librdkafka's mock cluster: refused commits, full maps, signs of life.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pusher::message::Origin;
use pusher::observer::QueueObserver;
use pusher::pulse::Pulses;
use pusher::queue::{Observer, Queue as _, QueueError, map};
use pusher::reporters::stats::Stats;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::queue_faults::{TOPIC, numbers, places, start};
use crate::support::ear::Ear;
use crate::support::eventually;
use crate::support::mock::{Mock, broker_up};
use crate::support::reader::{LONG, queue, resolve};

/// While the brokers refuse commits, each strike of the clock has one refused: that is one line.
#[test]
fn refused_commits_are_told_once_and_go_through_in_the_end() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(10));
    let mut reader = start(&mock, &[]);
    let mut lent = reader.read(10);
    reader.until("the start's commit", |_, _| mock.committed("test", TOPIC, 0).is_some());
    let (ear, refusal) = (Ear::new(), RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS);
    mock.cluster().request_errors(RDKafkaApiKey::OffsetCommit, &[refusal; 4]);
    lent.drain(..5).for_each(|lent| lent.receipt.resolve());
    reader.until("refusals", |reader, _| reader.told().commits_failed >= 4);
    reader.until("a commit", |_, _| mock.committed("test", TOPIC, 0).is_some_and(|(at, _)| at == 5));
    assert_eq!(ear.times("a commit was refused: what is resolved goes into the next one"), 1, "{}", ear.text());
    resolve(lent);
    reader.close();
    assert_eq!(mock.committed("test", TOPIC, 0).map(|(at, _)| at), Some(10));
}

/// Every eighth message is stuck: some 24,000 offsets fit into the map. Its partition waits there for its stragglers, told once,
/// the other one goes on, and a restart would repeat the stragglers and nothing else.
#[test]
fn a_full_map_holds_up_its_own_partition_alone() {
    const RECORDS: usize = 30_000;
    let mock = Mock::start(&[(TOPIC, 2)]);
    mock.produce(TOPIC, 0, numbers(RECORDS));
    let (mut reader, ear) = (start(&mock, &[]), Ear::new());
    let (mut stuck, mut done, began) = (Vec::new(), 0, Instant::now());
    while reader.told().full == 0 {
        let mut lent = Vec::new();
        reader.turn(&mut lent);
        for lent in lent {
            if lent.message.offset % 8 == 0 {
                stuck.push(lent);
            } else {
                done += 1;
                lent.receipt.resolve();
            }
        }
        assert!(began.elapsed() < LONG * 4 && stuck.len() + done < RECORDS, "{} of {RECORDS} lent", stuck.len() + done);
    }
    assert!(done + stuck.len() > 20_000, "{done} and {}", stuck.len());
    mock.produce(TOPIC, 1, numbers(50));
    let other = reader.read(50);
    assert!(other.iter().all(|lent| lent.message.origin.partition == 1), "{:?}", places(&other));
    resolve(other);
    let resolved = |(at, metadata): (i64, String)| {
        let map = map::decode(&metadata).expect("a map of ours")?;
        Some((at, map.resolved.into_iter().map(Iterator::count).sum::<usize>()))
    };
    let none =
        reader.until("its commit", |_, _| mock.committed("test", TOPIC, 0).and_then(resolved) == Some((0, done)));
    assert!(none.is_empty(), "{:?}", places(&none));
    // Given back, as when their app is paused, and read again: they have their place in the map.
    let (ours, released) = (stuck.len(), stuck.drain(..));
    released.for_each(|lent| lent.receipt.release());
    stuck = reader.read(ours);
    assert!(stuck.iter().all(|lent| lent.message.offset % 8 == 0), "{:?}", places(&stuck));
    stuck.drain(..20).for_each(|lent| lent.receipt.resolve());
    let on = reader.until("room for more", |_, lent| !lent.is_empty());
    assert_eq!(places(&on[..1]), [(0, (done + stuck.len() + 20) as i64)], "on where it stopped");
    assert_eq!((reader.told().full, ear.times("is full: nothing more is read")), (1, 1), "{}", ear.text());
    resolve(stuck.into_iter().chain(on));
    while mock.committed("test", TOPIC, 0) != Some((RECORDS as i64, String::new())) {
        let mut lent = Vec::new();
        reader.turn(&mut lent);
        resolve(lent);
        assert!(began.elapsed() < LONG * 5, "{:?}", mock.committed("test", TOPIC, 0));
    }
    assert_eq!((reader.told().full, ear.times("has room again")), (0, 1), "{}", ear.text());
    assert_eq!(ear.times("is full: nothing more is read"), 1, "{}", ear.text());
    reader.close();
}

/// Turns and strikes of the clock are the signs of life that `/healthz` looks for: while the poll thread stands still there are
/// none of either.
#[test]
fn a_poll_thread_that_stands_still_shows_no_sign_of_life() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let (pulses, interval) = (Pulses::default(), Duration::from_millis(50));
    let observer = Arc::new(QueueObserver::new(Arc::default(), Stats::default(), &pulses, interval));
    let (mut queue, _) = queue(&mock.brokers, &["game"], &[], 10, observer);
    // Each may be silent for a minute. Within a few seconds of that: the test need not wait for all of it.
    let (near, nearly) = (Duration::from_secs(5), Duration::from_secs(55));
    let silent = || {
        let silent = pulses.silent(Instant::now() + nearly);
        silent.into_iter().map(|silence| silence.name).collect::<Vec<_>>()
    };
    let mut turn = || queue.lend(Duration::from_millis(10), &mut Vec::new()).expect("a queue that goes on");
    let began = Instant::now();
    while began.elapsed() < near * 3 / 2 {
        turn();
        assert_eq!(silent(), [""; 0]);
    }
    eventually("silence", LONG, || (silent() == ["poll thread", "commit clock"]).then_some(()));
    eventually("signs of life", LONG, || {
        turn();
        silent().is_empty().then_some(())
    });
}

/// The scout shows signs of life of its own, also while no broker answers: each of its calls ends. While nobody listens to it, it
/// waits with what it has found, and shows none.
#[test]
fn a_scout_that_stands_still_shows_no_sign_of_life() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let pulses = Pulses::default();
    let observer = Arc::new(QueueObserver::new(Arc::default(), Stats::default(), &pulses, Duration::from_hours(1)));
    let settings = [("queue.topicInterval", "100ms")];
    let (mut queue, _) = queue(&mock.brokers, &["game"], &settings, 10, observer);
    // It may be silent for a minute and a half: see above. A turn without an answer takes some 8 s here.
    let (near, nearly) = (Duration::from_secs(15), Duration::from_secs(75));
    let is_silent = || pulses.silent(Instant::now() + nearly).iter().any(|silence| silence.name == "scout");
    eventually("silence", LONG, || is_silent().then_some(()));
    let mut turn = || queue.lend(Duration::from_millis(10), &mut Vec::new()).expect("a queue that goes on");
    eventually("signs of life", LONG, || {
        turn();
        (!is_silent()).then_some(())
    });
    mock.cluster().broker_down(1).expect("down");
    let began = Instant::now();
    while began.elapsed() < near * 3 / 2 {
        turn();
        assert!(!is_silent(), "{:?}", began.elapsed());
    }
    broker_up(&mock.cluster());
}

/// Looks away, and panics on the scout's thread.
struct Panics;

impl Observer for Panics {
    fn skipped(&self, _: &Origin, _: u64) {}
    fn map_dropped(&self, _: &Origin, _: &'static str) {}
    fn out_of_range(&self, _: &Origin, _: u64) {}
    fn receipts_lost(&self, _: &Origin, _: u64) {}
    fn commit_failed(&self) {}
    fn map_bytes(&self, _: &Origin, _: usize) {}
    fn assigned(&self, _: usize) {}
    fn unsettled(&self, _: usize) {}
    fn starved(&self, _: usize) {}
    fn full(&self, _: usize) {}
    fn ignored_topics(&self, _: usize) {}
    fn oldest_in_flight(&self, _: Duration) {}
    fn scouted(&self) {
        panic!("on purpose");
    }
}

/// Without it nothing that is assigned later would begin, and all would look well.
#[test]
fn without_its_scout_a_queue_does_not_go_on() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let (mut queue, _) = queue(&mock.brokers, &["game"], &[], 10, Arc::new(Panics));
    let error = eventually("the end", LONG, || queue.lend(Duration::from_millis(10), &mut Vec::new()).err());
    let QueueError::Fatal(why) = error;
    assert!(why.contains("ended unexpectedly"), "{why}");
    queue.stop();
    queue.lend(Duration::from_millis(10), &mut Vec::new()).expect("what is lent may still end");
}
