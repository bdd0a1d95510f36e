//! The feedback record of an outcome: the original's shape, and more. Described in docs/feedback.md.

use serde_json::value::RawValue;
use uuid::Uuid;

use super::fields::{self, Fields};
use super::message;
use crate::handlers::RecordForm;
use crate::handlers::json::{Members, push_member, push_text};
use crate::outcome::{Outcome, Refusal};

/// In a truncated record: longest device token and longest value of the producer's metadata, bytes.
const TRUNCATED_VALUE: usize = 1024;
/// In a truncated record: the producer's metadata together, bytes.
const TRUNCATED_METADATA: usize = 16 * 1024;
/// Keys of `metadata` that are ours: a producer's value of the same name gives way, as in the original, which also sets
/// and then removes `timestamp`.
const OURS: [&str; 8] =
    ["deleteToken", "deviceToken", "game", "platform", "hostname", "pusherId", "redriven", "timestamp"];

/// What the record says besides the message and its outcome.
pub(super) struct About<'a> {
    /// The app.
    pub(super) app: &'a str,
    /// This host.
    pub(super) hostname: &'a str,
    /// The message's identity, the same in every repetition: consumers deduplicate by it.
    pub(super) pusher_id: Uuid,
    /// Whether it was redriven: then there is an earlier record of the same identity.
    pub(super) redriven: bool,
    /// When the message was consumed, seconds since the epoch.
    pub(super) consumed_at_s: i64,
}

/// What happened, as the record's head says it.
struct Head<'a> {
    sent: bool,
    status: u16,
    reason: &'a str,
    key: &'a str,
    description: &'a str,
    provider_id: Option<&'a str>,
    unregistered_at_ms: Option<i64>,
    deletes_token: bool,
}

impl<'a> Head<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Delivered(acceptance) => Head {
                sent: true,
                status: acceptance.status,
                provider_id: acceptance.provider_id.as_deref(),
                ..Head::EMPTY
            },
            Outcome::Rejected(refusal)
            | Outcome::Limited(refusal)
            | Outcome::Deduplicated(refusal)
            | Outcome::Cancelled(refusal)
            | Outcome::Failed(refusal) => Head::refused(refusal),
            Outcome::Expired(last) => {
                let tried = last.as_deref().map_or(Head::EMPTY, Head::refused);
                let description = match last {
                    Some(_) => "the message's push_expiry passed while it waited to be sent again",
                    None => "the message's push_expiry had passed when it was consumed",
                };
                Head {
                    reason: "Expired",
                    key: "expired",
                    description,
                    deletes_token: false,
                    unregistered_at_ms: None,
                    ..tried
                }
            }
        }
    }

    const EMPTY: Head<'static> = Head {
        sent: false,
        status: 0,
        reason: "",
        key: "",
        description: "",
        provider_id: None,
        unregistered_at_ms: None,
        deletes_token: false,
    };

    fn refused(refusal: &'a Refusal) -> Self {
        let dead = refusal.invalid_token.as_ref();
        Head {
            status: refusal.status,
            reason: &refusal.reason,
            key: refusal.key,
            // The original repeats the reason here, and consumers show it: our own words only where there is no reason
            // of the provider's.
            description: if refusal.status == 0 { &refusal.description } else { &refusal.reason },
            provider_id: refusal.provider_id.as_deref(),
            unregistered_at_ms: dead.and_then(|token| token.unregistered_at_ms),
            deletes_token: dead.is_some(),
            ..Head::EMPTY
        }
    }
}

/// The record, JSON.
pub(super) fn record(payload: &[u8], outcome: &Outcome, about: &About<'_>, form: RecordForm) -> Vec<u8> {
    let head = Head::of(outcome);
    let fields = fields::read(payload).unwrap_or_default();
    let token = message::token(&fields).unwrap_or_default();
    let token = if form.truncated { &token[..token.floor_char_boundary(TRUNCATED_VALUE)] } else { &token };
    let id = message::apns_id(&fields).ok().flatten().unwrap_or(about.pusher_id).to_string();

    let mut json = Vec::with_capacity(512 + if form.truncated { 0 } else { payload.len() });
    json.push(b'{');
    push_member(&mut json, "Sent", if head.sent { "true" } else { "false" });
    push_member(&mut json, "StatusCode", &head.status.to_string());
    text_member(&mut json, "Reason", head.reason);
    text_member(&mut json, "ApnsID", head.provider_id.unwrap_or(&id));
    if head.key.is_empty() {
        push_member(&mut json, "Err", "null");
    } else {
        json.extend_from_slice(b",\"Err\":{");
        text_member(&mut json, "Key", head.key);
        text_member(&mut json, "Description", head.description);
        json.push(b'}');
    }
    text_member(&mut json, "DeviceToken", token);
    push_member(&mut json, "timestamp", &about.consumed_at_s.to_string());
    if let Some(at) = head.unregistered_at_ms {
        push_member(&mut json, "unregisteredAt", &at.to_string());
    }
    json.extend_from_slice(b",\"metadata\":{");
    metadata(&mut json, &head, &fields, token, about, form);
    json.push(b'}');
    if form.truncated {
        push_member(&mut json, "truncated", "true");
    } else if let Some(sent) = message::sent_payload(&fields) {
        json.extend_from_slice(b",\"Notification\":");
        json.extend_from_slice(&sent);
    }
    json.push(b'}');
    json
}

fn metadata(
    json: &mut Vec<u8>,
    head: &Head<'_>,
    fields: &Fields<'_>,
    token: &str,
    about: &About<'_>,
    form: RecordForm,
) {
    if head.deletes_token {
        push_member(json, "deleteToken", "true");
    }
    text_member(json, "deviceToken", token);
    text_member(json, "game", about.app);
    text_member(json, "platform", "apns");
    text_member(json, "hostname", about.hostname);
    text_member(json, "pusherId", &about.pusher_id.to_string());
    if about.redriven {
        push_member(json, "redriven", "true");
    }
    if form.metadata {
        producers(json, fields.metadata, form.truncated);
    }
}

/// The producer's own metadata; in a truncated record only what is small.
fn producers(json: &mut Vec<u8>, metadata: Option<&RawValue>, truncated: bool) {
    let members = metadata.and_then(Members::of);
    let mut left = TRUNCATED_METADATA;
    for (key, value) in members.iter().flat_map(|members| &members.0) {
        let size = key.len() + value.get().len();
        if OURS.contains(&key.as_ref()) || (truncated && (size > TRUNCATED_VALUE || size > left)) {
            continue;
        }
        left = left.saturating_sub(size);
        push_member(json, key, value.get());
    }
}

fn text_member(json: &mut Vec<u8>, key: &str, text: &str) {
    push_member(json, key, "");
    push_text(json, text);
}
