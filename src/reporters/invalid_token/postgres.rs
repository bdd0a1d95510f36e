//! `PostgreSQL`, by `sqlx` (the only user of it). One table per app and platform with a column `token`; see
//! [`super::table`]. An index on `token` is the operator's part: without it each batch reads the whole table.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPoolOptions;
use tokio::runtime::Handle;

use super::table::table;
use super::{DeleteError, Deleted, Deleter};
use crate::message::Platform;
use crate::outcome::InvalidToken;
use crate::proof::Proof;

mod sessions;
mod tables;

use sessions::Sessions;
use tables::Tables;

mod config;

pub(crate) use config::section;
pub use config::{IGNORED, KEYS, Section, Settings, WORKER};

/// The rows of a table and its partitions as the planner reckons: those of the last ANALYZE or VACUUM (`reltuples`), scaled to
/// the pages that there are now. NULL while one of them has never been counted, and when there is no such table.
const ROWS: &str = "\
    SELECT CASE WHEN bool_and(reltuples >= 0) THEN sum(CASE WHEN relpages = 0 THEN reltuples ELSE \
        reltuples::float8 / relpages * (pg_relation_size(oid) / current_setting('block_size')::int8) END)::float8 END \
    FROM pg_class WHERE relkind IN ('r', 'm', 'f') \
        AND (oid = to_regclass($1) OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1))))";

/// The database.
#[derive(Debug)]
pub struct Postgres {
    sessions: Sessions,
    section: &'static str,
    schema: Option<String>,
    updated_at: Option<String>,
}

impl Postgres {
    /// A pool that connects at first use, on `runtime`: the database need not be there.
    pub fn new(settings: Settings, runtime: &Handle) -> Self {
        let _inside = runtime.enter();
        let pool = PgPoolOptions::new()
            .max_connections(settings.pool_size)
            .acquire_timeout(settings.acquire_timeout)
            .connect_lazy_with(settings.connect);
        let Settings { section, schema, updated_at, .. } = settings;
        Postgres { sessions: Sessions::new(pool), section, schema, updated_at }
    }

    /// The statement for `table`, which is quoted. Names cannot be parameters; these come from [`super::table`].
    fn statement(&self, table: &str) -> String {
        match &self.updated_at {
            None => format!("DELETE FROM {table} WHERE token = ANY($1) RETURNING token::text"),
            Some(column) => format!(
                "DELETE FROM {table} AS t USING unnest($1::text[], $2::float8[]) AS dead(token, at) \
                 WHERE t.token = dead.token AND (dead.at IS NULL OR t.{column} IS NULL OR t.{column} <= to_timestamp(dead.at)) \
                 RETURNING t.token::text"
            ),
        }
    }
}

#[async_trait]
impl Deleter for Postgres {
    async fn delete(
        &self,
        app: &str,
        platform: Platform,
        tokens: &[InvalidToken],
        limit: Duration,
    ) -> Result<Deleted, DeleteError> {
        let table =
            table(self.schema.as_deref(), app, platform).map_err(|error| DeleteError::Refused(error.to_string()))?;
        // PostgreSQL's text has no NUL: such a token is in no table, and would fail its whole batch.
        let possible = || tokens.iter().filter(|token| !token.token.contains('\0'));
        let names: Vec<&str> = possible().map(|token| token.token.as_str()).collect();
        let mut query = sqlx::query_scalar::<_, String>(AssertSqlSafe(self.statement(&table))).bind(&names);
        if self.updated_at.is_some() {
            let seconds = |ms: i64| ms as f64 / 1000.0;
            query =
                query.bind(possible().map(|token| token.unregistered_at_ms.map(seconds)).collect::<Vec<Option<f64>>>());
        }
        let rows = self.sessions.answer(query, limit).await?;
        let gone: HashSet<&str> = rows.iter().map(String::as_str).collect();
        Ok(Deleted { rows: rows.len() as u64, nonexistent: (tokens.len() - gone.len()) as u64 })
    }

    async fn rows(&self, app: &str, platform: Platform, limit: Duration) -> Result<Option<u64>, DeleteError> {
        let table =
            table(self.schema.as_deref(), app, platform).map_err(|error| DeleteError::Refused(error.to_string()))?;
        let rows: Vec<Option<f64>> = self.sessions.answer(sqlx::query_scalar(ROWS).bind(table), limit).await?;
        Ok(rows.first().copied().flatten().map(|rows| rows as u64))
    }

    fn proofs(&self, apps: &[(Arc<str>, Platform)]) -> Vec<Proof> {
        let (pool, schema, updated_at) = (self.sessions.pool.clone(), self.schema.clone(), self.updated_at.clone());
        vec![Tables { pool, section: self.section, schema, updated_at, apps: apps.to_vec() }.proof()]
    }

    async fn close(&self) {
        self.sessions.pool.close().await;
    }
}

/// What an error asks for, by SQLSTATE (`PostgreSQL` documentation, appendix A). The text names no token: a database's
/// detail and hint, which may, are left out.
fn understood(error: &sqlx::Error) -> DeleteError {
    let Some(refusal) = error.as_database_error() else { return DeleteError::Away(error.to_string()) };
    let code = refusal.code().unwrap_or_default();
    let text = format!("{} (SQLSTATE {code})", refusal.message());
    match &*code {
        // Also a lock that was not to be had, a statement that took too long for the server's patience, and a transaction whose
        // end did.
        "40P01" | "40001" | "55P03" | "57014" | "25P03" => DeleteError::Conflict(text),
        // Connection, resources, operator intervention, system; wrong password or database; read-only after a failover.
        "25006" => DeleteError::Away(text),
        code if ["08", "28", "3D", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            DeleteError::Away(text)
        }
        // Data that the database cannot hold, a constraint, an exception of a trigger.
        code if ["22", "23", "P0"].iter().any(|class| code.starts_with(class)) => DeleteError::Row(text),
        _ => DeleteError::Refused(text),
    }
}
