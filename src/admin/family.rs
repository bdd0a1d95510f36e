//! The metrics of `/metrics` that are not told as statistics: each name, type, set of labels and meaning written once.

use std::borrow::Cow;

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by range of seconds.
    Histogram,
}

/// A family of samples on the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name, with the unit and without `_total`.
    pub name: Cow<'static, str>,
    /// What its values are.
    pub kind: Kind,
    /// Labels, in the order in which their values are given.
    pub labels: Cow<'static, [&'static str]>,
    /// What it says, in words.
    pub meaning: &'static str,
}

/// `CONSTANT: Kind "name" [labels]`, with the meaning as doc comment.
macro_rules! families {
    ($($(#[doc = $doc:literal])+ $constant:ident: $kind:ident $name:literal [$($label:ident),*],)+) => {
        $(
            $(#[doc = $doc])+
            pub static $constant: Family = Family {
                name: Cow::Borrowed($name),
                kind: Kind::$kind,
                labels: Cow::Borrowed(&[$(stringify!($label)),*]),
                meaning: concat!($($doc),+),
            };
        )+

        /// All of them, in the order of the documentation.
        pub static ALL: &[&Family] = &[$(&$constant),+];
    };
}

families! {
    /// Messages read from Kafka: the sum of all outcomes and of what is in flight, in every scrape.
    CONSUMED: Counter "pusher_consumed_messages" [app, platform, lane],
    /// What became of them: `delivered`, `rejected`, `expired`, `limited`, `deduplicated`, `cancelled` (job stopped by hand), `failed`, `released` (given back unresolved), `skipped` (resolved before, or in flight already), `handled` (no pushes).
    OUTCOMES: Counter "pusher_outcomes" [app, platform, lane, outcome],
    /// Those that were not delivered, by the reason's key in feedback records.
    REASONS: Counter "pusher_outcome_reasons" [app, platform, lane, outcome, reason],
    /// Messages lent and not yet resolved: receipts that live.
    IN_FLIGHT: Gauge "pusher_in_flight_messages" [app, platform, lane],
    /// Receipts that a bug of ours dropped; their messages are among the released and were lent again.
    LOST: Counter "pusher_receipts_lost" [app, platform, lane],
    /// Requests that left us: every attempt and every immediate resend.
    ATTEMPTS: Counter "pusher_attempts" [app, platform, lane],
    /// Messages sent again although an earlier request may have been accepted.
    POSSIBLE_DUPLICATES: Counter "pusher_possible_duplicates" [app, platform, lane],
    /// Feedback records acknowledged by the broker.
    FEEDBACK: Counter "pusher_feedback_records" [app, platform, lane],
    /// From the producer's timestamp to the moment when the message was read.
    PRODUCED_TO_LENT: Histogram "pusher_produced_to_lent_seconds" [app, platform, lane],
    /// From the producer's timestamp to the provider's acceptance.
    PRODUCED_TO_ACCEPTED: Histogram "pusher_produced_to_accepted_seconds" [app, platform, lane],
    /// From the moment when the message was read to the provider's acceptance.
    CONSUMED_TO_ACCEPTED: Histogram "pusher_consumed_to_accepted_seconds" [app, platform, lane],
    /// One request's round trip to the provider.
    ROUND_TRIP: Histogram "pusher_provider_round_trip_seconds" [app, platform, lane],
    /// Connections to the provider: `open`, `draining` (finish what they have), `connecting`. `pool`: the first app with these credentials.
    CONNECTIONS: Gauge "pusher_connections" [platform, pool, state],
    /// Requests on their way on these connections.
    STREAMS: Gauge "pusher_streams" [platform, pool],
    /// Pushes that wait for a place on a connection.
    STREAM_WAITERS: Gauge "pusher_stream_waiters" [platform, pool],
    /// Connections opened.
    HANDSHAKES: Counter "pusher_handshakes" [platform, pool],
    /// Connects that failed, and connections that ended before their first answer.
    CONNECT_FAILURES: Counter "pusher_connect_failures" [platform, pool],
    /// GOAWAYs received.
    GOAWAYS: Counter "pusher_goaways" [platform, pool],
    /// Times that a connection used up its peer's flow-control window.
    WINDOW_STALLS: Counter "pusher_window_stalls" [platform, pool],
    /// Requests without an answer in time.
    TIMEOUTS: Counter "pusher_request_timeouts" [platform, pool],
    /// Connections that ended with requests unanswered.
    CONNECTIONS_LOST: Counter "pusher_connections_lost" [platform, pool],
    /// Partitions of the topic that are ours.
    PARTITIONS: Gauge "pusher_partitions" [app, platform, lane, topic],
    /// Messages of our partitions that are not read yet, as of the last look (every 10 s).
    BACKLOG: Gauge "pusher_backlog_messages" [app, platform, lane, topic],
    /// Age of the oldest message of our partitions without an outcome.
    BACKLOG_AGE: Gauge "pusher_backlog_age_seconds" [app, platform, lane, topic],
    /// For how long the topic keeps messages; absent when it keeps them for ever or we may not know.
    RETENTION: Gauge "pusher_topic_retention_seconds" [app, platform, lane, topic],
    /// Size of the fullest map of resolved offsets; near 3040, what fits into a commit, nothing more is lent from its partition.
    MAP_BYTES: Gauge "pusher_offset_map_bytes" [app, platform, lane, topic],
    /// For how long resolved messages have waited for a commit that the broker takes; under load about half of `queue.commitInterval`.
    COMMIT_LAG: Gauge "pusher_commit_lag_seconds" [],
    /// 1: as `/readyz` says; else 0.
    READY: Gauge "pusher_ready" [],
    /// 1, with the version of the program.
    BUILD_INFO: Gauge "pusher_build_info" [version],
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let names: HashSet<_> = ALL.iter().map(|family| &*family.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Family { name, kind, labels, .. } in ALL.iter().copied() {
            assert!(name.starts_with("pusher_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(!name.ends_with("_total"), "{name}: the page adds it");
            assert_eq!(*kind == Kind::Histogram, name.contains("_to_") || name.contains("trip"), "{name}");
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(labels.iter().all(|label| *label != "le"), "{name}");
        }
    }
}
