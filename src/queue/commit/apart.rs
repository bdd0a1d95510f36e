//! Which partitions are committed by themselves, because something of a commit was refused. Pure.
//!
//! A broker answers a commit partition by partition, and the client does not hand that on: where one is refused, all come back
//! as refused (librdkafka, `rd_kafka_cgrp_update_committed_offsets`), those that were taken too. So what was refused is committed
//! again in two halves, and so on until each has an answer of its own. What was refused by itself stays apart, so that the others'
//! answers are theirs, and is asked for again now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::queue::place::Place;

/// Shortest pause before a commit that was refused by itself is asked for again. A broker may not know a new topic yet.
const SOON: Duration = Duration::from_millis(250);
/// And the longest: somebody must mend something first.
const LATE: Duration = Duration::from_secs(5);

/// What shares the fate of a refused partition, by the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::queue) enum Reach {
    /// All partitions of its topic.
    Topic,
    /// Nothing else.
    Partition,
}

/// What a refusal of a list tells of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Not which of them are refused: each half is committed by itself now.
    Nothing,
    /// They are, since now or as before.
    Refused { is_news: bool },
}

/// A topic with all its partitions, or one of them.
type Part = (Arc<str>, Option<i32>);

#[derive(Debug)]
struct Own {
    /// Of its list.
    number: u32,
    /// There when it was refused by itself.
    refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    since: Instant,
    again: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Apart {
    own: BTreeMap<Part, Own>,
    numbers: u32,
}

impl Apart {
    fn of(&self, place: &Place) -> Option<&Own> {
        let get = |partition| self.own.get(&(place.topic.clone(), partition));
        if self.own.is_empty() { None } else { get(Some(place.partition)).or_else(|| get(None)) }
    }

    /// The number of the list that a partition is committed in; all that are not apart share one.
    pub(super) fn number(&self, place: &Place) -> u32 {
        self.of(place).map_or(0, |own| own.number)
    }

    /// Whether it was refused by itself not long ago.
    pub(super) fn rests(&self, place: &Place, now: Instant) -> bool {
        self.of(place).and_then(|own| own.refused).is_some_and(|refused| now < refused.again)
    }

    /// Since when the first of those is refused that are refused by themselves.
    pub(super) fn since(&self) -> Option<Instant> {
        self.own.values().filter_map(|own| own.refused).map(|refused| refused.since).min()
    }

    /// Whether halves are on their way, or to be sent.
    pub(super) fn is_divided(&self) -> bool {
        self.own.values().any(|own| own.refused.is_none())
    }

    /// It was taken, or is not ours any more; whether it had been refused by itself.
    pub(super) fn forget(&mut self, place: &Place) -> bool {
        let mut remove = |partition| self.own.remove(&(place.topic.clone(), partition)).and_then(|own| own.refused);
        [remove(Some(place.partition)), remove(None)].iter().any(Option::is_some)
    }

    /// None of them is ours any more.
    pub(super) fn clear(&mut self) {
        self.own.clear();
    }

    /// A list was refused for at least one of these.
    pub(super) fn refused(&mut self, mut places: Vec<Place>, reach: Reach, now: Instant) -> Told {
        places.sort_unstable();
        let parts: Vec<&[Place]> = match reach {
            Reach::Topic => places.chunk_by(|one, other| one.topic == other.topic).collect(),
            Reach::Partition => places.chunks(1).collect(),
        };
        if let [part] = parts[..] {
            return Told::Refused { is_news: self.keep(part, reach, now) };
        }
        let (left, right) = parts.split_at(parts.len() / 2);
        for half in [left, right] {
            self.numbers += 1;
            for place in half.iter().copied().flatten() {
                self.forget(place);
                let own = Own { number: self.numbers, refused: None };
                self.own.insert((place.topic.clone(), Some(place.partition)), own);
            }
        }
        Told::Nothing
    }

