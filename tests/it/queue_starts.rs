//! Where partitions begin on librdkafka's mock cluster, while their leaders answer badly or slowly.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::queue_faults::{TOPIC, numbers, start};
use crate::support::ear::Ear;
use crate::support::mock::Mock;
use crate::support::reader::{Reader, resolve};

/// A topic that appears just after the first look may be older, so that its leader is asked for the first record since then. It
/// refuses that at first: the partition waits, and is asked for again. This cluster knows no times, and calls all of them
/// later than its last record.
#[test]
fn a_partition_is_not_begun_by_a_time_query_that_was_refused() {
    let mock = Mock::start(&[]);
    let (well, refused) =
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    mock.cluster().request_errors(RDKafkaApiKey::ListOffsets, &[well, well, refused]);
    let (mut reader, ear) =
        (start(&mock, &[("queue.offsetResetStrategy", "latest"), ("queue.topicInterval", "1s")]), Ear::new());
    reader.until("the first look", |reader, _| reader.told().looks >= 1);
    mock.create_topic(TOPIC, 1);
    reader.until("the start's commit", |_, _| mock.committed("test", TOPIC, 0).is_some());
    assert_eq!(ear.times("cannot settle where to begin"), 1, "{}", ear.text());
    mock.produce(TOPIC, 0, numbers(5));
    resolve(reader.read(5));
    reader.close();
}

/// To ask for each topic's leaders by itself would take longer than a round of questions may.
#[test]
fn many_topics_begin_though_the_brokers_are_far_away() {
    const TOPICS: usize = 40;
    let apps: Vec<_> = (0..TOPICS).map(|number| format!("game{number}")).collect();
    let topics: Vec<_> = apps.iter().map(|app| format!("push-{app}_apns-single")).collect();
    let mock = Mock::start(&topics.iter().map(|topic| (topic.as_str(), 1)).collect::<Vec<_>>());
    for topic in &topics {
        mock.append(topic, 0, "0");
    }
    mock.flush();
    mock.cluster().broker_round_trip_time(1, Duration::from_millis(200)).expect("far away");
    let apps: Vec<_> = apps.iter().map(String::as_str).collect();
    let mut reader = Reader::new(&mock.brokers, &apps, &[], 1_000);
    resolve(reader.read(TOPICS));
    reader.close();
}
