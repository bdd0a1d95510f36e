//! Feedback records by an idempotent Kafka producer: acknowledged by all in-sync replicas before a message's offset may
//! move, never ordered against each other, no key, topic `push-<app>-<platform>-feedbacks`.
//!
//! One producer for all topics. Its delivery reports run on a thread of its own and end in a oneshot channel per record,
//! so that any number of records can be waited for at once. While a record is refused, this file alone decides: try
//! again (broker away, timed out, topic missing or forbidden, queue full), send it truncated (too large), build the
//! producer anew (fatal: librdkafka INTRODUCTION.md, "Fatal errors"), or call it lost. A record that is tried again is
//! built afresh from its source, so that waiting costs no second copy. Sending it again after a timeout may write it
//! twice; consumers tell by `metadata.pusherId`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::RwLock;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseRecord, Producer as _};
use tokio::sync::oneshot;

mod producer;
mod settings;
mod state;

use producer::{Producer, Report};
pub use settings::{IGNORED, KEYS, Settings};
use state::State;

use super::topic_of;
use crate::config::ConfigError;
use crate::message::{Origin, Platform};
use crate::reporters::stats::{Metric, Stats};
use crate::reporters::{Backlog, CheckError, FeedbackFate, FeedbackReporter, RecordSource, StatsReporter};

/// A refused record is tried again after a pause that doubles between these, so that an outage costs no CPU.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Beyond the producer's own time limit of a record, its report must have come; else the record is tried again.
const REPORT_GRACE: Duration = Duration::from_secs(15);
/// A fatal producer is replaced at most this often.
const REBUILD_PAUSE: Duration = Duration::from_millis(500);

/// What to do with a record that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The same again after a pause.
    Again,
    /// The same again when the producer's queue has room.
    WhenRoom,
    /// The topic is missing or forbidden: the operator must act, the same again after a pause.
    AgainWithAlarm,
    /// Smaller.
    Truncate,
    /// By another producer.
    Rebuild,
}

