//! The producer's JSON object, its known keys found and nothing else understood. Borrowed from the record.

use crate::handlers::known::{Keys, fields};
use crate::message::QueueMessage;
use crate::outcome::Refusal;

fields! {
    "docs/apns-message.md",
    device_token: "devicetoken",
    payload: "payload",
    metadata: "metadata",
    push_expiry: "push_expiry",
    collapse_id: "collapse_id",
    apns_id: "apnsid",
    push_type: "push_type",
    priority: "priority",
    apns_topic: "apns_topic",
    expiration: "expiration",
}
