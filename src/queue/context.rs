//! librdkafka's callbacks. They run on the poll thread, inside `poll`, and only note what happened: the queue acts on it right
//! after `poll` has come back, where it may take its time and call librdkafka again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::BaseConsumer;
use rdkafka::consumer::{Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::complaints::Complaints;

/// A consumer with our callbacks.
pub(super) type Consumer = BaseConsumer<Context>;

/// What the group wants, and how commits went.
#[derive(Debug)]
pub(super) enum Event {
    /// These partitions are ours from now on.
    Assigned(TopicPartitionList),
    /// These are not any more. `lost`: others may own them already.
    Revoked { partitions: TopicPartitionList, lost: bool },
    /// The broker's answer to a commit.
    Committed { result: KafkaResult<()>, partitions: TopicPartitionList },
}

/// The notes of the callbacks.
#[derive(Debug, Default)]
pub(super) struct Context {
    events: Mutex<VecDeque<Event>>,
    closing: AtomicBool,
    /// What was logged already. An error without a code is one kind.
    complaints: Mutex<Complaints<Option<RDKafkaErrorCode>>>,
}

impl Context {
    /// The next event that has not been acted on.
    pub(super) fn next_event(&self) -> Option<Event> {
        self.events.lock().pop_front()
    }

    /// Whether the group has said something that is not acted on yet.
    pub(super) fn has_news(&self) -> bool {
        !self.events.lock().is_empty()
    }

    /// An event that cannot be acted on yet.
    pub(super) fn put_back(&self, event: Event) {
        self.events.lock().push_back(event);
    }

    /// From now on assignments are refused and revocations followed at once: the consumer is being closed.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// The brokers answer: when they go on to, an error that comes later is news again.
    pub(super) fn is_well(&self) {
        if self.complaints.lock().answered(Instant::now()) {
            tracing::info!("kafka answers again");
        }
    }

    /// Logs an error of the client unless it is known.
    pub(super) fn complain(&self, error: &KafkaError, detail: &str) {
        if self.complaints.lock().is_news(error.rdkafka_error_code(), Instant::now()) {
            tracing::warn!(%error, detail, "kafka reports an error; the client goes on trying");
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, message, "librdkafka");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                // What matters comes as an error event too, and is logged once per change of state.
                tracing::debug!(facility, message, "librdkafka");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::trace!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.complain(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &Consumer, code: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let is_assignment = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Relaxed) {
            return if is_assignment { acknowledge(consumer) } else { give_up(consumer, partitions) };
        }
        let event = if is_assignment {
            Event::Assigned(partitions.clone())
        } else {
            // Only inside this callback librdkafka knows whether the assignment was lost.
            Event::Revoked { partitions: partitions.clone(), lost: consumer.assignment_lost() }
        };
        self.events.lock().push_back(event);
    }

    fn commit_callback(&self, result: KafkaResult<()>, partitions: &TopicPartitionList) {
        self.events.lock().push_back(Event::Committed { result, partitions: partitions.clone() });
    }
}

/// Whether the group hands partitions over one by one rather than all at once.
pub(super) fn is_cooperative(consumer: &Consumer) -> bool {
    matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

/// Acknowledges an assignment at once, taking nothing of it yet: the group waits for that. What was taken before goes on.
pub(super) fn acknowledge(consumer: &Consumer) {
    let nothing = TopicPartitionList::new();
    let done = if is_cooperative(consumer) { consumer.incremental_assign(&nothing) } else { consumer.assign(&nothing) };
    if let Err(error) = done {
        tracing::debug!(%error, "acknowledging an assignment");
    }
}

/// Acknowledges a revocation. Of what is handed over one by one only that can be given back which was taken: the call is
/// refused as a whole otherwise, and the group waits for ever.
pub(super) fn give_up(consumer: &Consumer, partitions: &TopicPartitionList) {
    let done = if is_cooperative(consumer) {
        taken(consumer, partitions).and_then(|taken| consumer.incremental_unassign(&taken))
    } else {
        consumer.unassign()
    };
    if let Err(error) = done {
        tracing::warn!(%error, "giving partitions back");
    }
}

fn taken(consumer: &Consumer, partitions: &TopicPartitionList) -> KafkaResult<TopicPartitionList> {
    let (assignment, mut taken) = (consumer.assignment()?, TopicPartitionList::new());
    for element in partitions.elements() {
        if assignment.find_partition(element.topic(), element.partition()).is_some() {
            taken.add_partition(element.topic(), element.partition());
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_by_another_way_is_no_news() {
        let context = Context::default();
        let code = RDKafkaErrorCode::AllBrokersDown;
        let is_news = |error: KafkaError| context.complaints.lock().is_news(error.rdkafka_error_code(), Instant::now());
        assert!(is_news(KafkaError::Global(code)));
        assert!(!is_news(KafkaError::MessageConsumption(code)), "in other words");
        assert!(is_news(KafkaError::Global(RDKafkaErrorCode::Resolve)));
    }
}
