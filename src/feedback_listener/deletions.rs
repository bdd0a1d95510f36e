//! From batches to committed DELETEs: who is next, and one batch's life.
//!
//! Several statements run side by side, of different tables in turn. A batch ends when each of its records has: resolved
//! after the DELETE of its token has committed, or given back to Kafka. Nothing else ends one: while the database is away its
//! batches wait here (what may be in flight bounds them) and the rest waits in Kafka.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::batches::{Batch, Item, Table};
use super::guard::Guard;
use super::guards::{Guards, NotNow, answered};
use super::health::Health;
use super::ledger::Ledger;
use super::lines::Lines;
use crate::reporters::StatsReporter as _;
use crate::reporters::invalid_token::{DeleteError, Deleted, sorted_once};
use crate::reporters::stats::Metric;

/// What deletes.
pub(super) struct Deletions {
    guards: Arc<Guards>,
    ledger: Arc<Ledger>,
    health: Health,
    end: CancellationToken,
    /// Tokens in batches that wait for a connection, for the gauge.
    waiting: Arc<AtomicUsize>,
}

/// What is left of a batch, and how often it has failed in a row.
struct Left {
    parts: Vec<Vec<Item>>,
    tries: u32,
}

impl Deletions {
    pub(super) fn new(guards: Arc<Guards>, ledger: Arc<Ledger>, end: CancellationToken) -> Self {
        Deletions { guards, ledger, health: Health::default(), end, waiting: Arc::default() }
    }

    /// How many tokens wait for a connection.
    pub(super) fn waiting(&self) -> Arc<AtomicUsize> {
        self.waiting.clone()
    }

    /// Serves batches, `places` side by side, until there are no more to come and all have ended.
    pub(super) async fn serve(self: Arc<Self>, places: usize, mut intake: mpsc::Receiver<Batch>) {
        let (mut lines, mut at_work, mut is_open) = (Lines::new(places), JoinSet::new(), true);
        while is_open || !lines.is_empty() {
            while let Some((_, batch)) = lines.admit() {
                at_work.spawn(self.clone().run(batch));
            }
            self.waiting.store(lines.waiting().map(|batch: &Batch| batch.items.len()).sum(), Relaxed);
            tokio::select! {
                batch = intake.recv(), if is_open => match batch {
                    Some(batch) => lines.add(batch.table.clone(), batch),
                    None => is_open = false,
                },
                Some(ended) = at_work.join_next() => match ended {
                    Ok(table) => lines.done(&table),
                    // A bug; this task ends with it, and the process too.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
            }
        }
    }

    /// One batch to its end.
    async fn run(self: Arc<Self>, batch: Batch) -> Table {
        let guard = self.guards.of(&batch.table);
        let mut left = Left { parts: vec![batch.items], tries: 0 };
        while let Some(items) = left.parts.pop() {
            match self.guards.grant(&guard, items.len(), &self.end).await {
                Ok(granted) => self.attempt(&guard, items, granted, &mut left).await,
                Err(NotNow::Failed(error)) => self.failed(&guard, items, error, &mut left).await,
                Err(NotNow::Held | NotNow::Ending) => give_back(items, &mut left),
            }
        }
        batch.table
    }

    /// Without those whose partition is somebody else's by now, and those that are to be kept.
    fn still_ours(&self, guard: &Guard, items: Vec<Item>) -> Vec<Item> {
        let (ours, others): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.receipt.may_send());
        for item in others {
            item.receipt.release();
        }
        let (kept, ours): (Vec<_>, Vec<_>) = ours.into_iter().partition(|item| guard.keeps(item.told_at_ms));
        self.count(guard, Metric::TokensDeleteWithheld, kept.len() as u64);
        for item in kept {
            self.ledger.kept();
            item.receipt.resolve();
        }
        ours
    }

    /// One statement for the first `granted` of the items, as far as they are still to be deleted.
    async fn attempt(&self, guard: &Guard, mut items: Vec<Item>, granted: usize, left: &mut Left) {
        let rest = items.split_off(granted.min(items.len()));
        if !rest.is_empty() {
            left.parts.push(rest);
        }
        // After the grant: what an operator keeps when he opens a valve is known from the first grant on.
        let items = self.still_ours(guard, items);
        if items.is_empty() {
            return guard.settle(granted, 0);
        }
        let tokens = sorted_once(items.iter().map(|item| item.token.clone()).collect());
        let result = answered(|limit| self.guards.deleter.delete(&guard.table.0, guard.table.1, &tokens, limit)).await;
        guard.settle(granted, result.as_ref().map_or(0, |deleted| deleted.rows));
        match result {
            Ok(deleted) => {
                left.tries = 0;
                self.deleted(guard, items, deleted);
            }
            Err(error) => {
                self.count(guard, Metric::TokensDeleteError, tokens.len() as u64);
                self.failed(guard, items, error, left).await;
            }
        }
    }

    fn deleted(&self, guard: &Guard, items: Vec<Item>, deleted: Deleted) {
        self.health.note_well();
        guard.note_answer();
        self.count(guard, Metric::TokensDeleteSuccess, deleted.rows);
        self.count(guard, Metric::TokensDeleteNonexistent, deleted.nonexistent);
        self.ledger.deleted(items.len() as u64, deleted.rows);
        for item in items {
            item.receipt.resolve();
        }
    }

    /// What a refusal asks for. Waits before the next try where that is what it takes.
    async fn failed(&self, guard: &Guard, mut items: Vec<Item>, error: DeleteError, left: &mut Left) {
        match error {
            DeleteError::Refused(_) => {
                guard.refuse(&error);
                return give_back(items, left);
            }
            DeleteError::Row(_) if items.len() > 1 => {
                let half = items.split_off(items.len() / 2);
                return left.parts.extend([half, items]);
            }
            DeleteError::Row(_) => return items.into_iter().for_each(|item| self.refused(guard, item, &error)),
            DeleteError::Away(_) => self.health.note_away(&error),
            DeleteError::Conflict(_) => guard.note_conflict(&error, left.tries),
        }
        // Nobody needs to wait for these when their partition is taken away.
        for item in &items {
            item.receipt.off_stream();
        }
        left.parts.push(items);
        if self.health.pause(left.tries, &self.end).await {
            left.tries += 1;
        } else if let Some(items) = left.parts.pop() {
            give_back(items, left);
        }
    }

    /// The database refuses this very token: its record is passed, so that it does not hold up the others.
    fn refused(&self, guard: &Guard, item: Item, error: &DeleteError) {
        if guard.note_row() {
            let (app, platform) = (&*guard.table.0, guard.table.1);
            tracing::error!(alarm = true, app, %platform, %error, "the database refuses to delete a row of this table: its record is passed over; further ones are only counted");
        }
        self.ledger.refused();
        item.receipt.resolve();
    }

    fn count(&self, guard: &Guard, metric: Metric, n: u64) {
        if n > 0 {
            let (app, platform) = (&*guard.table.0, guard.table.1.0);
            let tags = [("hostname", &*self.guards.hostname), ("game", app), ("platform", platform)];
            self.guards.stats.count(metric, &tags, n);
        }
    }
}

/// Their records stay in Kafka.
fn give_back(items: Vec<Item>, left: &mut Left) {
    for item in items.into_iter().chain(left.parts.drain(..).flatten()) {
        item.receipt.release();
    }
}

#[cfg(test)]
mod tests;
