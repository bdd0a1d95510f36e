//! What the group has committed of a partition, or may have. Pure.
//!
//! A commit is an offset, and what identifies the log there is the time of the record at it. Whoever finds the same offset
//! committed, and a record of the same time at it, knows that nobody else has gone on in this log.

use super::offsets::Ledger;

/// A committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    /// The offset.
    pub(super) offset: i64,
    /// Timestamp of the record at it, ms since the epoch, -1 when the record has none; `None`: not read yet.
    pub(super) timestamp: Option<i64>,
}

/// A record that was read: its offset and its timestamp, as in [`Anchor`].
type Read = (i64, i64);

/// A commit that the group may have, and the first record of the log at it or behind it. There is none at the offset itself where
/// a transaction has left its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commit {
    offset: i64,
    first: Option<Read>,
}

/// How many commits of which no acceptance is known are remembered. While commits are refused little ends, so that few differ.
const ASKED: usize = 64;

/// The latest commit that was accepted, those after it of which no acceptance is known, and what a commit can be put on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Anchors {
    accepted: Commit,
    /// In the order in which they were asked for.
    asked: Vec<Commit>,
    /// The farthest record that was read.
    read: Option<Read>,
}

impl Anchors {
    /// A partition that begins at a committed offset.
    pub(super) fn new(offset: i64) -> Self {
        Anchors { accepted: Commit { offset, first: None }, asked: Vec::new(), read: None }
    }

    /// A commit is on its way.
    pub(super) fn ask(&mut self, anchor: Anchor) {
        let commit =
            Commit { offset: anchor.offset, first: anchor.timestamp.map(|timestamp| (anchor.offset, timestamp)) };
        self.asked.retain(|known| known.offset != commit.offset);
        if self.asked.len() == ASKED {
            self.asked.remove(0);
        }
        self.asked.push(commit);
    }

    /// The commit on its way was answered. A refusal leaves it as possible, whatever is asked for after it: not all refusals come
    /// from the group, and an answer may be lost.
    pub(super) fn answered(&mut self, accepted: bool) {
        if accepted && let Some(last) = self.asked.pop() {
            self.accepted = last;
            self.asked.clear();
        }
    }

    /// A record was read.
    pub(super) fn read(&mut self, offset: i64, timestamp: i64) {
        for commit in std::iter::once(&mut self.accepted).chain(&mut self.asked) {
            if commit.first.is_none() && commit.offset <= offset {
                commit.first = Some((offset, timestamp));
            }
        }
        if self.read.is_none_or(|(read, _)| read < offset) {
            self.read = Some((offset, timestamp));
        }
    }

    /// Of a partition that was ours before, what was read then is known still.
    pub(super) fn go_on(&mut self, before: &Anchors) {
        self.read = before.read;
    }

    /// The farthest record that was read; with none, or one without a time, what is committed for sure.
    pub(super) fn farthest(&self) -> Anchor {
        let read = self.read.filter(|(_, timestamp)| *timestamp >= 0);
        read.map_or_else(|| self.accepted(), |(offset, timestamp)| Anchor { offset, timestamp: Some(timestamp) })
    }

    /// What is committed for sure.
    pub(super) fn accepted(&self) -> Anchor {
        let Commit { offset, first } = self.accepted;
        Anchor { offset, timestamp: first.filter(|(at, _)| *at == offset).map(|(_, timestamp)| timestamp) }
    }

    /// The first record at `offset` or behind it, when that offset may be what is committed and the record was read.
    pub(super) fn first_at(&self, offset: i64) -> Option<Read> {
        let mut commits = std::iter::once(&self.accepted).chain(&self.asked);
        commits.find(|commit| commit.offset == offset)?.first
    }

