//! The guards of all tables: made when they are needed, closed and opened as the entries say that all processes share.
//!
//! When the worker's valve of an app closes (it saw the provider call too many tokens dead, a wrong host for example), the
//! feedback records that it wrote all the same are not to be believed: the listener's valve closes with it, and what it
//! holds is an operator's to decide.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::batches::Table;
use super::guard::{Figures, Guard};
use super::topic::{Apps, share};
use super::valve::{Grant, Limits};
use crate::control::{Control, Stage, State, View};
use crate::message::Platform;
use crate::queue::InFlight;
use crate::reporters::StatsReporter as _;
use crate::reporters::invalid_token::latch::{Entry, Order, Watcher};
use crate::reporters::invalid_token::{DeleteError, Deleter, in_time, now_ms};
use crate::reporters::stats::{Metric, Stats};

/// How often the database is asked whether it takes a table that it has refused.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// So long the topic must be missing: a broker that has just started says so of any (librdkafka waits as long).
const MISSING: Duration = Duration::from_secs(30);

/// Longest wait for the answer to one statement.
const STATEMENT: Duration = Duration::from_mins(1);

/// Why no token of a table may be deleted now.
#[derive(Debug)]
pub(super) enum NotNow {
    /// Its records stay in Kafka until somebody acts.
    Held,
    /// The process ends.
    Ending,
    /// Its rows could not be reckoned.
    Failed(DeleteError),
}

/// All guards.
pub(super) struct Guards {
    pub(super) limits: Limits,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) deleter: Arc<dyn Deleter>,
    pub(super) control: Control,
    /// The platforms that exist, with their apps.
    pub(super) platforms: Vec<Apps>,
    pub(super) hostname: String,
    /// This process's name in the entries.
    pub(super) process: String,
    pub(super) stats: Stats,
    pub(super) by_table: RwLock<HashMap<Table, Arc<Guard>>>,
}

impl Guards {
    /// Waits until it is known which valves are closed and which tokens are to be kept, for a deletion cannot be undone; and
    /// obeys. Without a topic nothing can have been decided. False: the process ends before.
    pub(super) async fn known(&self, end: &CancellationToken) -> bool {
        let mut view = self.control.watch();
        if !is_complete(&view.borrow()) && !is_missing(&view.borrow()) {
            tracing::warn!(
                alarm = true,
                "no token is deleted before the control topic has been read, records wait: which valves are closed is not known; mend its brokers, grant DESCRIBE and READ, or set control.topic to off"
            );
        }
        if let Some(Ok(())) = end.run_until_cancelled(read(&mut view)).await {
            self.obey(&self.control.state());
            return true;
        }
        // The process ends; or the topic's thread has ended, and said why.
        end.cancelled().await;
        false
    }

    /// The guard of a table.
    pub(super) fn of(&self, table: &Table) -> Arc<Guard> {
        if let Some(guard) = self.by_table.read().get(table) {
            return guard.clone();
        }
        let mut by_table = self.by_table.write();
        let new = || {
            let share = self.in_flight.share(&share(&table.0, table.1));
            Arc::new(Guard::new(table.clone(), share, self.limits))
        };
        by_table.entry(table.clone()).or_insert_with(new).clone()
    }

    /// How many of so many tokens may be deleted now; at least one. They must be settled.
    pub(super) async fn grant(&self, guard: &Guard, tokens: usize, end: &CancellationToken) -> Result<usize, NotNow> {
        if guard.needs_rows(&self.limits) {
            let rows = answered(|limit| self.deleter.rows(&guard.table.0, guard.table.1, limit))
                .await
                .map_err(NotNow::Failed)?;
            guard.set_rows(rows);
        }
        loop {
            let changed = guard.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match guard.grant(tokens) {
                Grant::Tokens(granted) => return Ok(granted),
                Grant::Closed => return Err(NotNow::Held),
                Grant::UsedUp => {
                    self.close(guard, |figures| used_up(figures, &self.limits));
                    return Err(NotNow::Held);
                }
                Grant::Wait => tokio::select! {
                    () = changed => {}
                    () = end.cancelled() => return Err(NotNow::Ending),
                },
            }
        }
    }

    fn close(&self, guard: &Guard, why: impl FnOnce(&Figures) -> String) {
        let Some((closing, figures)) = guard.close(&self.process) else { return };
        let (app, platform, why) = (&*guard.table.0, guard.table.1, why(&figures));
        tracing::error!(
            alarm = true, app, %platform, why,
            "the valve closes: no token of this table is deleted any more, its feedback records stay in Kafka; find out why, then: pusher valve resume"
        );
        let (at, by, keep_before) = (now_ms(), self.hostname.clone(), guard.keep_before());
        let entry = Entry { closed: true, closing, at, by, why, keep_before };
        self.control.set(&Watcher::Listener.key(platform.0, app), &entry);
        self.gauge(guard);
    }

