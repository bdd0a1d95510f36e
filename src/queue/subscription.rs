//! Which topics are subscribed to: those that exist and are ours, each by its name. Runs on the poll thread.

use std::sync::Arc;

use rdkafka::consumer::Consumer as _;

use super::Place;
use super::kafka::KafkaQueue;
use crate::message::Origin;

/// Ignored topics named in the log, at most.
const NAMED: usize = 20;

impl KafkaQueue {
    /// Subscribes anew when the topics of ours have changed; names those that are not ours once.
    pub(super) fn look_at_topics(&mut self) {
        let Some(topics) = self.watch.latest() else { return };
        let (ours, others): (Vec<_>, Vec<_>) =
            topics.keys().cloned().partition(|topic| self.selection.place(topic).is_some());
        let others: Vec<_> = others.into_iter().filter(|topic| self.selection.is_akin(topic)).collect();
        self.observer.ignored_topics(others.len());
        if others != self.ignored {
            let named = others.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            tracing::info!(count = others.len(), topics = named, "topics of other apps or platforms: not consumed");
            self.ignored = others;
        }
        if ours != self.subscribed {
            let names: Vec<_> = ours.iter().map(String::as_str).collect();
            tracing::info!(topics = names.join(", "), "subscribing");
            let done = if names.is_empty() {
                let _: () = self.consumer.unsubscribe();
                Ok(())
            } else {
                self.consumer.subscribe(&names)
            };
            match done {
                Ok(()) => self.subscribed = ours,
                Err(error) => tracing::error!(alarm = true, %error, "subscribing"),
            }
        } else if self.first_look.is_none() && ours.is_empty() {
            tracing::warn!("no topic of a configured app exists yet; looking again every 10 s");
        }
        self.first_look.get_or_insert(topics);
    }

    /// Whether a partition came into being while we run.
    pub(super) fn appeared(&self, topic: &str, partition: i32) -> bool {
        let known = self.first_look.as_ref().map(|topics| topics.get(topic).copied().unwrap_or(0));
        known.is_some_and(|partitions| partition >= partitions)
    }

    pub(super) fn origin(&self, topic: &str, partition: i32) -> Option<Arc<Origin>> {
        let Place { app, platform, lane } = self.selection.place(topic)?;
        Some(Arc::new(Origin { topic: topic.into(), partition, app, platform, lane }))
    }
}
