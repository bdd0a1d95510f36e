//! All metrics: each name, type, set of tags and meaning written once, in the table below. `docs/metrics.md` is made of it.

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

/// Whose dashboards know a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// topfreegames/pusher has it, with this name and these tags.
    Original,
    /// New here.
    Ours,
}

/// `Variant: Descent Kind "name" [tags]`, with what it counts as doc comment.
macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $metric:ident: $descent:ident $kind:ident $name:literal [$($tag:ident),*],)+) => {
        /// A metric. Its doc says what it counts; [`Metric::tags`] has the tags, of which `game` is the app's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Metric {
            $($(#[doc = $doc])+ $metric,)+
        }

        impl Metric {
            /// Every metric, in the order of the table.
            pub const ALL: &'static [Metric] = &[$(Metric::$metric,)+];

            /// The name on the wire, without the configured prefix.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$metric => $name,)+ }
            }

            /// How its values are added up.
            pub const fn kind(self) -> Kind {
                match self { $(Metric::$metric => Kind::$kind,)+ }
            }

            /// The tags that each of its values carries.
            pub const fn tags(self) -> &'static [&'static str] {
                match self { $(Metric::$metric => &[$(stringify!($tag)),*],)+ }
            }

            /// Whose dashboards know it.
            pub const fn descent(self) -> Descent {
                match self { $(Metric::$metric => Descent::$descent,)+ }
            }

            /// What it counts, in words.
            pub const fn meaning(self) -> &'static str {
                match self { $(Metric::$metric => concat!($($doc),+),)+ }
            }
        }
    };
}

