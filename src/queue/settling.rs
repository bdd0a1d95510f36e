//! Partitions that the group gave us and whose start is not settled: what is to be asked, committed, begun. Pure.
//!
//! Each goes its own way, so that one that cannot be settled (no leader, a broker that does not answer) holds up none of
//! the others; nothing of it is lent before. An answer counts only for what it was asked for: a partition that was taken
//! away and came back is asked for anew, because somebody else may have gone on in it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::place::Place;
use super::start::Start;

/// Pause before a partition that could not be settled is asked for again.
const AGAIN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// To be asked for at this moment.
    Due(Instant),
    /// Asked for with the question that is under way.
    Asked,
    /// Its start is ours to decide, and is to be committed before anything is lent: a crash before the first ordinary
    /// commit must find it again, not decide anew.
    ToCommit(Start),
    Committing(Start),
    Ready(Start),
}

#[derive(Debug)]
struct Pending {
    stage: Stage,
    /// Whether a failure was told.
    failed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Settling {
    pending: BTreeMap<Place, Pending>,
    /// The number of the question under way.
    asked: Option<u64>,
    questions: u64,
}

impl Settling {
    /// The group gave us a partition.
    pub(super) fn add(&mut self, place: Place, now: Instant) {
        self.pending.insert(place, Pending { stage: Stage::Due(now), failed: false });
    }

    /// The group took it away.
    pub(super) fn remove(&mut self, place: &Place) {
        self.pending.remove(place);
    }

    /// Nothing will be begun any more.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    /// How many are not settled.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// What is to be asked now, and the question's number. One question is under way at a time.
    pub(super) fn question(&mut self, now: Instant) -> Option<(u64, Vec<Place>)> {
        if self.asked.is_some() {
            return None;
        }
        let mut places = Vec::new();
        for (place, pending) in &mut self.pending {
            if matches!(pending.stage, Stage::Due(at) if at <= now) {
                pending.stage = Stage::Asked;
                places.push(place.clone());
            }
        }
        (!places.is_empty()).then(|| {
            self.questions += 1;
            self.asked = Some(self.questions);
            (self.questions, places)
        })
    }

    /// Whether an answer to this question about this partition still counts.
    pub(super) fn awaits(&self, question: u64, place: &Place) -> bool {
        self.asked == Some(question) && self.pending.get(place).is_some_and(|pending| pending.stage == Stage::Asked)
    }

    /// Its start is known.
    pub(super) fn settled(&mut self, place: &Place, start: Start) {
        if let Some(pending) = self.pending.get_mut(place) {
            pending.stage = if start.commit_first { Stage::ToCommit(start) } else { Stage::Ready(start) };
        }
    }

    /// It could not be settled; whether that is news.
    pub(super) fn failed(&mut self, place: &Place, now: Instant) -> bool {
        let Some(pending) = self.pending.get_mut(place) else { return false };
        pending.stage = Stage::Due(now + AGAIN);
        !std::mem::replace(&mut pending.failed, true)
    }

    /// The question is answered: what it asked for and got no answer about is asked for again.
    pub(super) fn answered(&mut self, question: u64, now: Instant) {
        if self.asked.take_if(|asked| *asked == question).is_some() {
            for pending in self.pending.values_mut().filter(|pending| pending.stage == Stage::Asked) {
                pending.stage = Stage::Due(now + AGAIN);
            }
        }
    }

    /// Starts to be committed; from now on they are on their way.
    pub(super) fn take_uncommitted(&mut self) -> Vec<(Place, i64)> {
        let mut starts = Vec::new();
        for (place, pending) in &mut self.pending {
            if let Stage::ToCommit(start) = &pending.stage {
                starts.push((place.clone(), start.offset));
                pending.stage = Stage::Committing(start.clone());
            }
        }
        starts
    }

    /// A commit was answered. A start that was refused is asked for anew.
    pub(super) fn committed(&mut self, place: &Place, offset: i64, accepted: bool, now: Instant) {
        let Some(pending) = self.pending.get_mut(place) else { return };
        if let Stage::Committing(start) = &pending.stage
            && start.offset == offset
        {
            pending.stage = if accepted { Stage::Ready(start.clone()) } else { Stage::Due(now + AGAIN) };
        }
    }

    /// A commit was answered, and whether its start was taken is not known: it is committed again.
    pub(super) fn not_told(&mut self, place: &Place, offset: i64) {
        let Some(pending) = self.pending.get_mut(place) else { return };
        if let Stage::Committing(start) = &pending.stage
            && start.offset == offset
        {
            pending.stage = Stage::ToCommit(start.clone());
        }
    }

