//! Commits: explicit, on a clock, with the map of what is resolved beyond the offset.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::Observer;
use super::commit_call;
use super::context::{Consumer, Event};
use super::kafka::KafkaQueue;
use super::map::{self, OffsetMap};
use super::partition::Partition;
use crate::message::Origin;

/// The commit clock, and what it is waiting for.
#[derive(Debug)]
pub(super) struct Commits {
    interval: Duration,
    next: Instant,
    /// Commits asked for and not yet answered.
    under_way: usize,
    last: KafkaResult<()>,
    cluster: Option<u32>,
    /// When nothing was left to commit, or a commit was taken, for the last time.
    well_at: Instant,
}

impl Commits {
    /// A clock that strikes every `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        let now = Instant::now();
        Commits { interval, next: now + interval, under_way: 0, last: Ok(()), cluster: None, well_at: now }
    }

    /// crc32 of the cluster's id, when it is known.
    pub(super) fn cluster(&mut self, consumer: &Consumer, limit: Duration) -> Option<u32> {
        if self.cluster.is_none() {
            let id = consumer.client().fetch_cluster_id(limit);
            self.cluster = id.map(|id| crc32fast::hash(id.as_bytes()));
        }
        self.cluster
    }

    /// Whether the clock has struck; then it is wound up again.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.interval;
        }
        due
    }

    /// Whether an answer is still to come.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// For how long what is resolved has waited for a commit that was taken.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.well_at)
    }

    /// A commit was asked for by somebody else.
    pub(super) fn asked(&mut self) {
        self.under_way += 1;
    }

    /// How the latest commit went; a time-out while one is not answered.
    pub(super) fn last_answer(&self) -> KafkaResult<()> {
        if self.is_under_way() {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut));
        }
        self.last.clone()
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
        for partition in partitions.filter(|partition| partition.take_dirty()) {
            if self.add(&mut list, partition, observer).is_err() {
                partition.set_dirty();
            } else {
                asked.push(partition);
            }
        }
        if list.count() == 0 {
            if self.under_way == 0 {
                self.well_at = Instant::now();
            }
            return;
        }
        match commit_call::commit(consumer, &list) {
            Ok(()) => self.under_way += 1,
            Err(error) => {
                asked.into_iter().for_each(Partition::set_dirty);
                observer.commit_failed(&error.to_string());
            }
        }
    }

    fn add(&self, list: &mut TopicPartitionList, partition: &Partition, observer: &dyn Observer) -> KafkaResult<()> {
        let (position, metadata) = self.committable(partition);
        observer.map_bytes(&partition.origin, metadata.len());
        let (topic, number) = (&partition.origin.topic, partition.origin.partition);
        list.add_partition_offset(topic, number, Offset::Offset(position))?;
        if let Some(mut element) = list.find_partition(topic, number).filter(|_| !metadata.is_empty()) {
            element.set_metadata(metadata);
        }
        Ok(())
    }

    /// The offset to commit and its metadata. Without the time of the record at the offset, or without the cluster's id, a
    /// later process could not tell whether the map is of this log: then there is none, and a restart repeats more.
    fn committable(&self, partition: &Partition) -> (i64, String) {
        let ledger = partition.assignment.ledger.lock();
        let base = ledger.position();
        let (Some(cluster), Some(base_timestamp_ms)) = (self.cluster, ledger.first_unresolved_timestamp()) else {
            return (base, String::new());
        };
        if !partition.commits_map {
            return (base, String::new());
        }
        let resolved: Vec<_> = ledger.resolved_beyond().collect();
        drop(ledger);
        let map = OffsetMap { base, base_timestamp_ms, cluster, resolved };
        (base, map::encode(&map).unwrap_or_default())
    }

    /// An answer has come, with one for each partition that is still ours; `whole`: the first refusal of any. One
    /// that was refused stays dirty, for the next strike.
    pub(super) fn answered<'a>(
        &mut self,
        result: &KafkaResult<()>,
        whole: KafkaResult<()>,
        partitions: impl Iterator<Item = (&'a mut Partition, KafkaResult<()>)>,
        observer: &dyn Observer,
    ) {
        self.under_way = self.under_way.saturating_sub(1);
        self.last = whole;
        let mut refused = result.as_ref().err().cloned();
        for (partition, answer) in partitions {
            let Err(error) = answer else { continue };
            partition.set_dirty();
            partition.commit_is_in_vain = is_in_vain(&error);
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OffsetMetadataTooLarge) {
                tracing::warn!(topic = %partition.origin.topic, "the broker takes less offset metadata than 4096 bytes (offset.metadata.max.bytes): committing without the map, a crash may repeat more");
                partition.commits_map = false;
            }
            refused = Some(error);
        }
        match refused {
            None => self.well_at = Instant::now(),
            Some(error) => observer.commit_failed(&error.to_string()),
        }
    }
}

