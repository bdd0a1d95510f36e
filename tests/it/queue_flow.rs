//! The Kafka queue on librdkafka's mock cluster: what it lends, repeats, commits and survives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pusher::queue::map::{self, OffsetMap};
use pusher::queue::{Lent, Queue};
use rdkafka::types::RDKafkaRespErr;

use crate::support::mock::{Mock, broker_up};
use crate::support::reader::{LONG, Reader, offsets, resolve};

const TOPIC: &str = "push-game_apns-single";
const OTHER: &str = "push-other_apns-single";

/// A member of the group `test`.
fn start(mock: &Mock, more: &[(&str, &str)]) -> Reader {
    bounded(mock, more, 10_000)
}

fn bounded(mock: &Mock, more: &[(&str, &str)], messages: usize) -> Reader {
    Reader::new(&mock.brokers, &["game", "other"], more, messages)
}

/// Turns until the group has committed `offset`. Nothing may be lent meanwhile.
#[track_caller]
fn until_committed(reader: &mut Reader, mock: &Mock, topic: &str, offset: i64) {
    let lent = reader.until("a commit", |_, _| mock.committed("test", topic, 0).is_some_and(|(now, _)| now == offset));
    assert!(lent.is_empty(), "{:?}", offsets(&lent));
}

fn numbers(n: usize) -> impl Iterator<Item = String> {
    (0..n).map(|number| number.to_string())
}

#[test]
fn everything_is_lent_once_and_committed_and_what_is_not_ours_stays_untouched() {
    let foreign = ["push-game_gcm-single", "push-third_apns-single", "push-game-apns-feedbacks", "unrelated"];
    let mock =
        Mock::start(&[(TOPIC, 3), (OTHER, 1), (foreign[0], 1), (foreign[1], 1), (foreign[2], 1), (foreign[3], 1)]);
    for partition in 0..3 {
        mock.produce(TOPIC, partition, numbers(200));
    }
    mock.produce(OTHER, 0, ["one"]);
    for topic in foreign {
        mock.produce(topic, 0, ["not ours"]);
    }
    let mut reader = start(&mock, &[]);
    let lent = reader.read(601);
    let places: BTreeSet<_> = lent
        .iter()
        .map(|lent| (lent.message.origin.topic.clone(), lent.message.origin.partition, lent.message.offset))
        .collect();
    assert_eq!(places.len(), 601);
    assert!(
        lent.iter().all(
            |lent| &*lent.message.origin.topic == OTHER || *lent.message.payload == lent.message.offset.to_string()
        )
    );
    assert_eq!((reader.told().ignored, reader.told().assigned), (Some(3), 4), "unrelated names are no push topics");
    resolve(lent);
    reader.close();
    for partition in 0..3 {
        assert_eq!(mock.committed("test", TOPIC, partition), Some((200, String::new())));
    }
    assert_eq!(mock.committed("test", OTHER, 0), Some((1, String::new())));
    for topic in foreign {
        assert_eq!(mock.committed("test", topic, 0), None);
    }
}

#[test]
fn a_restart_repeats_what_was_in_flight_and_nothing_else() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(100));
    let mut reader = start(&mock, &[]);
    let (stragglers, done): (Vec<_>, Vec<_>) =
        reader.read(100).into_iter().partition(|lent| [3, 57, 58].contains(&lent.message.offset));
    resolve(done);
    reader.close();
    let (offset, metadata) = mock.committed("test", TOPIC, 0).expect("a commit");
    assert_eq!(offset, 3);
    let known = map::decode(&metadata).expect("readable").expect("a map");
    assert_eq!((known.base, known.resolved), (3, vec![4..57, 59..100]));
    resolve(stragglers); // too late to be believed
    mock.produce(TOPIC, 0, ["new"]);
    let mut reader = start(&mock, &[]);
    let lent = reader.read(4);
    assert_eq!((offsets(&lent), reader.told().skipped), (vec![3, 57, 58, 100], 94));
    resolve(lent);
    until_committed(&mut reader, &mock, TOPIC, 101);
    reader.close();
    assert_eq!(mock.committed("test", TOPIC, 0), Some((101, String::new())));
}

