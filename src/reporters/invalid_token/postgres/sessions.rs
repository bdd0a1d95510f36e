//! Sessions at work: one statement each, which the server ends itself shortly before its asker gives it up, and which leaves
//! no place taken when it is given up all the same.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::query::QueryScalar;
use sqlx::{AssertSqlSafe, Connection as _, FromRow};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::understood;
use crate::reporters::invalid_token::DeleteError;

/// At most so much earlier than its asker the server gives a statement up: its word must have time to arrive.
const EARLIER: Duration = Duration::from_secs(1);

/// A pool, and a place in it for each statement.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) pool: PgPool,
    /// As many as the pool has connections. Without them a statement that finds all sessions at work would fail as one that
    /// finds no server does.
    places: Semaphore,
}

impl Sessions {
    pub(super) fn new(pool: PgPool) -> Self {
        let places = Semaphore::new(pool.options().get_max_connections() as usize);
        Sessions { pool, places }
    }

    /// All rows of a statement, once it has committed. Its asker gives it up after `limit`.
    pub(super) async fn answer<O>(
        &self,
        statement: QueryScalar<'_, sqlx::Postgres, O, PgArguments>,
        limit: Duration,
    ) -> Result<Vec<O>, DeleteError>
    where
        (O,): for<'r> FromRow<'r, PgRow>,
        O: Send + Unpin,
    {
        let end = Instant::now() + patience(limit);
        let Ok(Ok(place)) = timeout_at(end, self.places.acquire()).await else {
            return Err(DeleteError::Conflict("all sessions are at work on other statements".into()));
        };
        let connection = self.pool.acquire().await.map_err(|error| understood(&error))?;
        let mut session = Session { connection, is_reusable: false, _place: place };
        let left = end.saturating_duration_since(Instant::now());
        let answer = committed(&mut session.connection, statement, left).await.map_err(|error| understood(&error));
        // What is away may be the session alone: one that began while all were read-only stays so for good.
        session.is_reusable = !matches!(answer, Err(DeleteError::Away(_)));
        answer
    }
}

/// A session and its place. Without an answer to its statement it is closed: a pool that gets it back asks first whether it
/// lives, and waits for the answer as long as TCP does.
struct Session<'a> {
    connection: PoolConnection<sqlx::Postgres>,
    is_reusable: bool,
    _place: SemaphorePermit<'a>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.is_reusable {
            self.connection.close_on_drop();
        }
    }
}

/// In a transaction, for the server's patience to hold for this statement alone: a pooler between us takes no options of a
/// session, and gives a session's settings to its next user.
async fn committed<O>(
    connection: &mut PgConnection,
    statement: QueryScalar<'_, sqlx::Postgres, O, PgArguments>,
    patience: Duration,
) -> Result<Vec<O>, sqlx::Error>
where
    (O,): for<'r> FromRow<'r, PgRow>,
    O: Send + Unpin,
{
    let mut transaction = connection.begin_with(AssertSqlSafe(begin(patience))).await?;
    let rows = statement.fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(rows)
}

/// One message, one round trip. Who waits for a lock does not notice that its client has left: only the time ends it. The
/// second setting frees the rows that a process has deleted which was frozen, or whose host was lost, before it could commit.
/// A shorter time of the operator's own, which he gave to the role or the database, stays.
fn begin(patience: Duration) -> String {
    // None would be no limit.
    let ms = patience.as_millis().max(1);
    let setting = |name: &str| {
        format!(
            "SELECT set_config('{name}', CASE WHEN current_setting('{name}')::interval BETWEEN '1 ms' AND '{ms} ms' \
             THEN current_setting('{name}') ELSE '{ms}' END, true);"
        )
    };
    format!("BEGIN; {} {}", setting("statement_timeout"), setting("idle_in_transaction_session_timeout"))
}

/// How long the server may try, of the time after which its asker gives up.
fn patience(limit: Duration) -> Duration {
    limit.saturating_sub((limit / 10).min(EARLIER))
}
