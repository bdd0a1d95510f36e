//! Tokens that a provider called dead: deleted from the app's table, in batches, behind a safety valve.
//!
//! `table`, `batch`, `valve` and `latch` are pure; `handler` joins them to a [`Deleter`], the database's edge (`postgres`, the
//! only user of `sqlx`). A message's receipt waits for its token's deletion, but only for `invalidToken.timeout`: an
//! absent database is no reason to stop pushing, and what could not be deleted is left to the feedback record.
//! Adding a database: a file here and a line in [`HANDLERS`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::InvalidTokenHandler;
use super::stats::Stats;
use crate::config::{Config, ConfigError, Key};
use crate::control::Control;
use crate::message::Platform;
use crate::outcome::InvalidToken;
use crate::proof::Proof;
use crate::registry::Registry;

pub mod batch;
pub mod handler;
pub mod latch;
pub mod postgres;
pub mod table;
pub mod valve;

const HANDLERS_KEY: Key =
    Key::optional("invalidToken.handlers", "who deletes dead tokens: a list of names (pg); unset: nobody");
const MAX_SHARE: Key = Key::new(
    "invalidToken.maxShare",
    "0.3",
    "share of dead tokens among an app's last answers above which nothing is deleted any more; 1: never",
);
const MIN_ANSWERS: Key =
    Key::new("invalidToken.minAnswers", "1000", "answers that the share is taken of, 100 to 1000000");
const BATCH_SIZE: Key = Key::new("invalidToken.batch.size", "500", "most tokens of one DELETE, 1 to 10000");
const BATCH_INTERVAL: Key =
    Key::new("invalidToken.batch.interval", "200ms", "how long a token waits for company, 1ms to 5s");
const TIMEOUT: Key = Key::new(
    "invalidToken.timeout",
    "5s",
    "how long a message waits for its token's deletion before it is left to the feedback record, 100ms to 60s",
);

const MAX_RETRIES: Key =
    Key::new("invalidToken.pg.maxRetries", "3", "how often a failed DELETE is tried again, 0 to 100");

/// The keys of this room itself.
pub const KEYS: &[Key] = &[HANDLERS_KEY, MAX_SHARE, MIN_ANSWERS, BATCH_SIZE, BATCH_INTERVAL, TIMEOUT, MAX_RETRIES];

/// Builds a handler from its own section of the configuration; its tasks run on the given runtime, and its valves keep their
/// state in the entries.
pub type Factory = fn(&Config, &Handle, Stats, &Control) -> Result<Arc<dyn InvalidTokenHandler>, ConfigError>;

/// The handlers that can be named.
pub const HANDLERS: Registry<Factory> = Registry::new(
    HANDLERS_KEY,
    &[("pg", |config, runtime, stats, control| {
        let settings = Settings::from_config(config)?;
        let pg = postgres::Settings::from_config(config)?;
        let at_once = pg.pool_size as usize;
        let deleter = Arc::new(postgres::Postgres::new(pg, runtime));
        Ok(Arc::new(handler::Handler::start(settings, at_once, deleter, runtime, stats, control)))
    })],
);

/// How tokens are judged, collected and waited for.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// See [`valve`].
    pub max_share: f64,
    /// See [`valve`].
    pub min_answers: u32,
    /// Most tokens of one statement.
    pub batch_size: usize,
    /// How long a token waits for company.
    pub batch_interval: Duration,
    /// How long a receipt waits.
    pub timeout: Duration,
    /// How often a failed statement is tried again.
    pub retries: u32,
}

impl Settings {
    /// Reads and checks the section `invalidToken`.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let max_share: f64 = config.require(&MAX_SHARE)?;
        if !(max_share > 0.0 && max_share <= 1.0) {
            return Err(config.error(&MAX_SHARE, "must be above 0 and at most 1"));
        }
        let min_answers: u32 = config.require(&MIN_ANSWERS)?;
        if !(100..=1_000_000).contains(&min_answers) {
            return Err(config.error(&MIN_ANSWERS, "must be from 100 to 1000000"));
        }
        let batch_size: usize = config.require(&BATCH_SIZE)?;
        if !(1..=10_000).contains(&batch_size) {
            return Err(config.error(&BATCH_SIZE, "must be from 1 to 10000"));
        }
        let batch_interval: Duration = config.require(&BATCH_INTERVAL)?;
        if !(Duration::from_millis(1)..=Duration::from_secs(5)).contains(&batch_interval) {
            return Err(config.error(&BATCH_INTERVAL, "must be from 1ms to 5s"));
        }
        let timeout: Duration = config.require(&TIMEOUT)?;
        if !(Duration::from_millis(100)..=Duration::from_mins(1)).contains(&timeout) || timeout <= batch_interval {
            return Err(config.error(&TIMEOUT, "must be from 100ms to 60s and longer than invalidToken.batch.interval"));
        }
        let retries: u32 = config.require(&MAX_RETRIES)?;
        if retries > 100 {
            return Err(config.error(&MAX_RETRIES, "must be from 0 to 100"));
        }
        Ok(Settings { max_share, min_answers, batch_size, batch_interval, timeout, retries })
    }
}

