//! Partitions come and go. All of this runs on the poll thread, after the callback that announced it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::context::{self, Event};
use super::in_flight::Assignment;
use super::kafka::KafkaQueue;
use super::offsets::Ledger;
use super::partition::Partition;
use super::start::{self, Facts, Start};
use crate::message::Origin;

/// Longest single question to a broker while the group waits for us.
const CALL: Duration = Duration::from_secs(5);
/// Longest question for the cluster's id; the commit clock asks again.
const CLUSTER: Duration = Duration::from_secs(2);
/// Longest wait for what is on a stream when a partition is taken away; the whole group waits with us.
const FAREWELL: Duration = Duration::from_secs(3);
/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(2);

/// Partitions that the group gave us and whose start is not settled yet.
#[derive(Debug)]
pub(super) struct Pending {
    partitions: TopicPartitionList,
    try_at: Instant,
}

impl KafkaQueue {
    /// The group gave us these.
    pub(super) fn on_assigned(&mut self, partitions: &TopicPartitionList) {
        let mut all = self.pending.take().map_or_else(TopicPartitionList::new, |pending| pending.partitions);
        for element in partitions.elements() {
            all.add_partition(element.topic(), element.partition());
        }
        self.pending = Some(Pending { partitions: all, try_at: Instant::now() });
    }

    /// Settles the starts of what is pending; on a failure tries again in a moment, and nothing of it is lent before.
    pub(super) fn settle_pending(&mut self, now: Instant) {
        let Some(mut pending) = self.pending.take_if(|pending| pending.try_at <= now) else { return };
        if let Err(error) = self.assign(&pending.partitions) {
            tracing::warn!(%error, "cannot read where to begin; trying again");
            pending.try_at = Instant::now() + Duration::from_secs(1);
            self.pending = Some(pending);
        }
    }

