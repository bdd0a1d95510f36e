//! Partitions come and go. All of this runs on the poll thread, after the callback that announced it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::belief::{Belief, Past};
use super::context::{self, Event};
use super::in_flight::Assignment;
use super::kafka::KafkaQueue;
use super::offsets::Ledger;
use super::partition::Partition;
use super::place::Place;
use super::scout::{Found, Question};
use super::start::{self, Facts, Start};
use super::topics::Age;
use crate::clock::now_ms;
use crate::message::Origin;

/// Longest last commit when a partition is taken away.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// Longest wait for what is on a stream when a partition is taken away; the whole group waits with us.
const FAREWELL: Duration = Duration::from_secs(3);
/// Pause before a partition is tried again for which the client had no queue.
const NO_QUEUE: Duration = Duration::from_secs(30);

impl KafkaQueue {
    /// The group gave us these. It learns at once that we know; each begins when its start is settled.
    pub(super) fn on_assigned(&mut self, partitions: &TopicPartitionList) {
        if self.partitions.is_empty() || context::is_cooperative(&self.consumer) {
            context::acknowledge(&self.consumer);
        } else if let Err(error) = self.positions().and_then(|all| self.consumer.assign(&all)) {
            // Given twice without being taken away between: what is read goes on.
            tracing::warn!(%error, "acknowledging an assignment");
        }
        self.unassigned_since = None;
        self.observer.joined();
        if self.stopped {
            return;
        }
        let now = Instant::now();
        for element in partitions.elements() {
            let place = Place::new(element.topic(), element.partition());
            if !self.partitions.iter().any(|one| Place::from(&*one.origin) == place) {
                self.settling.add(place, now);
            }
        }
    }

    /// Takes each pending partition a step on.
    pub(super) fn settle(&mut self, now: Instant) {
        if let Some((number, places)) = self.settling.question(now) {
            let aged = places.into_iter().map(|place| {
                let age = self.age(&place);
                (place, age)
            });
            if !self.scout.ask(Question::Starts { number, places: aged.collect() }) {
                self.settling.answered(number, now);
            }
        }
        self.commit_starts(now);
        if self.consumer.context().has_news() {
            // The group has changed its mind meanwhile: that comes first.
            return;
        }
        let ready = self.settling.take_ready();
        if !ready.is_empty() {
            self.begin_all(ready);
        }
    }

    /// What is committed and what the logs hold is known, or not: an answer for each partition that was asked for.
    pub(super) fn on_found(&mut self, number: u64, found: Vec<(Place, Result<Found, String>)>) {
        let now = Instant::now();
        for (place, found) in found {
            if !self.settling.awaits(number, &place) {
                continue;
            }
            match found {
                Ok(found) => {
                    let start = self.decide(&place, &found);
                    self.settling.settled(&place, start);
                }
                Err(why) => {
                    if self.settling.failed(&place, now) {
                        let last = self.scout.last_error();
                        tracing::warn!(why, last, topic = %place.topic, partition = place.partition, "cannot settle where to begin, going on trying; the other partitions are read meanwhile");
                    }
                }
            }
        }
        self.settling.answered(number, now);
    }

    /// Whether a partition is from before our time. Before it began here an offset of it was committed: if the group has none any
    /// more, its topic was made anew since, or the group's offsets are lost.
    fn age(&self, place: &Place) -> Age {
        let (age, begun) = (self.topics.age(&place.topic, place.partition), self.begun.get(place).copied());
        let (Some(begun_ms), Age::Old | Age::Unknown { .. }) = (begun, age) else { return age };
        let read_ms = self.remembered.get(place).and_then(Past::since_ms).map(|since| since.min(now_ms()));
        let first_ms = if let Age::Unknown { since_ms } = age { since_ms.min(begun_ms) } else { begun_ms };
        Age::Unknown { since_ms: read_ms.unwrap_or(first_ms) }
    }

    /// Where a partition begins.
    fn decide(&self, place: &Place, found: &Found) -> Start {
        let Found { committed, metadata, log } = found;
        let (age, cluster) = (self.age(place), self.commits.cluster());
        let facts = Facts { committed: *committed, metadata, log: *log, age, cluster };
        let start = start::decide(&facts, self.settings.reset);
        if let Some(origin) = self.origin(&place.topic, place.partition) {
            self.tell(&origin, &start);
        }
        start
    }

    fn tell(&self, origin: &Origin, start: &Start) {
        if let Some(reason) = start.dropped {
            tracing::warn!(topic = %origin.topic, partition = origin.partition, reason, "the map of resolved offsets is not used; some messages may be repeated");
            self.observer.map_dropped(origin, reason);
        }
        if start.skipped > 0 {
            self.lost_by_the_log(origin, start.offset, start.skipped);
        }
        if let Some(committed) = start.beyond {
            self.exchanged(origin, committed, start.offset);
        }
    }

    fn commit_starts(&mut self, now: Instant) {
        let starts = self.settling.take_uncommitted();
        if starts.is_empty() {
            return;
        }
        for (place, offset) in self.commits.ask_starts(&self.consumer, starts) {
            self.settling.committed(&place, offset, false, now);
        }
    }

    /// Begins to read these, beside those that are read already.
    fn begin_all(&mut self, ready: Vec<(Place, Start)>) {
        let places: Vec<_> = ready.iter().map(|(place, _)| place.clone()).collect();
        if let Err(error) = self.assign(ready) {
            self.consumer.context().complain(&error, "cannot begin to read partitions");
            let now = Instant::now();
            for place in places {
                self.settling.add(place, now);
            }
        }
        self.watch_logs();
        self.observer.assigned(self.partitions.len());
    }

