//! The names of all metrics, each written once.

/// How a metric's values are added up between two flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A sum.
    Counter,
    /// The last value.
    Gauge,
    /// A bounded sample of the values, in milliseconds.
    Timer,
}

/// A metric's name, written once. The variant's doc says what it counts and lists its tags; `game` is the app's name.
/// Names and tags are those of topfreegames/pusher where it has the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// A message's first request left us: `platform`, `game`, `topic`.
    Sent,
    /// The provider accepted a message: `platform`, `game`.
    Ack,
    /// A message came to another end: `platform`, `game`, `reason`.
    Failed,
    /// One request's round trip, ms: `platform`, `game`, `client`.
    Latency,
    /// One FCM round trip, ms, under the original's name: `game`.
    FirebaseLatency,
    /// A push over its device's limit: `platform`, `game`.
    RateLimitReached,
    /// The limiter could not answer, the push passed: `platform`, `game`.
    RateLimitFailed,
    /// An app's handler could not be set up: `platform`, `game`.
    InitializeFailure,
    /// A push whose content was sent before: `hostname`, `game`, `platform`.
    DuplicatedMessages,
    /// Deduplication could not answer, the push passed: `hostname`, `game`, `platform`.
    DedupErrors,
    /// Requests that left us, retries included: `platform`, `game`.
    Attempts,
    /// A message sent again although an earlier request may have been accepted: `platform`, `game`.
    PossibleDuplicates,
    /// Attempts that end in a later one: `platform`, `game`, `reason`.
    Retries,
    /// Attempts refused for our credentials or configuration: `platform`, `game`, `reason`.
    Holds,
    /// Messages whose expiry passed before delivery: `platform`, `game`.
    Expired,
    /// Messages given back unresolved (shutdown, revoked partition): `platform`, `game`.
    Released,
    /// Messages that the offset map knows as resolved: `platform`, `game`.
    Skipped,
    /// Messages that wait for their next attempt: `platform`, `game`.
    RetryWaiting,
    /// Feedback records given up: `platform`, `game`.
    FeedbackLost,
    /// Feedback records sent without the notification, the full one being too large: `platform`, `game`.
    FeedbackTruncated,
    /// Feedback producers that failed for good and were replaced: none.
    FeedbackProducerRebuilt,
    /// Feedback records not yet acknowledged: none.
    FeedbackWaiting,
    /// For how long the feedback broker has acknowledged nothing; 0 when well: none.
    FeedbackStalledSeconds,
    /// Rows deleted for dead tokens: `hostname`, `game`, `platform`.
    TokensDeleteSuccess,
    /// Tokens whose DELETE failed: `hostname`, `game`, `platform`.
    TokensDeleteError,
    /// Tokens for which no row was there to delete: `hostname`, `game`, `platform`.
    TokensDeleteNonexistent,
    /// Tokens left to the feedback record: `hostname`, `game`, `platform`.
    TokensDeleteDeferred,
    /// Tokens kept because the safety valve is closed: `hostname`, `game`, `platform`.
    TokensDeleteWithheld,
    /// 1 while the safety valve keeps an app's tokens, else 0: `platform`, `game`.
    ValveClosed,
    /// Receipts dropped unresolved, a bug of ours: `topic`.
    ReceiptsLost,
    /// Offset maps that were not of this log or not readable: `topic`, `reason`.
    MapDropped,
    /// Offsets skipped because the log no longer had them: `topic`.
    OffsetsOutOfRange,
    /// Commits that the broker refused: none.
    CommitFailed,
    /// Messages lent and not yet resolved: `platform`, `game`.
    InFlight,
    /// Age of the oldest of them: none.
    InFlightOldestSeconds,
    /// Topics that match the pattern and are not ours to send: none.
    IgnoredTopics,
    /// Partitions with something to read and no room for it, the most at once in the last second: none.
    PausedPartitions,
    /// Partitions that are ours: none.
    AssignedPartitions,
    /// Length of the map of resolved offsets in the last commit, characters of 4,096: `topic`.
    MapBytes,
    /// Open connections to a provider: `platform`, `game`.
    Connections,
    /// Values dropped because there were too many different tags: none.
    SeriesDropped,
}

