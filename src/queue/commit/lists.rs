//! Commits on their way: what goes together, and which of them an answer is to.

use std::time::Instant;

use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use crate::queue::place::Place;

/// Most bytes of one commit, about. A broker writes it to its topic of offsets in one piece, which that must take
/// (`max.message.bytes`, 1 MiB unless changed): some 240 partitions with full maps are more.
const BYTES: usize = 512 << 10;
/// Of each partition beside its metadata: the names of group and topic, and numbers.
const OVERHEAD: usize = 400;

/// Partitions that are committed together.
#[derive(Debug, Default)]
pub(super) struct List {
    number: u32,
    elements: TopicPartitionList,
    places: Vec<(Place, i64)>,
    bytes: usize,
}

impl List {
    pub(super) fn elements(&self) -> &TopicPartitionList {
        &self.elements
    }

    /// Partitions and offsets.
    pub(super) fn places(&self) -> &[(Place, i64)] {
        &self.places
    }
}

/// The commits of one strike of the clock.
#[derive(Debug, Default)]
pub(super) struct Lists(Vec<List>);

impl Lists {
    /// Adds a partition to what is committed under this number; to which list.
    pub(super) fn add(&mut self, number: u32, place: Place, offset: i64, metadata: &str) -> KafkaResult<usize> {
        let bytes = metadata.len() + OVERHEAD;
        let has_room = |list: &List| list.number == number && list.bytes + bytes <= BYTES;
        let index = self.0.iter().position(has_room).unwrap_or_else(|| {
            self.0.push(List { number, ..List::default() });
            self.0.len() - 1
        });
        let list = &mut self.0[index];
        list.elements.add_partition_offset(&place.topic, place.partition, Offset::Offset(offset))?;
        let element = list.elements.find_partition(&place.topic, place.partition);
        if let Some(mut element) = element.filter(|_| !metadata.is_empty()) {
            element.set_metadata(metadata);
        }
        list.places.push((place, offset));
        list.bytes += bytes;
        Ok(index)
    }

    pub(super) fn into_lists(self) -> Vec<List> {
        self.0
    }
}

/// Commits that were asked for and have no answer.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Vec<(Vec<(Place, i64)>, Instant)>);

impl UnderWay {
    /// One was asked for.
    pub(super) fn add(&mut self, list: List, now: Instant) {
        self.0.push((list.places, now));
    }

    /// One was answered; when it was asked for, if that is known.
    pub(super) fn answered(&mut self, answer: &TopicPartitionList) -> Option<Instant> {
        let is_it = |places: &[(Place, i64)]| {
            let is_in = |(place, offset): &(Place, i64)| {
                let found = answer.find_partition(&place.topic, place.partition);
                found.is_some_and(|element| element.offset() == Offset::Offset(*offset))
            };
            places.len() == answer.count() && places.iter().all(is_in)
        };
        let index = self.0.iter().position(|(places, _)| is_it(places));
        if index.is_none() {
            // To none that we know: one of them has its answer, and which it is proves nothing.
            self.0.drain(..self.0.len().min(1));
        }
        index.map(|index| self.0.remove(index).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the first of them was asked for.
    pub(super) fn since(&self) -> Option<Instant> {
        self.0.iter().map(|(_, at)| *at).min()
    }

    /// No answer will come.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lists(offset: i64) -> Vec<List> {
        let mut lists = Lists::default();
        for (number, partition) in [(0, 0), (7, 1), (0, 2)] {
            lists.add(number, Place::new("t", partition), offset, "map").expect("a valid offset");
        }
        lists.into_lists()
    }

    #[test]
    fn what_is_apart_goes_by_itself() {
        let parts = |list: &List| list.places.iter().map(|(place, _)| place.partition).collect::<Vec<_>>();
        assert_eq!(lists(5).iter().map(parts).collect::<Vec<_>>(), [vec![0, 2], vec![1]]);
        assert!(lists(5).iter().all(|list| list.elements.elements().iter().all(|one| one.metadata() == "map")));
    }

    #[test]
    fn a_commit_is_no_longer_than_a_broker_writes_at_once() {
        let mut lists = Lists::default();
        for partition in 0..300 {
            lists.add(0, Place::new("t", partition), 5, &"m".repeat(4096)).expect("a valid offset");
        }
        let counts: Vec<_> = lists.into_lists().iter().map(|list| list.elements.count()).collect();
        assert_eq!(counts, [116, 116, 68]);
    }

    #[test]
    fn an_answer_belongs_to_the_commit_of_the_same_offsets() {
        let (mut under_way, now) = (UnderWay::default(), Instant::now());
        let at = |second| now + Duration::from_secs(second);
        let answers: Vec<_> = lists(5).into_iter().chain(lists(6)).map(|list| list.elements).collect();
        for (second, list) in lists(5).into_iter().chain(lists(6)).enumerate() {
            under_way.add(list, at(second as u64));
        }
        assert_eq!(under_way.since(), Some(at(0)));
        assert_eq!([2, 0].map(|index| under_way.answered(&answers[index])), [Some(at(2)), Some(at(0))]);
        assert_eq!((under_way.answered(&TopicPartitionList::new()), under_way.since()), (None, Some(at(3))));
        assert_eq!((under_way.answered(&answers[3]), under_way.is_empty()), (Some(at(3)), true));
        assert_eq!(under_way.answered(&answers[3]), None);
    }
}
