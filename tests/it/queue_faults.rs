//! The Kafka queue on librdkafka's mock cluster when something is wrong: partitions without a leader, a stalled process,
//! commits of others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pusher::message::{Lane, Origin, Platform};
use pusher::queue::in_flight::{Assignment, LastPoll, lend};
use pusher::queue::offsets::Ledger;
use pusher::queue::{Lent, Receipt};
use pusher::tally::Tally;

use crate::support::ear::Ear;
use crate::support::mock::{Mock, broker_up};
use crate::support::reader::{LONG, Reader, offsets, resolve};

pub(crate) const TOPIC: &str = "push-game_apns-single";
/// A third of the session timeout: a turn that takes longer endangers the membership.
const PROMPT: Duration = Duration::from_secs(2);

pub(crate) fn start(mock: &Mock, more: &[(&str, &str)]) -> Reader {
    Reader::new(&mock.brokers, &["game", "other"], more, 10_000)
}

pub(crate) fn numbers(n: usize) -> impl Iterator<Item = String> {
    (0..n).map(|number| number.to_string())
}

/// A turn that must not take long.
fn prompt_turn(reader: &mut Reader, lent: &mut Vec<Lent>) {
    let began = Instant::now();
    reader.turn(lent);
    assert!(began.elapsed() < PROMPT, "a turn took {:?}", began.elapsed());
}

pub(crate) fn places(lent: &[Lent]) -> Vec<(i32, i64)> {
    lent.iter().map(|lent| (lent.message.origin.partition, lent.message.offset)).collect()
}

