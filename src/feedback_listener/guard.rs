//! One table: whether its tokens may be deleted now. Closed while its valve is, and while the database refuses it; then its
//! share is closed too, so that its records are not read at all.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};
use tokio::time::Instant;

use super::batches::Table;
use super::valve::{Grant, Limits, Valve};
use crate::queue::in_flight::Share;
use crate::reporters::invalid_token::DeleteError;
use crate::reporters::invalid_token::latch::{Entry, Latch, Order};

/// The rows of a table are reckoned anew after this long.
const RECKON: Duration = Duration::from_mins(5);

/// After so many statements in a row that did not come through, for a table or for a batch, somebody is told.
const ALARM: u32 = 4;

/// The guard of one table.
pub(super) struct Guard {
    pub(super) table: Table,
    share: Arc<Share>,
    inside: Mutex<Inside>,
    changed: Notify,
}

struct Inside {
    valve: Valve,
    latch: Latch,
    /// Tokens that were told before are kept.
    keep_before: Option<i64>,
    /// The last closing of the worker's valve that was followed.
    worker_closing: Option<String>,
    refused: bool,
    /// So many of its statements in a row did not come through.
    conflicts: u32,
    conflict_told: bool,
    row_told: bool,
    reckoned_at: Option<Instant>,
}

/// Why a valve was closed, in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    /// Rows that went in the window.
    pub(super) gone: u64,
    /// Rows that may.
    pub(super) allowance: u64,
    /// Rows of the table, if they are known.
    pub(super) rows: Option<u64>,
}

impl Guard {
    pub(super) fn new(table: Table, share: Arc<Share>, limits: Limits) -> Self {
        let inside = Inside {
            valve: Valve::new(limits),
            latch: Latch::default(),
            keep_before: None,
            worker_closing: None,
            refused: false,
            conflicts: 0,
            conflict_told: false,
            row_told: false,
            reckoned_at: None,
        };
        Guard { table, share, inside: Mutex::new(inside), changed: Notify::new() }
    }

    /// Whether the rows of the table should be reckoned before the next grant.
    pub(super) fn needs_rows(&self, limits: &Limits) -> bool {
        !limits.are_off() && self.inside.lock().reckoned_at.is_none_or(|at| at.elapsed() >= RECKON)
    }

    /// The table has so many rows, about.
    pub(super) fn set_rows(&self, rows: Option<u64>) {
        let mut inside = self.inside.lock();
        inside.valve.set_rows(rows);
        inside.reckoned_at = Some(Instant::now());
    }

    /// How many of so many tokens may be deleted now; see [`Valve::grant`].
    pub(super) fn grant(&self, tokens: usize) -> Grant {
        let mut inside = self.inside.lock();
        if inside.refused { Grant::Closed } else { inside.valve.grant(tokens, Instant::now().into_std()) }
    }

    /// The statement for granted tokens came to its end.
    pub(super) fn settle(&self, tokens: usize, rows: u64) {
        self.inside.lock().valve.settle(tokens, rows, Instant::now().into_std());
        self.changed.notify_waiters();
    }

    /// Completes when [`Guard::grant`] may answer otherwise.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Whether a token that was told then is to be kept.
    pub(super) fn keeps(&self, told_at_ms: Option<i64>) -> bool {
        let keep_before = self.inside.lock().keep_before;
        keep_before.is_some_and(|limit| told_at_ms.is_some_and(|told| told < limit))
    }

    /// Closes the valve; the name of the closing and its figures, unless it is closed already.
    pub(super) fn close(&self, process: &str) -> Option<(String, Figures)> {
        let mut inside = self.inside.lock();
        if inside.valve.is_closed() {
            return None;
        }
        inside.valve.close();
        self.set_share(&inside);
        let valve = &inside.valve;
        let figures = Figures { gone: valve.gone(), allowance: valve.allowance(), rows: valve.rows() };
        Some((inside.latch.close(process), figures))
    }

