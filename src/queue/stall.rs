//! Whether the client stands still although the brokers answer. Pure.
//!
//! After a restart of the brokers librdkafka has been seen to fetch nothing any more of partitions that it has (librdkafka
//! issue 5153, rust-rdkafka issue 597); and while it waits for the answer to a commit, it begins no partition (librdkafka,
//! `rdkafka_assignment.c`). What it waits for then may never come, and another client is the only cure. That the brokers answer
//! is told by the scout, whose client is another one.

use std::collections::BTreeMap;
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

/// Since when something waits, and where its log ended then, if it has one.
type Since = (Instant, Option<i64>);

/// See the module.
#[derive(Debug)]
pub(super) struct Stall {
    patience: Duration,
    waiting: BTreeMap<Waiting, Since>,
    /// Clients that were replaced since something moved.
    replaced: u32,
}

impl Stall {
    /// What waits for `patience` while the brokers answer stands still.
    pub(super) fn new(patience: Duration) -> Self {
        Stall { patience, waiting: BTreeMap::new(), replaced: 0 }
    }

    /// A look at all that waits, with the end of its log, if it has one; what stands still, if anything does. A log must
    /// have grown meanwhile: its last offsets may be marks of transactions, which nobody can read.
    pub(super) fn look(
        &mut self,
        now: Instant,
        brokers_answer: bool,
        all: Vec<(Waiting, Option<i64>)>,
    ) -> Option<Waiting> {
        let before = std::mem::take(&mut self.waiting);
        if !brokers_answer {
            return None;
        }
        let patience = self.patience * 2_u32.pow(self.replaced.min(DOUBLINGS));
        let mut still = None;
        for (one, end) in all {
            let since = before.get(&one).copied().unwrap_or((now, end));
            if now.saturating_duration_since(since.0) >= patience && (end.is_none() || end > since.1) {
                still = Some(one.clone());
            }
            self.waiting.insert(one, since);
        }
        still
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

    fn partition(next: i64, end: i64) -> (Waiting, Option<i64>) {
        (Waiting::Partition(Place::new("t", 0), next), Some(end))
    }

    #[test]
    fn what_waits_at_the_same_place_for_too_long_stands_still() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        let mut look = |after, waiting| stall.look(start + PATIENCE.mul_f64(after), true, waiting);
        let (commit, group) = ((Waiting::Commit(start), None), (Waiting::Group(start), None));
        assert_eq!(look(0.0, vec![partition(5, 9), commit]), None);
        assert_eq!(look(0.9, vec![partition(5, 10)]), None, "the commit was answered");
        assert_eq!(look(1.0, vec![partition(6, 10)]), None, "it has moved");
        assert_eq!(look(2.0, vec![partition(6, 10), group.clone()]), None, "what is there may be nothing to read");
        assert_eq!(look(2.1, vec![partition(6, 11), group.clone()]), Some(partition(6, 11).0), "more has come");
        assert_eq!(look(3.0, vec![group.clone()]), Some(group.0));
    }

    #[test]
    fn while_the_brokers_do_not_answer_all_may_wait() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        let mut look =
            |after, answer| stall.look(start + PATIENCE * after, answer, vec![(Waiting::Group(start), None)]);
        assert_eq!(look(0, true), None);
        assert_eq!(look(9, false), None);
        assert_eq!(look(10, true), None, "from when they answer again");
        assert_eq!(look(11, true), Some(Waiting::Group(start)));
    }

    #[test]
    fn in_vain_clients_are_replaced_less_and_less_often() {
        let (mut stall, start) = (Stall::new(PATIENCE), Instant::now());
        let mut now = start;
        let mut lasts = |stall: &mut Stall| {
            let began = now;
            while stall.look(now, true, vec![(Waiting::Group(start), None)]).is_none() {
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