/// One partition has no leader: the others are read meanwhile, it joins them later, and nobody loses his place.
fn without_a_leader(assignment: &str) {
    let mock = Mock::start(&[(TOPIC, 3)]);
    (0..3).for_each(|partition| mock.produce(TOPIC, partition, numbers(20)));
    mock.cluster().partition_leader(TOPIC, 1, None).expect("no leader");
    let mut reader = start(&mock, &[("queue.assignment", assignment)]);
    let (mut lent, began) = (Vec::new(), Instant::now());
    while lent.len() < 40 {
        prompt_turn(&mut reader, &mut lent);
        assert!(began.elapsed() < LONG, "{:?}", places(&lent));
    }
    assert!(lent.iter().all(|lent| lent.message.origin.partition != 1), "{:?}", places(&lent));
    // Some stay in flight, some are resolved but the first: the position is not where reading goes on.
    let (held, done): (Vec<_>, Vec<_>) = lent.into_iter().partition(|lent| lent.message.offset % 5 == 0);
    resolve(done);
    mock.produce(TOPIC, 0, numbers(3));
    mock.cluster().partition_leader(TOPIC, 1, Some(1)).expect("a leader");
    let mut late = Vec::new();
    while late.len() < 23 {
        prompt_turn(&mut reader, &mut late);
        assert!(began.elapsed() < LONG * 2, "{:?}", places(&late));
    }
    let expected: BTreeSet<_> = (0..20).map(|offset| (1, offset)).chain((20..23).map(|offset| (0, offset))).collect();
    assert_eq!(places(&late).into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(late.len(), 23, "nothing is lent twice");
    resolve(held.into_iter().chain(late));
    let ends = [23, 20, 20];
    let all = || {
        (0..3).all(|partition| {
            mock.committed("test", TOPIC, partition).is_some_and(|(at, _)| at == ends[partition as usize])
        })
    };
    let more = reader.until("all commits", |_, _| all());
    assert!(more.is_empty(), "{:?}", places(&more));
    reader.close();
}

#[test]
fn all_at_once_a_partition_without_a_leader_does_not_hold_up_the_others() {
    without_a_leader("range,roundrobin");
}

#[test]
fn one_by_one_a_partition_without_a_leader_does_not_hold_up_the_others() {
    without_a_leader("cooperative-sticky");
}

/// The group takes away partitions whose start was never settled: that must not hold the group up.
fn taken_away_before_it_was_settled(assignment: &str) {
    let mock = Mock::start(&[(TOPIC, 4)]);
    (0..4).for_each(|partition| mock.produce(TOPIC, partition, numbers(10)));
    (1..4).for_each(|partition| mock.cluster().partition_leader(TOPIC, partition, None).expect("no leader"));
    let options = [("queue.assignment", assignment)];
    let mut readers = vec![start(&mock, &options)];
    let first = readers[0].until("the partition that has a leader", |_, lent| lent.len() == 10);
    let mut times: BTreeMap<(i32, i64), u32> = places(&first).into_iter().map(|place| (place, 1)).collect();
    resolve(first);
    readers.push(start(&mock, &options));
    let began = Instant::now();
    let mut led = false;
    while times.len() < 40 || readers.iter().any(|reader| reader.told().assigned != 2) {
        for reader in &mut readers {
            let mut lent = Vec::new();
            prompt_turn(reader, &mut lent);
            for place in places(&lent) {
                *times.entry(place).or_default() += 1;
            }
            resolve(lent);
        }
        // A client that a group has left without partitions is replaced after 45 s.
        assert!(
            began.elapsed() < LONG * 3,
            "{} of 40, {:?}",
            times.len(),
            readers.iter().map(Reader::told).collect::<Vec<_>>()
        );
        // Long enough for the second one to join while the first waits for leaders.
        if !led && began.elapsed() > Duration::from_secs(5) {
            (1..4).for_each(|partition| mock.cluster().partition_leader(TOPIC, partition, Some(1)).expect("a leader"));
            led = true;
        }
    }
    assert!(times.iter().filter(|((partition, _), _)| *partition != 0).all(|(_, times)| *times == 1), "{times:?}");
    readers.into_iter().for_each(Reader::close);
}

#[test]
fn one_by_one_a_partition_that_was_never_taken_is_given_back() {
    taken_away_before_it_was_settled("cooperative-sticky");
}

#[test]
fn all_at_once_a_partition_that_was_never_taken_is_given_back() {
    taken_away_before_it_was_settled("range,roundrobin");
}

#[test]
fn after_a_long_silence_nothing_is_sent_until_the_group_has_taken_a_commit() {
    const SESSION: Duration = Duration::from_secs(2);
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(10));
    let mut reader = start(&mock, &[("queue.sessionTimeout", "2000")]);
    let lent = reader.read(10);
    assert!(lent.iter().all(|lent| lent.receipt.may_send()));
    reader.until("the start's commit", |_, _| mock.committed("test", TOPIC, 0).is_some());
    mock.produce(TOPIC, 0, numbers(5));
    // The client's own threads go on, so this member is not expelled; a stopped process could not know.
    std::thread::park_timeout(SESSION);
    let silence = Instant::now();
    while silence.elapsed() < SESSION / 4 {
        std::thread::park_timeout(SESSION / 4);
    }
    assert!(lent.iter().all(|lent| !lent.receipt.may_send()));
    mock.cluster().broker_round_trip_time(1, Duration::from_millis(700)).expect("a delay");
    let (resumed, mut new) = (Instant::now(), Vec::new());
    reader.turn(&mut new);
    while resumed.elapsed() < Duration::from_millis(400) {
        assert!(lent.iter().all(|lent| !lent.receipt.may_send()), "sent {:?} after the stop", resumed.elapsed());
        assert!(new.is_empty(), "lent {:?} after the stop", resumed.elapsed());
        reader.turn(&mut new);
    }
    mock.cluster().broker_round_trip_time(1, Duration::ZERO).expect("no delay");
    let mut new = reader.until("leave to send", |_, _| lent.iter().all(|lent| lent.receipt.may_send()));
    new.append(&mut reader.until("what is new", |_, more| more.len() + new.len() == 5));
    assert_eq!(offsets(&new), (10..15).collect::<Vec<_>>());
    resolve(lent.into_iter().chain(new));
    reader.until("the last commit", |_, _| mock.committed("test", TOPIC, 0).is_some_and(|(at, _)| at == 15));
    reader.close();
}

/// Leaves an app no room, as messages in flight elsewhere would.
fn fill(reader: &Reader, app: &str, n: usize) -> Vec<Receipt> {
    let last_poll = LastPoll::new(LONG, Instant::now());
    let origin =
        Origin { topic: TOPIC.into(), partition: 0, app: app.into(), platform: Platform("apns"), lane: Lane::Single };
    let assignment = Assignment::new(Ledger::new(0, vec![]), last_poll, Tally::default().lane(&origin));
    let share = reader.in_flight.share(app);
    (0..n).map(|offset| lend(&assignment, &share, offset as i64, None, 1)).collect()
}

