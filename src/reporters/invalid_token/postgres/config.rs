//! Sections such as `invalidToken.pg`: how to reach the database, and the names in it.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::{Config, ConfigError, Ignored, Key};
use crate::reporters::invalid_token::table::quoted;

/// The keys of one user of the database: the worker, and what deletes tokens besides it.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// What the names of its keys begin with.
    name: &'static str,
    host: Key,
    port: Key,
    user: Key,
    pass: Key,
    database: Key,
    schema: Key,
    pool_size: Key,
    connection_timeout: Key,
    sslmode: Key,
    updated_at: Key,
}

/// The section of this name (a literal, for keys are constants).
macro_rules! section {
    ($name:literal) => {
        $crate::reporters::invalid_token::postgres::Section::new(
            $name,
            [
                concat!($name, ".host"),
                concat!($name, ".port"),
                concat!($name, ".user"),
                concat!($name, ".pass"),
                concat!($name, ".database"),
                concat!($name, ".schema"),
                concat!($name, ".poolSize"),
                concat!($name, ".connectionTimeout"),
                concat!($name, ".sslmode"),
                concat!($name, ".updatedAtColumn"),
            ],
        )
    };
}
pub(crate) use section;

impl Section {
    /// See [`section!`].
    pub(crate) const fn new(name: &'static str, names: [&'static str; 10]) -> Section {
        let [host, port, user, pass, database, schema, pool_size, connection_timeout, sslmode, updated_at] = names;
        Section {
            name,
            host: Key::new(host, "localhost", "host of PostgreSQL"),
            port: Key::new(port, "5432", "port of PostgreSQL"),
            user: Key::optional(user, "user of PostgreSQL; needs DELETE and SELECT on the token tables"),
            pass: Key::optional(pass, "password of PostgreSQL").secret(),
            database: Key::optional(database, "database with the token tables"),
            schema: Key::optional(schema, "schema of the token tables; unset: as search_path finds them"),
            pool_size: Key::new(pool_size, "4", "most connections, 1 to 100; deletions are batched, few are enough"),
            connection_timeout: Key::new(
                connection_timeout,
                "1000",
                "how long to wait for a connection, ms, 10 to 60000",
            ),
            sslmode: Key::new(
                sslmode,
                "prefer",
                "disable, allow, prefer, require, verify-ca or verify-full; true: require, false: disable",
            ),
            updated_at: Key::optional(
                updated_at,
                "timestamp column of a row's last registration: a row newer than the provider's time of death survives",
            ),
        }
    }

    /// Its keys, in the order of the documentation.
    pub const fn keys(&self) -> [Key; 10] {
        [
            self.host,
            self.port,
            self.user,
            self.pass,
            self.database,
            self.schema,
            self.pool_size,
            self.connection_timeout,
            self.sslmode,
            self.updated_at,
        ]
    }
}

/// The worker's section.
pub const WORKER: Section = section!("invalidToken.pg");

/// The keys of this handler.
pub const KEYS: &[Key] = &WORKER.keys();

/// Keys of the original that are accepted without effect, and why.
pub const IGNORED: &[Ignored] = &[Ignored {
    name: "invalidToken.pg.table",
    because: "each app and platform has its own table; one for all would delete in the wrong one",
}];

/// How to reach the database, and the names in it.
#[derive(Clone)]
pub struct Settings {
    pub(super) section: &'static str,
    pub(super) connect: PgConnectOptions,
    /// Most connections.
    pub pool_size: u32,
    pub(super) acquire_timeout: Duration,
    pub(super) schema: Option<String>,
    /// Quoted.
    pub(super) updated_at: Option<String>,
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
    /// Reads and checks the worker's section.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        Settings::read(config, &WORKER)
    }

    /// Reads and checks a section.
    pub fn read(config: &Config, section: &Section) -> Result<Self, ConfigError> {
        let pool_size: u32 = config.require(&section.pool_size)?;
        if !(1..=100).contains(&pool_size) {
            return Err(config.error(&section.pool_size, "must be from 1 to 100"));
        }
        let acquire_timeout = config.millis(&section.connection_timeout)?.unwrap_or(Duration::from_secs(1));
        if !(Duration::from_millis(10)..=Duration::from_mins(1)).contains(&acquire_timeout) {
            return Err(config.error(&section.connection_timeout, "must be from 10 to 60000 ms"));
        }
        let schema: Option<String> = config.get(&section.schema)?;
        if let Some(schema) = &schema {
            quoted(schema).map_err(|error| config.error(&section.schema, format!("is refused: {error}")))?;
        }
        let updated_at: Option<String> = config.get(&section.updated_at)?;
        let updated_at = updated_at
            .map(|column| {
                quoted(&column).map_err(|error| config.error(&section.updated_at, format!("is refused: {error}")))
            })
            .transpose()?;
        let connect = connect_options(config, section)?;
        Ok(Settings { section: section.name, connect, pool_size, acquire_timeout, schema, updated_at })
    }
}

fn connect_options(config: &Config, section: &Section) -> Result<PgConnectOptions, ConfigError> {
    let host: String = config.require(&section.host)?;
    let user: String = config.require(&section.user)?;
    let database: String = config.require(&section.database)?;
    let mode: String = config.require(&section.sslmode)?;
    let mode = match mode.to_ascii_lowercase().as_str() {
        "true" => PgSslMode::Require,
        "false" => PgSslMode::Disable,
        named => named.parse().map_err(|_| {
            config.error(
                &section.sslmode,
                "must be disable, allow, prefer, require, verify-ca, verify-full, true or false",
            )
        })?,
    };
    let options = PgConnectOptions::new_without_pgpass()
        .host(&host)
        .port(config.require(&section.port)?)
        .username(&user)
        .database(&database)
        .ssl_mode(mode)
        .application_name("pusher");
    let pass: Option<String> = config.get(&section.pass)?;
    Ok(match pass {
        Some(pass) => options.password(&pass),
        None => options,
    })
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