    /// Since when the log may hold what was not read, ms since the epoch: since the farthest record that was, or the oldest that
    /// has no outcome. `None`: no time of a record is known.
    pub(super) fn since_ms(&self, ledger: &Ledger) -> Option<i64> {
        let unresolved = ledger.position_time().ms();
        let last = self.read.map(|(_, timestamp)| timestamp).filter(|timestamp| *timestamp >= 0);
        last.map(|last| unresolved.map_or(last, |oldest| last.min(oldest)))
    }

    /// Whether this is another record than that which was read at this offset: then the log is not the one that it was.
    pub(super) fn is_another(&self, offset: i64, timestamp: i64) -> bool {
        self.read.is_some_and(|(read, at)| read == offset && at >= 0 && at != timestamp)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const fn at(offset: i64, timestamp: Option<i64>) -> Anchor {
        Anchor { offset, timestamp }
    }

    #[test]
    fn what_may_be_committed_is_known_by_the_time_of_its_record() {
        let mut anchors = Anchors::new(5);
        assert_eq!(anchors.first_at(5), None, "not read yet");
        anchors.read(4, 40);
        anchors.read(5, 50);
        assert_eq!((anchors.first_at(5), anchors.first_at(4)), (Some((5, 50)), None));
        anchors.ask(at(9, None));
        anchors.read(9, 90);
        assert_eq!((anchors.first_at(5), anchors.first_at(9)), (Some((5, 50)), Some((9, 90))));
        anchors.answered(false);
        assert_eq!((anchors.accepted().offset, anchors.first_at(9)), (5, Some((9, 90))), "it may have been taken");
        anchors.ask(at(12, Some(120)));
        anchors.answered(false);
        assert_eq!(anchors.first_at(9), Some((9, 90)), "also when the next one was refused");
        anchors.ask(at(12, Some(120)));
        anchors.answered(true);
        assert_eq!(anchors.accepted(), at(12, Some(120)));
        assert_eq!([5, 9, 12].map(|offset| anchors.first_at(offset).is_some()), [false, false, true]);
        anchors.answered(true);
        assert_eq!(anchors.accepted().offset, 12, "an answer to nothing");
    }

    #[test]
    fn where_there_is_no_record_the_first_behind_it_counts() {
        let mut anchors = Anchors::new(0);
        anchors.read(0, 1);
        anchors.ask(at(5, None));
        anchors.answered(true);
        anchors.read(7, 70);
        anchors.read(8, 80);
        assert_eq!((anchors.first_at(5), anchors.accepted()), (Some((7, 70)), at(5, None)));
    }

    #[test]
    fn the_farthest_record_is_known_again() {
        let mut anchors = Anchors::new(0);
        let mut ledger = Ledger::new(0, Vec::new());
        assert_eq!((anchors.since_ms(&ledger), anchors.is_another(0, 1)), (None, false));
        for (offset, at) in [(0, 10), (1, 20), (0, 10)] {
            anchors.read(offset, at);
        }
        assert_eq!((anchors.since_ms(&ledger), anchors.farthest()), (Some(20), at(1, Some(20))));
        ledger.lend(0, 10, Instant::now());
        assert_eq!(anchors.since_ms(&ledger), Some(10), "it has no outcome");
        assert!(anchors.is_another(1, 21) && !anchors.is_another(1, 20) && !anchors.is_another(2, 5));
        anchors.read(2, -1);
        assert_eq!((anchors.since_ms(&ledger), anchors.farthest()), (None, at(0, Some(10))), "it has no time");
        assert!(!anchors.is_another(2, 5));
    }

    #[test]
    fn few_commits_are_remembered() {
        let mut anchors = Anchors::new(0);
        (1..=70).for_each(|offset| anchors.ask(at(offset, Some(offset))));
        (1..=70).for_each(|_| anchors.ask(at(70, Some(70))));
        let known = (1..=70).filter(|offset| anchors.first_at(*offset).is_some()).collect::<Vec<_>>();
        assert_eq!(known, (7..=70).collect::<Vec<_>>());
    }
}
