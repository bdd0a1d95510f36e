//! Records by an idempotent Kafka producer: acknowledged by all in-sync replicas before a message's offset may move, never
//! ordered against each other, no key. Shared by the reporters whose records are waited for: feedback and dead letters.
//!
//! One producer for all topics of a reporter. Its delivery reports run on a thread of its own. A record is posted, and whoever
//! owes it is told on that thread, or it is waited for by a task; so is one that was posted and refused. While a record is
//! refused, this file alone decides:
//! try again (broker away, timed out, topic missing or forbidden, queue full), send it truncated (too large), build the
//! producer anew (fatal: librdkafka INTRODUCTION.md, "Fatal errors"; or it stands still: after a restart of the brokers an
//! idempotent producer has been seen to send nothing any more), or call it lost. A record that is tried again is
//! built afresh from its source, so that waiting costs no second copy. Sending it again after a timeout may write it
//! twice; consumers tell by the message's identity in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{Producer as _, PurgeConfig};
use tokio::sync::oneshot;

mod given;
mod life;
mod next;
mod producer;
mod settings;
mod state;
mod topics;

use given::Waiter;
use life::Life;
use next::Next;
pub(super) use settings::{Section, Settings, refuse};
use state::State;
use topics::Topics;

use super::stats::{Metric, Stats};
use super::{Backlog, FeedbackFate, Owed, RecordSource, StatsReporter};
use crate::config::ConfigError;
use crate::message::Origin;
use crate::proof::Finding;

/// What a reporter's records are, for the log, the statistics and the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// In words: `feedback`.
    pub(super) name: &'static str,
    /// Its keys.
    pub(super) section: Section,
    /// Counts records sent in their truncated form.
    pub(super) truncated: Metric,
    /// Counts records given up.
    pub(super) lost: Metric,
    /// Counts producers replaced.
    pub(super) rebuilt: Metric,
    /// What mends a missing topic besides creating it.
    pub(super) or_else: &'static str,
}

/// A refused record is tried again after a pause that doubles between these, so that an outage costs no CPU.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Beyond the producer's own time limit of a record, its report must have come; else the record is tried again.
const REPORT_GRACE: Duration = Duration::from_secs(15);
/// A fatal producer is replaced at most this often.
const REBUILD_PAUSE: Duration = Duration::from_millis(500);

