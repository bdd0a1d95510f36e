//! What logs hold, asked broker by broker.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{Answer, CALL, Heard};
use crate::queue::place::Place;
use crate::queue::start::Log;

/// A partition, and the moment since which its first record is wanted.
pub(super) type Wanted = (Place, Option<i64>);

/// Partitions for which no time was left in the last round that wanted them. The next one begins with them: brokers that do
/// not answer take up the same time in each, and it would be the same partitions that none ever comes to.
#[derive(Debug, Default)]
pub(super) struct Late(RefCell<BTreeSet<Place>>);

impl Late {
    /// Puts them first. They are no longer late.
    fn first(&self, wanted: &mut [Wanted]) {
        let mut late = self.0.borrow_mut();
        wanted.sort_by_key(|(place, _)| !late.contains(place));
        for (place, _) in wanted {
            late.remove(place);
        }
    }

    fn note(&self, group: &[Wanted]) {
        self.0.borrow_mut().extend(group.iter().map(|(place, _)| place.clone()));
    }
}

/// One round of questions about logs.
pub(super) struct Survey<'a> {
    pub(super) client: &'a BaseConsumer<Heard>,
    /// What is not known by then is called unknown.
    pub(super) until: Instant,
    pub(super) late: &'a Late,
}

impl Survey<'_> {
    /// What these logs hold, asked broker by broker. Each answers for itself: what one has told is known, whatever becomes
    /// of the others.
    pub(super) fn logs(&self, mut wanted: Vec<Wanted>) -> BTreeMap<Place, Answer<Log>> {
        if wanted.is_empty() {
            return BTreeMap::new();
        }
        let leaders = match self.leaders(&wanted) {
            Ok(leaders) => leaders,
            Err(why) => return wanted.into_iter().map(|(place, _)| (place, Err(why.clone()))).collect(),
        };
        self.late.first(&mut wanted);
        let (groups, without) = by_leader(wanted, &leaders);
        let failed = |place| (place, Err("the partition has no leader".into()));
        let mut logs: BTreeMap<_, _> = without.into_iter().map(failed).collect();
        for group in groups {
            let answers = self.ask_leader(&group);
            logs.extend(group.into_iter().map(|(place, _)| place).zip(answers));
        }
        logs
    }

    /// The leaders of these topics' partitions, as it is now. Several topics are one question: one for each would cost many
    /// of them the whole round, before any leader is asked. All topics are listed then, which may take as long as there is.
    fn leaders(&self, wanted: &[Wanted]) -> Answer<BTreeMap<Place, i32>> {
        let topics: BTreeSet<&str> = wanted.iter().map(|(place, _)| &*place.topic).collect();
        let (only, limit) = match topics.first() {
            Some(only) if topics.len() == 1 => (Some(*only), self.left()?),
            _ => (None, self.rest()?),
        };
        let failed = |error: KafkaError| format!("where the topics' leaders are is not known: {error}");
        let metadata = self.client.fetch_metadata(only, limit).map_err(failed)?;
        let ours = metadata.topics().iter().filter(|topic| topics.contains(topic.name()));
        let led = ours.flat_map(|topic| topic.partitions().iter().map(|one| (topic.name(), one.id(), one.leader())));
        let led = led.filter(|(_, _, leader)| *leader >= 0);
        Ok(led.map(|(topic, partition, leader)| (Place::new(topic, partition), leader)).collect())
    }

    /// What the logs of one leader hold. A refusal may be of one partition, and is told of all: then each half is asked alone.
    fn ask_leader(&self, group: &[Wanted]) -> Vec<Answer<Log>> {
        let together = self.left().map(|limit| self.ends(group, limit));
        match together {
            Err(why) => {
                self.late.note(group);
                vec![Err(why); group.len()]
            }
            Ok(Ok(logs)) => logs.into_iter().map(|log| log.map_err(|error| unknown(&error))).collect(),
            Ok(Err(error)) if group.len() == 1 || is_silence(&error) => vec![Err(unknown(&error)); group.len()],
            Ok(Err(_)) => {
                let (one, other) = group.split_at(group.len() / 2);
                [one, other].into_iter().flat_map(|half| self.ask_leader(half)).collect()
            }
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

    /// The time that is left for a call to a leader.
    fn left(&self) -> Answer<Duration> {
        self.rest().map(|rest| rest.min(CALL))
    }

    /// The time that is left of the round.
    fn rest(&self) -> Answer<Duration> {
        let rest = self.until.saturating_duration_since(Instant::now());
        if rest.is_zero() { Err("the brokers took too long".into()) } else { Ok(rest) }
    }
}

/// The partitions in groups of one leader, in the order in which they come, and those that have none.
fn by_leader(wanted: Vec<Wanted>, leaders: &BTreeMap<Place, i32>) -> (Vec<Vec<Wanted>>, Vec<Place>) {
    let (mut groups, mut without) = (Vec::<(i32, Vec<Wanted>)>::new(), Vec::new());
    for one in wanted {
        match leaders.get(&one.0) {
            None => without.push(one.0),
            Some(leader) => match groups.iter_mut().find(|(of, _)| of == leader) {
                Some((_, group)) => group.push(one),
                None => groups.push((*leader, vec![one])),
            },
        }
    }
    (groups.into_iter().map(|(_, group)| group).collect(), without)
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

    fn survey<'a>(client: &'a BaseConsumer<Heard>, late: &'a Late) -> Survey<'a> {
        Survey { client, until: Instant::now() + Duration::from_secs(30), late }
    }

    /// The answer that comes after the refusal does not take its place: librdkafka keeps both, and shows the first.
    #[test]
    fn a_time_that_was_refused_at_first_is_not_called_the_end() {
        let ((cluster, client), late) = (cluster(1), Late::default());
        let place = Place::new(TOPIC, 0);
        let ask = || survey(&client, &late).logs(vec![(place.clone(), SINCE)]).remove(&place).expect("an answer");
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
        let ((cluster, client), late) = (cluster(2), Late::default());
        let places = [0, 1].map(|partition| Place::new(TOPIC, partition));
        cluster.partition_leader(TOPIC, 1, None).expect("no leader");
        let times = places.iter().map(|place| (place, Offset::Offset(SINCE.unwrap_or_default())));
        let found = survey(&client, &late).offsets(times, CALL * 5).expect("well as a whole");
        assert_eq!(at(&found, &places[0]).expect("an answer"), None, "nothing is newer");
        assert!(at(&found, &places[1]).is_err(), "{found:?}");
        assert!(at(&found, &Place::new(TOPIC, 2)).is_err());
    }
    /// Brokers 1 and 2 take up a round each time: broker 3 is asked first then, though the partitions it leads are the last.
    #[test]
    fn what_a_round_did_not_come_to_is_first_in_the_next() {
        let (late, places) = (Late::default(), [0, 1, 2, 3, 4].map(|partition| Place::new(TOPIC, partition)));
        let leaders: BTreeMap<_, _> = places.iter().cloned().zip([1, 2, 1, 3]).collect();
        let round = || {
            let mut wanted: Vec<Wanted> = places.iter().map(|place| (place.clone(), None)).collect();
            late.first(&mut wanted);
            let (groups, without) = by_leader(wanted, &leaders);
            assert_eq!(without, places[4..]);
            groups.iter().skip(2).for_each(|group| late.note(group));
            let numbers = |group: &Vec<Wanted>| group.iter().map(|(place, _)| place.partition).collect::<Vec<_>>();
            groups.iter().map(numbers).collect::<Vec<_>>()
        };
        assert_eq!(round(), [vec![0, 2], vec![1], vec![3]]);
        assert_eq!(round(), [vec![3], vec![0, 2], vec![1]]);
        assert_eq!(round(), [vec![1], vec![0, 2], vec![3]]);
    }

    /// No time is left for a leader: what it leads is late, and asked first next.
    #[test]
    fn without_time_nothing_is_known_and_all_is_late() {
        let ((_cluster, client), late) = (cluster(1), Late::default());
        let over = Survey { client: &client, until: Instant::now(), late: &late };
        let wanted = [(Place::new(TOPIC, 0), None)];
        assert_eq!(over.ask_leader(&wanted), [Err("the brokers took too long".to_owned())]);
        assert_eq!(late.0.borrow().len(), 1);
        late.first(&mut wanted.clone());
        assert_eq!(late.0.borrow().len(), 0);
    }
}
