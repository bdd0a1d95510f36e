//! From one dead token to a batched DELETE and back to the receipt that waits for it.
//!
//! A token is judged by its app's valve, handed to one collecting task on the housekeeping runtime, deleted with others
//! of its table, and answered through a oneshot channel. Its waiter leaves after `invalidToken.timeout`; a token that
//! nobody waits for any more is not deleted, because its message was already told that it is deferred.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::valve::Judgement;
use super::{Deleter, Settings};
use crate::control::Control;
use crate::message::{Origin, Platform};
use crate::outcome::InvalidToken;
use crate::proof::Proof;
use crate::reporters::stats::{Metric, Stats};
use crate::reporters::{Deletion, InvalidTokenHandler, StatsReporter as _};

mod stuck;
mod valves;
mod worker;

use valves::Valves;
use worker::{Item, Table, Worker};

/// Tokens between the senders and the collecting task. When full, tokens are deferred.
const QUEUE: usize = 10_000;

/// The handler of dead tokens for any [`Deleter`].
pub struct Handler {
    worker: Arc<Worker>,
    valves: Arc<Valves>,
    queue: RwLock<Option<mpsc::Sender<(Table, Item)>>>,
    tasks: TaskTracker,
    /// Ends the one that follows the entries; the other ends with the queue.
    following: DropGuard,
    /// Tokens whose messages wait for their deletion.
    waiting: AtomicUsize,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handler").field("settings", &self.worker.settings).finish_non_exhaustive()
    }
}

impl Handler {
    /// Starts the collecting task on `runtime`; `at_once` statements run side by side.
    pub fn start(
        settings: Settings,
        at_once: usize,
        deleter: Arc<dyn Deleter>,
        runtime: &Handle,
        stats: Stats,
        control: &Control,
    ) -> Self {
        let hostname = gethostname::gethostname().to_string_lossy().into_owned();
        let (max_share, min_answers) = (settings.max_share, settings.min_answers);
        let valves = Valves::new(max_share, min_answers, control.clone(), hostname.clone(), stats.clone());
        let (valves, stop) = (Arc::new(valves), CancellationToken::new());
        let at_once = at_once.max(1);
        let worker = Arc::new(Worker { settings, at_once, deleter, health: Mutex::default(), hostname, stats });
        let (queue, items) = mpsc::channel(QUEUE);
        let tasks = TaskTracker::new();
        tasks.spawn_on(worker.clone().collect(items), runtime);
        tasks.spawn_on(valves.clone().follow(stop.clone()), runtime);
        tasks.close();
        Handler {
            worker,
            valves,
            queue: RwLock::new(Some(queue)),
            tasks,
            following: stop.drop_guard(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits while the valve cannot say yet; `None` when it could not say in time.
    async fn judged(&self, origin: &Origin, deadline: Instant) -> Option<bool> {
        let app = self.valves.with(origin, Arc::clone);
        loop {
            let changed = app.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match app.judge() {
                Judgement::Delete => return Some(true),
                Judgement::Withhold => return Some(false),
                Judgement::Wait => timeout_at(deadline, changed).await.ok()?,
            }
        }
    }

    async fn deleted(&self, origin: &Origin, token: &InvalidToken, deadline: Instant) -> bool {
        let table = (origin.app.clone(), origin.platform);
        if self.worker.defers(&table) {
            return false;
        }
        let (done, answer) = oneshot::channel();
        let item = Item { token: token.clone(), done };
        let queued = self.queue.read().as_ref().is_some_and(|queue| queue.try_send((table, item)).is_ok());
        self.waiting.fetch_add(1, Relaxed);
        let is_done = queued && matches!(timeout_at(deadline, answer).await, Ok(Ok(true)));
        self.waiting.fetch_sub(1, Relaxed);
        is_done
    }

    fn count(&self, origin: &Origin, metric: Metric) {
        self.worker.count(metric, &origin.app, origin.platform, 1);
    }
}

#[async_trait]
impl InvalidTokenHandler for Handler {
    async fn handle_token(&self, origin: &Origin, token: &InvalidToken) -> Deletion {
        let deadline = Instant::now() + self.worker.settings.timeout;
        let deletion = match self.judged(origin, deadline).await {
            Some(false) => Deletion::Withheld,
            Some(true) if self.deleted(origin, token, deadline).await => Deletion::Done,
            Some(true) | None => Deletion::Deferred,
        };
        match deletion {
            Deletion::Done => {}
            Deletion::Deferred => self.count(origin, Metric::TokensDeleteDeferred),
            Deletion::Withheld => self.count(origin, Metric::TokensDeleteWithheld),
        }
        deletion
    }

    fn observe(&self, origin: &Origin, invalid: bool) {
        self.valves.observe(origin, invalid);
    }

    fn publish(&self) {
        self.worker.stats.gauge(Metric::TokensWaiting, &[], self.waiting.load(Relaxed) as f64);
        self.valves.publish();
    }

    fn proofs(&self, apps: &[(Arc<str>, Platform)]) -> Vec<Proof> {
        self.worker.deleter.proofs(apps)
    }

    async fn close(&self, deadline: Duration) {
        drop(self.queue.write().take());
        self.following.token().cancel();
        let until = Instant::now() + deadline;
        let deletions = async {
            if timeout_at(until, self.tasks.wait()).await.is_err() {
                tracing::warn!("dead tokens are left undeleted at the end: they are in the feedback records");
            }
            let _ = timeout_at(until, self.worker.deleter.close()).await;
        };
        let (is_written, ()) = tokio::join!(self.valves.written(deadline), deletions);
        if !is_written {
            tracing::warn!("the state of a valve could not be kept: the control topic did not acknowledge it");
        }
    }
}

#[cfg(test)]
mod tests;
