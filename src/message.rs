//! What comes in: one message of a push topic and where it came from. Plain data, no behaviour of any provider.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use uuid::Uuid;

/// The platform part of a topic's name: `apns`, `gcm`. Which ones exist is known to `handlers` alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform(pub &'static str);

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// How urgent a topic is: its suffix `[-_](single|massive)`; a plain topic is `Single`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Transactional pushes, one by one.
    Single,
    /// Campaigns.
    Massive,
}

impl Lane {
    /// Both.
    pub const ALL: [Lane; 2] = [Lane::Single, Lane::Massive];

    /// The lane of this word.
    pub fn named(word: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.as_str() == word)
    }

    /// The word used in topic names and metric tags.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Single => "single",
            Lane::Massive => "massive",
        }
    }
}

/// One partition of a push topic; shared by all messages that come from it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The topic's name as Kafka spells it.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The app (the original calls it *game*) that the topic belongs to; its case is kept.
    pub app: Arc<str>,
    /// The platform that the topic belongs to.
    pub platform: Platform,
    /// The lane that the topic's suffix asks for.
    pub lane: Lane,
}

/// A message as consumed, not yet understood.
#[derive(Clone)]
pub struct QueueMessage {
    /// The partition that it came from.
    pub origin: Arc<Origin>,
    /// Its offset there.
    pub offset: i64,
    /// When it was produced, ms since the epoch; `None` when the record carries no timestamp.
    pub timestamp_ms: Option<i64>,
    /// When it was redriven from the dead letters: the offset, in the same partition, under which it came first.
    pub redrive_of: Option<i64>,
    /// When this process took it from the queue.
    pub lent_at: Instant,
    /// The record's value, untouched; empty for a record without one.
    pub payload: Payload,
}

/// A record's value, and where its reader found what it looks for in it, so that it looks once.
#[derive(Clone, Default)]
pub struct Payload {
    bytes: Bytes,
    places: OnceLock<Box<[Range<u32>]>>,
}

impl Payload {
    /// The places that were kept. Which is that of what is the reader's.
    pub fn places(&self) -> Option<&[Range<u32>]> {
        self.places.get().map(Box::as_ref)
    }

    /// Keeps these; the first ones stay.
    pub fn keep_places(&self, places: Box<[Range<u32>]>) {
        let _ = self.places.set(places);
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Payload { bytes, places: OnceLock::new() }
    }
}

impl Deref for Payload {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// Namespace of the identities below, drawn once and documented (docs/guarantee.md). It must stay: with another one a replay
/// would come under new identities.
const NAMESPACE: Uuid = Uuid::from_u128(0x7c1e_4c1b_6f3a_5d0e_9b52_8a4f_3c6d_21e7);

/// Header of a record that was redriven: where its message came first, `topic/partition/offset`.
pub const REDRIVE_OF: &str = "pusherRedriveOf";

impl QueueMessage {
    /// The message's identity: UUIDv5 of the `topic/partition/offset` where it came first, the same through retries,
    /// redelivery, replay and redrive.
    pub fn identity(&self) -> Uuid {
        identity(&self.origin.topic, self.origin.partition, self.redrive_of.unwrap_or(self.offset))
    }

    /// The identity of this very record; another one than the message's when it was redriven.
    pub fn record_identity(&self) -> Uuid {
        identity(&self.origin.topic, self.origin.partition, self.offset)
    }

    /// How long ago it was produced, by the wall clock; `None` when it carries no timestamp.
    pub fn age(&self) -> Option<Duration> {
        self.timestamp_ms.map(age)
    }
}

/// How long ago a record was produced; zero for one from the future, whose producer's clock is ahead of ours.
pub fn age(timestamp_ms: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(timestamp_ms.max(0) as u64))
}

/// The value of [`REDRIVE_OF`].
pub fn redrive_of(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}/{partition}/{offset}")
}

/// What a [`REDRIVE_OF`] on the record at `offset` says, where it may say so: an earlier offset of the same partition. A
/// header that came along with a record from elsewhere, or that names what is still to come, says nothing.
pub fn read_redrive_of(header: &[u8], topic: &str, partition: i32, offset: i64) -> Option<i64> {
    let (place, of) = std::str::from_utf8(header).ok()?.rsplit_once('/')?;
    let (of_topic, of_partition) = place.rsplit_once('/')?;
    let of: i64 = of.parse().ok()?;
    let is_of_partition = of_topic == topic && of_partition.parse() == Ok(partition);
    (is_of_partition && (0..offset).contains(&of)).then_some(of)
}

/// The identity of the message at `offset` of `topic`/`partition`; see [`QueueMessage::identity`].
pub fn identity(topic: &str, partition: i32, offset: i64) -> Uuid {
    use std::io::Write as _;
    let mut name = [0u8; 249 + 32]; // Kafka's longest topic name, two numbers and two slashes
    let mut rest = &mut name[..];
    let full = rest.len();
    if write!(rest, "{topic}/{partition}/{offset}").is_err() {
        return Uuid::new_v5(&NAMESPACE, format!("{topic}/{partition}/{offset}").as_bytes());
    }
    let used = full - rest.len();
    Uuid::new_v5(&NAMESPACE, &name[..used])
}

impl fmt::Debug for QueueMessage {
    /// Names the place, never the payload: it may hold tokens and personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{} ({} bytes)", self.origin.topic, self.origin.partition, self.offset, self.payload.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_a_version_5_uuid_of_the_place() {
        let id = identity("push-game_apns-single", 3, 42);
        assert_eq!(id, Uuid::new_v5(&NAMESPACE, b"push-game_apns-single/3/42"));
        assert_eq!(id.get_version_num(), 5);
        assert_ne!(id, identity("push-game_apns-single", 3, 43));
    }

    #[test]
    fn only_an_earlier_offset_of_the_same_partition_can_have_been_redriven() {
        let read = |header: &str| read_redrive_of(header.as_bytes(), "push-a/b", 3, 42);
        assert_eq!(read(&redrive_of("push-a/b", 3, 7)), Some(7));
        for header in ["push-a/b/3/42", "push-a/b/3/-1", "push-a/b/4/7", "push-a/3/7", "push-a/b/3/", "7", "", "\u{ff}"]
        {
            assert_eq!(read(header), None, "{header}");
        }
        assert_eq!(read_redrive_of(b"t/0/\xff", "t", 0, 9), None);
    }
}
