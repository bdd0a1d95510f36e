//! What the feedback records of all platforms have in common: their metadata, and what makes them small.

use uuid::Uuid;

use crate::clock;
use crate::handlers::json::{Members, key, push_entry, push_member, push_text_member};
use crate::message::QueueMessage;

/// In a truncated record: longest device token and longest value of the producer's metadata, bytes.
const TRUNCATED_VALUE: usize = 1024;
/// In a truncated record: the producer's metadata together, bytes.
const TRUNCATED_METADATA: usize = 16 * 1024;
/// Keys of `metadata` that are ours: a producer's value of the same name gives way, as in the original, which also sets
/// and then removes `timestamp`.
const OURS: [&str; 8] =
    ["deleteToken", "deviceToken", "game", "platform", "hostname", "pusherId", "redriven", "timestamp"];

/// How a feedback record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordForm {
    /// With the producer's `metadata` (`feedback.metadata`).
    pub metadata: bool,
    /// Without the notification, marked `"truncated": true`: the broker called the full record too large.
    pub truncated: bool,
}

/// What a record says besides the message's fields and its outcome.
pub(in crate::handlers) struct About<'a> {
    /// The app.
    pub(in crate::handlers) app: &'a str,
    /// This host.
    pub(in crate::handlers) hostname: &'a str,
    /// The message's identity, the same in every repetition: consumers deduplicate by it.
    pub(in crate::handlers) pusher_id: Uuid,
    /// Whether it was redriven: then there is an earlier record of the same identity.
    pub(in crate::handlers) redriven: bool,
    /// When the message was consumed, seconds since the epoch.
    pub(in crate::handlers) consumed_at_s: i64,
    /// How the record is written.
    pub(in crate::handlers) form: RecordForm,
}

impl<'a> About<'a> {
    /// Of a message that was consumed by this process.
    pub(in crate::handlers) fn of(message: &QueueMessage, app: &'a str, hostname: &'a str, form: RecordForm) -> Self {
        About {
            app,
            hostname,
            pusher_id: message.identity(),
            redriven: message.redrive_of.is_some(),
            consumed_at_s: clock::epoch_s_of(message.lent_at),
            form,
        }
    }

    /// A device token, as the record has it.
    pub(in crate::handlers) fn token<'t>(&self, token: &'t str) -> &'t str {
        if self.form.truncated { &token[..token.floor_char_boundary(TRUNCATED_VALUE)] } else { token }
    }

    /// Appends the member `metadata`: ours, then the producer's own.
    pub(in crate::handlers) fn write_metadata(&self, json: &mut Vec<u8>, metadata: &Metadata<'_>) {
        push_member(json, key!("metadata"), "{");
        if metadata.deletes_token {
            push_member(json, key!("deleteToken"), "true");
        }
        push_text_member(json, key!("deviceToken"), metadata.token);
        push_text_member(json, key!("game"), self.app);
        push_text_member(json, key!("platform"), metadata.platform);
        push_text_member(json, key!("hostname"), self.hostname);
        let mut buffer = Uuid::encode_buffer();
        push_text_member(json, key!("pusherId"), self.pusher_id.hyphenated().encode_lower(&mut buffer));
        if self.redriven {
            push_member(json, key!("redriven"), "true");
        }
        if self.form.metadata {
            self.write_producers(json, metadata.producers);
        }
        json.push(b'}');
    }

    /// The producer's own metadata; in a truncated record only what is small.
    fn write_producers(&self, json: &mut Vec<u8>, metadata: Option<&str>) {
        let members = metadata.and_then(Members::of);
        let mut left = TRUNCATED_METADATA;
        for (key, value) in members.iter().flat_map(|members| &members.0) {
            let size = key.len() + value.len();
            if OURS.contains(&key.as_ref()) || (self.form.truncated && (size > TRUNCATED_VALUE || size > left)) {
                continue;
            }
            left = left.saturating_sub(size);
            push_entry(json, key, value);
        }
    }
}

/// What the record's `metadata` is made of.
pub(in crate::handlers) struct Metadata<'a> {
    /// The platform.
    pub(in crate::handlers) platform: &'static str,
    /// The device token, as the record has it.
    pub(in crate::handlers) token: &'a str,
    /// Whether the provider called the token dead.
    pub(in crate::handlers) deletes_token: bool,
    /// The producer's own, raw.
    pub(in crate::handlers) producers: Option<&'a str>,
}
