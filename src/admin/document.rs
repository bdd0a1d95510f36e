//! What `/api/status`, `/api/events` and `/api/history` say: the one description of these documents, from which the `OpenAPI`
//! description is made and which `pusher status` reads; `orders`: the answers to orders. Names are in `snake_case` and end in their unit; times end in `_ms` and
//! are milliseconds since the epoch. What is not known is `null`; a later version may add fields and takes none away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod app;
mod orders;
pub use app::{App, Breaker, Job, Lane, Latency, Order, ReasonCount, Valve};
pub use orders::{
    JobInSight, Jobs, NotChanged, NotTold, NowPaused, NowResumed, NowStarted, NowStopped, Pause, Pauses, Place,
    Protected, Refusal, StoppedJob,
};

/// How a process stands, all of one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Status {
    /// What runs: `worker` or `listener`; empty while it starts.
    pub program: String,
    /// Its version.
    pub version: String,
    /// The host's name.
    pub instance: String,
    /// For which platforms: `apns`, `gcm`.
    pub platforms: Vec<String>,
    /// When its admin server began.
    pub since_ms: i64,
    /// The moment that this tells of.
    pub at_ms: i64,
    /// Whether nothing needs a person: no problem says `act`.
    pub well: bool,
    /// What is wrong, the most urgent first.
    pub problems: Vec<Problem>,
    /// Whether work can go through to its end (`/readyz`).
    pub ready: bool,
    /// Why not.
    pub not_ready: Vec<NotReady>,
    /// Whether every part of the process moves (`/healthz`).
    pub healthy: bool,
    /// Which part does not.
    pub standing_still: Vec<StandingStill>,
    /// Rates and latencies are those of so many seconds before the moment.
    pub window_s: f64,
    /// Each app on its platform.
    pub apps: Vec<App>,
    /// Jobs that are stopped, and those in sight, the most recently seen first.
    pub jobs: Vec<Job>,
    /// Connections to providers.
    pub pools: Vec<Pool>,
    /// The partitions that are ours, as of the commit clock's last strike.
    pub partitions: Vec<Partition>,
    /// For how long resolved messages have waited for a commit.
    pub commit_lag_s: f64,
    /// All lanes together.
    pub ledger: Ledger,
    /// The last changes of state, the newest last; at most 50.
    pub journal: Vec<Change>,
}

/// Something that is wrong, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Problem {
    /// Whether a person must act, or only know.
    pub urgency: Urgency,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Whether somebody must get up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// A person is needed.
    #[default]
    Act,
    /// It is expected to mend itself, or was decided by a person.
    Watch,
}

/// Why no work can go through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NotReady {
    /// `starting`, `group`, `credentials`, `feedback`, `draining`.
    pub reason: String,
    /// For people.
    pub detail: String,
}

/// A part of the process that does not move.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct StandingStill {
    /// Which.
    pub name: String,
    /// For how long.
    pub silent_s: f64,
    /// The longest that is in order.
    pub limit_s: f64,
}

/// Connections of one credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Pool {
    /// To whose service.
    pub platform: String,
    /// The first app with this credential.
    pub pool: String,
    /// Connections that take new requests.
    pub open: u64,
    /// Connections that finish what they have.
    pub draining: u64,
    /// Connections being opened.
    pub connecting: u64,
    /// Requests on their way.
    pub streams: u64,
    /// Pushes that wait for a place.
    pub waiting: u64,
    /// Connects that failed since the start.
    pub connect_failures: u64,
    /// GOAWAYs received since the start.
    pub goaways: u64,
    /// Connections lost with requests unanswered since the start.
    pub lost: u64,
}

/// A partition that is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Partition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The offset that the group has committed.
    pub committed: i64,
    /// The first offset without an outcome: the next commit.
    pub position: i64,
    /// Offsets beyond it that are resolved, and not repeated after a crash.
    pub resolved_beyond: u64,
    /// Messages of it in flight.
    pub in_flight: u64,
    /// One past its last offset; `null` until the brokers have told it.
    pub log_end: Option<i64>,
    /// Messages that are not committed yet.
    pub lag: Option<u64>,
}

/// The law: `consumed` is the sum of `outcomes` and `in_flight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Ledger {
    /// Messages read from Kafka.
    pub consumed: u64,
    /// What became of them: `delivered`, `rejected`, `expired`, `limited`, `deduplicated`, `cancelled`, `failed`, `released` (given back),
    /// `skipped` (resolved before, or in flight already), `handled` (no pushes).
    pub outcomes: BTreeMap<String, u64>,
    /// Messages without an outcome yet.
    pub in_flight: u64,
    /// `consumed` less the rest: 0, or there is a bug.
    pub difference: i64,
    /// Whether it is 0.
    pub balances: bool,
}

/// A change of state, as the log tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Change {
    /// When it happened last.
    pub at_ms: i64,
    /// `info`, `warning`, `error`.
    pub level: String,
    /// What happened.
    pub what: String,
    /// About whom or what, by name.
    pub about: BTreeMap<String, String>,
    /// How often, while it was remembered.
    pub times: u64,
}

/// The last 15 minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct History {
    /// Seconds between two samples.
    pub interval_s: f64,
    /// The newest last; at most 180.
    pub samples: Vec<Sample>,
}

/// How the process stood at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Sample {
    /// The moment.
    pub at_ms: i64,
    /// Messages delivered, per second.
    pub delivered_per_s: f64,
    /// Messages with any other outcome, per second.
    pub not_delivered_per_s: f64,
    /// Messages in flight.
    pub in_flight: u64,
    /// Messages not read.
    pub backlog: u64,
    /// The slowest lane's 99th percentile from read to accepted.
    pub accepted_p99_ms: Option<f64>,
    /// Messages delivered per second by lane, `platform/app/lane`; at most 100 lanes.
    pub lanes: BTreeMap<String, f64>,
}
