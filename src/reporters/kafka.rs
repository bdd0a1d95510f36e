//! Records by an idempotent Kafka producer: acknowledged by all in-sync replicas before a message's offset may move, never
//! ordered against each other, no key. Shared by the reporters whose records are waited for: feedback and dead letters.
//!
//! One producer for all topics of a reporter. Its delivery reports run on a thread of its own. A record is posted, and whoever
//! owes it is told on that thread, or it is waited for by a task; so is one that was posted and refused. While a record is
//! refused, this file alone decides:
//! try again (broker away, timed out, topic missing or forbidden, queue full), send it alone and then truncated (too large:
//! a topic that takes less than a batch refuses all records of it), build the producer anew (fatal: librdkafka
//! INTRODUCTION.md, "Fatal errors"; or it stands still: after a restart of the brokers an idempotent producer has been seen
//! to send nothing any more), or call it lost. A record that is tried again is
//! built afresh from its source, so that waiting costs no second copy. Sending it again after a timeout may write it
//! twice; consumers tell by the message's identity in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::producer::Producer as _;

mod given;
mod life;
mod next;
mod producer;
mod settings;
mod state;
mod topics;
mod way;

use given::Waiter;
use next::{Form, Next};
pub(super) use settings::{Section, Settings, refuse};
use state::State;
use topics::Topics;
use way::Way;

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

/// A reporter's way to its topics.
pub(super) struct Records {
    kind: Kind,
    settings: Settings,
    /// In batches.
    together: Way,
    /// One by one, for what was too large in a batch.
    alone: Way,
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
        let way = |settings| Way::new(kind, settings, state.clone(), stats.clone());
        let (together, alone) = (way(settings.clone()), way(settings.one_by_one()));
        let [waiting, lost] = [0; 2].map(AtomicU64::new);
        Ok(Records { kind, settings, together, alone, state, stats, waiting, lost })
    }

    /// Topics that are missing or may not be written, as of the last attempt.
    pub(super) fn refused_topics(&self) -> Vec<String> {
        self.state.refused_topics()
    }

    async fn try_on(&self, topic: &str, origin: &Origin, source: &dyn RecordSource) -> FeedbackFate {
        let mut form = Form::Together;
        let mut pause = PAUSE.0;
        loop {
            let way = if form == Form::Together { &self.together } else { &self.alone };
            // It may have been refused before, when it was posted.
            way.replace_one_that_stands_still();
            let life = way.life();
            let refused = match &life {
                Ok(life) => way.once(life, topic, source, form == Form::Truncated).await,
                Err(_) => Err(None),
            };
            let refused = match refused {
                Ok(()) if form == Form::Alone => {
                    self.state.too_large_together(topic);
                    return FeedbackFate::Acknowledged;
                }
                Ok(()) => return FeedbackFate::Acknowledged,
                Err(code) => code,
            };
            let fatal = life.as_ref().is_ok_and(|life| life.producer.client().fatal_error().is_some());
            match if fatal { Next::Rebuild } else { Next::after(refused) } {
                Next::Smaller => {
                    let Some(smaller) = form.smaller() else {
                        self.state.too_large(topic);
                        return self.lose(origin);
                    };
                    if smaller == Form::Truncated {
                        self.stats.count(self.kind.truncated, &tags(origin), 1);
                    }
                    form = smaller;
                    continue;
                }
                Next::WhenRoom => {
                    self.state.room(PAUSE.1).await;
                    continue;
                }
                Next::Rebuild => life.iter().for_each(|life| way.rebuild(life)),
                Next::AgainWithAlarm => self.state.topic_refused(topic, refused),
                Next::Again => self.state.unreachable(Some(topic), refused),
            }
            tokio::time::sleep(pause / 2 + pause.mul_f64(fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Whether records may be posted: none is, where each is given up after its time.
    pub(super) fn may_post(&self) -> bool {
        self.settings.give_up_after.is_none()
    }

    /// One record to `topic`, without anybody's waiting.
    pub(super) fn post(&self, topic: &str, owed: Box<dyn Owed>) {
        let Ok(life) = self.together.life() else { return owed.refused() };
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
        let life = match self.together.life() {
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
        let (together, alone) = tokio::join!(self.together.flush(deadline), self.alone.flush(deadline));
        let flushed = together && alone;
        if !flushed {
            let (records, waiting) = (self.kind.name, self.backlog().waiting);
            tracing::warn!(records, waiting, "records are left unacknowledged: their messages will come again");
        }
        flushed
    }

    /// What is not acknowledged.
    pub(super) fn backlog(&self) -> Backlog {
        let waiting = self.waiting.load(Ordering::Relaxed) + self.together.posted();
        // A broker that nobody waits for stalls nothing.
        let stalled_for = if waiting == 0 { Duration::ZERO } else { self.state.stalled_for() };
        let refused_topics = self.state.refused_topics().len();
        Backlog { waiting, lost: self.lost.load(Ordering::Relaxed), stalled_for, refused_topics }
    }
}

fn tags(origin: &Origin) -> [(&'static str, &str); 2] {
    [("platform", origin.platform.0), ("game", &origin.app)]
}