/// Whether asking again at once is in vain: the group has gone on without this member, or somebody must mend something.
fn is_in_vain(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        FencedInstanceId, GroupAuthorizationFailed, IllegalGeneration, RebalanceInProgress, TopicAuthorizationFailed,
        UnknownMemberId, UnknownTopicOrPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            FencedInstanceId
                | GroupAuthorizationFailed
                | IllegalGeneration
                | RebalanceInProgress
                | TopicAuthorizationFailed
                | UnknownMemberId
                | UnknownTopicOrPartition
        )
    )
}

/// Pause before a last commit is asked for again.
const COMMIT_AGAIN: Duration = Duration::from_millis(100);

impl KafkaQueue {
    /// A commit was answered, partition by partition.
    pub(super) fn on_committed(&mut self, result: &KafkaResult<()>, partitions: &TopicPartitionList) {
        let concerned = self.partitions.iter_mut().filter_map(|partition| {
            let element = partitions.find_partition(&partition.origin.topic, partition.origin.partition)?;
            let answer = result.clone().and_then(|()| element.error());
            Some((partition, answer))
        });
        // A start that is committed has no partition here yet: its refusal is found in the answer itself.
        let whole = result.clone().and_then(|()| {
            partitions.elements().iter().try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)
        });
        self.commits.answered(result, whole, concerned, &*self.observer);
        if result.is_ok() {
            self.consumer.context().is_well();
        }
    }

    /// A commit whose answer is waited for; the thread serves the common queue meanwhile.
    pub(super) fn commit_now(&mut self, list: &TopicPartitionList, limit: Duration) -> KafkaResult<()> {
        commit_call::commit(&self.consumer, list)?;
        self.commits.asked();
        self.await_commits(Instant::now() + limit);
        self.commits.last_answer()
    }

    /// The last commit of partitions that are going away: asked for again until it is taken, is refused for good, or the
    /// deadline has come.
    pub(super) fn commit_last(&mut self, is_going: impl Fn(&Origin) -> bool, deadline: Instant) {
        loop {
            // An older commit that is still under way must not come after the last one.
            self.await_commits(deadline);
            let going = self.partitions.iter_mut().filter(|partition| is_going(&partition.origin));
            self.commits.ask(&self.consumer, going, &*self.observer);
            self.await_commits(deadline);
            let is_left = |partition: &Partition| {
                is_going(&partition.origin) && partition.is_dirty() && !partition.commit_is_in_vain
            };
            if !self.partitions.iter().any(is_left) || Instant::now() >= deadline {
                return;
            }
            std::thread::park_timeout(COMMIT_AGAIN);
        }
    }

    /// Serves the common queue until every commit is answered. Assignments that come meanwhile are kept for later.
    pub(super) fn await_commits(&mut self, deadline: Instant) {
        let consumer = self.consumer.clone();
        let mut later = Vec::new();
        while self.commits.is_under_way() && Instant::now() < deadline {
            if let Some(Err(error)) = consumer.poll(Duration::from_millis(5)) {
                consumer.context().complain(&error, "");
            }
            while let Some(event) = consumer.context().next_event() {
                match event {
                    Event::Committed { result, partitions } => self.on_committed(&result, &partitions),
                    other => later.push(other),
                }
            }
        }
        for event in later {
            consumer.context().put_back(event);
        }
    }
}
