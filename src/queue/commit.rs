//! Commits: explicit, on a clock, with the map of what is resolved beyond the offset.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;

use super::Observer;
use super::complaints::Complaints;
use super::context::{Consumer, Event};
use super::kafka::KafkaQueue;
use super::native;
use super::partition::Partition;
use super::place::Place;
use crate::message::Origin;

mod answer;
mod apart;
mod lists;
use apart::Apart;
pub(super) use apart::Reach;
use lists::{List, Lists, UnderWay};

/// For so long a refused commit is asked for again soon; after that whatever refuses it is not a matter of moments.
const SOON: Duration = Duration::from_secs(5);

/// The commit clock, and what it is waiting for.
#[derive(Debug)]
pub(super) struct Commits {
    interval: Duration,
    next: Instant,
    under_way: UnderWay,
    apart: Apart,
    /// When the latest commit was asked for that the group has accepted, until that is told.
    proven: Option<Instant>,
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
        let (refused_since, refusals, under_way) = (None, Complaints::default(), UnderWay::default());
        let (apart, proven, cluster) = (Apart::default(), None, 0);
        Commits { interval, next, under_way, apart, proven, cluster, well_at: now, refused_since, refusals }
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

    /// How long until the clock strikes.
    pub(super) fn due_in(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// Lets the clock strike now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next = now;
    }

    /// Whether an answer is still to come.
    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// When the first commit was asked for of those that have no answer.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.under_way.since()
    }

    /// No answer will come any more: the client that was asked has gone.
    pub(super) fn forget(&mut self) {
        self.under_way.clear();
        self.apart.clear();
        self.proven = None;
    }

    /// A partition is not ours any more.
    pub(super) fn forget_place(&mut self, place: &Place) {
        self.apart.forget(place);
    }

    /// For how long what is resolved has waited for a commit that was taken.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        let since = self.apart.since().map_or(self.well_at, |since| since.min(self.well_at));
        now.saturating_duration_since(since)
    }

    /// When the commit was asked for by whose acceptance the group has just called us its member; told once.
    pub(super) fn proof(&mut self) -> Option<Instant> {
        self.proven.take()
    }

    /// Asks for a commit of every partition that has changed; `is_last`: also of those that were refused by themselves not long
    /// ago. The answers come as events.
    pub(super) fn ask<'a>(
        &mut self,
        consumer: &Consumer,
        partitions: impl Iterator<Item = &'a mut Partition>,
        is_last: bool,
        observer: &dyn Observer,
    ) {
        let (now, mut lists) = (Instant::now(), Lists::default());
        let mut asked: Vec<(usize, &Partition)> = Vec::new();
        for partition in partitions {
            let place = Place::from(&*partition.origin);
            let rests = !is_last && self.apart.rests(&place, now);
            if rests || !partition.take_dirty() {
                continue;
            }
            let number = self.apart.number(&place);
            let plan = partition.plan(self.cluster).and_then(|plan| {
                let list = lists.add(number, place, plan.anchor.offset, &plan.metadata).ok()?;
                Some((list, plan))
            });
            partition.is_unfinished = plan.as_ref().is_none_or(|(_, plan)| plan.is_provisional);
            let Some((list, plan)) = plan else { continue };
            observer.map_bytes(&partition.origin, plan.metadata.len());
            partition.anchors.ask(plan.anchor);
            asked.push((list, partition));
        }
        if asked.is_empty() && self.under_way.is_empty() {
            self.well_at = now;
        }
        for (index, list) in lists.into_lists().into_iter().enumerate() {
            if let Err(error) = self.send(consumer, list) {
                let those = asked.iter().filter(|(list, _)| *list == index);
                those.for_each(|(_, partition)| partition.set_dirty());
                self.refused(&error, observer);
            }
        }
    }

    /// Asks for a commit of where these begin; those of which no answer will come.
    pub(super) fn ask_starts(&mut self, consumer: &Consumer, starts: Vec<(Place, i64)>) -> Vec<(Place, i64)> {
        let (mut lists, mut left) = (Lists::default(), Vec::new());
        for (place, offset) in starts {
            if lists.add(self.apart.number(&place), place.clone(), offset, "").is_err() {
                left.push((place, offset));
            }
        }
        for list in lists.into_lists() {
            let places = list.places().to_vec();
            if self.send(consumer, list).is_err() {
                left.extend(places);
            }
        }
        left
    }

    fn send(&mut self, consumer: &Consumer, list: List) -> KafkaResult<()> {
        let now = Instant::now();
        native::commit(consumer, list.elements())?;
        self.under_way.add(list, now);
        Ok(())
    }

    /// What has ended of these waits no longer for a commit.
    fn went_well(&mut self) {
        self.well_at = Instant::now();
        self.refused_since = None;
        if self.refusals.answered(Instant::now()) {
            tracing::info!("commits are taken again");
        }
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
}

/// Pause before a last commit is asked for again.
const COMMIT_AGAIN: Duration = Duration::from_millis(100);
/// How often a wait looks whether it is over.
const LOOK: Duration = Duration::from_millis(5);

impl KafkaQueue {
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
            self.commits.ask(&self.consumer, asked, true, &*self.observer);
            self.serve_while(deadline, |queue| queue.commits.is_under_way());
            let is_left = |partition: &Partition| {
                is_going(&partition.origin) && partition.is_dirty() && !partition.commit_is_in_vain
            };
            if !self.partitions.iter().any(is_left) || Instant::now() >= deadline {
                return;
            }
            // Halves go on at once, or nearly: a client that takes none would be asked without end.
            let pause = if self.commits.apart.is_divided() { LOOK } else { COMMIT_AGAIN };
            let again = deadline.min(Instant::now() + pause);
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
        commits.went_well();
        assert_eq!(due(&mut commits), (true, false));
    }
}
