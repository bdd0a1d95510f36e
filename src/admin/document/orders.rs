//! What the calls that give orders are answered with, and those that tell which orders stand.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// A lane of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Place {
    /// The app.
    pub app: String,
    /// The platform, or `listener`.
    pub platform: String,
    /// `single` or `massive`.
    pub lane: String,
}

/// What is paused by a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NowPaused {
    /// Each lane.
    pub paused: Vec<Place>,
}

/// What is read again by a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NowResumed {
    /// Each lane that was paused.
    pub resumed: Vec<Place>,
}

/// A job that is stopped by a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NowStopped {
    /// Its name.
    pub job: String,
    /// Always.
    pub stopped: bool,
}

/// A job that is sent again by a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NowStarted {
    /// Its name.
    pub job: String,
    /// Never.
    pub stopped: bool,
    /// Whether it was before.
    pub was_stopped: bool,
}

/// What is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pauses {
    /// Each lane.
    pub pauses: Vec<Pause>,
}

/// A lane that is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pause {
    /// The app.
    pub app: String,
    /// The platform, or `listener`.
    pub platform: String,
    /// `single` or `massive`.
    pub lane: String,
    /// When it was ordered, ms since the epoch.
    pub at: i64,
    /// By whom.
    pub by: String,
    /// Why, in that person's words.
    pub why: Option<String>,
}

/// Jobs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Jobs {
    /// Those in sight of this process, with their numbers in it.
    pub jobs: Vec<JobInSight>,
    /// Those that are stopped.
    pub stopped: Vec<StoppedJob>,
}

/// A job that is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoppedJob {
    /// Its name.
    pub id: String,
    /// When it was ordered, ms since the epoch.
    pub at: i64,
    /// By whom.
    pub by: String,
    /// Why, in that person's words.
    pub why: Option<String>,
}

/// What a job has come to in this process.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobInSight {
    /// Its name.
    pub id: String,
    /// Whether its messages are cancelled now.
    pub stopped: bool,
    /// Accepted by the provider.
    pub delivered: u64,
    /// Resolved unsent because the job was stopped.
    pub cancelled: u64,
    /// Those that were not delivered, by the reason's key in feedback records; the cancelled among them.
    pub reasons: BTreeMap<String, u64>,
    /// Messages of it that came to an end in the last minute, for each second.
    pub per_second: f64,
    /// Seconds since a message of it was seen or came to its end.
    pub idle_s: f64,
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refusal {
    /// In words, with what to do.
    pub error: String,
}

/// How a call that changes something ends otherwise.
#[derive(Debug, IntoResponses)]
pub enum NotChanged {
    /// The order is none
    #[response(status = 400)]
    None(Refusal),
    /// A token is needed, or this is another one
    #[response(status = 401, content_type = "text/plain")]
    Unknown(String),
    /// No token is configured: nothing can be changed
    #[response(status = 403, content_type = "text/plain")]
    Forbidden(String),
    /// This process takes no orders
    #[response(status = 404)]
    NoOrders(Refusal),
    /// The order could not be kept, or is not known to be
    #[response(status = 503)]
    NotKept(Refusal),
}

/// How a call that tells something ends where `admin.protectReads` is on.
#[derive(Debug, IntoResponses)]
pub enum Protected {
    /// Reading needs the token too (admin.protectReads), and this is none or another one
    #[response(status = 401, content_type = "text/plain")]
    Unknown(String),
}

/// How a call that tells of orders ends otherwise.
#[derive(Debug, IntoResponses)]
pub enum NotTold {
    /// This process takes no orders
    #[response(status = 404)]
    NoOrders(Refusal),
    /// The process is starting
    #[response(status = 503)]
    Starting(Refusal),
}
