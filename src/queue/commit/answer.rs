//! What became of a commit.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::Commits;
use super::apart::{Reach, Told};
use crate::queue::in_vain::{is_in_vain, reach};
use crate::queue::kafka::KafkaQueue;
use crate::queue::partition::Partition;
use crate::queue::place::Place;

/// What became of a commit of one partition.
#[derive(Debug)]
enum Answer {
    Taken,
    Refused(KafkaError),
    /// It is not told.
    Open,
}

fn is_too_long(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::OffsetMetadataTooLarge)
}

impl Commits {
    /// An answer has come: what it says of each partition. The client tells no more than that something was refused; what it
    /// was, the next commits find out.
    fn answered(
        &mut self,
        result: &KafkaResult<()>,
        list: &TopicPartitionList,
        now: Instant,
    ) -> BTreeMap<Place, Answer> {
        let asked_at = self.under_way.answered(list);
        let (mut answers, mut suspects) = (BTreeMap::new(), Vec::new());
        let whole = result.as_ref().err();
        for element in list.elements() {
            let place = Place::new(element.topic(), element.partition());
            let Some(error) = element.error().err().or_else(|| whole.cloned()) else {
                if self.apart.forget(&place) {
                    tracing::info!(topic = %place.topic, partition = place.partition, "its commits are taken again");
                }
                self.proven = self.proven.max(asked_at);
                answers.insert(place, Answer::Taken);
                continue;
            };
            if whole.is_some_and(|whole| whole.rdkafka_error_code() == error.rdkafka_error_code()) {
                suspects.push(place.clone());
            } else if let Some(reach) = reach(&error) {
                self.set_apart(vec![place.clone()], reach, &error, now);
            }
            answers.insert(place, Answer::Refused(error));
        }
        // What has the reason of the whole may have it from the client alone.
        if let Some((error, reach)) = whole.and_then(|error| Some((error, reach(error)?)))
            && !suspects.is_empty()
            && self.set_apart(suspects.clone(), reach, error, now) == Told::Nothing
        {
            answers.extend(suspects.into_iter().map(|place| (place, Answer::Open)));
            self.hurry(now);
        }
        answers
    }

    fn set_apart(&mut self, places: Vec<Place>, reach: Reach, error: &KafkaError, now: Instant) -> Told {
        let (partitions, first) = (places.len(), places.first().cloned());
        let told = self.apart.refused(places, reach, now);
        if let Some(first) = first.filter(|_| told == Told::Refused { is_news: true } && !is_too_long(error)) {
            tracing::warn!(%error, topic = %first.topic, partition = first.partition, partitions, "commits of these partitions are refused: they are asked for by themselves, and the others go on without them");
        }
        told
    }
}

impl Partition {
    /// Its commit was answered: one that was refused stays dirty, for the next strike. Whether it goes without its map from now on.
    fn committed(&mut self, answer: &Answer) -> bool {
        self.anchors.answered(matches!(answer, Answer::Taken));
        self.commit_is_in_vain = matches!(answer, Answer::Refused(error) if is_in_vain(error));
        if !matches!(answer, Answer::Taken) {
            self.set_dirty();
        }
        let is_too_long = matches!(answer, Answer::Refused(error) if is_too_long(error));
        if is_too_long && std::mem::take(&mut self.commits_map) {
            tracing::warn!(topic = %self.origin.topic, partition = self.origin.partition, "the broker takes less offset metadata than 4096 bytes (offset.metadata.max.bytes): committing without the map, a crash may repeat more");
        }
        is_too_long
    }
}

impl KafkaQueue {
    /// A commit was answered.
    pub(in crate::queue) fn on_committed(&mut self, result: &KafkaResult<()>, partitions: &TopicPartitionList) {
        let now = Instant::now();
        let answers = self.commits.answered(result, partitions, now);
        for element in partitions.elements() {
            // A start that is committed has no partition here yet.
            let (place, Offset::Offset(offset)) = (Place::new(element.topic(), element.partition()), element.offset())
            else {
                continue;
            };
            match answers.get(&place) {
                Some(Answer::Open) => self.settling.not_told(&place, offset),
                answer => self.settling.committed(&place, offset, matches!(answer, Some(Answer::Taken)), now),
            }
        }
        for partition in &mut self.partitions {
            let place = Place::from(&*partition.origin);
            if let Some(answer) = answers.get(&place)
                && partition.committed(answer)
            {
                // Without its map it goes with the others.
                self.commits.apart.forget(&place);
            }
        }
        let refused = || answers.values().filter(|answer| !matches!(answer, Answer::Taken));
        let of_all = refused().find_map(|answer| match answer {
            Answer::Refused(error) if reach(error).is_none() => Some(error),
            _ => None,
        });
        match of_all.or(result.as_ref().err().filter(|_| answers.is_empty())) {
            Some(error) => self.commits.refused(error, &*self.observer),
            None if refused().next().is_some() => self.observer.commit_failed(),
            None => self.commits.went_well(),
        }
        if result.is_ok() {
            self.stall.moves();
            self.consumer.context().is_well();
        }
    }
}