/// A reporter's way to its topics.
pub(super) struct Records {
    kind: Kind,
    settings: Settings,
    /// Made when it is needed first, so that reading the configuration connects to nothing.
    life: RwLock<Option<Arc<Life>>>,
    state: Arc<State>,
    stats: Stats,
    waiting: AtomicU64,
    lost: AtomicU64,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("kind", &self.kind.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Counts a record as waiting for as long as it lives.
struct Waiting<'a>(&'a AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Records {
    /// For these settings. Connects to nothing yet.
    ///
    /// # Errors
    /// A client option that librdkafka does not know or take.
    pub(super) fn new(kind: Kind, settings: Settings, stats: Stats) -> Result<Self, ConfigError> {
        let state = Arc::new(State::new(kind.name, &settings.brokers, settings.give_up_after));
        producer::try_options(kind.name, &settings).map_err(|error| kind.section.option_error(&error))?;
        let life = RwLock::new(None);
        Ok(Records { kind, settings, life, state, stats, waiting: AtomicU64::new(0), lost: AtomicU64::new(0) })
    }

    /// Topics that are missing or may not be written, as of the last attempt.
    pub(super) fn refused_topics(&self) -> Vec<String> {
        self.state.refused_topics()
    }

    async fn try_on(&self, topic: &str, origin: &Origin, source: &dyn RecordSource) -> FeedbackFate {
        let mut truncated = false;
        let mut pause = PAUSE.0;
        loop {
            // It may have been refused before, when it was posted.
            self.replace_one_that_stands_still();
            let life = self.life();
            let refused = match &life {
                Ok(life) => self.once(life, topic, source, truncated).await,
                Err(_) => Err(None),
            };
            let refused = match refused {
                Ok(()) => return FeedbackFate::Acknowledged,
                Err(code) => code,
            };
            let fatal = life.as_ref().is_ok_and(|life| life.producer.client().fatal_error().is_some());
            match if fatal { Next::Rebuild } else { Next::after(refused) } {
                Next::Truncate if truncated => {
                    self.state.too_large(topic);
                    return self.lose(origin);
                }
                Next::Truncate => {
                    truncated = true;
                    self.stats.count(self.kind.truncated, &tags(origin), 1);
                    continue;
                }
                Next::WhenRoom => {
                    self.state.room(PAUSE.1).await;
                    continue;
                }
                Next::Rebuild => life.iter().for_each(|life| self.rebuild(life)),
                Next::AgainWithAlarm => self.state.topic_refused(topic, refused),
                Next::Again => self.state.unreachable(Some(topic), refused),
            }
            tokio::time::sleep(pause / 2 + pause.mul_f64(fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// The producer, made now when there is none yet.
    fn life(&self) -> KafkaResult<Arc<Life>> {
        if let Some(life) = &*self.life.read() {
            return Ok(Arc::clone(life));
        }
        let mut life = self.life.write();
        if let Some(life) = &*life {
            return Ok(Arc::clone(life)); // somebody was faster
        }
        let producer = producer::create(self.kind.name, &self.settings, self.state.clone())?;
        let made = Arc::new(Life { number: 0, since: Instant::now(), producer });
        *life = Some(Arc::clone(&made));
        Ok(made)
    }

    fn replace_one_that_stands_still(&self) {
        let life = self.life.read().clone();
        life.filter(|life| self.state.stands_still(life.since.elapsed())).iter().for_each(|life| self.rebuild(life));
    }

    /// One record to the broker and its report.
    async fn once(
        &self,
        life: &Life,
        topic: &str,
        source: &dyn RecordSource,
        truncated: bool,
    ) -> Result<(), Option<Code>> {
        let (told, report) = oneshot::channel();
        let (bytes, headers) = (source.record(truncated), source.headers(truncated));
        life.give(topic, &bytes, &headers, Waiter::Task(told)).map_err(|(code, _)| code)?;
        match tokio::time::timeout(self.settings.message_timeout() + REPORT_GRACE, report).await {
            Ok(Ok(report)) => report.map_err(|error| error.rdkafka_error_code()),
            // It does not come, or there will be none.
            Ok(Err(_)) | Err(_) => Err(None),
        }
    }

    /// Whether records may be posted: none is, where each is given up after its time.
    pub(super) fn may_post(&self) -> bool {
        self.settings.give_up_after.is_none()
    }

    /// One record to `topic`, without anybody's waiting.
    pub(super) fn post(&self, topic: &str, owed: Box<dyn Owed>) {
        let Ok(life) = self.life() else { return owed.refused() };
        let (bytes, headers) = (owed.record(false), owed.headers(false));
        if let Err((_, Some(waiter))) = life.give(topic, &bytes, &headers, Waiter::Post(owed)) {
            waiter.no_report();
        }
    }

    fn lose(&self, origin: &Origin) -> FeedbackFate {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.stats.count(self.kind.lost, &tags(origin), 1);
        FeedbackFate::Lost
    }

    /// Replaces the producer that `dead` is, once for all records that found it dead.
    fn rebuild(&self, dead: &Life) {
        let mut life = self.life.write();
        let same = life.as_ref().is_some_and(|life| life.number == dead.number);
        if !same || dead.since.elapsed() < REBUILD_PAUSE {
            return;
        }
        match producer::create(self.kind.name, &self.settings, self.state.clone()) {
            Ok(producer) => {
                let reason = dead.producer.client().fatal_error().map(|(_, text)| text);
                self.state.rebuilt(reason.as_deref());
                let new = Arc::new(Life { number: dead.number + 1, since: Instant::now(), producer });
                let old = life.replace(new);
                self.stats.count(self.kind.rebuilt, &[], 1);
                // It may wait for its reports: not on a sender's thread. Whoever waits for one hears now that there is none.
                let end = move || {
                    if let Some(old) = old {
                        old.producer.purge(PurgeConfig::default().queue().inflight());
                    }
                };
                if let Err(error) = std::thread::Builder::new().name("producer-end".into()).spawn(end) {
                    tracing::warn!(%error, "no thread to end the failed producer on: ended here");
                }
            }
            Err(error) => self.state.not_rebuilt(&error),
        }
    }

    /// One record to `topic`; completes when it is acknowledged, or lost by configuration.
    pub(super) async fn send(&self, topic: &str, origin: &Origin, source: &dyn RecordSource) -> FeedbackFate {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        match self.settings.give_up_after {
            None => self.try_on(topic, origin, source).await,
            Some(limit) => match tokio::time::timeout(limit, self.try_on(topic, origin, source)).await {
                Ok(fate) => fate,
                Err(_) => self.lose(origin),
            },
        }
    }

    /// Whether these topics can be written; see [`super::FeedbackReporter::inspect`].
    pub(super) async fn inspect(&self, names: Vec<String>, deadline: Duration) -> Vec<Finding> {
        let (kind, subject) = (self.kind, Topics::subject(&self.kind));
        let life = match self.life() {
            Ok(life) => life,
            Err(error) => return vec![Finding::wrong(&subject, kind.section.option_error(&error).to_string())],
        };
        let (topics, state) = (Topics { kind, brokers: self.settings.brokers.clone(), names }, self.state.clone());
        let look = move || topics.inspect(life.producer.client(), deadline, || state.last_words());
        let looked = tokio::task::spawn_blocking(look).await;
        looked.unwrap_or_else(|error| vec![Finding::away(&subject, format!("the look at it failed: {error}"))])
    }

    /// Waits until all records given so far are acknowledged, at most `deadline`; whether they are.
    pub(super) async fn flush(&self, deadline: Duration) -> bool {
        let Some(life) = self.life.read().clone() else { return true };
        let flushed = tokio::task::spawn_blocking(move || life.producer.flush(deadline));
        let flushed = matches!(flushed.await, Ok(Ok(())));
        if !flushed {
            let (records, waiting) = (self.kind.name, self.backlog().waiting);
            tracing::warn!(records, waiting, "records are left unacknowledged: their messages will come again");
        }
        flushed
    }

    /// What is not acknowledged.
    pub(super) fn backlog(&self) -> Backlog {
        let posted = self.life.read().as_ref().map_or(0, |life| life.producer.given().posted());
        let waiting = self.waiting.load(Ordering::Relaxed) + posted;
        // A broker that nobody waits for stalls nothing.
        let stalled_for = if waiting == 0 { Duration::ZERO } else { self.state.stalled_for() };
        let refused_topics = self.state.refused_topics().len();
        Backlog { waiting, lost: self.lost.load(Ordering::Relaxed), stalled_for, refused_topics }
    }
}

fn tags(origin: &Origin) -> [(&'static str, &str); 2] {
    [("platform", origin.platform.0), ("game", &origin.app)]
}