    /// Obeys the entries as they are now.
    pub(super) fn obey(&self, state: &State) {
        for (table, entry) in self.entries(state, Watcher::Listener) {
            let guard = self.of(&table);
            let (app, platform, by) = (&*table.0, table.1, &entry.by);
            match guard.follow(&entry, &self.process) {
                Order::None => continue,
                Order::Close => {
                    tracing::warn!(app, %platform, by, why = entry.why, "the valve is closed: the records of this table stay in Kafka");
                }
                Order::Open => {
                    let kept = entry.keep_before.is_some();
                    tracing::warn!(app, %platform, by, kept, "the valve was opened: tokens of this table are deleted again");
                }
            }
            self.gauge(&guard);
        }
        for (table, entry) in self.entries(state, Watcher::Worker).filter(|(_, entry)| entry.closed) {
            let guard = self.of(&table);
            if guard.is_news(&entry) {
                self.close(&guard, |_| format!("the worker's valve of the app has closed: {}", entry.why));
            }
        }
    }

    /// The entries of one kind that concern tables of ours.
    fn entries<'a>(&'a self, state: &'a State, watcher: Watcher) -> impl Iterator<Item = (Table, Entry)> + 'a {
        let all: Vec<(String, Entry)> =
            state.below(&watcher.keys()).map(|(rest, entry)| (rest.to_owned(), entry)).collect();
        all.into_iter().filter_map(|(rest, entry)| Some((self.table(&rest)?, entry)))
    }

    /// `apns/game`: the table, if it is one of ours.
    fn table(&self, name: &str) -> Option<Table> {
        let (platform, app) = name.split_once('/')?;
        let Apps { platform, configured } = self.platforms.iter().find(|one| one.platform.0 == platform)?;
        match configured {
            Some(apps) => apps.iter().find(|one| ***one == *app).map(|app| (app.clone(), *platform)),
            None => Some((app.into(), *platform)),
        }
    }

    /// Follows what other processes, and people, decide, until `end`.
    pub(super) async fn follow(self: Arc<Self>, end: CancellationToken) {
        let mut watch = self.control.watch();
        loop {
            let view = watch.borrow_and_update().clone();
            if view.stage == Stage::Complete {
                self.obey(&view.state);
            }
            tokio::select! {
                changed = watch.changed() => if changed.is_err() { return },
                () = end.cancelled() => return,
            }
        }
    }

    /// Asks, now and then, whether the database takes the tables that it has refused, until `end`.
    pub(super) async fn ask_again(self: Arc<Self>, end: CancellationToken) {
        while tokio::select! { () = tokio::time::sleep(ASK_AGAIN) => true, () = end.cancelled() => false } {
            let refused: Vec<_> = self.by_table.read().values().filter(|guard| guard.is_refused()).cloned().collect();
            for guard in refused {
                let (app, platform) = (&*guard.table.0, guard.table.1);
                if answered(|limit| self.deleter.delete(app, platform, &[], limit)).await.is_ok() {
                    guard.accept();
                }
            }
        }
    }

    /// Tells statistics the state of each valve.
    pub(super) fn publish(&self) {
        self.by_table.read().values().for_each(|guard| self.gauge(guard));
    }

    fn gauge(&self, guard: &Guard) {
        let (app, Platform(platform)) = &guard.table;
        let closed = f64::from(u8::from(guard.is_closed()));
        self.stats.gauge(Metric::ValveClosed, &[("platform", platform), ("game", app)], closed);
    }
}

fn is_complete(view: &View) -> bool {
    view.stage == Stage::Complete
}

fn is_missing(view: &View) -> bool {
    matches!(view.stage, Stage::Missing(_))
}

/// Completes when all entries have been read, or there is no topic for them.
async fn read(view: &mut watch::Receiver<View>) -> Result<(), RecvError> {
    loop {
        if is_complete(&*view.wait_for(|view| is_complete(view) || is_missing(view)).await?) {
            return Ok(());
        }
        let found = timeout(MISSING, view.wait_for(is_complete)).await.map(|found| found.map(drop));
        match found {
            Ok(found) => return found,
            Err(_) if is_missing(&view.borrow()) => return Ok(()),
            Err(_) => {}
        }
    }
}

/// A statement's answer within [`STATEMENT`].
pub(super) async fn answered<T, F>(statement: impl FnOnce(Duration) -> F) -> Result<T, DeleteError>
where
    F: Future<Output = Result<T, DeleteError>>,
{
    in_time(STATEMENT, statement).await
}

/// Why an allowance was used up, for people.
fn used_up(figures: &Figures, limits: &Limits) -> String {
    let Figures { gone, allowance, rows } = figures;
    let minutes = limits.window.as_secs() / 60;
    match rows {
        Some(rows) => {
            format!("{gone} of about {rows} rows were deleted within {minutes} min, at most {allowance} may be")
        }
        None => format!(
            "{gone} rows were deleted within {minutes} min, at most {allowance} may be of a table whose rows nobody has counted: run ANALYZE"
        ),
    }
}
