//! Providers: what turns a message into a request and an answer into a verdict.
//!
//! One folder per provider, each with the same rooms (`mod config message client response token`), one line in
//! [`providers`]. Nothing here knows Kafka, StatsD or PostgreSQL; nothing outside knows a provider's protocol.

pub mod apns;
pub mod retry;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::message::{Platform, QueueMessage};
use crate::outcome::{Attempt, Outcome};

/// A boxed future, as an object-safe trait needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Asked right before a request leaves: may this message still be sent by this process?
///
/// `false` after a shutdown began or its partition was given away; the handler then answers `Verdict::Released`.
/// A `true` also notes that the message is on a stream from now on.
pub trait Gate: Send + Sync {
    /// Whether the message may be sent now.
    fn pass(&self) -> bool;
}

/// A gate that is always open, for tests and tools.
#[derive(Debug)]
pub struct OpenGate;

impl Gate for OpenGate {
    fn pass(&self) -> bool {
        true
    }
}

/// How a feedback record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordForm {
    /// With the producer's `metadata` (`feedback.metadata`).
    pub metadata: bool,
    /// Without the notification, marked `"truncated": true`: the broker called the full record too large.
    pub truncated: bool,
}

/// Sends the messages of one app. One instance per app and sender thread; it owns no task of the message.
pub trait MessageHandler: Send + Sync {
    /// One attempt: parse, check, build, send, understand the answer. Never an error: a refused push is a verdict.
    /// `attempt` counts from 0 for the same message in this process.
    fn handle<'a>(&'a self, message: &'a QueueMessage, attempt: u32, gate: &'a dyn Gate) -> BoxFuture<'a, Attempt>;

    /// The feedback record of this outcome, JSON in the provider's documented shape.
    fn feedback(&self, message: &QueueMessage, outcome: &Outcome, form: RecordForm) -> Vec<u8>;

    /// When the message stops being worth sending, ms since the epoch, as its producer wrote it; `None`: never.
    fn expires_at_ms(&self, message: &QueueMessage) -> Option<i64>;

    /// The `client` tag of `send_notification_latency`.
    fn client(&self) -> &'static str;
}

/// One platform, set up once per process: credentials read and checked, nothing connected yet.
pub trait Provider: Send + Sync {
    /// The platform in topic names and tables.
    fn platform(&self) -> Platform;

    /// The apps that this provider is configured for, in the configuration's order and case.
    fn apps(&self) -> Vec<Arc<str>>;

    /// The handler of `app` on sender thread `sender` of `senders`. Called on that thread, inside its runtime:
    /// connections belong to the runtime that made them.
    fn handler(&self, app: &str, sender: Sender) -> Arc<dyn MessageHandler>;

    /// Which apps share connections: apps with an equal key have one pool (host and credential).
    fn pool_key(&self, app: &str) -> String;

    /// Streams that one connection can be expected to carry; beyond it a key widens to more senders.
    fn streams_per_connection(&self) -> usize;

    /// Begins the end: what waits for a stream is refused at once (`Verdict::Released`), open streams go on.
    fn close(&self);
}

/// One of the sender threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}
