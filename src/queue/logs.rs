//! What is known of the logs that we read: where they end, and for how long they keep their records. Asked for on the
//! look-out's thread (`topics`), read on the poll thread, which waits for nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long one question may take.
const CALL: Duration = Duration::from_secs(5);
/// How often retention is asked for; who changes it waits so long for the metric.
const RETENTION_AGAIN: Duration = Duration::from_mins(10);

/// A topic and the number of one of its partitions.
type Place = (Arc<str>, i32);

/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Logs(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ours: Vec<Place>,
    ends: HashMap<Place, i64>,
    retention: HashMap<String, Duration>,
    /// Of which topics retention was asked for, and when.
    asked: Option<(Vec<String>, Instant)>,
}

impl Logs {
    /// The partitions that are ours from now on.
    pub(super) fn watch(&self, ours: impl Iterator<Item = Place>) {
        let mut state = self.0.lock();
        state.ours = ours.collect();
        let State { ours, ends, .. } = &mut *state;
        ends.retain(|place, _| ours.contains(place));
    }

    /// One past the last offset of a partition, as of the last look.
    pub(super) fn end(&self, topic: &Arc<str>, partition: i32) -> Option<i64> {
        self.0.lock().ends.get(&(topic.clone(), partition)).copied()
    }

    /// For how long a topic keeps its records; `None` when nobody knows, or for ever.
    pub(super) fn retention(&self, topic: &str) -> Option<Duration> {
        self.0.lock().retention.get(topic).copied()
    }

    /// Looks: one request to each broker that leads a partition of ours, and now and then one for the topics' configuration.
    pub(super) fn look(&self, client: &BaseConsumer, config: &ClientConfig) {
        let ours = self.0.lock().ours.clone();
        if ours.is_empty() {
            return;
        }
        match ends(client, &ours) {
            Ok(ends) => self.0.lock().ends.extend(ends),
            Err(error) => tracing::debug!(%error, "asking where logs end"),
        }
        let mut topics: Vec<_> = ours.iter().map(|(topic, _)| topic.to_string()).collect();
        topics.sort_unstable();
        topics.dedup();
        let fresh = |(of, at): &(Vec<String>, Instant)| *of == topics && at.elapsed() < RETENTION_AGAIN;
        if self.0.lock().asked.as_ref().is_some_and(fresh) {
            return;
        }
        match retention(config, &topics) {
            Ok(retention) => self.0.lock().retention = retention,
            // Not every user may read a topic's configuration, and nothing depends on it but a metric.
            Err(error) => tracing::debug!(%error, "asking for the topics' retention"),
        }
        self.0.lock().asked = Some((topics, Instant::now()));
    }
}

fn ends(client: &BaseConsumer, places: &[Place]) -> KafkaResult<Vec<(Place, i64)>> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places {
        list.add_partition_offset(topic, *partition, Offset::End)?;
    }
    let answer = client.offsets_for_times(list, CALL)?;
    let end = |place: &Place| {
        let element = answer.find_partition(&place.0, place.1).filter(|element| element.error().is_ok())?;
        let end = element.offset().to_raw().filter(|offset| *offset >= 0)?;
        Some((place.clone(), end))
    };
    Ok(places.iter().filter_map(end).collect())
}

fn retention(
    config: &ClientConfig,
    topics: &[String],
) -> Result<HashMap<String, Duration>, Box<dyn std::error::Error>> {
    let client: AdminClient<DefaultClientContext> = config.create()?;
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(CALL));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let described = runtime.block_on(client.describe_configs(&resources, &options))?;
    let of = |resource: rdkafka::admin::ConfigResource| {
        let rdkafka::admin::OwnedResourceSpecifier::Topic(topic) = &resource.specifier else { return None };
        let millis: i64 = resource.get("retention.ms")?.value.as_ref()?.parse().ok()?;
        Some((topic.clone(), Duration::from_millis(u64::try_from(millis).ok()?)))
    };
    Ok(described.into_iter().filter_map(Result::ok).filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_any_more_is_forgotten() {
        let (logs, topic): (_, Arc<str>) = (Logs::default(), "t".into());
        logs.watch([(topic.clone(), 0), (topic.clone(), 1)].into_iter());
        logs.0.lock().ends.extend([((topic.clone(), 0), 7), ((topic.clone(), 1), 8)]);
        logs.watch([(topic.clone(), 1)].into_iter());
        assert_eq!((logs.end(&topic, 0), logs.end(&topic, 1)), (None, Some(8)));
    }
}