/// What an end repeats when it comes between two stragglers of which the second is not read yet: the time of that one is not known,
/// which a map at it would need.
fn between_two_stragglers(end: impl FnOnce(Reader)) -> Vec<i64> {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(100));
    let mut reader = start(&mock, &[]);
    let (stragglers, done): (Vec<_>, Vec<_>) =
        reader.read(100).into_iter().partition(|lent| [3, 57].contains(&lent.message.offset));
    resolve(done);
    reader.close();
    drop(stragglers);
    let mut reader = Reader::new(&mock.brokers, &["game", "other"], &[], 2);
    let first = reader.read(1);
    assert_eq!(offsets(&first), [3]);
    resolve(first);
    end(reader);
    let mut reader = start(&mock, &[]);
    let mut lent = reader.until("the second straggler", |_, lent| offsets(lent).contains(&57));
    mock.produce(TOPIC, 0, ["the end"]);
    lent.append(&mut reader.until("the end", |_, lent| offsets(lent).contains(&100)));
    let mut repeated = offsets(&lent);
    repeated.sort_unstable();
    resolve(lent);
    reader.close();
    repeated
}

/// Several strikes of the commit clock, with no room for the second straggler.
fn after_strikes(mut reader: Reader, end: impl FnOnce(Reader)) {
    let _in_the_way = fill(&reader, "game", 2);
    let began = Instant::now();
    let mut none = Vec::new();
    while began.elapsed() < Duration::from_millis(500) {
        reader.turn(&mut none);
    }
    assert!(none.is_empty(), "{:?}", offsets(&none));
    end(reader);
}

#[test]
fn a_crash_between_two_stragglers_does_not_repeat_their_neighbours() {
    let repeated = between_two_stragglers(|reader| after_strikes(reader, drop));
    assert!([vec![57, 100], vec![3, 57, 100]].contains(&repeated), "{repeated:?}");
}

#[test]
fn an_end_between_two_stragglers_repeats_nothing() {
    assert_eq!(between_two_stragglers(Reader::close), [57, 100]);
    assert_eq!(between_two_stragglers(|reader| after_strikes(reader, Reader::close)), [57, 100]);
}

#[test]
fn metadata_that_is_no_text_is_dropped_and_told() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(10));
    mock.commit_bytes("test", TOPIC, 0, 5, &[0xff, 0xfe, 0x00, 0x80]);
    let mut reader = start(&mock, &[]);
    let lent = reader.read(5);
    assert_eq!((offsets(&lent), reader.told().maps_dropped), ((5..10).collect(), vec!["not readable"]));
    resolve(lent);
    reader.close();
    assert_eq!(mock.committed("test", TOPIC, 0), Some((10, String::new())));
}

/// The log is another one: what it holds under lower numbers was never sent.
#[test]
fn a_commit_beyond_the_end_of_the_log_skips_nothing() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(20));
    mock.commit("test", TOPIC, 0, 500, "");
    let mut reader = start(&mock, &[]);
    let lent = reader.read(20);
    assert_eq!(offsets(&lent), (0..20).collect::<Vec<_>>());
    resolve(lent);
    reader.until("its commit", |_, _| mock.committed("test", TOPIC, 0) == Some((20, String::new())));
    reader.close();
}

/// The broker is away for longer than the session. What ended here meanwhile is known when the partition comes back, what is
/// still under way is not begun a second time, and only what was given back is lent again.
fn lost_and_regained(assignment: &str) {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(20));
    let mut reader = start(&mock, &[("queue.sessionTimeout", "2000"), ("queue.assignment", assignment)]);
    let mut lent: Vec<Option<Lent>> = reader.read(20).into_iter().map(Some).collect();
    let mut end =
        |offsets: &[usize]| -> Vec<Lent> { offsets.iter().filter_map(|offset| lent[*offset].take()).collect() };
    resolve(end(&[0, 1, 2, 4]));
    reader.until("a commit with its map", |_, _| {
        mock.committed("test", TOPIC, 0).is_some_and(|(at, metadata)| at == 3 && !metadata.is_empty())
    });
    mock.cluster().broker_down(1).expect("down");
    resolve(end(&[3, 6, 7]));
    let none = reader.until("the loss", |reader, _| reader.told().assigned == 0);
    assert!(none.is_empty());
    resolve(end(&[8, 9]));
    for lent in end(&[10, 11]) {
        lent.receipt.release();
    }
    broker_up(&mock.cluster());
    let again = reader.until("what was given back", |_, lent| lent.len() >= 2);
    assert_eq!(offsets(&again), [10, 11]);
    mock.produce(TOPIC, 0, ["new"]);
    let new = reader.read(1);
    assert_eq!(offsets(&new), [20]);
    let rest = end(&(0..20).collect::<Vec<_>>());
    assert_eq!(offsets(&rest), [5, 12, 13, 14, 15, 16, 17, 18, 19], "still under way, and still ours");
    assert!(rest.iter().all(|lent| !lent.receipt.is_over()));
    resolve(rest.into_iter().chain(again).chain(new));
    let none = reader.until("the last commit", |_, _| mock.committed("test", TOPIC, 0) == Some((21, String::new())));
    assert!(none.is_empty(), "{:?}", offsets(&none));
    reader.close();
}