impl Metric {
    /// Every metric, in the order of the table above.
    pub const ALL: &'static [Metric] = &[
        Metric::Sent,
        Metric::Ack,
        Metric::Failed,
        Metric::Latency,
        Metric::FirebaseLatency,
        Metric::RateLimitReached,
        Metric::RateLimitFailed,
        Metric::InitializeFailure,
        Metric::DuplicatedMessages,
        Metric::DedupErrors,
        Metric::Attempts,
        Metric::PossibleDuplicates,
        Metric::Retries,
        Metric::Holds,
        Metric::Expired,
        Metric::Released,
        Metric::Skipped,
        Metric::RetryWaiting,
        Metric::FeedbackLost,
        Metric::FeedbackTruncated,
        Metric::FeedbackProducerRebuilt,
        Metric::FeedbackWaiting,
        Metric::FeedbackStalledSeconds,
        Metric::TokensDeleteSuccess,
        Metric::TokensDeleteError,
        Metric::TokensDeleteNonexistent,
        Metric::TokensDeleteDeferred,
        Metric::TokensDeleteWithheld,
        Metric::ValveClosed,
        Metric::ReceiptsLost,
        Metric::MapDropped,
        Metric::OffsetsOutOfRange,
        Metric::CommitFailed,
        Metric::InFlight,
        Metric::InFlightOldestSeconds,
        Metric::IgnoredTopics,
        Metric::PausedPartitions,
        Metric::AssignedPartitions,
        Metric::MapBytes,
        Metric::Connections,
        Metric::SeriesDropped,
    ];

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Metric> {
        Metric::ALL.iter().copied().find(|metric| metric.name() == name)
    }

    /// The name on the wire, without the configured prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Sent => "sent",
            Metric::Ack => "ack",
            Metric::Failed => "failed",
            Metric::Latency => "send_notification_latency",
            Metric::FirebaseLatency => "firebase_latency",
            Metric::RateLimitReached => "rate_limit_reached",
            Metric::RateLimitFailed => "rate_limit_failed",
            Metric::InitializeFailure => "initialize_failure",
            Metric::DuplicatedMessages => "duplicated_messages",
            Metric::DedupErrors => "dedup_errors",
            Metric::Attempts => "attempts",
            Metric::PossibleDuplicates => "possible_duplicates",
            Metric::Retries => "retries",
            Metric::Holds => "holds",
            Metric::Expired => "expired",
            Metric::Released => "released",
            Metric::Skipped => "skipped",
            Metric::RetryWaiting => "retry_waiting",
            Metric::FeedbackLost => "feedback_lost",
            Metric::FeedbackTruncated => "feedback_truncated",
            Metric::FeedbackProducerRebuilt => "feedback_producer_rebuilt",
            Metric::FeedbackWaiting => "feedback_waiting",
            Metric::FeedbackStalledSeconds => "feedback_stalled_seconds",
            Metric::TokensDeleteSuccess => "tokens_delete_success",
            Metric::TokensDeleteError => "tokens_delete_error",
            Metric::TokensDeleteNonexistent => "tokens_delete_nonexistent",
            Metric::TokensDeleteDeferred => "tokens_delete_deferred",
            Metric::TokensDeleteWithheld => "tokens_delete_withheld",
            Metric::ValveClosed => "valve_closed",
            Metric::ReceiptsLost => "receipts_lost",
            Metric::MapDropped => "map_dropped",
            Metric::OffsetsOutOfRange => "offsets_out_of_range",
            Metric::CommitFailed => "commit_failed",
            Metric::InFlight => "in_flight",
            Metric::InFlightOldestSeconds => "in_flight_oldest_seconds",
            Metric::IgnoredTopics => "ignored_topics",
            Metric::PausedPartitions => "paused_partitions",
            Metric::AssignedPartitions => "assigned_partitions",
            Metric::MapBytes => "map_bytes",
            Metric::Connections => "connections",
            Metric::SeriesDropped => "series_dropped",
        }
    }

    /// How its values are added up.
    pub const fn kind(self) -> Kind {
        match self {
            Metric::RetryWaiting
            | Metric::FeedbackWaiting
            | Metric::FeedbackStalledSeconds
            | Metric::ValveClosed
            | Metric::InFlight
            | Metric::InFlightOldestSeconds
            | Metric::IgnoredTopics
            | Metric::PausedPartitions
            | Metric::AssignedPartitions
            | Metric::MapBytes
            | Metric::Connections => Kind::Gauge,
            Metric::Latency | Metric::FirebaseLatency => Kind::Timer,
            _ => Kind::Counter,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_metric_is_found_by_its_name() {
        assert_eq!(Metric::named("firebase_latency"), Some(Metric::FirebaseLatency));
        assert_eq!(Metric::named("no such"), None);
    }

    #[test]
    fn names_are_unique_and_fit_every_statsd() {
        let names: HashSet<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
