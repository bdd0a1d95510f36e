//! The feedback record of an outcome: the original's shape, and more. Described in docs/feedback.md.

use serde_json::value::RawValue;
use uuid::Uuid;

use super::fields::{self, Fields};
use super::message::{self, text_member};
use crate::handlers::RecordForm;
use crate::handlers::json::{Members, push_member};
use crate::outcome::{Outcome, Refusal};

/// In a truncated record: longest token and longest value of the producer's metadata, bytes.
const TRUNCATED_VALUE: usize = 1024;
/// In a truncated record: the producer's metadata together, bytes.
const TRUNCATED_METADATA: usize = 16 * 1024;
/// Keys of `metadata` that are ours: a producer's value of the same name gives way.
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
#[derive(Default)]
struct Head<'a> {
    /// FCM's name of an accepted message.
    name: Option<&'a str>,
    error: &'a str,
    description: &'a str,
    error_code: &'a str,
    status: u16,
    deletes_token: bool,
}

impl<'a> Head<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Delivered(acceptance) => {
                Head { name: acceptance.provider_id.as_deref(), status: acceptance.status, ..Head::default() }
            }
            Outcome::Rejected(refusal)
            | Outcome::Limited(refusal)
            | Outcome::Deduplicated(refusal)
            | Outcome::Cancelled(refusal)
            | Outcome::Failed(refusal) => Head::refused(refusal),
            Outcome::Expired(last) => {
                let description = match last {
                    Some(_) => "the message's expiry passed while it waited to be sent again",
                    None => "the message's expiry had passed when it was consumed",
                };
                let tried = last.as_deref().map(Head::refused).unwrap_or_default();
                Head { error: "expired", description, deletes_token: false, ..tried }
            }
        }
    }

    fn refused(refusal: &'a Refusal) -> Self {
        Head {
            name: None,
            error: refusal.key,
            description: &refusal.description,
            error_code: if refusal.status == 0 { "" } else { &refusal.reason },
            status: refusal.status,
            deletes_token: refusal.invalid_token.is_some(),
        }
    }
}

/// Google's canonical name of an HTTP status (Google: google.rpc.Code); empty for the others.
fn canonical(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        _ => "",
    }
}

/// The record, JSON.
pub(super) fn record(payload: &[u8], outcome: &Outcome, about: &About<'_>, form: RecordForm) -> Vec<u8> {
    let head = Head::of(outcome);
    let fields = fields::read(payload).unwrap_or_default();
    let from = message::addressee(&fields).unwrap_or_default();
    let from = if form.truncated { &from[..from.floor_char_boundary(TRUNCATED_VALUE)] } else { &from };
    let id = about.pusher_id.to_string();

    let mut json = Vec::with_capacity(640);
    json.push(b'{');
    // As in the original, what is empty is left out; consumers take a record without `error` for a success, and know one
    // of this platform by a `message_id`.
    unless_empty(&mut json, "from", from);
    text_member(&mut json, "message_id", head.name.unwrap_or(&id));
    unless_empty(&mut json, "error", head.error);
    unless_empty(&mut json, "error_description", head.description);
    unless_empty(&mut json, "error_code", head.error_code);
    unless_empty(&mut json, "status", canonical(head.status));
    push_member(&mut json, "status_code", &head.status.to_string());
    push_member(&mut json, "timestamp", &about.consumed_at_s.to_string());
    push_member(&mut json, "metadata", "{");
    metadata(&mut json, &head, &fields, from, about, form);
    json.push(b'}');
    if form.truncated {
        push_member(&mut json, "truncated", "true");
    }
    json.push(b'}');
    json
}

fn unless_empty(json: &mut Vec<u8>, key: &str, text: &str) {
    if !text.is_empty() {
        text_member(json, key, text);
    }
}

fn metadata(json: &mut Vec<u8>, head: &Head<'_>, fields: &Fields<'_>, from: &str, about: &About<'_>, form: RecordForm) {
    if head.deletes_token {
        push_member(json, "deleteToken", "true");
    }
    text_member(json, "deviceToken", from);
    text_member(json, "game", about.app);
    text_member(json, "platform", "gcm");
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
