//! The feedback record of an outcome: the original's shape, and more. Described in docs/feedback.md.

use uuid::Uuid;

use super::fields::Fields;
use super::message;
use crate::handlers::json::{key, push_member, push_number_member, push_text_member};
use crate::handlers::record::{About, Metadata};
use crate::outcome::{Outcome, Refusal};

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

/// The record, JSON; of a message that cannot be read there are no fields.
pub(super) fn record(fields: &Fields<'_>, outcome: &Outcome, about: &About<'_>) -> Vec<u8> {
    let head = Head::of(outcome);
    let token = message::token(fields).unwrap_or_default();
    let token = about.token(&token);
    let own_id = || message::apns_id(fields).ok().flatten().unwrap_or(about.pusher_id);
    let mut buffer = Uuid::encode_buffer();
    let id = head.provider_id.unwrap_or_else(|| own_id().hyphenated().encode_lower(&mut buffer));

    let sent = if about.form.truncated {
        0
    } else {
        2 * fields.metadata.map_or(0, str::len) + fields.payload.map_or(0, str::len)
    };
    let mut json = Vec::with_capacity(640 + sent);
    json.push(b'{');
    push_member(&mut json, key!("Sent"), if head.sent { "true" } else { "false" });
    push_number_member(&mut json, key!("StatusCode"), head.status);
    push_text_member(&mut json, key!("Reason"), head.reason);
    push_text_member(&mut json, key!("ApnsID"), id);
    if head.key.is_empty() {
        push_member(&mut json, key!("Err"), "null");
    } else {
        json.extend_from_slice(b",\"Err\":{");
        push_text_member(&mut json, key!("Key"), head.key);
        push_text_member(&mut json, key!("Description"), head.description);
        json.push(b'}');
    }
    push_text_member(&mut json, key!("DeviceToken"), token);
    push_number_member(&mut json, key!("timestamp"), about.consumed_at_s);
    if let Some(at) = head.unregistered_at_ms {
        push_number_member(&mut json, key!("unregisteredAt"), at);
    }
    let metadata = Metadata { platform: "apns", token, deletes_token: head.deletes_token, producers: fields.metadata };
    about.write_metadata(&mut json, &metadata);
    if about.form.truncated {
        push_member(&mut json, key!("truncated"), "true");
    } else if let Some(sent) = message::sent_payload(fields) {
        json.extend_from_slice(b",\"Notification\":");
        sent.parts().into_iter().for_each(|part| json.extend_from_slice(part));
    }
    json.push(b'}');
    json
}
