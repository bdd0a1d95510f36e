//! What this client's user may do with topics and groups, as the broker itself says it (KIP-430), without doing any of it.
//!
//! The Kafka crate wraps neither of librdkafka's two calls. A broker without an authorizer allows everything and says so; one
//! before Kafka 2.3, and librdkafka's mock cluster, says nothing ([`Operations`] is then `None`). Blocks: not for a runtime's
//! own threads.
#![expect(unsafe_code, reason = "calls of librdkafka that the crate does not wrap; see the module's words")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::{IsError as _, RDKafkaErrorCode as Code};
use rdkafka::metadata::{Metadata, MetadataBroker};

/// Allowed operations: bit n is Kafka's operation n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operations(u32);

impl Operations {
    /// Consume from a topic, or be a member of a group.
    pub fn read(self) -> bool {
        self.0 & (1 << 3) != 0
    }

    /// Produce to a topic.
    pub fn write(self) -> bool {
        self.0 & (1 << 4) != 0
    }
}

/// A topic that exists and may be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// How many partitions it has.
    pub partitions: usize,
    /// What may be done with it; `None`: the broker does not say.
    pub may: Option<Operations>,
}

/// A consumer group. One that does not exist yet has no members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Members at this moment.
    pub members: usize,
    /// How they share partitions; empty without members.
    pub assignor: String,
    /// What may be done with it; `None`: the broker does not say.
    pub may: Option<Operations>,
}

/// The client's words about a broker without its stopwatch: `… (after 3ms in state CONNECT, 1 identical error(s) suppressed)`.
pub fn plain(reason: &str) -> &str {
    reason.split_once(" (after ").map_or(reason, |(plain, _)| plain)
}

/// The id of a broker that answers: the one that this came from, or any where it does not say.
pub fn broker_of(metadata: &Metadata) -> i32 {
    let known = metadata.orig_broker_id();
    if known >= 0 { known } else { metadata.brokers().first().map_or(known, MetadataBroker::id) }
}

/// Describes topics; each has its own answer or refusal. An error is one of the whole call. `broker` is the id of a broker to
/// ask: librdkafka would ask the controller, which need not be one of those that clients can reach.
pub fn topics<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
    broker: i32,
    limit: Duration,
) -> Result<BTreeMap<String, Result<Topic, Code>>, Code> {
    let texts = c_strings(names)?;
    let mut pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
    // SAFETY: the collection copies the names, which live through the call; what is made is destroyed by its guard.
    let collection = Guard(
        unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) },
        sys::rd_kafka_TopicCollection_destroy,
    );
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: `ask` gives a living client, options and queue; the request copies the collection.
    let answer = ask(client, op, Some(broker), limit, |client, options, queue| unsafe {
        sys::rd_kafka_DescribeTopics(client, collection.0, options, queue);
    })?;
    // SAFETY: the event is a result of this call, as it has no error; what it hands out lives as long as the event, and the
    // names are C strings that librdkafka made.
    unsafe {
        let mut count = 0;
        let result = sys::rd_kafka_event_DescribeTopics_result(answer.0);
        let list = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let described = (0..count).map(|at| {
            let topic = *list.add(at);
            let name = text(sys::rd_kafka_TopicDescription_name(topic));
            (name, described(sys::rd_kafka_TopicDescription_error(topic), || topic_facts(topic)))
        });
        Ok(described.collect())
    }
}

/// Describes a group.
pub fn group<C: ClientContext>(client: &Client<C>, name: &str, limit: Duration) -> Result<Group, Code> {
    let texts = c_strings(&[name.to_owned()])?;
    let mut pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    // SAFETY: as above; the request copies the names.
    let answer = ask(client, op, None, limit, |client, options, queue| unsafe {
        sys::rd_kafka_DescribeConsumerGroups(client, pointers.as_mut_ptr(), pointers.len(), options, queue);
    })?;
    // SAFETY: as above.
    unsafe {
        let mut count = 0;
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(answer.0);
        let list = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if count == 0 {
            return Err(Code::BadMessage);
        }
        let group = *list;
        described(sys::rd_kafka_ConsumerGroupDescription_error(group), || group_facts(group))
    }
}