    /// Obeys the listener's entry; what that changed.
    pub(super) fn follow(&self, entry: &Entry, process: &str) -> Order {
        let mut inside = self.inside.lock();
        inside.keep_before = inside.keep_before.max(entry.keep_before);
        let order = inside.latch.follow(entry, process, false);
        match order {
            Order::None => {}
            Order::Close => inside.valve.close(),
            Order::Open => inside.valve.open(),
        }
        self.set_share(&inside);
        drop(inside);
        self.changed.notify_waiters();
        order
    }

    /// Whether the worker's entry tells of a closing that has not been followed.
    pub(super) fn is_news(&self, worker: &Entry) -> bool {
        let mut inside = self.inside.lock();
        if !worker.closed || inside.worker_closing.as_ref() == Some(&worker.closing) {
            return false;
        }
        inside.worker_closing = Some(worker.closing.clone());
        true
    }

    /// Tokens that were told before this are kept, as far as is known.
    pub(super) fn keep_before(&self) -> Option<i64> {
        self.inside.lock().keep_before
    }

    /// The database refuses statements for the table: its records stay in Kafka.
    pub(super) fn refuse(&self, error: &DeleteError) {
        if self.set_refused(true) {
            let (app, platform) = (&*self.table.0, self.table.1);
            tracing::error!(
                alarm = true, app, %platform, %error,
                "the database refuses deletions from this table: its records stay in Kafka until it takes them; create the table or grant DELETE and SELECT"
            );
        }
    }

    /// The database takes it again.
    pub(super) fn accept(&self) {
        if self.set_refused(false) {
            let (app, platform) = (&*self.table.0, self.table.1);
            tracing::info!(app, %platform, "the database takes deletions from this table again");
        }
    }

    /// Whether that is news.
    fn set_refused(&self, refused: bool) -> bool {
        let mut inside = self.inside.lock();
        let was = std::mem::replace(&mut inside.refused, refused);
        self.set_share(&inside);
        drop(inside);
        self.changed.notify_waiters();
        was != refused
    }

    /// Whether the database refuses the table.
    pub(super) fn is_refused(&self) -> bool {
        self.inside.lock().refused
    }

    /// A statement was in the way of another, or was not answered: a deadlock is nobody's news, a table whose statements never
    /// come through is.
    pub(super) fn note_conflict(&self, error: &DeleteError, tries: u32) {
        let mut inside = self.inside.lock();
        inside.conflicts = inside.conflicts.saturating_add(1);
        let is_news = inside.conflicts.max(tries + 1) >= ALARM;
        if is_news && !std::mem::replace(&mut inside.conflict_told, true) {
            let (app, platform) = (&*self.table.0, self.table.1);
            tracing::error!(
                alarm = true, app, %platform, %error,
                "statements for this table fail again and again and are tried on; look for locks, and for an index on its column token"
            );
        }
    }

    /// A statement was answered.
    pub(super) fn note_answer(&self) {
        let mut inside = self.inside.lock();
        inside.conflicts = 0;
        if std::mem::take(&mut inside.conflict_told) {
            let (app, platform) = (&*self.table.0, self.table.1);
            tracing::info!(app, %platform, "statements for this table are answered again");
        }
    }

    /// Whether the last statement for the table did not come through.
    pub(super) fn is_stuck(&self) -> bool {
        self.inside.lock().conflicts > 0
    }

    /// The database has refused a row; whether that is the first.
    pub(super) fn note_row(&self) -> bool {
        !std::mem::replace(&mut self.inside.lock().row_told, true)
    }

    /// Whether the valve is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.inside.lock().valve.is_closed()
    }

    /// Called with the state locked, so that the share's last word is the state's.
    fn set_share(&self, inside: &Inside) {
        let is_closed = inside.valve.is_closed() || inside.refused;
        self.share.set_allowance(if is_closed { 0 } else { usize::MAX });
    }
}
