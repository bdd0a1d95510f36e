//! The Kafka queue on a mock cluster of two brokers: leaders of partitions, and the coordinator of the group, move while messages
//! are read and in flight.

use std::collections::BTreeSet;
use std::time::Duration;

use pusher::queue::Lent;
use rdkafka::mocking::MockCoordinator;

use crate::queue_faults::{TOPIC, numbers, places, start};
use crate::support::mock::Mock;
use crate::support::reader::{LONG, Reader, resolve};

const PARTITIONS: i32 = 2;
/// Records of each partition between one move and the next; half of them are there before it.
const STEP: usize = 40;

/// What was read of a cluster of two brokers, and what of it is in flight.
struct Watch {
    mock: Mock,
    reader: Reader,
    held: Vec<Lent>,
    end: i64,
}

impl Watch {
    fn start(assignment: &str) -> Watch {
        let mock = Mock::of_brokers(2, &[(TOPIC, PARTITIONS)]);
        (0..PARTITIONS).for_each(|partition| lead(&mock, partition, 1));
        coordinate(&mock, 1);
        let reader = start(&mock, &[("queue.assignment", assignment)]);
        Watch { mock, reader, held: Vec::new(), end: 0 }
    }

    /// Messages come before and after a move. Each is lent once; most are resolved, some stay in flight over later moves.
    #[track_caller]
    fn step(&mut self, what: &str, moves: impl FnOnce(&Mock)) {
        let produce = |mock: &Mock| {
            (0..PARTITIONS).for_each(|partition| mock.produce(TOPIC, partition, numbers(STEP / 2)));
        };
        produce(&self.mock);
        let mut lent = self.reader.until(what, |_, lent| !lent.is_empty());
        moves(&self.mock);
        produce(&self.mock);
        let count = STEP * PARTITIONS as usize;
        let so_far = lent.len();
        lent.append(&mut self.reader.until(what, |_, more| so_far + more.len() >= count));
        let (begin, end) = (self.end, self.end + STEP as i64);
        let expected: BTreeSet<_> =
            (0..PARTITIONS).flat_map(|partition| (begin..end).map(move |offset| (partition, offset))).collect();
        assert_eq!(places(&lent).into_iter().collect::<BTreeSet<_>>(), expected, "{what}");
        assert_eq!(lent.len(), count, "{what}: nothing is lent twice");
        self.end = end;
        let (held, done): (Vec<_>, Vec<_>) = lent.into_iter().partition(|lent| lent.message.offset % 10 == 7);
        self.held.extend(held);
        resolve(done);
        // What is resolved beyond the first in flight travels with the commit: it is new each time.
        self.until_committed(what, |_, metadata| !metadata.is_empty());
    }

    #[track_caller]
    fn until_committed(&mut self, what: &str, is_so: impl Fn(i64, &str) -> bool) {
        let mock = &self.mock;
        let committed = |partition| mock.committed("test", TOPIC, partition);
        let all = || (0..PARTITIONS).all(|one| committed(one).is_some_and(|(at, metadata)| is_so(at, &metadata)));
        let more = self.reader.until(&format!("{what}: commits"), |_, _| all());
        assert!(more.is_empty(), "{what}: {:?}", places(&more));
    }

    /// What was held over all moves is still ours to send, and ends the ledger.
    #[track_caller]
    fn end(mut self) {
        assert!(self.held.iter().all(|lent| lent.receipt.may_send() && !lent.receipt.is_over()));
        resolve(self.held.drain(..));
        let end = self.end;
        self.until_committed("the end", |at, metadata| at == end && metadata.is_empty());
        let told = self.reader.told();
        assert_eq!((told.skipped, told.maps_dropped, told.lost), (0, vec![], 0));
        self.reader.close();
    }
}

fn lead(mock: &Mock, partition: i32, broker: i32) {
    mock.cluster().partition_leader(TOPIC, partition, Some(broker)).expect("a leader");
}

fn coordinate(mock: &Mock, broker: i32) {
    mock.cluster().coordinator(MockCoordinator::Group("test".into()), broker).expect("a coordinator");
}

