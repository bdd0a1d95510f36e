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
            Ok(Ok(logs)) => logs.into_iter().map(|log| log.map_err(|error| unknown(&error))).collect(),
            Ok(Err(error)) if group.len() == 1 || is_silence(&error) => vec![Err(unknown(&error)); group.len()],
            Ok(Err(_)) => group.iter().flat_map(|one| self.ask_leader(std::slice::from_ref(one))).collect(),
        }
    }

    /// What the logs hold of which everything was told; the others are to be asked again.
    fn ends(&self, group: &[Wanted], limit: Duration) -> KafkaResult<Vec<KafkaResult<Log>>> {
        let low = self.offsets(group.iter().map(|(place, _)| (place, Offset::Beginning)), limit)?;
        let high = self.offsets(group.iter().map(|(place, _)| (place, Offset::End)), limit)?;
        let times = group.iter().filter_map(|(place, since_ms)| Some((place, Offset::Offset((*since_ms)?))));
        let newer = self.offsets(times, limit)?;
        let log = |(place, since_ms): &Wanted| {
            let end = |found| at(found, place)?.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::OffsetNotAvailable));
            let (low, high) = (end(&low)?, end(&high)?);
            let newer = since_ms.map(|_| at(&newer, place)).transpose()?;
            Ok(Log { low, high, newer: newer.map(|newer| newer.unwrap_or(high)) })
        };
        Ok(group.iter().map(log).collect())
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

fn unknown(error: &KafkaError) -> String {
    format!("what the log holds is not known: {error}")
}

/// The offset found for a partition; `None`: there is none, such as a record after the last. A call goes well as a whole though
/// a partition of it has lost its leader, or was refused at first: its element holds what was asked for, or nothing, and an
/// error. Taken for an answer, either would say that there is nothing newer, and what is would never be read.
fn at(list: &TopicPartitionList, place: &Place) -> KafkaResult<Option<i64>> {
    let not_told = KafkaError::OffsetFetch(RDKafkaErrorCode::OffsetNotAvailable);
    let Some(element) = list.find_partition(&place.topic, place.partition) else { return Err(not_told) };
    element.error()?;
    match element.offset() {
        Offset::Offset(offset) => Ok(Some(offset)),
        Offset::End => Ok(None),
        _ => Err(not_told),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    const TOPIC: &str = "push-game_apns";
    const SINCE: Option<i64> = Some(1_700_000_000_000);

    fn cluster(partitions: i32) -> (MockCluster<'static, DefaultProducerContext>, BaseConsumer<Heard>) {
        let cluster = MockCluster::new(1).expect("a cluster");
        cluster.create_topic(TOPIC, partitions, 1).expect("a topic");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "test");
        let client = config.create_with_context(Heard::default()).expect("a client");
        (cluster, client)
    }

    fn survey(client: &BaseConsumer<Heard>) -> Survey<'_> {
        Survey { client, until: Instant::now() + Duration::from_secs(30) }
    }

    /// The answer that comes after the refusal does not take its place: librdkafka keeps both, and shows the first.
    #[test]
    fn a_time_that_was_refused_at_first_is_not_called_the_end() {
        let (cluster, client) = cluster(1);
        let place = Place::new(TOPIC, 0);
        let ask = || survey(&client).logs(vec![(place.clone(), SINCE)]).remove(&place).expect("an answer");
        let log = Log { low: 0, high: 0, newer: Some(0) };
        assert_eq!(ask(), Ok(log));
        let (well, refused) =
            (RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
        // One query for each end comes before that for the time.
        for before in 0..3 {
            let errors: Vec<_> = std::iter::repeat_n(well, before).chain([refused]).collect();
            cluster.request_errors(RDKafkaApiKey::ListOffsets, &errors);
            assert!(ask().is_err_and(|why| why.contains("not known")), "after {before}");
            assert_eq!(ask(), Ok(log), "asked again");
        }
    }

    /// It keeps the time that was asked for, which is far beyond the end of any log.
    #[test]
    fn a_partition_that_has_lost_its_leader_has_no_answer() {
        let (cluster, client) = cluster(2);
        let places = [0, 1].map(|partition| Place::new(TOPIC, partition));
        cluster.partition_leader(TOPIC, 1, None).expect("no leader");
        let times = places.iter().map(|place| (place, Offset::Offset(SINCE.unwrap_or_default())));
        let found = survey(&client).offsets(times, CALL * 5).expect("well as a whole");
        assert_eq!(at(&found, &places[0]).expect("an answer"), None, "nothing is newer");
        assert!(at(&found, &places[1]).is_err(), "{found:?}");
        assert!(at(&found, &Place::new(TOPIC, 2)).is_err());
    }
}
