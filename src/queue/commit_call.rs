//! The one call that the Kafka crate does not wrap: a commit that neither blocks nor hides its result.
//!
//! The crate's `commit` blocks the poll thread until a broker answers, or, when asynchronous, reports nothing at all; and in both
//! forms an error of a single partition is lost among others that went well. librdkafka's `rd_kafka_commit_queue` posts
//! the whole result to a queue. Given the consumer's own queue it comes back through `poll` as a commit event, like
//! those of the crate.
#![expect(unsafe_code, reason = "a call of librdkafka that the crate does not wrap; see the module's words")]

use std::ptr;

use rdkafka::TopicPartitionList;
use rdkafka::bindings::{rd_kafka_commit_queue, rd_kafka_queue_destroy, rd_kafka_queue_get_consumer};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{IsError as _, KafkaError, KafkaResult};

use super::context::Consumer;

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
