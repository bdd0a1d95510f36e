//! What can be proved about the token tables: each exists, has a column `token` with an index, and may be deleted from.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgPool, PgRow};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::time::timeout;

use super::super::table::table;
use crate::message::Platform;
use crate::proof::{Finding, Proof};

const SUBJECT: &str = "postgresql";
const TABLE: &str = "token table";
/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

const SERVER: &str = "SELECT current_setting('server_version'), current_user::text";
/// `to_regclass` finds a table as the DELETE would, by the same quoted name, and is null when there is none. An index is of
/// use when `token` is its first column and it holds all rows.
const FACTS: &str = "\
SELECT t.oid IS NOT NULL AS found,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'token' AND NOT a.attisdropped) AS token,
       $2::text IS NULL OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = $2::text
                                   AND NOT a.attisdropped) AS updated_at,
       EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
               WHERE i.indrelid = t.oid AND a.attname = 'token' AND i.indisvalid AND i.indpred IS NULL) AS index,
       coalesce(has_table_privilege(t.oid, 'SELECT') AND has_table_privilege(t.oid, 'DELETE'), false) AS may
FROM (SELECT to_regclass($1)::oid AS oid) t";

/// What is asked about.
pub(super) struct Tables {
    pub(super) pool: PgPool,
    /// Where the configuration says how to reach it.
    pub(super) section: &'static str,
    pub(super) schema: Option<String>,
    /// Quoted.
    pub(super) updated_at: Option<String>,
    pub(super) apps: Vec<(Arc<str>, Platform)>,
}

impl Tables {
    /// One finding for the server and one for each table.
    pub(super) fn proof(self) -> Proof {
        Proof::new(SUBJECT, async move { self.look().await.unwrap_or_else(|error| vec![away(self.section, &error)]) })
    }

    /// With a connection of its own: the pool keeps to itself why it cannot have one.
    async fn look(&self) -> Result<Vec<Finding>, sqlx::Error> {
        let connecting = timeout(PATIENCE, self.pool.connect_options().connect()).await;
        let mut connection = connecting.map_err(|_| sqlx::Error::PoolTimedOut)??;
        let server = sqlx::query(SERVER).fetch_one(&mut connection).await?;
        let (version, user): (String, String) = (server.try_get(0)?, server.try_get(1)?);
        let mut findings = vec![Finding::proved(SUBJECT, format!("version {version} answers user {user}"))];
        let column = self.updated_at.as_deref().map(|quoted| quoted.trim_matches('"'));
        for (app, platform) in &self.apps {
            findings.push(match table(self.schema.as_deref(), app, *platform) {
                Ok(name) => {
                    let row = sqlx::query(FACTS).bind(&name).bind(column).fetch_one(&mut connection).await?;
                    judged(&name, column, &user, &row)?
                }
                Err(error) => Finding::wrong(TABLE, error.to_string()),
            });
        }
        Ok(findings)
    }
}

fn away(section: &str, error: &sqlx::Error) -> Finding {
    let why = match error {
        // The server's own words name a user and a database, and no password.
        sqlx::Error::Database(refusal) => refusal.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => format!("no connection within {PATIENCE:?}"),
        other => other.to_string(),
    };
    Finding::away(SUBJECT, format!("cannot be asked: {why}"))
        .fix(format!("check {section}.*: host, port, user, pass, database, sslmode, connectionTimeout"))
}

fn judged(table: &str, column: Option<&str>, user: &str, row: &PgRow) -> Result<Finding, sqlx::Error> {
    let is = |fact: &str| row.try_get::<bool, _>(fact);
    let wrong = |said: String, fix: String| Ok(Finding::wrong(TABLE, format!("{table} {said}")).fix(fix));
    if !is("found")? {
        let fix = format!("create it, or set invalidToken.pg.schema: CREATE TABLE {table} (token text PRIMARY KEY)");
        return wrong("does not exist".into(), fix);
    }
    if !is("token")? {
        return wrong("has no column token".into(), "rename the column that holds the device tokens".into());
    }
    if !is("updated_at")? {
        let column = column.unwrap_or_default();
        return wrong(
            format!("has no column {column}"),
            "set invalidToken.pg.updatedAtColumn to one of its columns".into(),
        );
    }
    if !is("may")? {
        let said = format!("may not be read and deleted from by {user}");
        return wrong(said, format!("GRANT SELECT, DELETE ON {table} TO \"{user}\""));
    }
    if !is("index")? {
        let said = "has no index on token: each batch of deletions reads it from end to end";
        return wrong(said.into(), format!("CREATE INDEX CONCURRENTLY ON {table} (token)"));
    }
    Ok(Finding::proved(TABLE, format!("{table} may be deleted from, by an index on token")))
}
