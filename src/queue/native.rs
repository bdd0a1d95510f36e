//! Calls of librdkafka that the Kafka crate does not wrap, or wraps so that they panic.
//!
//! - A commit that neither blocks nor hides its result. The crate's `commit` blocks the poll thread until a broker answers,
//!   or, when asynchronous, reports nothing at all; and in both forms an error of a single partition is lost among others that
//!   went well. `rd_kafka_commit_queue` posts the whole result to a queue. Given the consumer's own queue it comes back
//!   through `poll` as a commit event, like those of the crate.
//! - Metadata of a committed offset. Any program of the group may write any bytes there; the crate panics over those that
//!   are no text.
#![expect(unsafe_code, reason = "calls of librdkafka that the crate does not wrap; see the module's words")]

use std::ffi::CString;
use std::{ptr, slice};

use rdkafka::TopicPartitionList;
use rdkafka::bindings::{
    rd_kafka_commit_queue, rd_kafka_queue_destroy, rd_kafka_queue_get_consumer, rd_kafka_topic_partition_list_find,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{IsError as _, KafkaError, KafkaResult};

use super::context::Consumer;
use super::place::Place;

/// Sends the commit on its way. Its result comes to the consumer's context.
pub(super) fn commit(consumer: &Consumer, list: &TopicPartitionList) -> KafkaResult<()> {
    let client = consumer.client().native_ptr();
    // SAFETY: `client` and `list` live through both calls, which copy what they keep. The queue's reference is ours, is not
    // used after it is given back, and is not null, because the client was created with a group. Without a callback the
    // result is an event on that queue, which owns it.
    let code = unsafe {
        let queue = rd_kafka_queue_get_consumer(client);
        let code = rd_kafka_commit_queue(client, list.ptr(), queue, None, ptr::null_mut());
        rd_kafka_queue_destroy(queue);
        code
    };
    if code.is_error() { Err(KafkaError::ConsumerCommit(code.into())) } else { Ok(()) }
}

/// The metadata of a partition of the list; what is no text comes as a text that is nobody's map.
pub(super) fn metadata(list: &TopicPartitionList, place: &Place) -> String {
    let Ok(topic) = CString::new(&*place.topic) else { return String::new() };
    // SAFETY: the list and the name live through the call. What it finds belongs to the list, which is not changed while
    // the bytes are copied; they are `metadata_size` long, or the pointer is null.
    let bytes = unsafe {
        let element = rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), place.partition);
        let Some(element) = element.as_ref().filter(|element| !element.metadata.is_null()) else {
            return String::new();
        };
        slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size)
    };
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use rdkafka::Offset;

    use super::*;

    #[test]
    fn metadata_is_found_by_its_partition() {
        let mut list = TopicPartitionList::new();
        for (partition, text) in [(0, "zero"), (1, "")] {
            list.add_partition_offset("t", partition, Offset::Offset(1)).expect("a valid offset");
            list.find_partition("t", partition).expect("it").set_metadata(text);
        }
        list.add_partition("t", 2);
        let found = |topic, partition| metadata(&list, &Place::new(topic, partition));
        assert_eq!([found("t", 0), found("t", 1), found("t", 2), found("u", 0)], ["zero", "", "", ""]);
        assert_eq!(found("nul\0", 0), "");
    }
}
