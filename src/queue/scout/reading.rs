//! Whether there is something to read from an offset on. The end of a log does not tell: its last offsets may be marks of
//! transactions, or of one that is open, and no consumer gets these.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use crate::queue::place::Place;

/// Tries to read one message of each, `patience` at the longest; of which there was one. The client is a member of no group, reads
/// nothing else, and reads nothing any more afterwards.
pub(super) fn try_to<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    places: Vec<(Place, i64)>,
    patience: Duration,
) -> Vec<(Place, i64, bool)> {
    let mut found: Vec<_> = places.into_iter().map(|(place, from)| (place, from, false)).collect();
    let mut list = TopicPartitionList::new();
    for (place, from, _) in &found {
        // Refused is an offset below zero, and none of a log is.
        let _ = list.add_partition_offset(&place.topic, place.partition, Offset::Offset(*from));
    }
    if let Err(error) = client.assign(&list) {
        tracing::debug!(%error, "reading beside the group");
        return found;
    }
    let until = Instant::now() + patience;
    while found.iter().any(|(_, _, is_readable)| !is_readable) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if let Some(Ok(message)) = client.poll(left) {
            let is_it = |(place, from, _): &&mut (Place, i64, bool)| {
                *place.topic == *message.topic() && place.partition == message.partition() && message.offset() >= *from
            };
            found.iter_mut().filter(is_it).for_each(|(_, _, is_readable)| *is_readable = true);
        }
    }
    if let Err(error) = client.unassign() {
        tracing::debug!(%error, "reading beside the group");
    }
    found
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

    use super::*;

    const TOPIC: &str = "push-game_apns";

    #[test]
    fn what_is_in_a_log_is_readable_and_what_is_behind_its_end_is_not() {
        let cluster = MockCluster::new(1).expect("a cluster");
        cluster.create_topic(TOPIC, 2, 1).expect("a topic");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let producer: BaseProducer = config.create().expect("a producer");
        for _ in 0..3 {
            producer.send(BaseRecord::<(), str>::to(TOPIC).partition(0).payload("{}")).expect("room");
        }
        producer.flush(Duration::from_secs(30)).expect("written");
        let client: BaseConsumer = config.set("group.id", "test").create().expect("a client");
        let places = |at: [i64; 2]| at.into_iter().zip(0..).map(|(from, one)| (Place::new(TOPIC, one), from)).collect();
        let readable = |at| {
            let found = try_to(&client, places(at), Duration::from_secs(1));
            found.into_iter().map(|(_, _, is_readable)| is_readable).collect::<Vec<_>>()
        };
        assert_eq!(readable([2, 0]), [true, false]);
        assert_eq!(readable([0, 0]), [true, false], "and again");
        assert_eq!(readable([3, 0]), [false, false]);
    }
}