fn next(code: Option<Code>) -> Next {
    match code {
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => Next::Truncate,
        Some(Code::QueueFull) => Next::WhenRoom,
        Some(Code::Fatal | Code::PurgeQueue | Code::PurgeInflight | Code::Fenced) => Next::Rebuild,
        Some(
            Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => Next::AgainWithAlarm,
        _ => Next::Again,
    }
}

/// One life of the producer; a fatal error ends it.
struct Life {
    number: u64,
    since: Instant,
    producer: Producer,
}

/// The reporter.
pub struct KafkaFeedback {
    settings: Settings,
    life: RwLock<Arc<Life>>,
    state: Arc<State>,
    stats: Stats,
    waiting: AtomicU64,
    lost: AtomicU64,
}

impl std::fmt::Debug for KafkaFeedback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaFeedback").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Counts a record as waiting for as long as it lives.
struct Waiting<'a>(&'a AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl KafkaFeedback {
    /// A producer for these settings. The broker need not be there.
    ///
    /// # Errors
    /// A client option that librdkafka does not know or take.
    pub fn new(settings: Settings, stats: Stats) -> Result<Self, ConfigError> {
        let state = Arc::new(State::new(&settings.brokers, settings.give_up_after));
        let producer = producer::create(&settings, state.clone()).map_err(|error| settings::option_error(&error))?;
        let life = RwLock::new(Arc::new(Life { number: 0, since: Instant::now(), producer }));
        Ok(KafkaFeedback { settings, life, state, stats, waiting: AtomicU64::new(0), lost: AtomicU64::new(0) })
    }

    /// Feedback topics that are missing or may not be written, as of the last attempt.
    pub fn refused_topics(&self) -> Vec<String> {
        self.state.refused_topics()
    }

    async fn send(&self, topic: &str, origin: &Origin, source: &dyn RecordSource) -> FeedbackFate {
        let mut truncated = false;
        let mut pause = PAUSE.0;
        loop {
            let life = self.life.read().clone();
            let refused = match self.once(&life, topic, source, truncated).await {
                Ok(()) => {
                    self.state.acknowledged(topic);
                    return FeedbackFate::Acknowledged;
                }
                Err(code) => code,
            };
            let fatal = life.producer.client().fatal_error().is_some();
            match if fatal { Next::Rebuild } else { next(refused) } {
                Next::Truncate if truncated => {
                    self.state.too_large(topic);
                    return self.lose(origin);
                }
                Next::Truncate => {
                    truncated = true;
                    self.stats.count(Metric::FeedbackTruncated, &tags(origin), 1);
                    continue;
                }
                Next::WhenRoom => {
                    self.state.room(PAUSE.1).await;
                    continue;
                }
                Next::Rebuild => self.rebuild(&life),
                Next::AgainWithAlarm => self.state.topic_refused(topic, refused),
                Next::Again => self.state.unreachable(refused),
            }
            tokio::time::sleep(pause / 2 + pause.mul_f64(fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// One record to the broker and its report.
    async fn once(
        &self,
        life: &Life,
        topic: &str,
        source: &dyn RecordSource,
        truncated: bool,
    ) -> Result<(), Option<Code>> {
        let reported = {
            let bytes = source.record(truncated);
            let (report, reported) = oneshot::channel::<Report>();
            let record: BaseRecord<'_, (), Vec<u8>, _> =
                BaseRecord::with_opaque_to(topic, Box::new(report)).payload(&bytes);
            life.producer.send(record).map_err(|(error, _)| error.rdkafka_error_code())?;
            reported
        };
        match tokio::time::timeout(self.settings.message_timeout() + REPORT_GRACE, reported).await {
            Ok(Ok(report)) => report.map_err(|error| error.rdkafka_error_code()),
            // The report's channel was dropped with its producer, or the report never came.
            Ok(Err(_)) | Err(_) => Err(None),
        }
    }

    fn lose(&self, origin: &Origin) -> FeedbackFate {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.stats.count(Metric::FeedbackLost, &tags(origin), 1);
        FeedbackFate::Lost
    }

    /// Replaces the producer that `dead` is, once for all records that found it dead.
    fn rebuild(&self, dead: &Life) {
        let mut life = self.life.write();
        if life.number != dead.number || dead.since.elapsed() < REBUILD_PAUSE {
            return;
        }
        match producer::create(&self.settings, self.state.clone()) {
            Ok(producer) => {
                let reason = dead.producer.client().fatal_error().map(|(_, text)| text).unwrap_or_default();
                tracing::error!(
                    reason,
                    "the feedback producer failed for good and was built anew: its records are sent again"
                );
                let new = Arc::new(Life { number: dead.number + 1, since: Instant::now(), producer });
                let old = std::mem::replace(&mut *life, new);
                self.stats.count(Metric::FeedbackProducerRebuilt, &[], 1);
                // Its drop purges, waits for reports and joins a thread: not on a sender's thread.
                if let Err(error) = std::thread::Builder::new().name("feedback-end".into()).spawn(move || drop(old)) {
                    tracing::warn!(%error, "no thread to end the failed feedback producer on: ended here");
                }
            }
            Err(error) => tracing::error!(%error, "the feedback producer cannot be built anew, trying again"),
        }
    }
}

fn tags(origin: &Origin) -> [(&'static str, &str); 2] {
    [("platform", origin.platform.0), ("game", &origin.app)]
}

#[async_trait]
impl FeedbackReporter for KafkaFeedback {
    async fn send_feedback(&self, origin: &Origin, record: &dyn RecordSource) -> FeedbackFate {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let topic = topic_of(origin);
        match self.settings.give_up_after {
            None => self.send(&topic, origin, record).await,
            Some(limit) => match tokio::time::timeout(limit, self.send(&topic, origin, record)).await {
                Ok(fate) => fate,
                Err(_) => self.lose(origin),
            },
        }
    }

    async fn check(&self, apps: &[(Arc<str>, Platform)], deadline: Duration) -> Result<(), CheckError> {
        let life = self.life.read().clone();
        let topics = apps.iter().map(|(app, platform)| super::topic(app, *platform)).collect::<Vec<_>>();
        let brokers = self.settings.brokers.clone();
        let checked = tokio::task::spawn_blocking(move || producer::check(&life.producer, &topics, &brokers, deadline));
        checked
            .await
            .unwrap_or_else(|error| Err(CheckError(format!("the check of the feedback topics failed: {error}"))))
    }

    async fn flush(&self, deadline: Duration) -> bool {
        let life = self.life.read().clone();
        let flushed = tokio::task::spawn_blocking(move || life.producer.flush(deadline));
        let flushed = matches!(flushed.await, Ok(Ok(())));
        if !flushed {
            let waiting = self.waiting.load(Ordering::Relaxed);
            tracing::warn!(waiting, "feedback records are left unacknowledged: their messages will come again");
        }
        flushed
    }

    fn backlog(&self) -> Backlog {
        let waiting = self.waiting.load(Ordering::Relaxed);
        // A broker that nobody waits for stalls nothing.
        let stalled_for = if waiting == 0 { Duration::ZERO } else { self.state.stalled_for() };
        let refused_topics = self.state.refused_topics().len();
        Backlog { waiting, lost: self.lost.load(Ordering::Relaxed), stalled_for, refused_topics }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_answer() {
        assert_eq!(next(Some(Code::MessageSizeTooLarge)), Next::Truncate);
        assert_eq!(next(Some(Code::QueueFull)), Next::WhenRoom);
        assert_eq!(next(Some(Code::TopicAuthorizationFailed)), Next::AgainWithAlarm);
        assert_eq!(next(Some(Code::UnknownTopic)), Next::AgainWithAlarm);
        assert_eq!(next(Some(Code::PurgeQueue)), Next::Rebuild);
        assert_eq!(next(Some(Code::MessageTimedOut)), Next::Again);
        assert_eq!(next(None), Next::Again);
    }
}
