//! The part of a status document that tells of apps, lanes and jobs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One app on one platform.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct App {
    /// Its name.
    pub app: String,
    /// Its platform.
    pub platform: String,
    /// Its breaker; `null` where there is none.
    pub breaker: Option<Breaker>,
    /// The valve of its deletions; `null` before its first answer.
    pub valve: Option<Valve>,
    /// Messages that wait for another attempt; `null` where there are no attempts.
    pub retries_waiting: Option<u64>,
    /// Messages whose outcome is known and being reported.
    pub reporting: Option<u64>,
    /// Its lanes.
    pub lanes: Vec<Lane>,
}

/// A job: the messages whose `metadata.jobId` is its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Job {
    /// Its name.
    pub id: String,
    /// The order by which its messages are cancelled; `null`: they are sent.
    pub stopped: Option<Order>,
    /// Delivered by this process.
    pub delivered: u64,
    /// Cancelled by this process.
    pub cancelled: u64,
    /// Not delivered by this process for another reason.
    pub otherwise: u64,
    /// Messages that ended in the last minute, per second.
    pub ended_per_s: f64,
    /// How long ago a message of it was seen; `null`: none was.
    pub idle_s: Option<f64>,
}

/// What a person has ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Order {
    /// When.
    pub at_ms: i64,
    /// Who, as far as that is known.
    pub by: String,
    /// Why, in that person's words.
    pub why: Option<String>,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// All is sent.
    Closed,
    /// The provider is overloaded, or just came back: less is sent at once.
    Limited,
    /// Only probes are sent; the backlog stays in Kafka.
    Open,
}

/// Where a valve stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Valve {
    /// Dead tokens are deleted.
    Open,
    /// None is.
    Closed,
}

/// One lane of an app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Lane {
    /// `single` or `massive`.
    pub lane: String,
    /// The order by which nothing more is read; `null`: it is read.
    pub paused: Option<Order>,
    /// Messages read, per second.
    pub consumed_per_s: f64,
    /// Messages delivered, per second; of a listener: dealt with.
    pub delivered_per_s: f64,
    /// Messages with any other outcome, per second.
    pub not_delivered_per_s: f64,
    /// Messages read and without an outcome.
    pub in_flight: u64,
    /// Messages in our partitions that are not read; `null` until the brokers have told it.
    pub backlog: Option<u64>,
    /// Age of the oldest message without an outcome; `null` when there is none.
    pub backlog_age_s: Option<f64>,
    /// From the moment when a message was read to the provider's acceptance.
    pub accepted: Latency,
    /// One request to the provider.
    pub round_trip: Latency,
    /// Messages read since the start.
    pub consumed: u64,
    /// What became of them, by outcome (see the ledger).
    pub outcomes: BTreeMap<String, u64>,
    /// Those that were not delivered, by outcome and reason, the most frequent first.
    pub reasons: Vec<ReasonCount>,
}

/// Quantiles of durations, estimated within the ranges of `/metrics`; `null` when there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Latency {
    /// Half were faster.
    pub p50_ms: Option<f64>,
    /// 99 of 100 were faster.
    pub p99_ms: Option<f64>,
}

/// How often a reason was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ReasonCount {
    /// The outcome.
    pub outcome: String,
    /// The reason's key, as in feedback records.
    pub reason: String,
    /// How often since the start.
    pub count: u64,
}
