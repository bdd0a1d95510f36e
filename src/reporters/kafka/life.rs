//! One life of a reporter's producer.

use std::time::Instant;

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::given::Waiter;
use super::producer::Producer;
use crate::clock;

/// One life of the producer; a fatal error ends it.
pub(super) struct Life {
    /// Which one of the reporter's.
    pub(super) number: u64,
    pub(super) since: Instant,
    pub(super) producer: Producer,
}

impl Life {
    /// A record to the producer. Refused at once, the waiter comes back, unless it has been told by somebody else.
    pub(super) fn give(
        &self,
        topic: &str,
        bytes: &[u8],
        headers: &[(&str, String)],
        waiter: Waiter,
    ) -> Result<(), (Option<Code>, Option<Waiter>)> {
        let given = self.producer.given();
        let number = given.enter(waiter);
        let mut record: BaseRecord<'_, (), [u8], usize> =
            BaseRecord::with_opaque_to(topic, number).payload(bytes).timestamp(clock::now_ms());
        if !headers.is_empty() {
            let add = |all: OwnedHeaders, (key, value): &(&str, String)| all.insert(Header { key, value: Some(value) });
            record = record.headers(headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), add));
        }
        self.producer.send(record).map_err(|(error, _)| (error.rdkafka_error_code(), given.leave(number)))
    }
}