    fn assign(&mut self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        let starts = self.starts(partitions)?;
        self.commit_starts(&starts)?;
        if self.consumer.context().has_news() {
            // The group has changed its mind meanwhile: that comes first.
            self.on_assigned(partitions);
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (origin, start) in &starts {
            list.add_partition_offset(&origin.topic, origin.partition, Offset::Offset(start.offset))?;
        }
        // Each partition's queue is split off before its first record can arrive on the common one.
        let begun: Vec<_> = starts.into_iter().filter_map(|(origin, start)| self.begin(origin, start)).collect();
        if context::is_cooperative(&self.consumer) {
            self.consumer.incremental_assign(&list)?;
        } else {
            self.consumer.assign(&list)?;
        }
        tracing::info!(partitions = begun.len(), "partitions assigned");
        self.partitions.extend(begun);
        self.watch_logs();
        self.observer.assigned(self.partitions.len());
        Ok(())
    }

    /// Where each partition begins.
    fn starts(&mut self, partitions: &TopicPartitionList) -> KafkaResult<Vec<(Arc<Origin>, Start)>> {
        if partitions.count() == 0 {
            return Ok(Vec::new());
        }
        let committed = self.consumer.committed_offsets(partitions.clone(), CALL)?;
        let mut starts = Vec::new();
        for element in committed.elements() {
            element.error()?;
            let offset = element.offset().to_raw().filter(|offset| *offset >= 0);
            let Some(origin) = self.origin(element.topic(), element.partition()) else { continue };
            let metadata = element.metadata();
            let log = if start::needs_log(offset, metadata) {
                Some(self.consumer.fetch_watermarks(element.topic(), element.partition(), CALL)?)
            } else {
                None
            };
            let appeared = self.appeared(element.topic(), element.partition());
            let cluster = self.commits.cluster(&self.consumer, CLUSTER);
            let start =
                start::decide(&Facts { committed: offset, metadata, log, appeared, cluster }, self.settings.reset);
            self.tell(&origin, &start);
            starts.push((origin, start));
        }
        Ok(starts)
    }

    fn tell(&self, origin: &Origin, start: &Start) {
        if let Some(reason) = start.dropped {
            tracing::warn!(topic = %origin.topic, partition = origin.partition, reason, "the map of resolved offsets is not used; some messages may be repeated");
            self.observer.map_dropped(origin, reason);
        }
        if start.skipped > 0 {
            self.lost_by_the_log(origin, start.offset, start.skipped);
        }
    }

    pub(super) fn lost_by_the_log(&self, origin: &Origin, offset: i64, skipped: i64) {
        tracing::error!(
            alarm = true, app = %origin.app, platform = %origin.platform, topic = %origin.topic, partition = origin.partition,
            offset, skipped, reason = "out of range",
            "messages were deleted from the log before they were read; going on with the oldest that exists, raise the topic's retention"
        );
        self.observer.out_of_range(origin, skipped as u64);
    }

    /// A start that is ours to decide is committed before anything is lent: a crash before the first ordinary commit must
    /// find it again, not decide anew.
    fn commit_starts(&mut self, starts: &[(Arc<Origin>, Start)]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (origin, start) in starts.iter().filter(|(_, start)| start.commit_first) {
            list.add_partition_offset(&origin.topic, origin.partition, Offset::Offset(start.offset))?;
        }
        if list.count() == 0 { Ok(()) } else { self.commit_now(&list, CALL) }
    }

    fn begin(&self, origin: Arc<Origin>, start: Start) -> Option<Partition> {
        let Some(mut queue) = self.consumer.split_partition_queue(&origin.topic, origin.partition) else {
            tracing::error!(alarm = true, topic = %origin.topic, partition = origin.partition, "the client has no queue for this partition");
            return None;
        };
        Partition::discard_stale(&queue);
        let wakeup = self.wakeup.clone();
        queue.set_nonempty_callback(move || wakeup.wake());
        let lane = self.in_flight.tally().lane(&origin);
        let assignment = Assignment::new(Ledger::new(start.offset, Vec::new()), self.last_poll.clone(), lane);
        let share = self.in_flight.share(&origin.app);
        Some(Partition::new(origin, assignment, share, queue, start.map))
    }

    /// Partitions that come while the process ends: acknowledged, for the group waits for that, and not read.
    pub(super) fn decline_pending(&mut self) {
        if let Some(Pending { partitions, .. }) = self.pending.take() {
            context::decline(&self.consumer, &partitions);
        }
    }

    /// Acknowledges all that the group has announced and nobody will act on: the client waits for that before it leaves.
    pub(super) fn dismiss(&mut self) {
        self.decline_pending();
        let consumer = self.consumer.clone();
        while let Some(event) = consumer.context().next_event() {
            match event {
                Event::Assigned(partitions) => context::decline(&consumer, &partitions),
                Event::Revoked { partitions, .. } => context::give_up(&consumer, &partitions),
                Event::Committed { .. } => {}
            }
        }
    }

    /// The group takes these away. What is on a stream may end within a bounded wait, and is committed; then the epoch is over.
    pub(super) fn on_revoked(&mut self, revoked: &TopicPartitionList, lost: bool) {
        let is_revoked = |origin: &Origin| revoked.find_partition(&origin.topic, origin.partition).is_some();
        self.pending = self.pending.take().and_then(|pending| pending.without(revoked));
        let going = || self.partitions.iter().filter(|partition| is_revoked(&partition.origin));
        going().for_each(|partition| partition.assignment.stop_sending());
        if !lost {
            self.wait_for_streams(going);
            self.commit_last(is_revoked, Instant::now() + CALL.min(self.settings.session_timeout / 2));
        }
        let (going, staying): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.partitions).into_iter().partition(|partition| is_revoked(&partition.origin));
        self.partitions = staying;
        for partition in &going {
            partition.assignment.end();
            self.seeks.forget(&partition.origin);
        }
        let count = going.len();
        drop(going);
        // What is left stays ours meanwhile only where partitions are handed over one by one.
        let keeps_rest = !lost && context::is_cooperative(&self.consumer);
        context::give_up(&self.consumer, revoked);
        tracing::info!(partitions = count, lost, "partitions revoked");
        self.watch_logs();
        self.observer.assigned(self.partitions.len());
        if !keeps_rest {
            self.observer.rebalancing();
        }
    }

    fn wait_for_streams<'a, P: Iterator<Item = &'a Partition>>(&self, going: impl Fn() -> P) {
        let deadline = Instant::now() + FAREWELL.min(self.settings.session_timeout / 2);
        while going().any(|partition| partition.assignment.on_stream() > 0) && Instant::now() < deadline {
            std::thread::park_timeout(LOOK);
        }
    }
}

impl Pending {
    /// What of it was not revoked.
    fn without(self, revoked: &TopicPartitionList) -> Option<Pending> {
        let mut partitions = TopicPartitionList::new();
        for element in self.partitions.elements() {
            if revoked.find_partition(element.topic(), element.partition()).is_none() {
                partitions.add_partition(element.topic(), element.partition());
            }
        }
        (partitions.count() > 0).then_some(Pending { partitions, ..self })
    }
}
