//! Whether the client stands still although the brokers answer. Pure.
//!
//! After a restart of the brokers librdkafka has been seen to fetch nothing any more of partitions that it has (librdkafka
//! issue 5153, rust-rdkafka issue 597); and while it waits for the answer to a commit, it begins no partition (librdkafka,
//! `rdkafka_assignment.c`). What it waits for then may never come, and another client is the only cure. That the brokers answer
//! is told by the scout, whose client is another one, and so is whether there is something to read in a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::place::Place;

/// The patience doubles with each client that was replaced in vain, as often as this.
const DOUBLINGS: u32 = 4;

/// Something that should move. Where it stands is a part of it: what has moved is another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiting {
    /// A commit that was asked for at this moment has no answer.
    Commit(Instant),
    /// The log goes on beyond this offset, nothing keeps it from being read, and it is not read.
    Partition(Place, i64),
    /// The group has not said which partitions are ours since it took the last, or since it was asked at this moment.
    Group(Instant),
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All moves, or may wait.
    Nothing,
    /// The client stands still with this.
    Still(Waiting),
    /// It does, if there is something to read from these offsets on: the last ones of a log may be marks of transactions. Another
    /// client is to try, and [`Stall::answered`] to be told.
    Unknown(Vec<(Place, i64)>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Stall {
    patience: Duration,
    /// Since when it waits.
    waiting: BTreeMap<Waiting, Instant>,
    /// Partitions among them that another client could read.
    readable: BTreeSet<Waiting>,
    /// Clients that were replaced since something moved.
    replaced: u32,
}

impl Stall {
    /// What waits for `patience` while the brokers answer stands still.
    pub(super) fn new(patience: Duration) -> Self {
        Stall { patience, waiting: BTreeMap::new(), readable: BTreeSet::new(), replaced: 0 }
    }

    /// A look at all that waits.
    pub(super) fn look(&mut self, now: Instant, brokers_answer: bool, all: Vec<Waiting>) -> Found {
        let before = std::mem::take(&mut self.waiting);
        if !brokers_answer {
            return Found::Nothing;
        }
        let patience = self.patience * 2_u32.pow(self.replaced.min(DOUBLINGS));
        let (mut still, mut unknown) = (None, Vec::new());
        for one in all {
            let since = before.get(&one).copied().unwrap_or(now);
            if now.saturating_duration_since(since) >= patience {
                match &one {
                    Waiting::Partition(place, from) if !self.readable.contains(&one) => {
                        unknown.push((place.clone(), *from));
                    }
                    _ => still = Some(one.clone()),
                }
            }
            self.waiting.insert(one, since);
        }
        self.readable.retain(|one| self.waiting.contains_key(one));
        match still {
            Some(still) => Found::Still(still),
            None if unknown.is_empty() => Found::Nothing,
            None => Found::Unknown(unknown),
        }
    }

    /// Whether another client could read a partition from there on. Where it could not, the question comes again after the same time.
    pub(super) fn answered(&mut self, place: Place, from: i64, is_readable: bool, now: Instant) {
        let one = Waiting::Partition(place, from);
        if is_readable {
            self.readable.insert(one);
        } else if let Some(since) = self.waiting.get_mut(&one) {
            *since = now;
        }
    }

    /// Another client begins.
    pub(super) fn replaced(&mut self) {
        self.waiting.clear();
        self.replaced += 1;
    }

    /// The client works: the group has accepted a commit.
    pub(super) fn moves(&mut self) {
        self.replaced = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn partition(next: i64) -> Waiting {
        Waiting::Partition(Place::new("t", 0), next)
    }

    #[test]
    fn what_waits_at_the_same_place_for_too_long_stands_still() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        let mut look = |after, waiting| stall.look(start + PATIENCE.mul_f64(after), true, waiting);
        let (commit, group) = (Waiting::Commit(start), Waiting::Group(start));
        assert_eq!(look(0.0, vec![commit]), Found::Nothing);
        assert_eq!(look(0.9, vec![]), Found::Nothing, "the commit was answered");
        assert_eq!(look(1.0, vec![group.clone()]), Found::Nothing);
        assert_eq!(look(2.0, vec![group.clone()]), Found::Still(group));
    }

    #[test]
    fn a_partition_stands_still_when_another_client_can_read_it() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        let at = |after| start + PATIENCE.mul_f64(after);
        let unknown = |from| Found::Unknown(vec![(Place::new("t", 0), from)]);
        assert_eq!(stall.look(at(0.0), true, vec![partition(5)]), Found::Nothing);
        assert_eq!(stall.look(at(1.0), true, vec![partition(6)]), Found::Nothing, "it has moved");
        assert_eq!(stall.look(at(2.0), true, vec![partition(6)]), unknown(6));
        stall.answered(Place::new("t", 0), 6, false, at(2.1));
        assert_eq!(stall.look(at(2.2), true, vec![partition(6)]), Found::Nothing, "there was nothing to read");
        assert_eq!(stall.look(at(3.1), true, vec![partition(6)]), unknown(6), "there may be now");
        stall.answered(Place::new("t", 0), 6, true, at(3.2));
        assert_eq!(stall.look(at(3.3), true, vec![partition(6)]), Found::Still(partition(6)));
        assert_eq!(stall.look(at(3.4), true, vec![partition(7)]), Found::Nothing, "it has moved");
        assert_eq!(stall.look(at(4.4), true, vec![partition(7)]), unknown(7), "what was known was of another place");
    }

    #[test]
    fn while_the_brokers_do_not_answer_all_may_wait() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        let group = || vec![Waiting::Group(start)];
        let mut look = |after, answer| stall.look(start + PATIENCE * after, answer, group());
        assert_eq!(look(0, true), Found::Nothing);
        assert_eq!(look(9, false), Found::Nothing);
        assert_eq!(look(10, true), Found::Nothing, "from when they answer again");
        assert_eq!(look(11, true), Found::Still(Waiting::Group(start)));
    }

    #[test]
    fn in_vain_clients_are_replaced_less_and_less_often() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        let mut now = start;
        let mut lasts = |stall: &mut Stall| {
            let began = now;
            while stall.look(now, true, vec![Waiting::Group(start)]) == Found::Nothing {
                now += PATIENCE;
            }
            (now - began).as_secs()
        };
        let mut times = Vec::new();
        for _ in 0..6 {
            times.push(lasts(&mut stall));
            stall.replaced();
        }
        assert_eq!(times, [10, 20, 40, 80, 160, 160]);
        stall.moves();
        assert_eq!(lasts(&mut stall), 10, "the next time is a first time");
    }
}
