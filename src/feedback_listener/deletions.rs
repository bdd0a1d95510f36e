//! From batches to committed DELETEs: who is next, and one batch's life.
//!
//! Several statements run side by side, of different tables in turn. A batch ends when each of its records has: resolved
//! after the DELETE of its token has committed, or given back to Kafka. Nothing else ends one: while the database is away its
//! batches wait here (what may be in flight bounds them) and the rest waits in Kafka. One whose table is locked waits without
//! a place, so that it costs other tables nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
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
    table: Table,
    parts: Vec<Vec<Item>>,
    tries: u32,
}

impl Left {
    fn tokens(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }
}

/// How a batch goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// With what is left of it.
    Part,
    /// So too after a while, and without its place until then.
    Rest,
}

impl Deletions {
    pub(super) fn new(guards: Arc<Guards>, ledger: Arc<Ledger>, end: CancellationToken) -> Self {
        Deletions { guards, ledger, health: Health::default(), end, waiting: Arc::default() }
    }

    /// How many tokens wait for a connection.
    pub(super) fn waiting(&self) -> Arc<AtomicUsize> {
        self.waiting.clone()
    }

    /// Serves batches, `places` side by side, until there are no more to come and all have ended. None before it is known what
    /// may be deleted.
    pub(super) async fn serve(self: Arc<Self>, places: usize, mut intake: mpsc::Receiver<Batch>) {
        if !self.guards.known(&self.end).await {
            while let Some(batch) = intake.recv().await {
                for item in batch.items {
                    item.receipt.release();
                }
            }
            return;
        }
        let (mut lines, mut is_open) = (Lines::new(places), true);
        let (mut at_work, mut resting, mut at_rest) = (JoinSet::new(), JoinSet::new(), 0);
        while is_open || !lines.is_empty() || !resting.is_empty() {
            while let Some((line, left)) = lines.admit() {
                let batch = self.clone().run(left);
                at_work.spawn(async { (line, batch.await) });
            }
            self.waiting.store(at_rest + lines.waiting().map(Left::tokens).sum::<usize>(), Relaxed);
            tokio::select! {
                batch = intake.recv(), if is_open => match batch {
                    Some(Batch { table, items }) => {
                        lines.add((table.clone(), false), Left { table, parts: vec![items], tries: 0 });
                    }
                    None => is_open = false,
                },
                Some(ended) = at_work.join_next() => {
                    let (line, left) = unwound(ended);
                    lines.done(&line);
                    lines.set_stuck(&line, !left.parts.is_empty());
                    if !left.parts.is_empty() {
                        at_rest += left.tokens();
                        resting.spawn(self.clone().rest(left));
                    }
                },
                Some(rested) = resting.join_next() => {
                    let (tokens, left) = unwound(rested);
                    at_rest -= tokens;
                    // In a line of its own: others of its table may come through, as where one row is locked.
                    let line = (left.table.clone(), true);
                    if self.guards.of(&left.table).is_stuck() {
                        lines.set_stuck(&line, true);
                    }
                    lines.add(line, left);
                }
            }
        }
    }

    /// One batch, to its end or until it has to rest: what is left of it then.
    async fn run(self: Arc<Self>, mut left: Left) -> Left {
        let guard = self.guards.of(&left.table);
        while let Some(items) = left.parts.pop() {
            let next = match self.guards.grant(&guard, items.len(), &self.end).await {
                Ok(granted) => self.attempt(&guard, items, granted, &mut left).await,
                Err(NotNow::Failed(error)) => self.failed(&guard, items, error, &mut left).await,
                Err(NotNow::Held | NotNow::Ending) => give_back(items, &mut left),
            };
            if next == Next::Rest {
                break;
            }
        }
        left
    }

    /// Waits before the next try; how many tokens it had, and what is left.
    async fn rest(self: Arc<Self>, mut left: Left) -> (usize, Left) {
        let tokens = left.tokens();
        self.pause(&mut left).await;
        (tokens, left)
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
    async fn attempt(&self, guard: &Guard, mut items: Vec<Item>, granted: usize, left: &mut Left) -> Next {
        let rest = items.split_off(granted.min(items.len()));
        if !rest.is_empty() {
            left.parts.push(rest);
        }
        // After the grant: what an operator keeps when he opens a valve is known from the first grant on.
        let items = self.still_ours(guard, items);
        if items.is_empty() {
            guard.settle(granted, 0);
            return Next::Part;
        }
        let tokens = sorted_once(items.iter().map(|item| item.token.clone()).collect());
        let result = answered(|limit| self.guards.deleter.delete(&guard.table.0, guard.table.1, &tokens, limit)).await;
        guard.settle(granted, result.as_ref().map_or(0, |deleted| deleted.rows));
        match result {
            Ok(deleted) => {
                left.tries = 0;
                self.deleted(guard, items, deleted);
                Next::Part
            }
            Err(error) => {
                self.count(guard, Metric::TokensDeleteError, tokens.len() as u64);
                self.failed(guard, items, error, left).await
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

    /// What a refusal asks for. While the database is away its place is kept: it would be of no use to another.
    async fn failed(&self, guard: &Guard, mut items: Vec<Item>, error: DeleteError, left: &mut Left) -> Next {
        let next = match error {
            DeleteError::Refused(_) => {
                guard.refuse(&error);
                return give_back(items, left);
            }
            DeleteError::Row(_) if items.len() > 1 => {
                guard.note_answer();
                let half = items.split_off(items.len() / 2);
                left.parts.extend([half, items]);
                return Next::Part;
            }
            DeleteError::Row(_) => {
                for item in items {
                    self.refused(guard, item, &error);
                }
                return Next::Part;
            }
            DeleteError::Away(_) => {
                self.health.note_away(&error);
                Next::Part
            }
            DeleteError::Conflict(_) => {
                guard.note_conflict(&error, left.tries);
                Next::Rest
            }
        };
        left.parts.push(items);
        // Nobody needs to wait for these when their partition is taken away.
        for item in left.parts.iter().flatten() {
            item.receipt.off_stream();
        }
        if next == Next::Part {
            self.pause(left).await;
        }
        next
    }

    /// Waits before the next try. At the process's end what is left is given back.
    async fn pause(&self, left: &mut Left) {
        if self.health.pause(left.tries, &self.end).await {
            left.tries += 1;
        } else {
            give_back(Vec::new(), left);
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
fn give_back(items: Vec<Item>, left: &mut Left) -> Next {
    for item in items.into_iter().chain(left.parts.drain(..).flatten()) {
        item.receipt.release();
    }
    Next::Part
}

/// A panic is a bug: this task ends with it, and the process too.
fn unwound<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests;