/// One partition's leader moves there and back, then both at once; at last the old leader is gone.
fn leaders_move(assignment: &str) {
    let mut watch = Watch::start(assignment);
    watch.step("in peace", |_| ());
    watch.step("one leader moves", |mock| lead(mock, 0, 2));
    watch.step("it moves back", |mock| lead(mock, 0, 1));
    watch.step("both move", |mock| (0..PARTITIONS).for_each(|partition| lead(mock, partition, 2)));
    watch.step("the group's coordinator follows", |mock| coordinate(mock, 2));
    watch.step("the old leader is gone", |mock| mock.cluster().broker_down(1).expect("down"));
    watch.end();
}

#[test]
fn all_at_once_leaders_move_and_nothing_is_skipped_or_repeated() {
    leaders_move("range,roundrobin");
}

#[test]
fn one_by_one_leaders_move_and_nothing_is_skipped_or_repeated() {
    leaders_move("cooperative-sticky");
}

/// A commit is never answered, while the brokers answer otherwise: another client takes the first one's place, and what is
/// known of the partitions is known to it.
fn a_client_that_stands_still_is_replaced(assignment: &str) {
    let mock = Mock::of_brokers(2, &[(TOPIC, PARTITIONS)]);
    (0..PARTITIONS).for_each(|partition| lead(&mock, partition, 1));
    coordinate(&mock, 1);
    let settings = [("queue.assignment", assignment), ("queue.topicInterval", "200ms")];
    let reader = Reader::with_patience(&mock.brokers, &["game"], &settings, Duration::from_secs(3));
    let mut watch = Watch { mock, reader, held: Vec::new(), end: 0 };
    watch.step("in peace", |_| ());
    assert_eq!(watch.reader.told().clients_replaced, 0);
    watch.mock.delay_commit(1, 2 * LONG);
    resolve(watch.held.pop());
    (0..PARTITIONS).for_each(|partition| watch.mock.produce(TOPIC, partition, numbers(STEP)));
    let lent = watch.reader.until("another client", |reader, _| reader.told().clients_replaced > 0);
    // What ends while nobody has the partitions is known when they are back.
    let mut read = places(&lent);
    resolve(lent);
    resolve(watch.held.drain(..));
    let count = STEP * PARTITIONS as usize;
    let so_far = read.len();
    let lent = watch.reader.until("it goes on", |_, more| so_far + more.len() >= count);
    read.extend(places(&lent));
    resolve(lent);
    let (begin, end) = (watch.end, watch.end + STEP as i64);
    let expected = (0..PARTITIONS).flat_map(|partition| (begin..end).map(move |offset| (partition, offset)));
    read.sort_unstable();
    assert_eq!(read, expected.collect::<Vec<_>>(), "each is lent once");
    watch.until_committed("the end", |at, metadata| at == end && metadata.is_empty());
    watch.reader.close();
}

#[test]
fn all_at_once_a_client_that_stands_still_is_replaced() {
    a_client_that_stands_still_is_replaced("range,roundrobin");
}

#[test]
fn one_by_one_a_client_that_stands_still_is_replaced() {
    a_client_that_stands_still_is_replaced("cooperative-sticky");
}

/// The group's coordinator moves there and back: the membership lasts, and commits go to whoever coordinates now.
fn the_coordinator_moves(assignment: &str) {
    let mut watch = Watch::start(assignment);
    watch.step("in peace", |_| ());
    let before = watch.reader.told().rebalances;
    watch.step("the coordinator moves", |mock| coordinate(mock, 2));
    watch.step("it moves back", |mock| coordinate(mock, 1));
    assert_eq!((watch.reader.told().assigned, watch.reader.told().rebalances), (2, before));
    watch.end();
}

#[test]
fn all_at_once_the_coordinator_moves_and_commits_go_on() {
    the_coordinator_moves("range,roundrobin");
}

#[test]
fn one_by_one_the_coordinator_moves_and_commits_go_on() {
    the_coordinator_moves("cooperative-sticky");
}
