//! `PostgreSQL`, by `sqlx` (the only user of it). One table per app and platform with a column `token`; see
//! [`super::table`]. An index on `token` is the operator's part: without it each batch reads the whole table.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use tokio::runtime::Handle;

use super::table::{quoted, table};
use super::{DeleteError, Deleted, Deleter};
use crate::config::{Config, ConfigError, Ignored, Key};
use crate::message::Platform;
use crate::outcome::InvalidToken;
use crate::proof::Proof;

mod tables;

use tables::Tables;

const HOST: Key = Key::new("invalidToken.pg.host", "localhost", "host of PostgreSQL");
const PORT: Key = Key::new("invalidToken.pg.port", "5432", "port of PostgreSQL");
const USER: Key =
    Key::optional("invalidToken.pg.user", "user of PostgreSQL; needs DELETE and SELECT on the token tables");
const PASS: Key = Key::optional("invalidToken.pg.pass", "password of PostgreSQL").secret();
const DATABASE: Key = Key::optional("invalidToken.pg.database", "database with the token tables");
const SCHEMA: Key =
    Key::optional("invalidToken.pg.schema", "schema of the token tables; unset: as search_path finds them");
const POOL_SIZE: Key =
    Key::new("invalidToken.pg.poolSize", "4", "most connections, 1 to 100; deletions are batched, few are enough");
const MAX_RETRIES: Key =
    Key::new("invalidToken.pg.maxRetries", "3", "how often a failed DELETE is tried again, 0 to 100");
const CONNECTION_TIMEOUT: Key =
    Key::new("invalidToken.pg.connectionTimeout", "1000", "how long to wait for a connection, ms, 10 to 60000");
const SSLMODE: Key = Key::new(
    "invalidToken.pg.sslmode",
    "prefer",
    "disable, allow, prefer, require, verify-ca or verify-full; true: require, false: disable",
);
const UPDATED_AT: Key = Key::optional(
    "invalidToken.pg.updatedAtColumn",
    "timestamp column of a row's last registration: a row newer than the provider's time of death survives",
);

/// The keys of this handler.
pub const KEYS: &[Key] =
    &[HOST, PORT, USER, PASS, DATABASE, SCHEMA, POOL_SIZE, MAX_RETRIES, CONNECTION_TIMEOUT, SSLMODE, UPDATED_AT];

/// Keys of the original that are accepted without effect, and why.
pub const IGNORED: &[Ignored] = &[Ignored {
    name: "invalidToken.pg.table",
    because: "each app and platform has its own table; one for all would delete in the wrong one",
}];

/// How to reach the database, and the names in it.
#[derive(Clone)]
pub struct Settings {
    connect: PgConnectOptions,
    /// Most connections.
    pub pool_size: u32,
    /// How often a failed statement is tried again.
    pub max_retries: u32,
    acquire_timeout: Duration,
    schema: Option<String>,
    /// Quoted.
    updated_at: Option<String>,
}

impl std::fmt::Debug for Settings {
    /// Without the connection's options: they hold the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.connect.get_host())
            .field("port", &self.connect.get_port())
            .field("database", &self.connect.get_database())
            .field("pool_size", &self.pool_size)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads and checks the section `invalidToken.pg`.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let pool_size: u32 = config.require(&POOL_SIZE)?;
        if !(1..=100).contains(&pool_size) {
            return Err(config.error(&POOL_SIZE, "must be from 1 to 100"));
        }
        let max_retries: u32 = config.require(&MAX_RETRIES)?;
        if max_retries > 100 {
            return Err(config.error(&MAX_RETRIES, "must be from 0 to 100"));
        }
        let acquire_timeout = config.millis(&CONNECTION_TIMEOUT)?.unwrap_or(Duration::from_secs(1));
        if !(Duration::from_millis(10)..=Duration::from_mins(1)).contains(&acquire_timeout) {
            return Err(config.error(&CONNECTION_TIMEOUT, "must be from 10 to 60000 ms"));
        }
        let schema: Option<String> = config.get(&SCHEMA)?;
        if let Some(schema) = &schema {
            quoted(schema).map_err(|error| config.error(&SCHEMA, format!("is refused: {error}")))?;
        }
        let updated_at: Option<String> = config.get(&UPDATED_AT)?;
        let updated_at = updated_at
            .map(|column| quoted(&column).map_err(|error| config.error(&UPDATED_AT, format!("is refused: {error}"))))
            .transpose()?;
        let connect = connect_options(config)?;
        Ok(Settings { connect, pool_size, max_retries, acquire_timeout, schema, updated_at })
    }
}

