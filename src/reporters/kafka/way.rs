//! A way to the broker: a producer that is made when it is needed first, and anew when it is dead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{Producer as _, PurgeConfig};
use tokio::sync::oneshot;

use super::given::Waiter;
use super::life::Life;
use super::state::State;
use super::{Kind, REPORT_GRACE, Settings, producer};
use crate::reporters::stats::Stats;
use crate::reporters::{RecordSource, StatsReporter as _};

/// A dead producer is replaced at most this often.
const REBUILD_PAUSE: Duration = Duration::from_millis(500);

/// One way of a reporter's.
pub(super) struct Way {
    kind: Kind,
    settings: Settings,
    state: Arc<State>,
    stats: Stats,
    /// Made when it is needed first, so that reading the configuration connects to nothing.
    life: RwLock<Option<Arc<Life>>>,
}

impl Way {
    /// With these settings. Connects to nothing yet.
    pub(super) fn new(kind: Kind, settings: Settings, state: Arc<State>, stats: Stats) -> Self {
        Way { kind, settings, state, stats, life: RwLock::new(None) }
    }

    /// The producer, made now when there is none yet.
    pub(super) fn life(&self) -> KafkaResult<Arc<Life>> {
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

    /// One record and its report, built afresh.
    pub(super) async fn once(
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

    /// Replaces a producer that nothing was acknowledged of for too long.
    pub(super) fn replace_one_that_stands_still(&self) {
        let life = self.life.read().clone();
        life.filter(|life| self.state.stands_still(life.since.elapsed())).iter().for_each(|life| self.rebuild(life));
    }

    /// Replaces the producer that `dead` is, once for all records that found it dead.
    pub(super) fn rebuild(&self, dead: &Life) {
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

    /// How many records are posted and not reported on.
    pub(super) fn posted(&self) -> u64 {
        self.life.read().as_ref().map_or(0, |life| life.producer.given().posted())
    }

    /// Waits until all records given so far are acknowledged, at most `deadline`; whether they are. On a thread of its own: those
    /// that the runtime lends to what blocks may all be waiting for a name that nobody resolves.
    pub(super) async fn flush(&self, deadline: Duration) -> bool {
        let Some(life) = self.life.read().clone() else { return true };
        let (told, flushed) = oneshot::channel();
        let flush = move || told.send(life.producer.flush(deadline).is_ok());
        match std::thread::Builder::new().name("producer-flush".into()).spawn(flush) {
            Ok(_) => flushed.await.unwrap_or(false),
            Err(error) => {
                tracing::warn!(%error, "no thread to flush a producer on");
                false
            }
        }
    }
}
