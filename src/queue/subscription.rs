//! Which topics are subscribed to: those that exist and are ours, each by its name. Runs on the poll thread.

use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::Consumer as _;

use super::Owner;
use super::kafka::KafkaQueue;
use super::membership::Membership;
use super::place::Place;
use super::prefetch::Prefetch;
use super::topics::Listing;
use crate::clock::now_ms;
use crate::message::Origin;

/// Ignored topics named in the log, at most.
const NAMED: usize = 20;

impl KafkaQueue {
    /// Subscribes anew when the topics of ours have changed; names those that are not ours once.
    pub(super) fn on_topics(&mut self, listing: &Listing) {
        self.topics.look(listing, now_ms());
        let (ours, others): (Vec<String>, Vec<String>) =
            self.topics.present().map(ToOwned::to_owned).partition(|topic| self.selection.owner(topic).is_some());
        self.name_ignored(others);
        if ours.is_empty() && self.subscribed.is_none() {
            tracing::warn!("no topic of a configured app exists yet; going on looking");
        }
        if *self.subscribed.get_or_insert_default() == ours {
            return;
        }
        if !ours.is_empty() {
            self.size_prefetch(&ours);
        }
        tracing::info!(topics = ours.join(", "), "subscribing");
        self.subscribe(ours);
    }

    /// Joins the group for these topics, or leaves it where there are none.
    pub(super) fn subscribe(&mut self, topics: Vec<String>) {
        let names: Vec<_> = topics.iter().map(String::as_str).collect();
        let done = if names.is_empty() {
            let _: () = self.consumer.unsubscribe();
            Ok(())
        } else {
            self.consumer.subscribe(&names)
        };
        match done {
            Ok(()) => {
                let is_ours = |place: &Place| topics.binary_search_by(|one| one.as_str().cmp(&place.topic)).is_ok();
                self.remembered.retain(|place, _| is_ours(place));
                self.begun.retain(|place, _| is_ours(place));
                let awaited = self.partitions.is_empty() && !topics.is_empty();
                self.unassigned_since = awaited.then(|| *self.unassigned_since.get_or_insert_with(Instant::now));
                if topics.is_empty() {
                    // The group has nothing to say any more that would have to be waited for.
                    self.observer.joined();
                } else if self.subscribed.as_ref().is_some_and(Vec::is_empty) {
                    // It has again.
                    self.observer.rebalancing();
                }
                self.subscribed = Some(topics);
            }
            Err(error) => tracing::error!(alarm = true, %error, "subscribing"),
        }
    }

    /// Shares what may be fetched ahead among the partitions of our topics, all of which may become ours. The client takes
    /// that only when it is made, so one that has not joined yet is replaced by another.
    fn size_prefetch(&mut self, ours: &[String]) {
        let partitions = self.topics.partitions(ours.iter().map(String::as_str));
        let (bytes, prefetch) = (self.settings.prefetch_bytes, Prefetch::of(self.settings.prefetch_bytes, partitions));
        if self.has_subscribed {
            let total = self.prefetch.total(partitions);
            if total > bytes.max(prefetch.total(partitions)) * 2 {
                tracing::warn!(
                    partitions,
                    total,
                    bytes,
                    "there are many more partitions than at the start: what is fetched ahead may exceed prefetchBytes until the next start"
                );
            }
            return;
        }
        self.has_subscribed = true;
        if prefetch == self.prefetch {
            return;
        }
        match Membership::prepare(&self.settings, prefetch, &self.wakeup) {
            Ok(consumer) => (self.consumer, self.prefetch) = (consumer, prefetch),
            Err(error) => tracing::warn!(%error, "the client keeps its first bounds of what it fetches ahead"),
        }
    }

    fn name_ignored(&mut self, mut others: Vec<String>) {
        others.retain(|topic| self.selection.is_akin(topic));
        self.observer.ignored_topics(others.len());
        if others != self.ignored {
            let named = others.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            tracing::info!(count = others.len(), topics = named, "topics of other apps or platforms: not consumed");
            self.ignored = others;
        }
    }

    pub(super) fn origin(&self, topic: &str, partition: i32) -> Option<Arc<Origin>> {
        let Owner { app, platform, lane } = self.selection.owner(topic)?;
        Some(Arc::new(Origin { topic: topic.into(), partition, app, platform, lane }))
    }
}
