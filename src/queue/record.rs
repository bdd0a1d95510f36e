//! A record as it is read.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use crate::message::{self, Origin, QueueMessage};

/// A record as read, copied out of the client's buffers.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) offset: i64,
    pub(super) timestamp: Option<i64>,
    /// What it says to be a redrive of.
    pub(super) redrive_of: Option<i64>,
    pub(super) payload: Bytes,
}

impl Record {
    /// The message that it is.
    pub(super) fn into_message(self, origin: Arc<Origin>, lent_at: Instant) -> QueueMessage {
        let Record { offset, timestamp: timestamp_ms, redrive_of, payload } = self;
        QueueMessage { origin, offset, timestamp_ms, redrive_of, lent_at, payload: payload.into() }
    }
}

impl From<BorrowedMessage<'_>> for Record {
    fn from(message: BorrowedMessage<'_>) -> Self {
        Record {
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            redrive_of: redrive_of(&message),
            payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        }
    }
}

/// What the record says to be a redrive of, when it may say so.
pub fn redrive_of(message: &BorrowedMessage<'_>) -> Option<i64> {
    let headers = message.headers()?;
    let said = headers.iter().find(|header| header.key == message::REDRIVE_OF)?.value?;
    message::read_redrive_of(said, message.topic(), message.partition(), message.offset())
}
