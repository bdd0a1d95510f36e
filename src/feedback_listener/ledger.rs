//! The listener's own books: what became of every record, counted once.
//!
//! The law that they must obey: *lent = deleted + passed + kept + refused + released + in flight*.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::tally::Tally;

/// Counters: how records ended. The queue's receipts keep the rest.
#[derive(Debug)]
pub struct Ledger {
    receipts: Arc<Tally>,
    deleted: AtomicU64,
    passed: AtomicU64,
    kept: AtomicU64,
    refused: AtomicU64,
    rows: AtomicU64,
}

impl Ledger {
    /// Nothing has ended yet; `receipts` are counted by the queue.
    pub fn new(receipts: Arc<Tally>) -> Self {
        let [deleted, passed, kept, refused, rows] = Default::default();
        Ledger { receipts, deleted, passed, kept, refused, rows }
    }

    /// Records whose tokens' DELETE has committed, and the rows that went.
    pub fn deleted(&self, records: u64, rows: u64) {
        self.deleted.fetch_add(records, Relaxed);
        self.rows.fetch_add(rows, Relaxed);
    }

    /// A record that tells no dead token.
    pub fn passed(&self) {
        self.passed.fetch_add(1, Relaxed);
    }

    /// A record whose token is kept because an operator said so.
    pub fn kept(&self) {
        self.kept.fetch_add(1, Relaxed);
    }

    /// A record whose token the database refuses to delete.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// The counters as they are now.
    pub fn totals(&self) -> Totals {
        let receipts = self.receipts.totals();
        Totals {
            lent: receipts.lent,
            skipped: receipts.skipped,
            deleted: self.deleted.load(Relaxed),
            passed: self.passed.load(Relaxed),
            kept: self.kept.load(Relaxed),
            refused: self.refused.load(Relaxed),
            released: receipts.released,
            rows: self.rows.load(Relaxed),
        }
    }
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Records taken from the queue.
    pub lent: u64,
    /// Records passed over because they were resolved before, or are in flight already.
    pub skipped: u64,
    /// Records whose tokens' DELETE has committed.
    pub deleted: u64,
    /// Records that tell no dead token.
    pub passed: u64,
    /// Records whose tokens an operator keeps.
    pub kept: u64,
    /// Records whose tokens the database refuses to delete.
    pub refused: u64,
    /// Records given back unresolved.
    pub released: u64,
    /// Rows that went: several users can have one token, and a token none.
    pub rows: u64,
}

impl Totals {
    /// What the law leaves in flight; 0 after a drain.
    pub fn unaccounted(&self) -> i64 {
        let ended = self.deleted + self.passed + self.kept + self.refused + self.released;
        self.lent as i64 - ended as i64
    }
}