metrics! {
    /// A message's first request left us, once each time that it is taken from Kafka.
    Sent: Original Counter "sent" [platform, game, topic],
    /// The provider accepted a message.
    Ack: Original Counter "ack" [platform, game],
    /// A message came to another end.
    Failed: Original Counter "failed" [platform, game, reason],
    /// One request's round trip, ms.
    Latency: Original Timer "send_notification_latency" [platform, game, client],
    /// One request's round trip to FCM, ms: the same values under the name that the original had besides.
    FirebaseLatency: Original Timer "firebase_latency" [game],
    /// An app's handler could not be set up.
    InitializeFailure: Original Counter "initialize_failure" [platform, game],
    /// Messages not sent because their device has had its pushes of this minute.
    RateLimitReached: Original Counter "rate_limit_reached" [platform, game],
    /// Messages sent without knowing whether their device's limit allows it: the store could not say in time.
    RateLimitFailed: Original Counter "rate_limit_failed" [platform, game],
    /// Messages not sent because another one with their content went to their device lately.
    DuplicatedMessages: Original Counter "duplicated_messages" [hostname, game, platform],
    /// Messages sent without knowing whether they are duplicates: the store could not say in time.
    DedupErrors: Original Counter "dedup_errors" [hostname, game, platform],
    /// Requests that left us, retries included.
    Attempts: Ours Counter "attempts" [platform, game],
    /// A message sent again although an earlier request may have been accepted.
    PossibleDuplicates: Ours Counter "possible_duplicates" [platform, game],
    /// Attempts that end in a later one.
    Retries: Ours Counter "retries" [platform, game, reason],
    /// Attempts refused for our credentials or configuration.
    Holds: Ours Counter "holds" [platform, game, reason],
    /// Messages whose expiry passed before delivery.
    Expired: Ours Counter "expired" [platform, game],
    /// Messages given back unresolved (shutdown, revoked partition, paused app).
    Released: Ours Counter "released" [platform, game],
    /// Messages read past: they are resolved, as the offset map knows, or in flight already.
    Skipped: Ours Counter "skipped" [platform, game],
    /// Messages that wait for their next attempt.
    RetryWaiting: Ours Gauge "retry_waiting" [platform, game],
    /// Looks at a waiting message that found no leave to try it again: the app's share of retries or its pace was used up, or as many were on their way as it may have.
    RetriesDelayed: Ours Counter "retries_delayed" [platform, game],
    /// 0: closed, all is sent; 1: limited, so many are sent at once; 2: open, the app is paused and only probes are sent.
    BreakerState: Ours Gauge "breaker_state" [platform, game],
    /// Breakers that opened; `reason` is the key of the last failure before.
    BreakerOpened: Ours Counter "breaker_opened" [platform, game, reason],
    /// Pushes sent to find out whether a paused app must be paused.
    BreakerProbes: Ours Counter "breaker_probes" [platform, game],
    /// Requests per second that the app, and others of its project, may send from this process now (FCM).
    QuotaRate: Ours Gauge "quota_rate" [platform, game],
    /// Attempts of the app that may be under way in this process now, learned from how long answers take and, while the process is busy all the time, from the app's weight.
    ConcurrencyLimit: Ours Gauge "concurrency_limit" [platform, game],
    /// Files of credentials or trusted certificates taken into use while running; `key` names the file in the configuration.
    CredentialsReloaded: Ours Counter "credentials_reloaded" [platform, key],
    /// New contents of such files that were refused; the old ones stay in use.
    CredentialsReloadFailed: Ours Counter "credentials_reload_failed" [platform, key],
    /// 1 while such a file holds what was refused, else 0.
    CredentialsRefused: Ours Gauge "credentials_refused" [platform, key],
    /// Messages that were given up and kept as dead letters.
    DeadLetters: Ours Counter "dead_letters" [platform, game, reason],
    /// Dead letters that even without their payload were too large for the topic.
    DeadLettersLost: Ours Counter "dead_letters_lost" [platform, game],
    /// Dead letters written without their payload, it being too large for the topic.
    DeadLettersTruncated: Ours Counter "dead_letters_truncated" [platform, game],
    /// Messages that came back from the dead letters, with their outcome.
    Redriven: Ours Counter "redriven" [platform, game],
    /// Producers of dead letters that failed for good or stood still, and were replaced.
    DeadLetterProducerRebuilt: Ours Counter "dead_letter_producer_rebuilt" [],
    /// Dead letters not yet acknowledged.
    DeadLettersWaiting: Ours Gauge "dead_letters_waiting" [],
    /// For how long the broker of dead letters has acknowledged nothing, at all or of one topic; 0 when well.
    DeadLettersStalledSeconds: Ours Gauge "dead_letters_stalled_seconds" [],
    /// Topics of dead letters that are missing or may not be written, as of the last attempts.
    DeadLettersRefusedTopics: Ours Gauge "dead_letters_refused_topics" [],
    /// Feedback records given up.
    FeedbackLost: Ours Counter "feedback_lost" [platform, game],
    /// Feedback records sent without the notification, the full one being too large.
    FeedbackTruncated: Ours Counter "feedback_truncated" [platform, game],
    /// Feedback producers that failed for good or stood still, and were replaced.
    FeedbackProducerRebuilt: Ours Counter "feedback_producer_rebuilt" [],
    /// Feedback records not yet acknowledged.
    FeedbackWaiting: Ours Gauge "feedback_waiting" [],
    /// For how long the feedback broker has acknowledged nothing, at all or of one topic; 0 when well.
    FeedbackStalledSeconds: Ours Gauge "feedback_stalled_seconds" [],
    /// Rows deleted for dead tokens.
    TokensDeleteSuccess: Original Counter "tokens_delete_success" [hostname, game, platform],
    /// Tokens whose DELETE failed; in the listener, at every try.
    TokensDeleteError: Original Counter "tokens_delete_error" [hostname, game, platform],
    /// Tokens for which no row was there to delete.
    TokensDeleteNonexistent: Original Counter "tokens_delete_nonexistent" [hostname, game, platform],
    /// Tokens left to the feedback record.
    TokensDeleteDeferred: Ours Counter "tokens_delete_deferred" [hostname, game, platform],
    /// Tokens kept because the safety valve is closed, or because an operator said so.
    TokensDeleteWithheld: Ours Counter "tokens_delete_withheld" [hostname, game, platform],
    /// Feedback records read by the listener: `dead` (a token to delete), `other`, `unreadable`.
    FeedbackRecords: Ours Counter "feedback_records_read" [platform, game, kind],
    /// The feedback listener has started.
    FeedbackListenerRestart: Original Counter "feedback_listener_restart" [hostname],
    /// Feedback records between Kafka and the end of their DELETE.
    QueueOutChannel: Original Gauge "queue_out_channel" [hostname],
    /// Tokens in batches that wait for a connection to the database.
    BrokerInvalidTokenChannel: Original Gauge "broker_invalid_token_channel" [hostname],
    /// Tokens collected for the next batch.
    InvalidTokenHandlerBuffer: Original Gauge "invalid_token_handler_buffer" [hostname],
    /// Tokens that wait for their deletion.
    TokensWaiting: Ours Gauge "tokens_waiting" [],
    /// 1 while the safety valve keeps an app's tokens, else 0.
    ValveClosed: Ours Gauge "valve_closed" [platform, game],
    /// Receipts dropped unresolved, a bug of ours.
    ReceiptsLost: Ours Counter "receipts_lost" [topic],
    /// Offset maps that were not of this log or not readable.
    MapDropped: Ours Counter "map_dropped" [topic, reason],
    /// Offsets skipped because the log no longer had them.
    OffsetsOutOfRange: Ours Counter "offsets_out_of_range" [topic],
    /// Kafka clients that stood still although the brokers answered, and were replaced.
    ClientReplaced: Ours Counter "client_replaced" [],
    /// Commits that the broker refused.
    CommitFailed: Ours Counter "commit_failed" [],
    /// Messages lent and not yet resolved.
    InFlight: Ours Gauge "in_flight" [platform, game],
    /// Age of the oldest message in flight.
    InFlightOldestSeconds: Ours Gauge "in_flight_oldest_seconds" [],
    /// Topics that look like ours and are of other apps or platforms.
    IgnoredTopics: Ours Gauge "ignored_topics" [],
    /// Partitions that are ours and not read for want of room, or because their app or lane is paused, the most at once in the last second.
    PausedPartitions: Ours Gauge "paused_partitions" [],
    /// Partitions of which nothing more is read until stragglers have their outcome, because their map of resolved offsets is full.
    FullPartitions: Ours Gauge "full_partitions" [],
    /// Partitions that are ours and are read.
    AssignedPartitions: Ours Gauge "assigned_partitions" [],
    /// Partitions that are ours and not read yet, because no broker can tell where to begin.
    UnsettledPartitions: Ours Gauge "unsettled_partitions" [],
    /// Length of the map of resolved offsets in the last commit, characters of 4,096.
    MapBytes: Ours Gauge "map_bytes" [topic],
    /// By how many seconds the wall clock is ahead of the time that is gone by, or behind (less than zero), since it jumped; 0 while it is believed.
    ClockAheadSeconds: Ours Gauge "clock_ahead_seconds" [],
    /// Values dropped because there were too many different tags.
    SeriesDropped: Ours Counter "series_dropped" [],
}

impl Metric {
    /// The metric of this name.
    pub fn named(name: &str) -> Option<Metric> {
        Metric::ALL.iter().copied().find(|metric| metric.name() == name)
    }

    /// Whether the ledger has it by lane, or the queue's standing by topic, so that it need not be kept a second time.
    pub const fn is_in_ledger(self) -> bool {
        matches!(
            self,
            Metric::Sent
                | Metric::Ack
                | Metric::Failed
                | Metric::Latency
                | Metric::FirebaseLatency
                | Metric::Attempts
                | Metric::PossibleDuplicates
                | Metric::RateLimitReached
                | Metric::DuplicatedMessages
                | Metric::Expired
                | Metric::Released
                | Metric::Skipped
                | Metric::InFlight
                | Metric::ReceiptsLost
                | Metric::MapBytes
        )
    }

    /// Whether these are its tags, in any order.
    pub fn has_tags(self, tags: &[(&'static str, &str)]) -> bool {
        tags.len() == self.tags().len() && tags.iter().all(|(name, _)| self.tags().contains(name))
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