#[test]
fn a_crash_repeats_what_was_resolved_after_the_last_commit_and_no_more() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(100));
    let mut reader = start(&mock, &[]);
    let mut lent = reader.read(100);
    let late = lent.split_off(60);
    let held = lent.remove(0);
    resolve(lent);
    reader.until("a commit with its map", |_, _| {
        mock.committed("test", TOPIC, 0).is_some_and(|(_, metadata)| !metadata.is_empty())
    });
    let before = mock.committed("test", TOPIC, 0);
    resolve(late);
    drop((reader, held)); // neither closed nor committed
    assert_eq!(mock.committed("test", TOPIC, 0), before, "a crash commits nothing");
    let mut reader = start(&mock, &[]);
    let repeated = reader.read(41);
    assert_eq!(offsets(&repeated), [0].into_iter().chain(60..100).collect::<Vec<_>>());
    resolve(repeated);
    reader.close();
    assert_eq!(mock.committed("test", TOPIC, 0), Some((100, String::new())));
}

#[test]
fn what_is_given_back_bit_by_bit_while_its_app_is_paused_is_all_lent_again() {
    let mock = Mock::start(&[(TOPIC, 1), (OTHER, 1)]);
    mock.produce(TOPIC, 0, numbers(100));
    let mut reader = start(&mock, &[]);
    let mut lent = reader.read(100);
    reader.in_flight.share("game").set_allowance(0);
    mock.produce(OTHER, 0, ["one"]);
    for part in [20..30, 60..70] {
        let (back, rest): (Vec<_>, Vec<_>) = lent.into_iter().partition(|lent| part.contains(&lent.message.offset));
        lent = rest;
        for lent in back {
            lent.receipt.release();
        }
        // Long enough for the clock to strike, and to go back.
        let (from, mut others) = (Instant::now(), Vec::new());
        while from.elapsed() < Duration::from_millis(200) {
            reader.turn(&mut others);
        }
        assert!(others.iter().all(|lent| &*lent.message.origin.topic == OTHER), "{:?}", offsets(&others));
        resolve(others);
    }
    until_committed(&mut reader, &mock, OTHER, 1);
    reader.in_flight.share("game").set_allowance(usize::MAX);
    let again = reader.read(20);
    assert_eq!(offsets(&again), (20..30).chain(60..70).collect::<Vec<_>>());
    resolve(lent.into_iter().chain(again));
    until_committed(&mut reader, &mock, TOPIC, 100);
}

#[test]
fn latest_is_committed_before_anything_is_lent_so_that_a_crash_loses_nothing() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(10));
    let latest = [("queue.offsetResetStrategy", "latest")];
    let mut reader = start(&mock, &latest);
    until_committed(&mut reader, &mock, TOPIC, 10);
    mock.produce(TOPIC, 0, numbers(5));
    let lent = reader.read(5);
    drop((reader, lent));
    mock.produce(TOPIC, 0, numbers(1));
    let mut reader = start(&mock, &latest);
    assert_eq!(offsets(&reader.read(6)), (10..16).collect::<Vec<_>>());
}

#[test]
fn a_committed_offset_that_the_log_does_not_have_any_more_goes_to_its_first() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    // The cluster keeps 5 MiB: the oldest go.
    mock.produce(TOPIC, 0, (0..8).map(|_| vec![b'x'; 900_000]));
    let (low, high) = mock.ends(TOPIC, 0);
    assert!(low > 0 && high == 8, "{low} {high}");
    mock.commit("test", TOPIC, 0, 0, "");
    let mut reader = start(&mock, &[]);
    let lent = reader.read((high - low) as usize);
    assert_eq!(offsets(&lent), (low..high).collect::<Vec<_>>());
    assert_eq!(reader.told().out_of_range, [low as u64]);
    resolve(lent);
    until_committed(&mut reader, &mock, TOPIC, high);
    reader.close();
}