/// What a statement did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Rows that went: several users can have one token.
    pub rows: u64,
    /// Tokens without a row to delete: gone before, or registered again since.
    pub nonexistent: u64,
}

/// Why a statement did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// The database cannot be reached or does not serve: later, for every table.
    #[error("the database is away: {0}")]
    Away(String),
    /// A conflict with another statement (a deadlock, a lock that was not to be had in time): again, for this table.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The database refuses this statement (table missing, no right): the operator must act.
    #[error("refused: {0}")]
    Refused(String),
    /// The database refuses one of the tokens, or the end of its row (a reference to it): the others would go.
    #[error("refused because of a row: {0}")]
    Row(String),
}

/// Deletes tokens from an app's table.
#[async_trait]
pub trait Deleter: Send + Sync + 'static {
    /// One statement. Tokens come sorted and without doubles; without any it asks whether the table could be deleted from.
    /// See [`in_time`] for the `limit`.
    async fn delete(
        &self,
        app: &str,
        platform: Platform,
        tokens: &[InvalidToken],
        limit: Duration,
    ) -> Result<Deleted, DeleteError>;
    /// What can be proved about the tables of these apps.
    fn proofs(&self, apps: &[(Arc<str>, Platform)]) -> Vec<Proof> {
        let _ = apps;
        Vec::new()
    }
    /// How many rows the app's table has, about; `None` when that is not known. See [`in_time`] for the `limit`.
    async fn rows(&self, app: &str, platform: Platform, limit: Duration) -> Result<Option<u64>, DeleteError>;
    /// Closes connections.
    async fn close(&self);
}

/// A statement's answer; it is given up after `limit`, which it is told.
///
/// A database that serves gives it up itself a little before: a table that is locked, or without an index, is a conflict by
/// the server's own word, and concerns that table alone. What is still unanswered at the limit has met a server, or a way to
/// it, that says nothing at all, and that concerns every table: the database is away.
pub async fn in_time<T, F>(limit: Duration, statement: impl FnOnce(Duration) -> F) -> Result<T, DeleteError>
where
    F: Future<Output = Result<T, DeleteError>>,
{
    let late = |_| Err(DeleteError::Away(format!("no answer within {} ms", limit.as_millis())));
    timeout(limit, statement(limit)).await.unwrap_or_else(late)
}

/// Now, ms since the epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Sorts tokens, for statements that lock rows in one order do not deadlock, and keeps each once: the least cautious of
/// doubles, the one without a time or with the latest, stands for all.
pub fn sorted_once(mut tokens: Vec<InvalidToken>) -> Vec<InvalidToken> {
    let time = |token: &InvalidToken| token.unregistered_at_ms.unwrap_or(i64::MAX);
    tokens.sort_by(|a, b| a.token.cmp(&b.token).then_with(|| time(b).cmp(&time(a))));
    tokens.dedup_by(|later, first| later.token == first.token);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_name_key_and_rule() {
        let wrong = |key, value| Settings::from_config(&Config::from_pairs([(key, value)])).unwrap_err().to_string();
        insta::assert_snapshot!(wrong("invalidToken.maxShare", "30"), @r#"invalidToken.maxShare: "30" must be above 0 and at most 1"#);
        insta::assert_snapshot!(wrong("invalidToken.batch.size", "0"), @r#"invalidToken.batch.size: "0" must be from 1 to 10000"#);
        insta::assert_snapshot!(wrong("invalidToken.timeout", "150ms"), @r#"invalidToken.timeout: "150ms" must be from 100ms to 60s and longer than invalidToken.batch.interval"#);
    }
}
