//! From one dead token to a batched DELETE and back to the receipt that waits for it.
//!
//! A token is judged by its app's valve, handed to one collecting task on the housekeeping runtime, deleted with others
//! of its table, and answered through a oneshot channel. Its waiter leaves after `invalidToken.timeout`; a token that
//! nobody waits for any more is not deleted, because its message was already told that it is deferred.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::batch::Batches;
use super::valve::{Change, Judgement, Valve};
use super::{DeleteError, Deleter, Settings};
use crate::message::{Origin, Platform};
use crate::outcome::InvalidToken;
use crate::reporters::stats::{Metric, Stats};
use crate::reporters::{Deletion, InvalidTokenHandler, StatsReporter};

/// Tokens between the senders and the collecting task. When full, tokens are deferred.
const QUEUE: usize = 10_000;
/// First pause before a statement is tried again; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// After the database was away, tokens are deferred at once for this long (doubling), then it is tried again.
const AWAY_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

type Table = (Arc<str>, Platform);

struct Item {
    token: InvalidToken,
    done: oneshot::Sender<bool>,
}

struct AppValve {
    valve: Mutex<Valve>,
    changed: Notify,
}

/// Whether the database serves, so that an outage is logged once and costs no message its five seconds.
#[derive(Default)]
struct Health {
    away_until: Option<Instant>,
    pause: Duration,
    /// Tables that were refused, logged once each.
    refused: Vec<Table>,
}

/// The collecting task's side.
struct Worker {
    settings: Settings,
    at_once: usize,
    retries: u32,
    deleter: Arc<dyn Deleter>,
    health: Mutex<Health>,
    hostname: String,
    stats: Stats,
}

