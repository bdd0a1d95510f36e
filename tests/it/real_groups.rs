//! Each way of sharing partitions on Apache Kafka: members join and leave in peace, and every message is lent once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pusher::queue::Queue as _;

use crate::support;
use crate::support::place::{Place, delete};
use crate::support::reader::{LONG, Reader, resolve};

const PARTITIONS: i32 = 4;

/// Members of one group, messages that come all the time, and how often each was lent.
struct Calm {
    place: Place,
    members: Vec<Reader>,
    times: BTreeMap<(i32, i64), u32>,
    produced: u32,
    began: Instant,
}

impl Calm {
    fn new() -> Calm {
        Calm {
            place: Place::new(PARTITIONS),
            members: Vec::new(),
            times: BTreeMap::new(),
            produced: 0,
            began: Instant::now(),
        }
    }

    fn join(&mut self, options: &[(&str, &str)]) {
        self.members.push(self.place.reader(options, 1_000));
    }

    fn shares(&self) -> Vec<usize> {
        self.members.iter().map(|member| member.told().assigned).collect()
    }

    /// A turn of every member; what is lent is resolved at once, so that nothing is in flight when a partition goes.
    fn turn(&mut self) {
        for member in &mut self.members {
            let mut lent = Vec::new();
            member.turn(&mut lent);
            for lent in &lent {
                *self.times.entry((lent.message.origin.partition, lent.message.offset)).or_default() += 1;
            }
            resolve(lent);
        }
    }

    /// Messages come until the partitions are shared so, and for a while longer.
    #[track_caller]
    fn until_shared(&mut self, shares: &[usize]) {
        let mut since = None;
        while since.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(500)) {
            (0..PARTITIONS).for_each(|partition| self.place.append(&self.place.topic, partition, Duration::ZERO));
            self.produced += PARTITIONS as u32;
            self.turn();
            let now = self.shares();
            let mut sorted = now.clone();
            sorted.sort_unstable();
            since = (sorted == shares).then(|| since.unwrap_or_else(Instant::now));
            assert!(self.began.elapsed() < LONG * 4, "{now:?}, not {shares:?}");
        }
    }

    /// A member leaves in good order.
    fn leave(&mut self, index: usize) {
        self.members.remove(index).close();
    }

    /// Every message was lent once, and is committed.
    #[track_caller]
    fn end(mut self) {
        self.place.produce(0, 1);
        self.produced += 1;
        while self.times.len() < self.produced as usize {
            self.turn();
            assert!(self.began.elapsed() < LONG * 5, "{} of {}", self.times.len(), self.produced);
        }
        let repeated: Vec<_> = self.times.iter().filter(|(_, times)| **times > 1).collect();
        assert!(repeated.is_empty(), "{repeated:?} of {}", self.produced);
        self.members.drain(..).for_each(Reader::close);
        let ends = support::kafka().end_offsets(&self.place.topic);
        let committed = support::kafka().committed(&self.place.group, &self.place.topic);
        let committed: Vec<_> = committed.into_iter().map(|one| (one.offset, one.metadata)).collect();
        assert_eq!(committed, ends.into_iter().map(|end| (Some(end), String::new())).collect::<Vec<_>>());
    }
}

/// One joins another, who leaves; a third one joins, and the second leaves.
fn join_and_leave(options: &[(&str, &str)]) {
    let mut calm = Calm::new();
    calm.join(options);
    calm.until_shared(&[4]);
    calm.join(options);
    calm.until_shared(&[2, 2]);
    calm.leave(0);
    calm.until_shared(&[4]);
    calm.join(options);
    calm.until_shared(&[2, 2]);
    calm.leave(0);
    calm.until_shared(&[4]);
    calm.end();
}

#[test]
fn members_join_and_leave_with_range_and_roundrobin() {
    join_and_leave(&[("queue.assignment", "range,roundrobin")]);
}

#[test]
fn members_join_and_leave_with_cooperative_sticky() {
    join_and_leave(&[("queue.assignment", "cooperative-sticky")]);
}

#[test]
fn members_join_and_leave_where_brokers_share_partitions() {
    join_and_leave(&[("queue.kafka.group.protocol", "consumer")]);
}

/// A static member that comes back within the session finds its partitions as they were, and the other notices nothing.
fn come_back(options: &[(&str, &str)]) {
    let named = |name: &'static str| {
        options.iter().copied().chain([("queue.kafka.group.instance.id", name)]).collect::<Vec<_>>()
    };
    let mut calm = Calm::new();
    calm.join(&named("one"));
    calm.until_shared(&[4]);
    calm.join(&named("two"));
    calm.until_shared(&[2, 2]);
    let before = calm.members[1].told().rebalances;
    calm.leave(0);
    calm.join(&named("one"));
    calm.until_shared(&[2, 2]);
    assert_eq!(calm.members[0].told().rebalances, before, "the other one keeps what he has");
    calm.end();
}

#[test]
fn a_static_member_comes_back_with_range_and_roundrobin() {
    come_back(&[("queue.sessionTimeout", "20000")]);
}

#[test]
fn a_static_member_comes_back_with_cooperative_sticky() {
    come_back(&[("queue.sessionTimeout", "20000"), ("queue.assignment", "cooperative-sticky")]);
}

#[test]
fn a_static_member_comes_back_where_brokers_share_partitions() {
    come_back(&[("queue.kafka.group.protocol", "consumer")]);
}

/// A member that shares partitions in another way than the group is refused, and says so with what to do; the group goes on.
#[test]
fn a_member_that_shares_partitions_in_another_way_is_refused_by_name() {
    let place = Place::new(2);
    let mut first = place.reader(&[("queue.assignment", "range,roundrobin")], 100);
    first.until("its partitions", |reader, _| reader.told().assigned == 2);
    let mut other = place.reader(&[("queue.assignment", "cooperative-sticky")], 100);
    let (began, mut none) = (Instant::now(), Vec::new());
    let error = loop {
        first.turn(&mut none);
        if let Err(error) = other.queue.lend(Duration::from_millis(10), &mut none) {
            break error.to_string();
        }
        assert!(began.elapsed() < LONG, "it was never refused");
    };
    assert!(error.contains("shares partitions in another way: use the same queue.assignment for all"), "{error}");
    other.close();
    (0..2).for_each(|partition| place.produce(partition, 10));
    let rest = first.until("what comes", |_, lent| none.len() + lent.len() >= 20);
    assert_eq!((none.len() + rest.len(), first.told().assigned), (20, 2));
    resolve(none.into_iter().chain(rest));
    first.close();
}

/// A worker of which no topic is left waits for no partitions, and its client is not taken for one that stands still.
#[test]
fn a_member_that_has_no_topic_left_waits_for_no_partitions() {
    const PATIENCE: Duration = Duration::from_secs(2);
    let place = Place::new(1);
    let options = [("queue.group", place.group.as_str()), ("queue.topicInterval", "1s")];
    let mut reader = Reader::with_patience(&support::kafka().brokers, &[&place.app], &options, PATIENCE);
    reader.until("its partition", |reader, _| reader.told().assigned == 1);
    delete(&place.topic);
    reader.until("its end", |reader, _| reader.told().assigned == 0);
    let began = Instant::now();
    reader.until("a while", |_, _| began.elapsed() > PATIENCE * 4);
    assert_eq!(reader.told().clients_replaced, 0);
    reader.close();
}