/// A long outage: the backlog was given back, and the logs lost the first of it before it was read again. Where all partitions are
/// assigned at once, going on in one makes the client fail once more in those whose turn is still to come.
#[test]
fn what_is_deleted_of_what_was_given_back_is_passed_over_and_the_rest_is_lent_again() {
    const PARTITIONS: i32 = 3;
    let mock = Mock::start(&[(TOPIC, PARTITIONS)]);
    // The cluster keeps 5 MiB: the oldest go.
    let produce = |count| (0..PARTITIONS).for_each(|one| mock.produce(TOPIC, one, vec![vec![b'x'; 900_000]; count]));
    produce(4);
    let mut reader = start(&mock, &[]);
    let lent = reader.read(4 * PARTITIONS as usize);
    produce(3);
    let (low, high) = mock.ends(TOPIC, 0);
    assert!((1..4).contains(&low) && high == 7, "{low} {high}");
    for lent in lent {
        lent.receipt.release();
    }
    let again = reader.read((high - low) as usize * PARTITIONS as usize);
    let mut read: Vec<_> = again.iter().map(|lent| (lent.message.origin.partition, lent.message.offset)).collect();
    read.sort_unstable();
    let expected = (0..PARTITIONS).flat_map(|one| (low..high).map(move |offset| (one, offset)));
    assert_eq!(read, expected.collect::<Vec<_>>());
    assert_eq!(reader.told().out_of_range, [low as u64; PARTITIONS as usize]);
    resolve(again);
    let committed = |one| mock.committed("test", TOPIC, one).is_some_and(|(now, _)| now == high);
    let more = reader.until("commits", |_, _| (0..PARTITIONS).all(committed));
    assert!(more.is_empty(), "{:?}", offsets(&more));
    reader.close();
}

#[test]
fn metadata_that_is_not_a_map_of_this_log_is_dropped_and_told() {
    let mock = Mock::start(&[(TOPIC, 1), (OTHER, 1)]);
    mock.produce(TOPIC, 0, numbers(10));
    mock.produce(OTHER, 0, numbers(10));
    mock.commit("test", TOPIC, 0, 5, "somebody else's note");
    let elsewhere = OffsetMap { base: 5, base_timestamp_ms: 1, cluster: 1, resolved: std::iter::once(6..10).collect() };
    mock.commit("test", OTHER, 0, 5, &map::encode(&elsewhere).expect("a small map"));
    let mut reader = start(&mock, &[]);
    let mut read = offsets(&reader.read(10));
    read.sort_unstable();
    assert_eq!(read, [5, 5, 6, 6, 7, 7, 8, 8, 9, 9]);
    let mut reasons = reader.told().maps_dropped;
    reasons.sort_unstable();
    assert_eq!(reasons, ["not readable", "of another cluster"]);
}

#[test]
fn a_topic_that_appears_is_read_from_its_beginning() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    let mut reader = start(&mock, &[("queue.offsetResetStrategy", "latest"), ("queue.topicInterval", "100ms")]);
    until_committed(&mut reader, &mock, TOPIC, 0);
    // One list without it would not prove that it is new.
    let looks = reader.told().looks;
    reader.until("looks without it", |reader, _| reader.told().looks >= looks + 3);
    mock.create_topic(OTHER, 1);
    mock.produce(OTHER, 0, numbers(5));
    let lent = reader.read(5);
    assert!(lent.iter().all(|lent| &*lent.message.origin.topic == OTHER));
    resolve(lent);
    reader.close();
    assert_eq!(mock.committed("test", OTHER, 0), Some((5, String::new())));
}