fn connect_options(config: &Config) -> Result<PgConnectOptions, ConfigError> {
    let host: String = config.require(&HOST)?;
    let user: String = config.require(&USER)?;
    let database: String = config.require(&DATABASE)?;
    let mode: String = config.require(&SSLMODE)?;
    let mode = match mode.to_ascii_lowercase().as_str() {
        "true" => PgSslMode::Require,
        "false" => PgSslMode::Disable,
        named => named.parse().map_err(|_| {
            config.error(&SSLMODE, "must be disable, allow, prefer, require, verify-ca, verify-full, true or false")
        })?,
    };
    let options = PgConnectOptions::new_without_pgpass()
        .host(&host)
        .port(config.require(&PORT)?)
        .username(&user)
        .database(&database)
        .ssl_mode(mode)
        .application_name("pusher");
    let pass: Option<String> = config.get(&PASS)?;
    Ok(match pass {
        Some(pass) => options.password(&pass),
        None => options,
    })
}

/// The database.
#[derive(Debug)]
pub struct Postgres {
    pool: PgPool,
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
        Postgres { pool, schema: settings.schema, updated_at: settings.updated_at }
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
    async fn delete(&self, app: &str, platform: Platform, tokens: &[InvalidToken]) -> Result<Deleted, DeleteError> {
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
        let rows = query.fetch_all(&self.pool).await.map_err(|error| understood(&error))?;
        let gone: HashSet<&str> = rows.iter().map(String::as_str).collect();
        Ok(Deleted { rows: rows.len() as u64, nonexistent: (tokens.len() - gone.len()) as u64 })
    }

    fn proofs(&self, apps: &[(Arc<str>, Platform)]) -> Vec<Proof> {
        let (pool, schema, updated_at) = (self.pool.clone(), self.schema.clone(), self.updated_at.clone());
        vec![Tables { pool, schema, updated_at, apps: apps.to_vec() }.proof()]
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// What an error asks for, by SQLSTATE (`PostgreSQL` documentation, appendix A). The text names no token: a database's
/// detail and hint, which may, are left out.
fn understood(error: &sqlx::Error) -> DeleteError {
    let Some(refusal) = error.as_database_error() else { return DeleteError::Away(error.to_string()) };
    let code = refusal.code().unwrap_or_default();
    let text = format!("{} (SQLSTATE {code})", refusal.message());
    match &*code {
        "40P01" | "40001" => DeleteError::Conflict(text),
        // Connection, resources, operator intervention, system; wrong password or database; read-only after a failover.
        "25006" => DeleteError::Away(text),
        code if ["08", "28", "3D", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            DeleteError::Away(text)
        }
        _ => DeleteError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: (&'static str, &'static str)) -> Config {
        Config::from_pairs([
            ("invalidToken.pg.user", "u"),
            ("invalidToken.pg.database", "d"),
            ("invalidToken.pg.pass", "hunter2"),
            more,
        ])
    }

    #[test]
    fn wrong_values_name_key_and_rule() {
        let wrong = |key, value| Settings::from_config(&config((key, value))).unwrap_err().to_string();
        insta::assert_snapshot!(wrong("invalidToken.pg.sslmode", "maybe"), @r#"invalidToken.pg.sslmode: "maybe" must be disable, allow, prefer, require, verify-ca, verify-full, true or false"#);
        insta::assert_snapshot!(wrong("invalidToken.pg.updatedAtColumn", "a b"), @r#"invalidToken.pg.updatedAtColumn: "a b" is refused: "a b" cannot be a table or column: only letters, digits, _ and - are allowed, not first a digit or -"#);
        insta::assert_snapshot!(Settings::from_config(&Config::default()).unwrap_err(), @"invalidToken.pg.user: must be set");
    }

    #[test]
    fn the_password_does_not_show() {
        let settings = Settings::from_config(&config(("invalidToken.pg.sslmode", "true"))).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert!(matches!(settings.connect.get_ssl_mode(), PgSslMode::Require));
    }
}