    fn assign(&mut self, ready: Vec<(Place, Start)>) -> KafkaResult<()> {
        // Each partition's queue is split off before its first record can arrive on the common one.
        let mut begun = Vec::new();
        for (place, start) in ready {
            let from = start.offset;
            begun.extend(self.begin(&place, start).map(|partition| (partition, from)));
        }
        let done = self.take_on(&begun);
        let begun = begun.into_iter().map(|(partition, _)| partition);
        if done.is_ok() {
            tracing::info!(partitions = begun.len(), "partitions assigned");
            self.partitions.extend(begun);
        } else {
            // What was known of them is known when they are begun again.
            begun.for_each(|partition| self.remember(partition, false));
        }
        done
    }

    fn take_on(&self, begun: &[(Partition, i64)]) -> KafkaResult<()> {
        let cooperative = context::is_cooperative(&self.consumer);
        let mut list = if cooperative { TopicPartitionList::new() } else { self.positions()? };
        for (partition, from) in begun {
            let origin = &partition.origin;
            list.add_partition_offset(&origin.topic, origin.partition, Offset::Offset(*from))?;
        }
        if cooperative { self.consumer.incremental_assign(&list) } else { self.consumer.assign(&list) }
    }

    fn begin(&mut self, place: &Place, start: Start) -> Option<Partition> {
        let origin = self.origin(&place.topic, place.partition)?;
        let Some(queue) = self.consumer.split_partition_queue(&place.topic, place.partition) else {
            tracing::error!(alarm = true, topic = %place.topic, partition = place.partition, "the client has no queue for this partition; trying again later");
            self.settling.add(place.clone(), Instant::now() + NO_QUEUE);
            return None;
        };
        while queue.poll(Duration::ZERO).is_some() {} // what the client still holds of an earlier assignment
        let lane = self.in_flight.tally().lane(&origin);
        let assignment = Assignment::new(Ledger::new(start.offset, Vec::new()), self.last_poll.clone(), lane);
        let share = self.in_flight.share(&self.selection.share(&origin));
        self.begun.entry(place.clone()).or_insert_with(now_ms);
        let belief = Belief { map: start.map, only_base: start.only_base, past: self.remembered.remove(place) };
        Some(Partition::new(origin, assignment, share, queue, belief, self.wakeup.clone()))
    }

    /// Acknowledges all that the group has announced and nobody will act on: the client waits for that before it leaves.
    pub(super) fn dismiss(&mut self) {
        let consumer = self.consumer.clone();
        while let Some(event) = consumer.context().next_event() {
            match event {
                Event::Assigned(_) => context::acknowledge(&consumer),
                Event::Revoked { partitions, .. } => context::give_up(&consumer, &partitions),
                Event::Committed { .. } => {}
            }
        }
    }

    /// The group takes these away. What is on a stream may end within a bounded wait, and is committed; then they are
    /// somebody else's, and what we know of them is kept in case they come back untouched.
    pub(super) fn on_revoked(&mut self, revoked: &TopicPartitionList, lost: bool) {
        let is_revoked = |origin: &Origin| revoked.find_partition(&origin.topic, origin.partition).is_some();
        for element in revoked.elements() {
            self.settling.remove(&Place::new(element.topic(), element.partition()));
        }
        let going = self.partitions.iter().filter(|partition| is_revoked(&partition.origin));
        let going: Vec<Arc<Assignment>> = going.map(|partition| partition.assignment.clone()).collect();
        for assignment in &going {
            assignment.stop_sending();
        }
        if !lost {
            let limit = self.settings.session_timeout / 2;
            // What stays is sent on while we wait, and no clock strikes meanwhile.
            if !self.commits.is_under_way() {
                self.commits.ask(&self.consumer, self.partitions.iter_mut(), false, &*self.observer);
            }
            self.serve_while(Instant::now() + FAREWELL.min(limit), |_| going.iter().any(|one| one.on_stream() > 0));
            self.commit_last(is_revoked, Instant::now() + LAST_COMMIT.min(limit));
        }
        let (going, staying): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.partitions).into_iter().partition(|partition| is_revoked(&partition.origin));
        self.partitions = staying;
        let count = going.len();
        let left: usize = going.iter().map(|partition| partition.assignment.on_stream()).sum();
        for partition in going {
            self.remember(partition, lost);
        }
        for element in revoked.elements() {
            self.commits.forget_place(&Place::new(element.topic(), element.partition()));
        }
        // What is left stays ours meanwhile only where partitions are handed over one by one.
        let keeps_rest = !lost && context::is_cooperative(&self.consumer);
        context::give_up(&self.consumer, revoked);
        tracing::info!(partitions = count, lost, left, "partitions revoked");
        self.watch_logs();
        self.observer.assigned(self.partitions.len());
        // Of a group that was left, because no topic is there any more, nothing is waited for.
        let is_member = self.subscribed.as_ref().is_some_and(|topics| !topics.is_empty());
        if !keeps_rest && is_member {
            self.unassigned_since = Some(Instant::now());
            self.observer.rebalancing();
        }
    }

    /// At the end: an outage of the brokers took everything, and what has ended since can be committed by nobody.
    pub(super) fn tell_what_was_lost(&self) {
        let is_ahead = |past: &&Past| past.lost && past.assignment.dirty().load(Relaxed);
        let partitions = self.remembered.values().filter(is_ahead).count();
        if self.partitions.is_empty() && partitions > 0 {
            tracing::warn!(
                partitions,
                "ending before the group has given the partitions back that it took: what has ended in them since is not committed and is sent again"
            );
        }
    }
}
