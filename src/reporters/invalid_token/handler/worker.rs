//! The collecting task: batches by size and time, statements side by side, tried again, and what is known of the database.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::batch::Batches;
use super::super::{DeleteError, Deleted, Deleter, Settings, sorted_once};
use crate::message::Platform;
use crate::outcome::InvalidToken;
use crate::reporters::StatsReporter;
use crate::reporters::stats::{Metric, Stats};

/// First pause before a statement is tried again; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// After the database was away, tokens are deferred at once for this long (doubling), then it is tried again.
pub(super) const AWAY_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

pub(super) type Table = (Arc<str>, Platform);

/// A token and who waits for it.
pub(super) struct Item {
    pub(super) token: InvalidToken,
    pub(super) done: oneshot::Sender<bool>,
}

/// Whether the database serves, so that an outage is logged once and costs no message its five seconds.
#[derive(Default)]
pub(super) struct Health {
    away_until: Option<Instant>,
    pause: Duration,
    /// Tables that were refused, logged once each.
    refused: Vec<Table>,
}

/// The collecting task's side of a handler.
pub(super) struct Worker {
    pub(super) settings: Settings,
    pub(super) at_once: usize,
    pub(super) deleter: Arc<dyn Deleter>,
    pub(super) health: Mutex<Health>,
    pub(super) hostname: String,
    pub(super) stats: Stats,
}

impl Worker {
    /// The collecting task: batches by size and time, `at_once` statements side by side.
    pub(super) async fn collect(self: Arc<Self>, mut items: mpsc::Receiver<(Table, Item)>) {
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

    async fn tried(&self, app: &str, platform: Platform, tokens: &[InvalidToken]) -> Result<Deleted, DeleteError> {
        let mut pause = RETRY_PAUSE;
        let mut left = self.settings.retries;
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

    pub(super) fn count(&self, metric: Metric, app: &str, platform: Platform, n: u64) {
        if n > 0 {
            self.stats.count(metric, &[("hostname", &self.hostname), ("game", app), ("platform", platform.0)], n);
        }
    }

    pub(super) fn is_away(&self) -> bool {
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
            DeleteError::Conflict(_) | DeleteError::Refused(_) | DeleteError::Row(_) => {
                if !health.refused.contains(&table) {
                    let (app, platform) = (&*table.0, table.1);
                    tracing::error!(app, %platform, %error, "dead tokens of this app cannot be deleted: they are left to the feedback records");
                    health.refused.push(table);
                }
            }
        }
    }
}

/// The tokens that somebody still waits for, and who.
fn wanted(items: Vec<Item>) -> (Vec<InvalidToken>, Vec<oneshot::Sender<bool>>) {
    let items = items.into_iter().filter(|item| !item.done.is_closed());
    let (tokens, waiters): (Vec<_>, Vec<_>) = items.map(|item| (item.token, item.done)).unzip();
    (sorted_once(tokens), waiters)
}