#[test]
fn a_topic_that_is_listed_with_an_error_stays() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(3));
    let mut reader = start(&mock, &[("queue.topicInterval", "100ms")]);
    resolve(reader.read(3));
    let leaderless = RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    mock.cluster().topic_error(TOPIC, leaderless).expect("an error");
    let looks = reader.told().looks;
    let lent = reader.until("looks with an error", |reader, _| reader.told().looks >= looks + 5);
    assert!(lent.is_empty() && reader.told().assigned == 1, "{:?}", reader.told());
    mock.cluster().topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).expect("no error");
    mock.produce(TOPIC, 0, numbers(3));
    let lent = reader.read(3);
    assert_eq!(offsets(&lent), [3, 4, 5]);
    resolve(lent);
    until_committed(&mut reader, &mock, TOPIC, 6);
    reader.close();
}

#[test]
fn a_message_whose_receipt_was_dropped_or_released_is_lent_again() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(10));
    let mut reader = start(&mock, &[]);
    for lent in reader.read(10) {
        match lent.message.offset {
            4 | 7 => drop(lent.receipt),
            2 => lent.receipt.release(),
            _ => lent.receipt.resolve(),
        }
    }
    let again = reader.read(3);
    assert_eq!((offsets(&again), reader.told().lost, reader.in_flight.lost()), (vec![2, 4, 7], 2, 2));
    resolve(again);
    until_committed(&mut reader, &mock, TOPIC, 10);
    reader.close();
}

#[test]
fn the_full_share_of_one_app_does_not_stop_the_other() {
    let mock = Mock::start(&[(TOPIC, 1), (OTHER, 1)]);
    mock.produce(TOPIC, 0, numbers(50));
    let mut reader = bounded(&mock, &[], 20);
    let held = reader.read(10);
    mock.produce(OTHER, 0, numbers(5));
    let other = reader.read(5);
    assert!(other.iter().all(|lent| &*lent.message.origin.app == "other"));
    assert_eq!((reader.in_flight.usage("game").messages, reader.in_flight.total().messages), (10, 15));
    resolve(held.into_iter().chain(other));
    let mut seen = 10;
    reader.until("the rest", |_, lent| lent.len() == 10).into_iter().for_each(|lent| {
        seen += 1;
        lent.receipt.resolve();
    });
    while seen < 50 {
        let lent = reader.until("the rest", |_, lent| !lent.is_empty());
        seen += lent.len();
        resolve(lent);
    }
    reader.close();
    assert_eq!(mock.committed("test", TOPIC, 0), Some((50, String::new())));
}

/// Two members on one thread; what is lent is resolved after a while, as senders would. This cluster takes no commit while
/// a group forms anew, as Kafka does, so what was not committed on the clock before is repeated; see `real_queue`.
#[test]
fn two_members_hand_over_without_loss() {
    const RECORDS: i64 = 300;
    let mock = Mock::start(&[(TOPIC, 2)]);
    let mut first = bounded(&mock, &[], 40);
    first.until("both partitions", |reader, _| reader.told().assigned == 2);
    (0..2).for_each(|partition| mock.produce(TOPIC, partition, numbers(RECORDS as usize / 2)));
    let mut times = BTreeMap::<(i32, i64), u32>::new();
    let mut held: [Vec<Lent>; 2] = Default::default();
    let mut second: Option<Reader> = None;
    let (began, mut produced_rest) = (Instant::now(), false);
    let all_committed =
        || (0..2).all(|partition| mock.committed("test", TOPIC, partition) == Some((RECORDS, String::new())));
    while times.len() < 2 * RECORDS as usize || held.iter().any(|held| !held.is_empty()) || !all_committed() {
        assert!(began.elapsed() < LONG, "{} of {} messages", times.len(), 2 * RECORDS);
        for (index, reader) in [Some(&mut first), second.as_mut()].into_iter().flatten().enumerate() {
            let mut lent = Vec::new();
            reader.turn(&mut lent);
            for lent in &lent {
                *times.entry((lent.message.origin.partition, lent.message.offset)).or_default() += 1;
            }
            held[index].append(&mut lent);
            // The older half: the rest stays in flight for another turn.
            let half = held[index].len().div_ceil(2);
            resolve(held[index].drain(..half));
        }
        if second.is_none() {
            second = Some(bounded(&mock, &[], 40));
        }
        let shared = second.as_ref().is_some_and(|second| second.told().assigned == 1) && first.told().assigned == 1;
        if shared && !produced_rest {
            (0..2).for_each(|partition| mock.produce(TOPIC, partition, numbers(RECORDS as usize / 2)));
            produced_rest = true;
        }
    }
    let repeated = times.iter().filter(|((_, offset), times)| **times > 1 && *offset >= RECORDS / 2);
    assert_eq!(repeated.count(), 0, "what came after the hand-over has one owner");
    second.into_iter().for_each(Reader::close);
    first.close();
}