/// The handler of dead tokens for any [`Deleter`].
pub struct Handler {
    worker: Arc<Worker>,
    valves: RwLock<HashMap<Platform, HashMap<Arc<str>, Arc<AppValve>>>>,
    queue: RwLock<Option<mpsc::Sender<(Table, Item)>>>,
    tasks: TaskTracker,
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
        Handler { worker, valves: RwLock::default(), queue: RwLock::new(Some(queue)), tasks }
    }

    fn valve(&self, origin: &Origin) -> Arc<AppValve> {
        if let Some(valve) = self.valves.read().get(&origin.platform).and_then(|apps| apps.get(&origin.app)) {
            return valve.clone();
        }
        let settings = &self.worker.settings;
        let new = || {
            let valve = Mutex::new(Valve::new(settings.max_share, settings.min_answers));
            Arc::new(AppValve { valve, changed: Notify::new() })
        };
        self.valves.write().entry(origin.platform).or_default().entry(origin.app.clone()).or_insert_with(new).clone()
    }

    /// Waits while the valve cannot say yet; `None` when it could not say in time.
    async fn judged(&self, origin: &Origin, deadline: Instant) -> Option<bool> {
        let app = self.valve(origin);
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
        queued && matches!(timeout_at(deadline, answer).await, Ok(Ok(true)))
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
                    app, %platform, share, limit,
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
        let app = self.valve(origin);
        let (change, share) = {
            let mut valve = app.valve.lock();
            (valve.observe(invalid, Instant::now().into_std()), valve.share())
        };
        if change != Change::None {
            app.changed.notify_waiters();
            self.report(origin, change, share);
        }
    }

    fn publish(&self) {
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

impl Worker {
    /// The collecting task: batches by size and time, `at_once` statements side by side.
    async fn collect(self: Arc<Self>, mut items: mpsc::Receiver<(Table, Item)>) {
        let mut batches = Batches::new(self.settings.batch_size, self.settings.batch_interval);
        let mut running = JoinSet::new();
        loop {
            let free = running.len() < self.at_once;
            let due = batches.due().map(Instant::from_std);
            tokio::select! {
                item = items.recv(), if free => match item {
                    Some((table, item)) => {
                        if let Some((table, full)) = batches.add(table, item, Instant::now().into_std()) {
                            running.spawn(self.clone().run(table, full));
                        }
                    }
                    None => break,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if free && due.is_some() => {
                    for (table, batch) in batches.take_due(Instant::now().into_std()) {
                        running.spawn(self.clone().run(table, batch));
                    }
                }
                Some(_) = running.join_next() => {}
            }
        }
        for (table, batch) in batches.take_all() {
            running.spawn(self.clone().run(table, batch));
        }
        while running.join_next().await.is_some() {}
    }

    /// One batch to the end: deleted, or given up.
    async fn run(self: Arc<Self>, (app, platform): Table, items: Vec<Item>) {
        let (tokens, waiters) = wanted(items);
        if tokens.is_empty() {
            return;
        }
        let limit = self.settings.timeout;
        let result = timeout(limit, self.tried(&app, platform, &tokens))
            .await
            .unwrap_or_else(|_| Err(DeleteError::Away(format!("no answer within {} ms", limit.as_millis()))));
        match &result {
            Ok(deleted) => {
                self.count(Metric::TokensDeleteSuccess, &app, platform, deleted.rows);
                self.count(Metric::TokensDeleteNonexistent, &app, platform, deleted.nonexistent);
                self.note_well(&(app, platform));
            }
            Err(error) => {
                self.count(Metric::TokensDeleteError, &app, platform, tokens.len() as u64);
                self.note_error((app, platform), error);
            }
        }
        for waiter in waiters {
            // Its message may have stopped waiting meanwhile.
            let _ = waiter.send(result.is_ok());
        }
    }

    async fn tried(
        &self,
        app: &str,
        platform: Platform,
        tokens: &[InvalidToken],
    ) -> Result<super::Deleted, DeleteError> {
        let mut pause = RETRY_PAUSE;
        let mut left = self.retries;
        loop {
            match self.deleter.delete(app, platform, tokens).await {
                Err(DeleteError::Away(_) | DeleteError::Conflict(_)) if left > 0 => {
                    left -= 1;
                    sleep(pause).await;
                    pause *= 2;
                }
                result => return result,
            }
        }
    }

    fn count(&self, metric: Metric, app: &str, platform: Platform, n: u64) {
        if n > 0 {
            self.stats.count(metric, &[("hostname", &self.hostname), ("game", app), ("platform", platform.0)], n);
        }
    }

    fn is_away(&self) -> bool {
        self.health.lock().away_until.is_some_and(|until| Instant::now() < until)
    }

    fn note_well(&self, table: &Table) {
        let mut health = self.health.lock();
        health.pause = Duration::ZERO;
        if health.away_until.take().is_some() {
            tracing::info!("the database of tokens serves again");
        }
        if let Some(place) = health.refused.iter().position(|refused| refused == table) {
            health.refused.swap_remove(place);
            tracing::info!(app = &*table.0, platform = %table.1, "dead tokens are deleted again");
        }
    }

    fn note_error(&self, table: Table, error: &DeleteError) {
        let mut health = self.health.lock();
        match error {
            DeleteError::Away(_) => {
                health.pause = (health.pause * 2).clamp(AWAY_PAUSE.0, AWAY_PAUSE.1);
                let until = Instant::now() + health.pause;
                if health.away_until.replace(until).is_none() {
                    tracing::warn!(%error, "dead tokens cannot be deleted: they are left to the feedback records, pushes go on");
                }
            }
            DeleteError::Conflict(_) | DeleteError::Refused(_) => {
                if !health.refused.contains(&table) {
                    let (app, platform) = (&*table.0, table.1);
                    tracing::error!(app, %platform, %error, "dead tokens of this app cannot be deleted: they are left to the feedback records");
                    health.refused.push(table);
                }
            }
        }
    }
}

/// The tokens that somebody still waits for, sorted (statements that lock rows in one order do not deadlock) and each
/// once: the least cautious of doubles, the one without a time or with the latest, stands for all.
fn wanted(items: Vec<Item>) -> (Vec<InvalidToken>, Vec<oneshot::Sender<bool>>) {
    let items = items.into_iter().filter(|item| !item.done.is_closed());
    let (mut tokens, waiters): (Vec<_>, Vec<_>) = items.map(|item| (item.token, item.done)).unzip();
    let time = |token: &InvalidToken| token.unregistered_at_ms.unwrap_or(i64::MAX);
    tokens.sort_by(|a, b| a.token.cmp(&b.token).then_with(|| time(b).cmp(&time(a))));
    tokens.dedup_by(|later, first| later.token == first.token);
    (tokens, waiters)
}

#[cfg(test)]
mod tests;
