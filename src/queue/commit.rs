//! Commits: explicit, on a clock, with the map of what is resolved beyond the offset.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::Observer;
use super::commit_plan::Plan;
use super::complaints::Complaints;
use super::context::{Consumer, Event};
use super::in_vain::is_in_vain;
use super::kafka::KafkaQueue;
use super::native;
use super::partition::Partition;
use super::place::Place;
use crate::message::Origin;

/// For so long a refused commit is asked for again soon; after that whatever refuses it is not a matter of moments.
const SOON: Duration = Duration::from_secs(5);

/// The commit clock, and what it is waiting for.
#[derive(Debug)]
pub(super) struct Commits {
    interval: Duration,
    next: Instant,
    /// Commits asked for and not yet answered.
    under_way: usize,
    /// When the latest of them was asked for.
    asked_at: Instant,
    /// Whether the group has accepted all that were answered since there were none under way.
    accepted: bool,
    /// crc32 of the cluster's id.
    cluster: u32,
    /// When nothing was left to commit, or a commit was taken, for the last time.
    well_at: Instant,
    /// Since when commits are refused.
    refused_since: Option<Instant>,
    /// Refusals that were told.
    refusals: Complaints<Option<RDKafkaErrorCode>>,
}

impl Commits {
    /// A clock for which nothing that is resolved waits longer than `interval` to be committed: it strikes twice in that time,
    /// which leaves half of it for the commit's way to the broker and back.
    pub(super) fn new(interval: Duration) -> Self {
        let (now, interval) = (Instant::now(), interval / 2);
        let next = now + interval;
        let (refused_since, refusals) = (None, Complaints::default());
        let (under_way, accepted, cluster) = (0, false, 0);
        Commits { interval, next, under_way, asked_at: now, accepted, cluster, well_at: now, refused_since, refusals }
    }

    /// crc32 of the cluster's id. It is known before the first partition is ours.
    pub(super) fn cluster(&self) -> u32 {
        self.cluster
    }

    /// The brokers told it.
    pub(super) fn set_cluster(&mut self, cluster: u32) {
        self.cluster = cluster;
    }

    /// Whether the clock has struck; then it is wound up again.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.interval;
        }
        due
    }

    /// Lets the clock strike now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next = now;
    }

    /// Whether an answer is still to come.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// When the latest commit was asked for of those that have no answer.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.is_under_way().then_some(self.asked_at)
    }

    /// No answer will come any more: the client that was asked has gone.
    pub(super) fn forget(&mut self) {
        (self.under_way, self.accepted) = (0, false);
    }

    /// For how long what is resolved has waited for a commit that was taken.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.well_at)
    }

    /// A commit was asked for.
    pub(super) fn asked(&mut self, now: Instant) {
        self.accepted |= self.under_way == 0;
        self.under_way += 1;
        self.asked_at = now;
    }

    /// When the commit was asked for by whose acceptance the group has just called us its member; told once. Only when no
    /// other is under way: which of several was answered is not told.
    pub(super) fn proof(&mut self) -> Option<Instant> {
        let proven = self.under_way == 0 && self.accepted;
        self.accepted &= !proven;
        proven.then_some(self.asked_at)
    }

    /// Asks for a commit of every partition that has changed. The answer comes as an event.
    pub(super) fn ask<'a>(
        &mut self,
        consumer: &Consumer,
        partitions: impl Iterator<Item = &'a mut Partition>,
        observer: &dyn Observer,
    ) {
        let mut list = TopicPartitionList::new();
        let mut asked: Vec<&Partition> = Vec::new();
        for partition in partitions {
            if !partition.take_dirty() {
                continue;
            }
            let plan = partition.plan(self.cluster).filter(|plan| add(&mut list, &partition.origin, plan).is_ok());
            partition.is_unfinished = plan.as_ref().is_none_or(|plan| plan.is_provisional);
            let Some(plan) = plan else { continue };
            observer.map_bytes(&partition.origin, plan.metadata.len());
            partition.anchors.ask(plan.anchor);
            asked.push(partition);
        }
        if list.count() == 0 {
            if self.under_way == 0 {
                self.well_at = Instant::now();
            }
            return;
        }
        match native::commit(consumer, &list) {
            Ok(()) => self.asked(Instant::now()),
            Err(error) => {
                asked.into_iter().for_each(Partition::set_dirty);
                self.refused(&error, observer);
            }
        }
    }

    /// An answer has come, with one for each partition that is still ours. One that was refused stays dirty, for the next
    /// strike; the reason. `by_group`: whether the group has accepted anything of it, which shows that we are its member.
    pub(super) fn answered<'a>(
        &mut self,
        by_group: bool,
        partitions: impl Iterator<Item = (&'a mut Partition, KafkaResult<()>)>,
    ) -> Option<KafkaError> {
        self.under_way = self.under_way.saturating_sub(1);
        self.accepted &= by_group;
        let mut refused = None;
        for (partition, answer) in partitions {
            partition.anchors.answered(answer.is_ok());
            partition.commit_is_in_vain = answer.as_ref().is_err_and(is_in_vain);
            let Err(error) = answer else { continue };
            partition.set_dirty();
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OffsetMetadataTooLarge) {
                tracing::warn!(topic = %partition.origin.topic, "the broker takes less offset metadata than 4096 bytes (offset.metadata.max.bytes): committing without the map, a crash may repeat more");
                partition.commits_map = false;
            }
            refused = Some(error);
        }
        if refused.is_none() {
            self.well_at = Instant::now();
        }
        refused
    }

    /// A commit was refused. Each reason is told once until commits have been taken for a while: while a coordinator refuses,
    /// several a second are.
    fn refused(&mut self, error: &KafkaError, observer: &dyn Observer) {
        let now = Instant::now();
        // A group that is about to share anew takes it a moment later: it is not to wait for a whole strike more.
        if now.saturating_duration_since(*self.refused_since.get_or_insert(now)) < SOON {
            self.next = self.next.min(now + self.interval / 5);
        }
        if self.refusals.is_news(error.rdkafka_error_code(), now) {
            tracing::warn!(%error, "a commit was refused: what is resolved goes into the next one");
        }
        observer.commit_failed();
    }

    /// A commit was taken as a whole.
    fn taken(&mut self) {
        self.refused_since = None;
        if self.refusals.answered(Instant::now()) {
            tracing::info!("commits are taken again");
        }
    }
}