#[test]
fn a_broker_that_is_away_loses_nothing_and_blocks_no_turn() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(50));
    let mut reader = start(&mock, &[]);
    let mut lent = reader.read(50);
    let late = lent.split_off(25);
    resolve(lent);
    mock.cluster().broker_down(1).expect("down");
    resolve(late); // to be committed when the broker is back
    let (down, mut none, mut slowest) = (Instant::now(), Vec::new(), Duration::ZERO);
    while down.elapsed() < Duration::from_secs(2) {
        let began = Instant::now();
        reader.turn(&mut none);
        slowest = slowest.max(began.elapsed());
    }
    assert!(none.is_empty() && slowest < Duration::from_secs(1), "{slowest:?}");
    broker_up(&mock.cluster());
    mock.produce(TOPIC, 0, numbers(50));
    let lent = reader.read(50);
    assert_eq!(offsets(&lent), (50..100).collect::<Vec<_>>());
    resolve(lent);
    until_committed(&mut reader, &mock, TOPIC, 100);
    reader.close();
}

#[test]
fn a_member_that_stops_while_it_joins_leaves_at_once() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(3));
    let mut reader = start(&mock, &[]);
    reader.until("the first look", |reader, _| reader.told().ignored.is_some());
    reader.queue.stop();
    let mut next = start(&mock, &[]);
    let (began, mut lent, mut none) = (Instant::now(), Vec::new(), Vec::new());
    // Both are members now; the one that stops gets a share, takes nothing of it, and must not hold the group up.
    while next.told().assigned == 0 && began.elapsed() < Duration::from_secs(3) {
        reader.turn(&mut none);
        next.turn(&mut lent);
    }
    assert!(none.is_empty());
    reader.close();
    lent.append(&mut next.read(3 - lent.len()));
    assert_eq!(offsets(&lent), [0, 1, 2]);
}

/// The client is made anew with smaller bounds before it joins.
#[test]
fn many_partitions_share_what_may_be_fetched_ahead() {
    const PARTITIONS: i32 = 40;
    let mock = Mock::start(&[(TOPIC, PARTITIONS)]);
    for partition in 0..PARTITIONS {
        (0..20).for_each(|number| mock.append(TOPIC, partition, vec![b'0' + number; 10_000]));
    }
    mock.flush();
    let mut reader = start(&mock, &[("queue.prefetchBytes", "1000000")]);
    let mut places = BTreeSet::new();
    while places.len() < 20 * PARTITIONS as usize {
        let lent = reader.until("more", |_, lent| !lent.is_empty());
        places.extend(lent.iter().map(|lent| (lent.message.origin.partition, lent.message.offset)));
        resolve(lent);
    }
    reader.close();
    assert!((0..PARTITIONS).all(|partition| mock.committed("test", TOPIC, partition).is_some_and(|(at, _)| at == 20)));
}

#[test]
fn a_member_that_is_dropped_does_not_hang() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(3));
    let mut reader = start(&mock, &[]);
    let lent = reader.read(3);
    let began = Instant::now();
    drop(reader);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(lent.iter().all(|lent| lent.receipt.is_over() && !lent.receipt.may_send()));
}
