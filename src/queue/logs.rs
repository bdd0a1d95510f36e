//! What is known of the logs that we read: where they end, and for how long they keep their records. The scout asks, on its
//! thread; the poll thread reads, and waits for nobody. Metrics depend on it, and whether a log was cut off.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::place::Place;
use super::scout::Answer;
use super::start::Log;

/// How long the question for the topics' configuration may take.
const CALL: Duration = Duration::from_secs(2);
/// How often it is asked; who changes a retention waits so long for the metric.
const RETENTION_AGAIN: Duration = Duration::from_mins(10);

/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Logs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ours: Vec<Place>,
    /// And when each was asked for.
    ends: BTreeMap<Place, (i64, Instant)>,
    retention: HashMap<String, Duration>,
    /// Of which topics retention was asked for, and when.
    asked: Option<(Vec<String>, Instant)>,
    /// Whether it is being asked for.
    asking: bool,
}

impl Logs {
    /// The partitions that are ours from now on.
    pub(super) fn watch(&self, ours: impl Iterator<Item = Place>) {
        let mut state = self.0.lock();
        state.ours = ours.collect();
        let State { ours, ends, .. } = &mut *state;
        ends.retain(|place, _| ours.contains(place));
    }

    /// One past the last offset of a partition, as of the last look, and when that began.
    pub(super) fn end(&self, place: &Place) -> Option<(i64, Instant)> {
        self.0.lock().ends.get(place).copied()
    }

    /// For how long a topic keeps its records; `None` when nobody knows, or for ever.
    pub(super) fn retention(&self, topic: &str) -> Option<Duration> {
        self.0.lock().retention.get(topic).copied()
    }

    /// Whose ends are wanted.
    pub(super) fn ours(&self) -> Vec<(Place, Option<i64>)> {
        self.0.lock().ours.iter().map(|place| (place.clone(), None)).collect()
    }

    /// What was found by a look that began at `asked`; of what was not, the last is kept.
    pub(super) fn note_ends(&self, asked: Instant, found: BTreeMap<Place, Answer<Log>>) {
        let mut state = self.0.lock();
        for (place, log) in found {
            match log {
                Ok(log) if state.ours.contains(&place) => drop(state.ends.insert(place, (log.high, asked))),
                Ok(_) => {}
                Err(why) => tracing::debug!(why, topic = %place.topic, "asking where a log ends"),
            }
        }
    }

    /// The topics whose configuration is to be asked for now; from now on it is being asked for.
    fn to_ask(&self) -> Option<Vec<String>> {
        let mut state = self.0.lock();
        let mut topics: Vec<_> = state.ours.iter().map(|place| place.topic.to_string()).collect();
        topics.sort_unstable();
        topics.dedup();
        let fresh = |(of, at): &(Vec<String>, Instant)| *of == topics && at.elapsed() < RETENTION_AGAIN;
        let is_due = !topics.is_empty() && !state.asking && !state.asked.as_ref().is_some_and(fresh);
        state.asking |= is_due;
        is_due.then_some(topics)
    }

    fn note(&self, topics: Vec<String>, found: Result<HashMap<String, Duration>, Box<dyn std::error::Error>>) {
        let mut state = self.0.lock();
        match found {
            Ok(retention) => state.retention = retention,
            // Not every user may read a topic's configuration.
            Err(error) => tracing::debug!(%error, "asking for the topics' retention"),
        }
        state.asked = Some((topics, Instant::now()));
    }

    /// Asks for the topics' configuration, when it is time. On a thread of its own: a client that is destroyed while its broker
    /// goes away has been seen to wait for ever (librdkafka issues 4041 and 4884), and partitions are begun by who calls this.
    pub(super) fn note_retention(&self, config: &ClientConfig) {
        let Some(topics) = self.to_ask() else { return };
        let (logs, config) = (self.clone(), config.clone());
        let ask = move || {
            match config.create::<AdminClient<DefaultClientContext>>() {
                Ok(client) => {
                    let retention = retention(&client, &topics);
                    logs.note(topics, retention);
                }
                Err(error) => logs.note(topics, Err(error.into())),
            }
            logs.0.lock().asking = false;
        };
        if std::thread::Builder::new().name("retention".into()).spawn(ask).is_err() {
            self.0.lock().asking = false;
        }
    }
}

fn retention(
    client: &AdminClient<DefaultClientContext>,
    topics: &[String],
) -> Result<HashMap<String, Duration>, Box<dyn std::error::Error>> {
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(CALL));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let described = runtime.block_on(client.describe_configs(&resources, &options))?;
    let of = |resource: ConfigResource| {
        let OwnedResourceSpecifier::Topic(topic) = &resource.specifier else { return None };
        let millis: i64 = resource.get("retention.ms")?.value.as_ref()?.parse().ok()?;
        Some((topic.clone(), Duration::from_millis(u64::try_from(millis).ok()?)))
    };
    Ok(described.into_iter().filter_map(Result::ok).filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_any_more_is_forgotten_and_what_was_not_found_is_kept() {
        let (logs, places) = (Logs::default(), [0, 1].map(|partition| Place::new("t", partition)));
        let ends = || places.each_ref().map(|place| logs.end(place).map(|(end, _)| end));
        let now = Instant::now();
        logs.watch(places.iter().cloned());
        let log = |high| Ok(Log { low: 0, high, newer: None });
        logs.note_ends(now, [(places[0].clone(), log(7)), (places[1].clone(), log(8))].into());
        assert_eq!(ends(), [Some(7), Some(8)]);
        logs.note_ends(now, [(places[1].clone(), Err("away".into()))].into());
        assert_eq!(ends(), [Some(7), Some(8)]);
        logs.watch(places[1..].iter().cloned());
        logs.note_ends(now, [(places[0].clone(), log(9))].into());
        assert_eq!(ends(), [None, Some(8)], "an answer may come late");
    }
}