    /// Those that can begin. While a question is under way there are none: where all partitions are assigned at once,
    /// each time interrupts those that are being read.
    pub(super) fn take_ready(&mut self) -> Vec<(Place, Start)> {
        if self.asked.is_some() {
            return Vec::new();
        }
        let is_ready = |_: &Place, pending: &mut Pending| matches!(pending.stage, Stage::Ready(_));
        let ready = self.pending.extract_if(.., is_ready);
        let start = |(place, pending): (Place, Pending)| match pending.stage {
            Stage::Ready(start) => Some((place, start)),
            _ => None,
        };
        ready.filter_map(start).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> Place {
        Place::new("t", partition)
    }

    fn start(offset: i64, commit_first: bool) -> Start {
        Start { offset, commit_first, ..Start::default() }
    }

    struct Case {
        settling: Settling,
        now: Instant,
    }

    impl Case {
        fn of(partitions: i32) -> Self {
            let mut case = Case { settling: Settling::default(), now: Instant::now() };
            (0..partitions).for_each(|partition| case.settling.add(place(partition), case.now));
            case
        }

        fn question(&mut self) -> (u64, Vec<i32>) {
            let (number, places) = self.settling.question(self.now).expect("something to ask");
            (number, places.into_iter().map(|place| place.partition).collect())
        }

        fn ready(&mut self) -> Vec<(i32, i64)> {
            self.settling.take_ready().into_iter().map(|(place, start)| (place.partition, start.offset)).collect()
        }
    }

    #[test]
    fn what_is_settled_begins_and_the_rest_is_asked_again_later() {
        let mut case = Case::of(3);
        let (number, asked) = case.question();
        assert_eq!(asked, [0, 1, 2]);
        assert_eq!(case.settling.question(case.now), None, "one at a time");
        case.settling.settled(&place(0), start(7, false));
        assert!(case.settling.failed(&place(1), case.now));
        assert!(case.ready().is_empty(), "the rest of the answer first");
        case.settling.settled(&place(2), start(9, false));
        case.settling.answered(number, case.now);
        assert_eq!((case.ready(), case.settling.len()), (vec![(0, 7), (2, 9)], 1));
        assert_eq!(case.settling.question(case.now), None, "not at once");
        case.now += AGAIN;
        let (number, asked) = case.question();
        assert_eq!(asked, [1]);
        assert!(!case.settling.failed(&place(1), case.now), "told once");
        case.settling.answered(number, case.now);
    }

    #[test]
    fn a_start_of_ours_begins_when_it_is_committed() {
        let mut case = Case::of(2);
        let (number, _) = case.question();
        (0..2).for_each(|partition| case.settling.settled(&place(partition), start(5, true)));
        case.settling.answered(number, case.now);
        assert_eq!(case.settling.take_uncommitted(), [(place(0), 5), (place(1), 5)]);
        assert!(case.settling.take_uncommitted().is_empty() && case.ready().is_empty());
        case.settling.committed(&place(0), 4, true, case.now);
        case.settling.committed(&place(0), 5, true, case.now);
        case.settling.not_told(&place(1), 4);
        assert!(case.settling.take_uncommitted().is_empty());
        case.settling.not_told(&place(1), 5);
        assert_eq!(case.settling.take_uncommitted(), [(place(1), 5)], "once more");
        case.settling.committed(&place(1), 5, false, case.now);
        assert_eq!(case.ready(), [(0, 5)]);
        case.now += AGAIN;
        assert_eq!(case.question().1, [1], "a start that was refused is asked for anew");
    }

    #[test]
    fn an_answer_from_before_a_partition_was_taken_away_does_not_count() {
        let mut case = Case::of(2);
        let (old, _) = case.question();
        case.settling.remove(&place(0));
        assert!(!case.settling.awaits(old, &place(0)) && case.settling.awaits(old, &place(1)));
        case.settling.add(place(0), case.now);
        assert!(!case.settling.awaits(old, &place(0)), "somebody else may have gone on in it");
        case.settling.answered(old, case.now);
        let (new, asked) = case.question();
        assert_eq!(asked, [0], "the other one had no answer, and waits");
        assert!(case.settling.awaits(new, &place(0)) && !case.settling.awaits(old, &place(0)));
        case.settling.answered(old, case.now);
        assert!(case.settling.awaits(new, &place(0)), "a late answer ends nothing");
    }

    #[test]
    fn a_commit_of_a_start_from_before_a_partition_was_taken_away_begins_nothing() {
        let mut case = Case::of(1);
        let (number, _) = case.question();
        case.settling.settled(&place(0), start(5, true));
        case.settling.answered(number, case.now);
        case.settling.take_uncommitted();
        case.settling.remove(&place(0));
        case.settling.add(place(0), case.now);
        case.settling.committed(&place(0), 5, true, case.now);
        assert!(case.ready().is_empty());
        case.settling.clear();
        assert_eq!(case.settling.len(), 0);
    }
}
