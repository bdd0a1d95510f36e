//! The feedback record of an outcome: the original's shape, and more. Described in docs/feedback.md.

use uuid::Uuid;

use super::fields::Fields;
use super::message;
use crate::handlers::json::{Key, key, push_member, push_number_member, push_text_member};
use crate::handlers::record::{About, Metadata};
use crate::outcome::{Outcome, Refusal};

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

/// The record, JSON; of a message that cannot be read there are no fields.
pub(super) fn record(fields: &Fields<'_>, outcome: &Outcome, about: &About<'_>) -> Vec<u8> {
    let head = Head::of(outcome);
    let from = message::addressee(fields).unwrap_or_default();
    let from = about.token(&from);
    let mut buffer = Uuid::encode_buffer();
    let id = head.name.unwrap_or_else(|| about.pusher_id.hyphenated().encode_lower(&mut buffer));

    let mut json = Vec::with_capacity(640 + 2 * from.len());
    json.push(b'{');
    // As in the original, what is empty is left out; consumers take a record without `error` for a success, and know one
    // of this platform by a `message_id`.
    unless_empty(&mut json, key!("from"), from);
    push_text_member(&mut json, key!("message_id"), id);
    unless_empty(&mut json, key!("error"), head.error);
    unless_empty(&mut json, key!("error_description"), head.description);
    unless_empty(&mut json, key!("error_code"), head.error_code);
    unless_empty(&mut json, key!("status"), canonical(head.status));
    push_number_member(&mut json, key!("status_code"), head.status);
    push_number_member(&mut json, key!("timestamp"), about.consumed_at_s);
    let metadata =
        Metadata { platform: "gcm", token: from, deletes_token: head.deletes_token, producers: fields.metadata };
    about.write_metadata(&mut json, &metadata);
    if about.form.truncated {
        push_member(&mut json, key!("truncated"), "true");
    }
    json.push(b'}');
    json
}

fn unless_empty(json: &mut Vec<u8>, key: Key, text: &str) {
    if !text.is_empty() {
        push_text_member(json, key, text);
    }
}