/// Makes one request and waits for its result, which has no error as a whole.
fn ask<C: ClientContext>(
    client: &Client<C>,
    op: sys::rd_kafka_admin_op_t,
    broker: Option<i32>,
    limit: Duration,
    send: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Guard<sys::rd_kafka_event_t>, Code> {
    let (client, limit_ms) = (client.native_ptr(), limit.as_millis().clamp(1, 600_000) as c_int);
    // SAFETY: the client lives as long as its owner, who is borrowed for the whole call. Everything made here is destroyed by
    // its guard, in the order event, queue, options. The options' setters may be given no buffer for their errors, and an
    // error object of theirs is freed. The queue is polled by nobody else.
    unsafe {
        let options = Guard(sys::rd_kafka_AdminOptions_new(client, op), sys::rd_kafka_AdminOptions_destroy);
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, limit_ms, ptr::null_mut(), 0);
        if let Some(broker) = broker {
            sys::rd_kafka_AdminOptions_set_broker(options.0, broker, ptr::null_mut(), 0);
        }
        let unsupported = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options.0, 1);
        sys::rd_kafka_error_destroy(unsupported);
        let queue = Guard(sys::rd_kafka_queue_new(client), sys::rd_kafka_queue_destroy);
        send(client, options.0, queue.0);
        // Its own time-out comes as a result; a little longer than that only guards against its absence.
        let event = Guard(sys::rd_kafka_queue_poll(queue.0, limit_ms + 1_000), sys::rd_kafka_event_destroy);
        if event.0.is_null() {
            return Err(Code::OperationTimedOut);
        }
        let code = sys::rd_kafka_event_error(event.0);
        if code.is_error() { Err(code.into()) } else { Ok(event) }
    }
}

/// Destroys what librdkafka made. A null event may be destroyed as well.
struct Guard<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka for us alone, and destroyed once, by the function that belongs to it.
        unsafe { (self.1)(self.0) }
    }
}

fn c_strings(names: &[String]) -> Result<Vec<CString>, Code> {
    names.iter().map(|name| CString::new(name.as_str()).map_err(|_| Code::InvalidArgument)).collect()
}

/// # Safety
/// `error` is null or an error of librdkafka's that lives.
unsafe fn described<T>(error: *const sys::rd_kafka_error_t, facts: impl FnOnce() -> T) -> Result<T, Code> {
    // SAFETY: by the caller; a null error has the code of none.
    let code = unsafe { sys::rd_kafka_error_code(error) };
    if code.is_error() { Err(code.into()) } else { Ok(facts()) }
}

fn topic_facts(topic: *const sys::rd_kafka_TopicDescription_t) -> Topic {
    let (mut partitions, mut count) = (0, 0);
    // SAFETY: called for a description of a living event alone.
    unsafe {
        sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let operations = sys::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
        Topic { partitions, may: allowed(operations, count) }
    }
}

fn group_facts(group: *const sys::rd_kafka_ConsumerGroupDescription_t) -> Group {
    let mut count = 0;
    // SAFETY: called for a description of a living event alone.
    unsafe {
        let members = sys::rd_kafka_ConsumerGroupDescription_member_count(group);
        let assignor = text(sys::rd_kafka_ConsumerGroupDescription_partition_assignor(group));
        let operations = sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &raw mut count);
        Group { members, assignor, may: allowed(operations, count) }
    }
}

/// # Safety
/// `operations` is null or has `count` operations.
unsafe fn allowed(operations: *const sys::rd_kafka_AclOperation_t, count: usize) -> Option<Operations> {
    if operations.is_null() {
        return None;
    }
    // Read as numbers: the crate's type has no room for an operation that a later librdkafka knows.
    let numbers = operations.cast::<u32>();
    // SAFETY: by the caller; the enum is represented as u32.
    let bits = (0..count).map(|at| 1_u32.checked_shl(unsafe { *numbers.add(at) }).unwrap_or(0));
    Some(Operations(bits.fold(0, |all, bit| all | bit)))
}

/// # Safety
/// `text` is null or a C string that lives.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
