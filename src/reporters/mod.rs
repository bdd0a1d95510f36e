//! Who is told what happened: statistics, feedback, invalid tokens, dead letters.
//!
//! Each kind is a trait here and a folder below; [`Reporters`] fans out to all that are configured. Nothing here knows a
//! provider or the queue. Statistics never wait; feedback and dead letters wait for the broker's acknowledgement and with
//! them the message's offset; a token's deletion is waited for a few seconds and then left to the feedback record. A crate of
//! the outside world has one home: `cadence` in `stats::statsd`, `rdkafka` in `kafka`, `sqlx` in
//! `invalid_token::postgres`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::message::{Origin, Platform, QueueMessage};
use crate::outcome::InvalidToken;
use crate::proof::{Finding, Proof};
use stats::Metric;

pub mod dead_letter;
mod fan_out;
pub mod feedback;
pub mod invalid_token;
mod kafka;
mod quick_hash;
pub mod stats;

pub use fan_out::Reporters;

/// Counts and timings. Never waits, never fails: a lost statistic must not cost a push.
pub trait StatsReporter: Send + Sync {
    /// A message's first request left us. Once per message.
    fn sent(&self, origin: &Origin);
    /// The provider accepted it. Once per message.
    fn success(&self, origin: &Origin);
    /// It came to another end; `reason` is [`crate::outcome::Outcome::key`]. Once per message.
    fn failure(&self, origin: &Origin, reason: &'static str);
    /// One request's round trip to the provider; `client` names the provider's client.
    fn latency(&self, origin: &Origin, client: &'static str, took: Duration);
    /// Adds `n` to a counter.
    fn count(&self, metric: Metric, tags: &[(&'static str, &str)], n: u64);
    /// Adds a value to a timer.
    fn time(&self, metric: Metric, tags: &[(&'static str, &str)], took: Duration);
    /// Sets a gauge.
    fn gauge(&self, metric: Metric, tags: &[(&'static str, &str)], value: f64);
    /// What can be proved about where they go.
    fn proofs(&self) -> Vec<Proof> {
        Vec::new()
    }
    /// Sends what is left, waiting at most `deadline`. The last call.
    fn close(&self, deadline: Duration) {
        let _ = deadline;
    }
}

/// Builds a record on demand: the full one, or the truncated one when the broker called the full one too large.
pub trait RecordSource: Send + Sync {
    /// The record's bytes.
    fn record(&self, truncated: bool) -> Vec<u8>;
    /// What goes with it.
    fn headers(&self, truncated: bool) -> Vec<(&'static str, String)> {
        let _ = truncated;
        Vec::new()
    }
}

/// A record that nobody waits for: what it is made of, and who is told what became of it.
pub trait Owed: RecordSource {
    /// Where its message came from.
    fn origin(&self) -> &Origin;
    /// The broker has acknowledged it. Called on a thread of the reporter's: short.
    fn acknowledged(self: Box<Self>);
    /// It was not taken, or refused. It is to be sent by [`FeedbackReporter::send_feedback`], which knows what mends that.
    fn refused(self: Box<Self>);
}

/// A reporter that takes records without being waited for: a push that waits for its record alone costs no task then.
pub trait Post: Send + Sync {
    /// Takes one; its end is told once, here or later on another thread.
    fn post(&self, owed: Box<dyn Owed>);
}

/// What became of a feedback record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedbackFate {
    /// Acknowledged by the broker.
    Acknowledged,
    /// Counted as lost: `feedback.required` is false and `feedback.timeout` passed, or even the truncated record was refused.
    Lost,
}

/// Where feedback records go.
#[async_trait]
pub trait FeedbackReporter: Send + Sync {
    /// Completes when the record is acknowledged, or lost by configuration. Waits as long as that takes: the message's
    /// offset waits with it.
    async fn send_feedback(&self, origin: &Origin, record: &dyn RecordSource) -> FeedbackFate;
    /// The way for records that are not waited for, if it has one.
    fn post(&self) -> Option<&dyn Post> {
        None
    }
    /// Whether records of these apps can be written: one finding per place. What is missing or forbidden is wrong; a neighbour
    /// that does not answer is away, and records will wait for it. Bounded by `deadline`.
    async fn inspect(&self, apps: &[(Arc<str>, Platform)], deadline: Duration) -> Vec<Finding> {
        let _ = (apps, deadline);
        Vec::new()
    }
    /// Waits until all records given so far are acknowledged, at most `deadline`; whether they are.
    async fn flush(&self, deadline: Duration) -> bool;
    /// What is not acknowledged.
    fn backlog(&self) -> Backlog;
}

/// A message that was given up, and why.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// As it was consumed.
    pub message: &'a QueueMessage,
    /// [`crate::outcome::Outcome::key`].
    pub reason: &'static str,
    /// For people.
    pub description: &'a str,
    /// HTTP status of the last answer; 0 when there was none.
    pub status: u16,
    /// Attempts made by this process since it took the message.
    pub attempts: u32,
    /// When the first of them began.
    pub first_attempt: SystemTime,
    /// When the last of them began.
    pub last_attempt: SystemTime,
}

/// Where messages go that are given up.
#[async_trait]
pub trait DeadLetterReporter: Send + Sync {
    /// Completes when the letter is acknowledged; the message's offset waits with it.
    async fn send_dead_letter(&self, letter: &DeadLetter<'_>) -> FeedbackFate;
    /// As [`FeedbackReporter::inspect`].
    async fn inspect(&self, apps: &[(Arc<str>, Platform)], deadline: Duration) -> Vec<Finding> {
        let _ = (apps, deadline);
        Vec::new()
    }
    /// As [`FeedbackReporter::flush`].
    async fn flush(&self, deadline: Duration) -> bool;
    /// What is not acknowledged.
    fn backlog(&self) -> Backlog;
}

/// Neighbours that cannot be used as configured: says which, and the line that mends each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CheckError(pub String);

/// Feedback records that are not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records waited for now.
    pub waiting: u64,
    /// Records given up since the start.
    pub lost: u64,
    /// For how long the broker has acknowledged nothing, at all or of one topic, although it should; zero when all is well.
    pub stalled_for: Duration,
    /// Topics that are missing or may not be written, as of the last attempts.
    pub refused_topics: usize,
}

/// Of several reporters: the longest stall, and the sum of all else.
impl std::iter::Sum for Backlog {
    fn sum<I: Iterator<Item = Backlog>>(all: I) -> Backlog {
        all.fold(Backlog::default(), |sum, one| Backlog {
            waiting: sum.waiting + one.waiting,
            lost: sum.lost + one.lost,
            stalled_for: sum.stalled_for.max(one.stalled_for),
            refused_topics: sum.refused_topics + one.refused_topics,
        })
    }
}

/// What became of a token's deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The statement committed.
    Done,
    /// Could not be done in time: counted, left to the feedback record.
    Deferred,
    /// The safety valve is closed: not deleted on purpose.
    Withheld,
}

/// Where dead tokens are deleted.
#[async_trait]
pub trait InvalidTokenHandler: Send + Sync {
    /// Completes when the token is gone, deferred or withheld; bounded by `invalidToken.timeout`.
    async fn handle_token(&self, origin: &Origin, token: &InvalidToken) -> Deletion;
    /// Every final answer of a provider passes here, so that the valve knows the share of invalid ones.
    fn observe(&self, origin: &Origin, invalid: bool);
    /// Tells statistics its gauges, on the housekeeping clock.
    fn publish(&self);
    /// What can be proved about the place of these apps' tokens.
    fn proofs(&self, apps: &[(Arc<str>, Platform)]) -> Vec<Proof> {
        let _ = apps;
        Vec::new()
    }
    /// Deletes what is collected and closes, waiting at most `deadline`. The last call.
    async fn close(&self, deadline: Duration);
}
