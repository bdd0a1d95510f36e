//! Tables whose statements do not come through, because of a lock for example: each is left alone for a while, so that it
//! costs its messages no wait, and other tables no session.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::worker::{PAUSE, Table};

/// The tables.
#[derive(Default)]
pub(super) struct Stuck {
    tables: HashMap<Table, Since>,
}

struct Since {
    /// Until then its tokens are deferred at once.
    until: Instant,
    pause: Duration,
    /// A token asks for all whether statements come through again.
    is_asked: bool,
}

impl Stuck {
    /// Whether a token of this table is to be deferred at once. After each pause one is not: it asks for all, which wait for
    /// its answer, at most for the `limit` of its statement.
    pub(super) fn defers(&mut self, table: &Table, limit: Duration) -> bool {
        let now = Instant::now();
        match self.tables.get_mut(table) {
            None => false,
            Some(since) if now < since.until => true,
            Some(since) => {
                (since.until, since.is_asked) = (now + limit, true);
                false
            }
        }
    }

    /// Whether a batch that was collected meanwhile is to be deferred: nobody asked by it.
    pub(super) fn rests(&self, table: &Table) -> bool {
        self.tables.get(table).is_some_and(|since| !since.is_asked && Instant::now() < since.until)
    }

    /// A statement for this table did not come through. Those that began together with one that is known already say nothing
    /// new.
    pub(super) fn note(&mut self, table: &Table) {
        let new = Since { until: Instant::now(), pause: Duration::ZERO, is_asked: true };
        let since = self.tables.entry(table.clone()).or_insert(new);
        if std::mem::take(&mut since.is_asked) {
            since.pause = (since.pause * 2).clamp(PAUSE.0, PAUSE.1);
            since.until = Instant::now() + since.pause;
        }
    }

    /// A statement for this table came through.
    pub(super) fn note_well(&mut self, table: &Table) {
        self.tables.remove(table);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::message::Platform;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn one_token_asks_after_each_pause_and_pauses_grow_by_its_failures_alone() {
        let (mut stuck, table) = (Stuck::default(), ("game".into(), Platform("apns")));
        assert!(!stuck.defers(&table, LIMIT));
        (0..4).for_each(|_| stuck.note(&table));
        assert!(stuck.defers(&table, LIMIT) && stuck.rests(&table));
        sleep(PAUSE.0).await;
        assert!(!stuck.defers(&table, LIMIT) && !stuck.rests(&table));
        assert!(stuck.defers(&table, LIMIT), "one asks for all");
        stuck.note(&table);
        sleep(PAUSE.0).await;
        assert!(stuck.defers(&table, LIMIT), "the second pause is longer");
        sleep(PAUSE.0).await;
        assert!(!stuck.defers(&table, LIMIT));
        stuck.note_well(&table);
        assert!(!stuck.defers(&table, LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_asks_and_is_never_answered_is_followed_by_another() {
        let (mut stuck, table) = (Stuck::default(), ("game".into(), Platform("apns")));
        stuck.note(&table);
        sleep(PAUSE.0).await;
        assert!(!stuck.defers(&table, LIMIT));
        sleep(LIMIT).await;
        assert!(!stuck.defers(&table, LIMIT));
    }
}
