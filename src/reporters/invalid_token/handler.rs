//! From one dead token to a batched DELETE and back to the receipt that waits for it.
//!
//! A token is judged by its app's valve, handed to one collecting task on the housekeeping runtime, deleted with others
//! of its table, and answered through a oneshot channel. Its waiter leaves after `invalidToken.timeout`; a token that
//! nobody waits for any more is not deleted, because its message was already told that it is deferred.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::valve::{Change, Judgement, Valve};
use super::{Deleter, Settings};
use crate::message::{Origin, Platform};
use crate::outcome::InvalidToken;
use crate::reporters::quick_hash::QuickHash;
use crate::reporters::stats::{Metric, Stats};
use crate::reporters::{Deletion, InvalidTokenHandler, StatsReporter};

mod worker;

use worker::{Item, Table, Worker};

/// Tokens between the senders and the collecting task. When full, tokens are deferred.
const QUEUE: usize = 10_000;
type Valves = HashMap<Platform, HashMap<Arc<str>, Arc<AppValve>, QuickHash>, QuickHash>;

struct AppValve {
    valve: Mutex<Valve>,
    changed: Notify,
}

/// The handler of dead tokens for any [`Deleter`].
pub struct Handler {
    worker: Arc<Worker>,
    valves: RwLock<Valves>,
    queue: RwLock<Option<mpsc::Sender<(Table, Item)>>>,
    tasks: TaskTracker,
    /// Tokens whose messages wait for their deletion.
    waiting: AtomicUsize,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handler").field("settings", &self.worker.settings).finish_non_exhaustive()
    }
}

impl Handler {
    /// Starts the collecting task on `runtime`; `at_once` statements run side by side, each tried again `retries` times.
    pub fn start(
        settings: Settings,
        at_once: usize,
        retries: u32,
        deleter: Arc<dyn Deleter>,
        runtime: &Handle,
        stats: Stats,
    ) -> Self {
        let hostname = gethostname::gethostname().to_string_lossy().into_owned();
        let at_once = at_once.max(1);
        let worker =
            Arc::new(Worker { settings, at_once, retries, deleter, health: Mutex::default(), hostname, stats });
        let (queue, items) = mpsc::channel(QUEUE);
        let tasks = TaskTracker::new();
        tasks.spawn_on(worker.clone().collect(items), runtime);
        tasks.close();
        let (valves, queue, waiting) = (RwLock::default(), RwLock::new(Some(queue)), AtomicUsize::new(0));
        Handler { worker, valves, queue, tasks, waiting }
    }

    /// Calls `act` with the valve of the message's app, made if it is new.
    fn with_valve<T>(&self, origin: &Origin, act: impl FnOnce(&Arc<AppValve>) -> T) -> T {
        {
            // Held by each message for an instant; the map itself changes once per app.
            let valves = self.valves.read();
            if let Some(valve) = valves.get(&origin.platform).and_then(|apps| apps.get(&origin.app)) {
                return act(valve);
            }
        }
        let settings = &self.worker.settings;
        let new = || {
            let valve = Mutex::new(Valve::new(settings.max_share, settings.min_answers));
            Arc::new(AppValve { valve, changed: Notify::new() })
        };
        act(self.valves.write().entry(origin.platform).or_default().entry(origin.app.clone()).or_insert_with(new))
    }

    /// Waits while the valve cannot say yet; `None` when it could not say in time.
    async fn judged(&self, origin: &Origin, deadline: Instant) -> Option<bool> {
        let app = self.with_valve(origin, Arc::clone);
        loop {
            let changed = app.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let judgement = app.valve.lock().judge(Instant::now().into_std());
            match judgement {
                Judgement::Delete => return Some(true),
                Judgement::Withhold => return Some(false),
                Judgement::Wait => timeout_at(deadline, changed).await.ok()?,
            }
        }
    }

    async fn deleted(&self, origin: &Origin, token: &InvalidToken, deadline: Instant) -> bool {
        if self.worker.is_away() {
            return false;
        }
        let (done, answer) = oneshot::channel();
        let item = ((origin.app.clone(), origin.platform), Item { token: token.clone(), done });
        let queued = self.queue.read().as_ref().is_some_and(|queue| queue.try_send(item).is_ok());
        self.waiting.fetch_add(1, Relaxed);
        let is_done = queued && matches!(timeout_at(deadline, answer).await, Ok(Ok(true)));
        self.waiting.fetch_sub(1, Relaxed);
        is_done
    }

    fn count(&self, origin: &Origin, metric: Metric) {
        self.worker.count(metric, &origin.app, origin.platform, 1);
    }

    fn report(&self, origin: &Origin, change: Change, share: f64) {
        let (app, platform) = (&*origin.app, origin.platform);
        let tags = [("platform", platform.0), ("game", app)];
        match change {
            Change::Closed => {
                let limit = self.worker.settings.max_share;
                tracing::error!(
                    alarm = true, app, %platform, share, limit,
                    "too many dead tokens: none of this app is deleted any more, pushes go on; check host (-p), topic and key"
                );
                self.worker.stats.gauge(Metric::ValveClosed, &tags, 1.0);
            }
            Change::Opened => {
                tracing::warn!(app, %platform, share, "the share of dead tokens is low again: they are deleted again");
                self.worker.stats.gauge(Metric::ValveClosed, &tags, 0.0);
            }
            Change::Cleared | Change::None => {}
        }
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
        let now = Instant::now().into_std();
        let (change, share) = self.with_valve(origin, |app| {
            let mut valve = app.valve.lock();
            let change = valve.observe(invalid, now);
            if change != Change::None {
                app.changed.notify_waiters();
            }
            (change, valve.share())
        });
        self.report(origin, change, share);
    }

    fn publish(&self) {
        self.worker.stats.gauge(Metric::TokensWaiting, &[], self.waiting.load(Relaxed) as f64);
        for (platform, apps) in &*self.valves.read() {
            for (app, valve) in apps {
                let closed = valve.valve.lock().is_closed();
                self.worker.stats.gauge(
                    Metric::ValveClosed,
                    &[("platform", platform.0), ("game", app)],
                    f64::from(u8::from(closed)),
                );
            }
        }
    }

    async fn close(&self, deadline: Duration) {
        drop(self.queue.write().take());
        if timeout(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!("dead tokens are left undeleted at the end: they are in the feedback records");
        }
        let _ = timeout(deadline, self.worker.deleter.close()).await;
    }
}

#[cfg(test)]
mod tests;
