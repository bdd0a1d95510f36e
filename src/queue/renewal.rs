//! A client that stands still is replaced; [`super::stall`] says when. Runs on the poll thread.

use std::time::{Duration, Instant};

use super::kafka::KafkaQueue;
use super::membership::Membership;
use super::partition::Partition;
use super::place::Place;
use super::scout::Question;
use super::stall::{Found, Waiting};

/// The scout has this much longer than its own pause between two looks before the brokers are taken for silent.
const LATE: Duration = Duration::from_secs(5);

impl KafkaQueue {
    /// Replaces the client when it stands still.
    pub(super) fn look_for_a_stall(&mut self, now: Instant) {
        let lately = self.settings.topic_interval + LATE;
        let answer = self.listed_at.is_some_and(|at| now.saturating_duration_since(at) <= lately);
        let commit = self.commits.waits_since().map(Waiting::Commit);
        // Where the brokers share partitions, one that has none for us says nothing.
        let tells = !self.settings.brokers_assign();
        let group = self.unassigned_since.filter(|_| tells).map(Waiting::Group);
        let unread = self.partitions.iter().filter_map(|partition| self.unread(partition));
        let all: Vec<_> = commit.into_iter().chain(group).chain(unread).collect();
        match self.stall.look(now, answer, all) {
            Found::Nothing => {}
            Found::Still(still) => self.renew(&still),
            Found::Unknown(places) => self.reading = self.reading || self.scout.ask(Question::Readable { places }),
        }
    }

    /// What the scout could read.
    pub(super) fn on_readable(&mut self, found: Vec<(Place, i64, bool)>) {
        let now = Instant::now();
        self.reading = false;
        for (place, from, is_readable) in found {
            self.stall.answered(place, from, is_readable, now);
        }
    }

    /// A partition whose log goes on.
    fn unread(&self, partition: &Partition) -> Option<Waiting> {
        let (place, at) = (Place::from(&*partition.origin), partition.reads_at());
        let is_behind = self.logs.end(&place).is_some_and(|(end, _)| end > at);
        let is_read =
            partition.is_read() && !self.searches.contains(&partition.origin) && !self.last_poll.is_in_doubt();
        (is_behind && is_read).then_some(Waiting::Partition(place, at))
    }

    /// Another client joins the group. What is known of the partitions counts as after an outage that took them.
    fn renew(&mut self, still: &Waiting) {
        self.stall.replaced();
        let client = match Membership::prepare(&self.settings, self.prefetch, &self.wakeup) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(alarm = true, %error, ?still, "the kafka client stands still although the brokers answer, and no other can be made");
                return;
            }
        };
        let partitions = self.partitions.len();
        tracing::error!(
            alarm = true,
            partitions,
            ?still,
            "the kafka client stands still although the brokers answer: another one takes its place"
        );
        self.observer.client_replaced();
        for partition in std::mem::take(&mut self.partitions) {
            self.remember(partition, true);
        }
        self.settling.clear();
        self.commits.forget();
        self.dismiss();
        self.watch_logs();
        self.observer.assigned(0);
        self.observer.rebalancing();
        let mut old = std::mem::replace(&mut self.consumer, client);
        old.leave_within(Duration::ZERO);
        drop(old);
        self.unassigned_since = None;
        if let Some(topics) = self.subscribed.take().filter(|topics| !topics.is_empty()) {
            self.subscribe(topics);
        }
    }

    /// What we know of a partition that we do not have any more, in case it comes back untouched.
    pub(super) fn remember(&mut self, partition: Partition, lost: bool) {
        let place = Place::from(&*partition.origin);
        self.seeks.forget(&place);
        self.searches.forget(&place);
        if let Some(past) = partition.into_past(lost) {
            self.remembered.insert(place, past);
        }
    }
}
