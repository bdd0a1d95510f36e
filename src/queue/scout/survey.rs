//! What logs hold, asked broker by broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{Answer, CALL, Heard};
use crate::queue::place::Place;
use crate::queue::start::Log;

/// A partition, and the moment since which its first record is wanted.
pub(super) type Wanted = (Place, Option<i64>);

/// One round of questions about logs.
pub(super) struct Survey<'a> {
    pub(super) client: &'a BaseConsumer<Heard>,
    /// What is not known by then is called unknown.
    pub(super) until: Instant,
}

impl Survey<'_> {
    /// What these logs hold, asked broker by broker.
    pub(super) fn logs(&self, wanted: Vec<Wanted>) -> BTreeMap<Place, Answer<Log>> {
        let mut logs = BTreeMap::new();
        for group in self.by_leader(wanted, &mut logs) {
            let answers = self.ask_leader(&group);
            logs.extend(group.into_iter().map(|(place, _)| place).zip(answers));
        }
        logs
    }

    /// The partitions in groups of one leader, as it is now; what has none is known to fail.
    fn by_leader(
        &self,
        wanted: Vec<Wanted>,
        failed: &mut BTreeMap<Place, Answer<Log>>,
    ) -> impl Iterator<Item = Vec<Wanted>> + use<> {
        let mut leaders: BTreeMap<Arc<str>, Answer<BTreeMap<i32, i32>>> = BTreeMap::new();
        let mut groups: BTreeMap<i32, Vec<Wanted>> = BTreeMap::new();
        for (place, since_ms) in wanted {
            let topic = leaders.entry(place.topic.clone()).or_insert_with(|| self.leaders(&place.topic));
            match topic {
                Err(why) => drop(failed.insert(place, Err(why.clone()))),
                Ok(leaders) => match leaders.get(&place.partition) {
                    Some(leader) => groups.entry(*leader).or_default().push((place, since_ms)),
                    None => drop(failed.insert(place, Err("the partition has no leader".into()))),
                },
            }
        }
        groups.into_values()
    }

    /// The partitions of a topic that have a leader, and which.
    fn leaders(&self, topic: &str) -> Answer<BTreeMap<i32, i32>> {
        let failed = |error: KafkaError| format!("where the topic's leaders are is not known: {error}");
        let metadata = self.client.fetch_metadata(Some(topic), self.left()?).map_err(failed)?;
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        Ok(partitions.filter(|one| one.leader() >= 0).map(|one| (one.id(), one.leader())).collect())
    }

    /// What the logs of one leader hold. A refusal may be of one partition, and is told of all: then each is asked alone.
    fn ask_leader(&self, group: &[Wanted]) -> Vec<Answer<Log>> {
        let together = self.left().map(|limit| self.ends(group, limit));
        match together {
            Err(why) => vec![Err(why); group.len()],
            Ok(Ok(logs)) => logs.into_iter().map(Ok).collect(),
            Ok(Err(error)) if group.len() == 1 || is_silence(&error) => {
                vec![Err(format!("what the log holds is not known: {error}")); group.len()]
            }
            Ok(Err(_)) => group.iter().flat_map(|one| self.ask_leader(std::slice::from_ref(one))).collect(),
        }
    }

    fn ends(&self, group: &[Wanted], limit: Duration) -> KafkaResult<Vec<Log>> {
        let low = self.offsets(group.iter().map(|(place, _)| (place, Offset::Beginning)), limit)?;
        let high = self.offsets(group.iter().map(|(place, _)| (place, Offset::End)), limit)?;
        let times = group.iter().filter_map(|(place, since_ms)| Some((place, Offset::Offset((*since_ms)?))));
        let newer = self.offsets(times, limit)?;
        let log = |(place, since_ms): &Wanted| {
            let (low, high) = (at(&low, place)?, at(&high, place)?);
            Some(Log { low, high, newer: since_ms.map(|_| at(&newer, place).unwrap_or(high)) })
        };
        let logs: Option<Vec<Log>> = group.iter().map(log).collect();
        logs.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::OffsetNotAvailable))
    }

    /// The offset of each partition for a time, or for one of the two ends, which the protocol writes as times.
    fn offsets<'a>(
        &self,
        wanted: impl Iterator<Item = (&'a Place, Offset)>,
        limit: Duration,
    ) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (place, offset) in wanted {
            list.add_partition_offset(&place.topic, place.partition, offset)?;
        }
        if list.count() == 0 { Ok(list) } else { self.client.offsets_for_times(list, limit) }
    }

    /// The time that is left for a call.
    fn left(&self) -> Answer<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err("the brokers took too long".into()) } else { Ok(left.min(CALL)) }
    }
}

/// Whether an error says that nobody answered, so that asking again costs as much time again.
fn is_silence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut};
    let silence = [OperationTimedOut, RequestTimedOut, BrokerTransportFailure, AllBrokersDown];
    error.rdkafka_error_code().is_some_and(|code| silence.contains(&code))
}

/// The offset found for a partition; `None`: there is none.
fn at(list: &TopicPartitionList, place: &Place) -> Option<i64> {
    let element = list.find_partition(&place.topic, place.partition)?;
    element.offset().to_raw().filter(|offset| *offset >= 0)
}