    /// These were refused by themselves; whether that is news.
    fn keep(&mut self, places: &[Place], reach: Reach, now: Instant) -> bool {
        let Some(first) = places.first() else { return false };
        let since = places.iter().filter_map(|place| self.of(place)?.refused).map(|refused| refused.since).min();
        for place in places {
            self.forget(place);
        }
        self.numbers += 1;
        // As long as it has been refused already: each pause is about twice the one before.
        let pause = since.map_or(SOON, |since| now.saturating_duration_since(since).clamp(SOON, LATE));
        let refused = Some(Refused { since: since.unwrap_or(now), again: now + pause });
        let partition = (reach == Reach::Partition).then_some(first.partition);
        self.own.insert((first.topic.clone(), partition), Own { number: self.numbers, refused });
        since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWS: Told = Told::Refused { is_news: true };
    const KNOWN: Told = Told::Refused { is_news: false };

    fn place(topic: usize, partition: i32) -> Place {
        Place::new(&format!("t{topic}"), partition)
    }

    /// Commits all of these until each has its answer; the lists that it took. `is_bad`: what the broker refuses.
    fn commit(apart: &mut Apart, all: &[Place], reach: Reach, is_bad: impl Fn(&Place) -> bool, now: Instant) -> usize {
        let (mut open, mut lists) = (all.to_vec(), 0);
        while !open.is_empty() {
            let mut together: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
            for place in std::mem::take(&mut open).into_iter().filter(|place| !apart.rests(place, now)) {
                together.entry(apart.number(&place)).or_default().push(place);
            }
            for list in together.into_values() {
                lists += 1;
                if !list.iter().any(&is_bad) {
                    for place in &list {
                        apart.forget(place);
                    }
                } else if apart.refused(list.clone(), reach, now) == Told::Nothing {
                    open.extend(list);
                }
            }
        }
        assert!(!apart.is_divided());
        lists
    }

    #[test]
    fn a_refused_topic_is_found_and_stays_apart_until_it_is_taken() {
        let (mut apart, now) = (Apart::default(), Instant::now());
        let all: Vec<_> = (0..16).flat_map(|topic| (0..4).map(move |partition| place(topic, partition))).collect();
        let is_bad = |place: &Place| &*place.topic == "t5";
        let lists = commit(&mut apart, &all, Reach::Topic, is_bad, now);
        assert_eq!(lists, 1 + 2 * 4, "one and the halves of four rounds");
        let is_apart = |apart: &Apart| all.iter().filter(|one| apart.number(one) != 0).cloned().collect::<Vec<_>>();
        assert_eq!(is_apart(&apart), (0..4).map(|partition| place(5, partition)).collect::<Vec<_>>());
        assert_eq!(
            (apart.rests(&place(5, 9), now), apart.since()),
            (true, Some(now)),
            "a partition that comes later too"
        );
        assert_eq!(commit(&mut apart, &all, Reach::Topic, is_bad, now), 1, "the others, in one");
        let later = now + LATE;
        assert_eq!(commit(&mut apart, &all, Reach::Topic, is_bad, later), 2);
        let rests = |after| apart.rests(&place(5, 0), later + after);
        assert_eq!((rests(LATE.saturating_sub(SOON)), rests(LATE), apart.since()), (true, false, Some(now)));
        assert_eq!(commit(&mut apart, &all, Reach::Topic, |_| false, later + LATE), 2);
        assert_eq!((is_apart(&apart), apart.since()), (vec![], None));
    }

    #[test]
    fn each_refused_partition_is_found() {
        let (mut apart, now) = (Apart::default(), Instant::now());
        let all: Vec<_> = (0..8).map(|partition| place(0, partition)).collect();
        let is_bad = |place: &Place| [1, 6].contains(&place.partition);
        commit(&mut apart, &all, Reach::Partition, is_bad, now);
        let apart: Vec<_> = all.iter().filter(|one| apart.number(one) != 0).map(|one| one.partition).collect();
        assert_eq!(apart, [1, 6]);
    }

    #[test]
    fn a_refusal_of_one_is_its_own() {
        let (mut apart, now) = (Apart::default(), Instant::now());
        let mut refused = |places: &[Place], reach| apart.refused(places.to_vec(), reach, now);
        assert_eq!(refused(&[place(0, 0), place(0, 1)], Reach::Topic), NEWS);
        assert_eq!(refused(&[place(0, 1)], Reach::Topic), KNOWN);
        assert_eq!(refused(&[place(0, 0), place(0, 1)], Reach::Partition), Told::Nothing);
        assert_eq!(refused(&[place(0, 0)], Reach::Partition), NEWS);
        assert!(apart.forget(&place(0, 0)) && !apart.forget(&place(0, 1)) && !apart.is_divided());
    }
}
