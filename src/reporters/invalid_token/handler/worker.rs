//! The collecting task: batches by size and time, statements side by side, tried again, and what is known of the database.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::batch::Batches;
use super::super::{DeleteError, Deleted, Deleter, Settings, in_time, sorted_once};
use super::stuck::Stuck;
use crate::message::Platform;
use crate::outcome::InvalidToken;
use crate::reporters::StatsReporter;
use crate::reporters::stats::{Metric, Stats};

/// First pause before a statement is tried again; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// After the database was away, or a table's statements did not come through, tokens are deferred at once for this long
/// (doubling), then it is tried again.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

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
    stuck: Stuck,
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
    async fn run(self: Arc<Self>, table: Table, items: Vec<Item>) {
        let (tokens, waiters) = wanted(items);
        // Whoever waits hears by the end of the waiters that it is deferred.
        if tokens.is_empty() || self.health.lock().stuck.rests(&table) {
            return;
        }
        let (app, platform) = (&*table.0, table.1);
        let result = self.tried(app, platform, &tokens).await;
        match &result {
            Ok(deleted) => {
                self.count(Metric::TokensDeleteSuccess, app, platform, deleted.rows);
                self.count(Metric::TokensDeleteNonexistent, app, platform, deleted.nonexistent);
                self.note_well(&table);
            }
            Err(error) => {
                self.count(Metric::TokensDeleteError, app, platform, tokens.len() as u64);
                self.note_error(&table, error);
            }
        }
        for waiter in waiters {
            // Its message may have stopped waiting meanwhile.
            let _ = waiter.send(result.is_ok());
        }
    }

    /// Tried within the time that messages wait.
    async fn tried(&self, app: &str, platform: Platform, tokens: &[InvalidToken]) -> Result<Deleted, DeleteError> {
        let limit = self.settings.timeout;
        let end = Instant::now() + limit;
        let (mut pause, mut tries, mut left) = (RETRY_PAUSE, self.settings.retries, limit);
        loop {
            let result = in_time(left, |limit| self.deleter.delete(app, platform, tokens, limit)).await;
            left = end.saturating_duration_since(Instant::now() + pause);
            // In a small rest of the time the next try would be given up, and its end hide the reason of this one.
            let is_over = tries == 0 || left < limit / 4;
            if is_over || !matches!(result, Err(DeleteError::Away(_) | DeleteError::Conflict(_))) {
                return result;
            }
            sleep(pause).await;
            tries -= 1;
            pause *= 2;
        }
    }

    pub(super) fn count(&self, metric: Metric, app: &str, platform: Platform, n: u64) {
        if n > 0 {
            self.stats.count(metric, &[("hostname", &self.hostname), ("game", app), ("platform", platform.0)], n);
        }
    }

    /// Whether a token of this table is to be deferred at once, for what is known of the database.
    pub(super) fn defers(&self, table: &Table) -> bool {
        let mut health = self.health.lock();
        let is_away = health.away_until.is_some_and(|until| Instant::now() < until);
        is_away || health.stuck.defers(table, self.settings.timeout)
    }

    fn note_well(&self, table: &Table) {
        let mut health = self.health.lock();
        health.pause = Duration::ZERO;
        health.stuck.note_well(table);
        if health.away_until.take().is_some() {
            tracing::info!("the database of tokens serves again");
        }
        if let Some(place) = health.refused.iter().position(|refused| refused == table) {
            health.refused.swap_remove(place);
            tracing::info!(app = &*table.0, platform = %table.1, "dead tokens are deleted again");
        }
    }

    fn note_error(&self, table: &Table, error: &DeleteError) {
        let mut health = self.health.lock();
        if matches!(error, DeleteError::Conflict(_)) {
            health.stuck.note(table);
        }
        match error {
            DeleteError::Away(_) => {
                health.pause = (health.pause * 2).clamp(PAUSE.0, PAUSE.1);
                let until = Instant::now() + health.pause;
                if health.away_until.replace(until).is_none() {
                    tracing::warn!(%error, "dead tokens cannot be deleted: they are left to the feedback records, pushes go on");
                }
            }
            DeleteError::Conflict(_) | DeleteError::Refused(_) | DeleteError::Row(_) => {
                if !health.refused.contains(table) {
                    let (app, platform) = (&*table.0, table.1);
                    tracing::error!(app, %platform, %error, "dead tokens of this app cannot be deleted: they are left to the feedback records");
                    health.refused.push(table.clone());
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