fn add(list: &mut TopicPartitionList, origin: &Origin, plan: &Plan) -> KafkaResult<()> {
    list.add_partition_offset(&origin.topic, origin.partition, Offset::Offset(plan.anchor.offset))?;
    let element = list.find_partition(&origin.topic, origin.partition);
    if let Some(mut element) = element.filter(|_| !plan.metadata.is_empty()) {
        element.set_metadata(&plan.metadata);
    }
    Ok(())
}

/// Pause before a last commit is asked for again.
const COMMIT_AGAIN: Duration = Duration::from_millis(100);
/// How often a wait looks whether it is over.
const LOOK: Duration = Duration::from_millis(5);

impl KafkaQueue {
    /// A commit was answered, partition by partition.
    pub(super) fn on_committed(&mut self, result: &KafkaResult<()>, partitions: &TopicPartitionList) {
        let now = Instant::now();
        let answers = || {
            partitions.elements().into_iter().map(|element| (result.clone().and_then(|()| element.error()), element))
        };
        let by_group = answers().any(|(answer, _)| answer.is_ok());
        for (answer, element) in answers() {
            // A start that is committed has no partition here yet.
            if let Offset::Offset(offset) = element.offset() {
                let place = Place::new(element.topic(), element.partition());
                self.settling.committed(&place, offset, answer.is_ok(), now);
            }
        }
        let concerned = self.partitions.iter_mut().filter_map(|partition| {
            let element = partitions.find_partition(&partition.origin.topic, partition.origin.partition)?;
            Some((partition, result.clone().and_then(|()| element.error())))
        });
        match self.commits.answered(by_group, concerned).or(result.clone().err()) {
            Some(error) => self.commits.refused(&error, &*self.observer),
            None => self.commits.taken(),
        }
        if result.is_ok() {
            self.stall.moves();
            self.consumer.context().is_well();
        }
    }

    /// The last commit of partitions that are going away: asked for again until it is taken, is refused for good, or the
    /// deadline has come. What stays ours is committed with them once: a group that shares partitions one by one may take no other
    /// commit until it has shared anew.
    pub(super) fn commit_last(&mut self, is_going: impl Fn(&Origin) -> bool, deadline: Instant) {
        let mut is_first = true;
        loop {
            // An older commit that is still under way must not come after the last one.
            self.serve_while(deadline, |queue| queue.commits.is_under_way());
            let all = std::mem::take(&mut is_first) && !self.commits.is_under_way();
            let asked = self.partitions.iter_mut().filter(|partition| all || is_going(&partition.origin));
            self.commits.ask(&self.consumer, asked, &*self.observer);
            self.serve_while(deadline, |queue| queue.commits.is_under_way());
            let is_left = |partition: &Partition| {
                is_going(&partition.origin) && partition.is_dirty() && !partition.commit_is_in_vain
            };
            if !self.partitions.iter().any(is_left) || Instant::now() >= deadline {
                return;
            }
            let again = deadline.min(Instant::now() + COMMIT_AGAIN);
            self.serve_while(again, |_| true);
        }
    }

    /// Serves the common queue while something is waited for. What the group announces meanwhile is kept for later.
    pub(super) fn serve_while(&mut self, deadline: Instant, mut is_waiting: impl FnMut(&KafkaQueue) -> bool) {
        let consumer = self.consumer.clone();
        let (mut later, mut stray) = (Vec::new(), Vec::new());
        while is_waiting(self) && Instant::now() < deadline {
            match consumer.poll(LOOK) {
                None => {}
                Some(Ok(message)) => self.on_stray(message, Instant::now(), &mut stray),
                Some(Err(error)) => consumer.context().complain(&error, ""),
            }
            self.last_poll.touch(Instant::now());
            while let Some(event) = consumer.context().next_event() {
                match event {
                    Event::Committed { result, partitions } => self.on_committed(&result, &partitions),
                    other => later.push(other),
                }
            }
        }
        for lent in stray {
            // Nobody is there to send it now: it is lent again.
            lent.receipt.release();
        }
        for event in later {
            consumer.context().put_back(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::NoObserver;
    use super::*;

    #[test]
    fn a_refused_commit_is_due_again_soon_and_not_for_ever() {
        let mut commits = Commits::new(Duration::from_secs(1));
        let error = KafkaError::ConsumerCommit(RDKafkaErrorCode::IllegalGeneration);
        let due = |commits: &mut Commits| {
            let now = Instant::now();
            commits.hurry(now);
            assert!(commits.is_due(now) && !commits.is_due(now));
            commits.refused(&error, &NoObserver);
            let (soon, strike) = (now + Duration::from_millis(250), now + Duration::from_millis(500));
            (commits.is_due(soon), commits.is_due(strike))
        };
        assert_eq!(due(&mut commits), (true, false));
        assert_eq!(due(&mut commits), (true, false), "again and again, for a while");
        commits.refused_since = Instant::now().checked_sub(SOON);
        assert_eq!(due(&mut commits), (false, true), "it is no matter of moments");
        commits.taken();
        assert_eq!(due(&mut commits), (true, false));
    }
}
