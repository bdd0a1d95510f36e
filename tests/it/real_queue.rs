//! The Kafka queue on Apache Kafka: what the mock cluster cannot show of commits, their metadata and hand-overs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pusher::queue::{Lent, map};

use crate::support;
use crate::support::place::{Place, create, delete};
use crate::support::reader::{LONG, Reader, offsets, resolve};

#[test]
fn ten_thousand_in_flight_are_told_apart_across_a_restart() {
    let place = Place::new(1);
    place.produce(0, 10_000);
    let mut reader = place.reader(&[], 20_000);
    let mut lent = reader.read(10_000);
    fastrand::Rng::with_seed(7).shuffle(&mut lent);
    // Every second one: nothing compresses that.
    let stragglers = lent.split_off(5_000);
    resolve(lent);
    reader.close();
    let mut left = offsets(&stragglers);
    left.sort_unstable();
    let (offset, metadata) = place.committed();
    assert_eq!(offset, left.first().copied());
    assert!(metadata.len() <= 4096, "{}", metadata.len());
    assert!(map::decode(&metadata).is_ok_and(|map| map.is_some()));
    let mut reader = place.reader(&[], 20_000);
    let again = reader.read(left.len());
    assert_eq!(offsets(&again), left);
    assert_eq!(reader.told().maps_dropped, [""; 0]);
    resolve(again);
    reader.close();
    assert_eq!(place.committed(), (Some(10_000), String::new()));
}

#[test]
fn a_partition_whose_commit_is_refused_does_not_take_the_others_with_it() {
    let place = Place::new(1);
    let gone = format!("push-{}_apns-massive", place.app);
    create(&gone, 1);
    place.produce(0, 10);
    place.produce_to(&gone, 0, 10);
    let mut reader = place.reader(&[], 1_000);
    let lent = reader.read(20);
    delete(&gone);
    resolve(lent);
    reader.until("the other's commit, and a refusal", |reader, _| {
        place.committed().0 == Some(10) && reader.told().commits_failed > 0
    });
    reader.close();
}

/// Two members on one thread; what is lent is resolved after a while, as senders would.
fn hand_over(assignment: &str) {
    const RECORDS: usize = 600;
    let place = Place::new(2);
    (0..2).for_each(|partition| place.produce(partition, RECORDS));
    let options = [("queue.assignment", assignment)];
    let mut readers = vec![place.reader(&options, 40)];
    let mut held: Vec<Vec<Lent>> = vec![Vec::new(), Vec::new()];
    let mut times = BTreeMap::<(i32, i64), u32>::new();
    let (began, mut in_flight) = (Instant::now(), BTreeSet::new());
    let place_of = |lent: &Lent| (lent.message.origin.partition, lent.message.offset);
    while times.len() < 2 * RECORDS || held.iter().any(|held| !held.is_empty()) {
        assert!(began.elapsed() < LONG * 2, "{} of {} messages", times.len(), 2 * RECORDS);
        let is_shared = readers.len() == 2 && readers.iter().all(|reader| reader.told().assigned == 1);
        for (reader, held) in readers.iter_mut().zip(&mut held) {
            let mut lent = Vec::new();
            reader.turn(&mut lent);
            for lent in &lent {
                *times.entry(place_of(lent)).or_default() += 1;
            }
            in_flight.extend(held.iter().filter(|held| held.receipt.is_over()).map(place_of));
            held.append(&mut lent);
            // Slow until the hand-over, which is to fall into the middle.
            let some = if is_shared { held.len().div_ceil(2) } else { held.len().min(1) };
            resolve(held.drain(..some));
        }
        if readers.len() == 1 && times.len() > 50 {
            readers.push(place.reader(&options, 40));
        }
    }
    assert_eq!(
        readers.iter().map(|reader| reader.told().assigned).collect::<Vec<_>>(),
        [1, 1],
        "it was handed over in time"
    );
    let repeated: Vec<_> = times.iter().filter(|(_, times)| **times > 1).map(|(place, _)| *place).collect();
    assert!(repeated.iter().all(|place| in_flight.contains(place)), "{repeated:?} beyond {in_flight:?}");
    readers.into_iter().for_each(Reader::close);
    let committed = support::kafka().committed(&place.group, &place.topic);
    assert!(committed.iter().all(|one| one.offset == Some(RECORDS as i64)), "{committed:?}");
}

#[test]
fn all_partitions_at_once_are_handed_over_without_repeats_beyond_what_is_in_flight() {
    hand_over("range,roundrobin");
}

#[test]
fn partitions_one_by_one_are_handed_over_without_repeats_beyond_what_is_in_flight() {
    hand_over("cooperative-sticky");
}