#[test]
fn all_at_once_what_was_resolved_is_known_when_a_lost_partition_comes_back() {
    lost_and_regained("range,roundrobin");
}

#[test]
fn one_by_one_what_was_resolved_is_known_when_a_lost_partition_comes_back() {
    lost_and_regained("cooperative-sticky");
}

#[test]
fn an_end_before_the_partitions_are_back_says_that_what_ended_in_them_comes_again() {
    let mock = Mock::start(&[(TOPIC, 1)]);
    mock.produce(TOPIC, 0, numbers(5));
    let mut reader = start(&mock, &[("queue.sessionTimeout", "2000")]);
    let lent = reader.read(5);
    mock.cluster().broker_down(1).expect("down");
    reader.until("the loss", |reader, _| reader.told().assigned == 0);
    resolve(lent);
    let ear = Ear::new();
    reader.close();
    let said = ear.text();
    assert!(said.contains("is not committed and is sent again") && said.contains("partitions=1"), "{said}");
}

/// One partition of two goes to a second member, who resolves some of what the first has in flight, and comes back when he
/// leaves: the first one, what he holds of that partition, its number, and what he is lent of it again at once.
fn away_and_back(mock: &Mock, resolved: std::ops::Range<i64>) -> (Reader, Vec<Lent>, i32, Vec<Lent>) {
    (0..2).for_each(|partition| mock.produce(TOPIC, partition, numbers(10)));
    let mut first = start(mock, &[]);
    let mut held = first.read(20);
    first.until("the starts' commits", |_, _| (0..2).all(|one| mock.committed("test", TOPIC, one).is_some()));
    let (mut second, mut taken, began) = (start(mock, &[]), Vec::new(), Instant::now());
    while taken.len() < 10 {
        first.turn(&mut held);
        second.turn(&mut taken);
        assert!(began.elapsed() < LONG, "{:?}", places(&taken));
    }
    let partition = taken[0].message.origin.partition;
    assert_eq!(
        (held.len(), offsets(&taken)),
        (20, (0..10).collect()),
        "what is in flight is repeated by its new owner"
    );
    let (held, others): (Vec<_>, Vec<_>) =
        held.into_iter().partition(|lent| lent.message.origin.partition == partition);
    resolve(others);
    assert!(held.iter().all(|lent| lent.receipt.is_over() && !lent.receipt.may_send()));
    let (done, _left): (Vec<_>, Vec<_>) = taken.into_iter().partition(|lent| resolved.contains(&lent.message.offset));
    resolve(done);
    second.close();
    let again = first.until("both partitions", |reader, _| reader.told().assigned == 2);
    (first, held, partition, again)
}

#[test]
fn what_somebody_else_went_on_with_is_his() {
    let mock = Mock::start(&[(TOPIC, 2)]);
    let (mut reader, held, partition, mut again) = away_and_back(&mock, 0..6);
    again.append(&mut reader.until("what he left", |_, lent| again.len() + lent.len() >= 4));
    assert_eq!(offsets(&again), [6, 7, 8, 9]);
    assert!(held.iter().all(|lent| lent.receipt.is_over()));
    resolve(held);
    mock.produce(TOPIC, partition, ["new"]);
    let new = reader.read(1);
    assert_eq!(places(&new), [(partition, 10)], "late ends change nothing");
    assert_eq!(mock.committed("test", TOPIC, partition).map(|(at, _)| at), Some(6));
    resolve(again.into_iter().chain(new));
    reader.until("the last commit", |_, _| mock.committed("test", TOPIC, partition).is_some_and(|(at, _)| at == 11));
    reader.close();
}

#[test]
fn what_somebody_else_resolved_of_the_same_is_known_too() {
    let mock = Mock::start(&[(TOPIC, 2)]);
    let (mut reader, held, partition, again) = away_and_back(&mock, 4..10);
    assert!(again.is_empty(), "{:?}", places(&again));
    mock.produce(TOPIC, partition, ["new"]);
    let new = reader.read(1);
    assert_eq!(places(&new), [(partition, 10)]);
    assert!(held.iter().all(|lent| !lent.receipt.is_over()), "still under way, and ours again");
    resolve(held.into_iter().chain(new));
    reader.until("the last commit", |_, _| mock.committed("test", TOPIC, partition).is_some_and(|(at, _)| at == 11));
    reader.close();
}
