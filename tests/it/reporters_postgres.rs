//! Dead tokens against a real `PostgreSQL`: the one that `PUSHER_TEST_POSTGRES` names (a URL of a superuser), or one of
//! our own that lives as long as this test process.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pusher::config::Config;
use pusher::control::Control;
use pusher::message::{Lane, Origin, Platform};
use pusher::outcome::InvalidToken;
use pusher::reporters::invalid_token::postgres::{Postgres, Settings};
use pusher::reporters::invalid_token::{DeleteError, Deleted, Deleter};
use pusher::reporters::{Deletion, Reporters};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::runtime::Handle;

use crate::support::ear::Ear;
use crate::support::proxy::{Proxy, Way};

const APNS: Platform = Platform("apns");
const LIMIT: Duration = Duration::from_secs(5);

/// A server of our own: a shell starts it and stops it when our end of its standard input closes, however we end.
fn server() -> PgConnectOptions {
    static SERVER: OnceLock<(PgConnectOptions, Option<Child>)> = OnceLock::new();
    let start = || match std::env::var("PUSHER_TEST_POSTGRES") {
        Ok(url) => (url.parse().expect("PUSHER_TEST_POSTGRES: a postgres:// URL"), None),
        Err(_) => own_server(),
    };
    SERVER.get_or_init(start).0.clone()
}

const RUN: &str = r#"
set -e
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
"$1/initdb" -D "$data/db" -U postgres -A trust >/dev/null
"$1/postgres" -D "$data/db" -p "$2" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$data" -c fsync=off >"$data/log" 2>&1 &
server=$!
cat >/dev/null
kill -INT $server
wait $server
"#;

fn own_server() -> (PgConnectOptions, Option<Child>) {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let programs = versions.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists());
    let programs = programs.expect("PostgreSQL's programs: apt-get install -y postgresql, or set PUSHER_TEST_POSTGRES");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut shell = if root { Command::new("runuser") } else { Command::new("sh") };
    if root {
        // PostgreSQL refuses to run as root.
        shell.args(["-u", "postgres", "--", "sh"]);
    }
    let shell = shell.args(["-c", RUN, "sh"]).arg(&programs).arg(port.to_string());
    let child = shell.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_mins(1), "PostgreSQL did not start");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username("postgres");
    (options.database("postgres"), Some(child))
}

async fn connect() -> PgConnection {
    let begun = Instant::now();
    loop {
        match PgConnection::connect_with(&server()).await {
            Ok(connection) => return connection,
            // The port is open a moment before logins are taken.
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A schema of the test's own, with the original's table and some rows.
async fn schema(name: &str, table: &str, tokens: &[&str]) -> PgConnection {
    let mut db = connect().await;
    let make = format!(
        "DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}; SET search_path = {name};
         CREATE TABLE \"{table}\" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text, token text, region text,
                                   locale text, tz text, updated_at timestamptz);"
    );
    db.execute(AssertSqlSafe(make)).await.unwrap();
    for token in tokens {
        let insert = format!("INSERT INTO \"{table}\" (token) VALUES ($1)");
        sqlx::query(AssertSqlSafe(insert)).bind(*token).execute(&mut db).await.unwrap();
    }
    db
}

async fn left(db: &mut PgConnection, table: &str) -> Vec<String> {
    let select = format!("SELECT token FROM \"{table}\" ORDER BY token");
    sqlx::query_scalar(AssertSqlSafe(select)).fetch_all(db).await.unwrap()
}

fn config(schema: &str, port: Option<u16>, more: &[(&'static str, &'static str)]) -> Config {
    let server = server();
    let port = port.unwrap_or(server.get_port()).to_string();
    let mut pairs = vec![
        ("invalidToken.handlers", "pg"),
        ("invalidToken.pg.host", server.get_host()),
        ("invalidToken.pg.port", &port),
        ("invalidToken.pg.user", server.get_username()),
        ("invalidToken.pg.database", server.get_database().unwrap_or("postgres")),
        ("invalidToken.pg.schema", schema),
    ];
    pairs.extend(more);
    Config::from_pairs(pairs)
}

fn deleter(schema: &str, more: &[(&'static str, &'static str)]) -> Postgres {
    Postgres::new(Settings::from_config(&config(schema, None, more)).unwrap(), &Handle::current())
}

fn dead(tokens: &[(&str, Option<i64>)]) -> Vec<InvalidToken> {
    tokens.iter().map(|(token, at)| InvalidToken { token: (*token).into(), unregistered_at_ms: *at }).collect()
}

fn origin(app: &str) -> Origin {
    Origin { topic: "push".into(), partition: 0, app: app.into(), platform: APNS, lane: Lane::Single }
}

/// Answers enough that the valve is sure.
fn healthy(reporters: &Reporters, origin: &Origin) {
    (0..1000).for_each(|_| reporters.observe(origin, false));
}

#[tokio::test]
async fn rows_of_dead_tokens_go_and_only_those() {
    let mut db = schema("t_rows", "my-game_apns", &["a", "a", "b", "c"]).await;
    let postgres = deleter("t_rows", &[]);
    let tokens = dead(&[("a", None), ("b", Some(1)), ("gone", None), ("nul\0", None), ("q'uote", None)]);
    let deleted = postgres.delete("My-Game", APNS, &tokens, LIMIT).await;
    assert_eq!(deleted, Ok(Deleted { rows: 3, nonexistent: 3 }));
    assert_eq!(left(&mut db, "my-game_apns").await, ["c"]);
}

#[tokio::test]
async fn a_token_registered_again_after_its_death_survives() {
    let mut db = schema("t_updated", "game_apns", &["early", "late", "never", "untimed"]).await;
    db.execute(
        "UPDATE game_apns SET updated_at = CASE token WHEN 'early' THEN to_timestamp(1000) WHEN 'never' THEN NULL \
         ELSE to_timestamp(3000) END",
    )
    .await
    .unwrap();
    let postgres = deleter("t_updated", &[("invalidToken.pg.updatedAtColumn", "updated_at")]);
    let at = Some(2_000_000);
    let tokens = dead(&[("early", at), ("late", at), ("never", at), ("untimed", None)]);
    assert_eq!(postgres.delete("game", APNS, &tokens, LIMIT).await, Ok(Deleted { rows: 3, nonexistent: 1 }));
    assert_eq!(left(&mut db, "game_apns").await, ["late"]);
}

#[tokio::test]
async fn a_missing_table_is_refused_by_name_and_without_the_token() {
    schema("t_missing", "game_apns", &[]).await;
    let error = deleter("t_missing", &[]).delete("other", APNS, &dead(&[("secret", None)]), LIMIT).await.unwrap_err();
    assert!(
        matches!(&error, DeleteError::Refused(text) if text.contains("other_apns") && text.contains("42P01")),
        "{error}"
    );
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn a_deadlock_is_tried_again_until_the_rows_are_gone() {
    let mut db = schema("t_deadlock", "game_apns", &["a", "b"]).await;
    let reporters =
        Reporters::from_config(&config("t_deadlock", None, &[]), &Handle::current(), &Control::in_memory()).unwrap();
    let origin = Arc::new(origin("game"));
    healthy(&reporters, &origin);
    // We hold b and shall want a; the statement holds a and wants b. Its session finds the deadlock first.
    db.execute("SET deadlock_timeout = '60s'; BEGIN; UPDATE game_apns SET tz = 'x' WHERE token = 'b'").await.unwrap();
    let tasks: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|token| {
            let (reporters, origin) = (reporters.clone(), origin.clone());
            tokio::spawn(async move { reporters.invalid_token(&origin, &dead(&[(token, None)])[0]).await })
        })
        .collect();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%t_deadlock%token = ANY%'";
    let mut other = connect().await;
    let begun = Instant::now();
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut other).await.unwrap() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the statement never waited for our lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    db.execute("UPDATE game_apns SET tz = 'x' WHERE token = 'a'; COMMIT").await.unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Some(Deletion::Done));
    }
    assert!(left(&mut db, "game_apns").await.is_empty());
}

#[tokio::test]
async fn an_absent_database_defers_and_one_that_comes_is_used() {
    let mut db = schema("t_absent", "game_apns", &["a", "b"]).await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = config(
        "t_absent",
        Some(port),
        &[("invalidToken.pg.maxRetries", "0"), ("invalidToken.pg.connectionTimeout", "300")],
    );
    let reporters = Reporters::from_config(&config, &Handle::current(), &Control::in_memory()).unwrap();
    let origin = origin("game");
    healthy(&reporters, &origin);
    let begun = Instant::now();
    assert_eq!(reporters.invalid_token(&origin, &dead(&[("a", None)])[0]).await, Some(Deletion::Deferred));
    assert!(begun.elapsed() < Duration::from_secs(5));

    // The way to the real server opens.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let address = (server().get_host().to_owned(), server().get_port());
    tokio::spawn(async move {
        while let Ok((mut inward, _)) = listener.accept().await {
            let mut outward = tokio::net::TcpStream::connect((address.0.as_str(), address.1)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inward, &mut outward).await });
        }
    });
    until_deleted(&reporters, &origin, "b").await;
    assert_eq!(left(&mut db, "game_apns").await, ["a"]);
}

/// Deletes one token of the app's, however often it takes until the database does it.
async fn until_deleted(reporters: &Reporters, origin: &Origin, token: &str) {
    let begun = Instant::now();
    while reporters.invalid_token(origin, &dead(&[(token, None)])[0]).await != Some(Deletion::Done) {
        assert!(begun.elapsed() < Duration::from_secs(20), "never used again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// As after a failover to a standby, or with a full disk.
#[tokio::test]
async fn a_read_only_database_defers_says_so_once_and_is_used_again() {
    let mut admin = connect().await;
    for sql in ["DROP DATABASE IF EXISTS t_read_only WITH (FORCE)", "CREATE DATABASE t_read_only"] {
        admin.execute(sql).await.unwrap();
    }
    let mut db = PgConnection::connect_with(&server().database("t_read_only")).await.unwrap();
    db.execute("CREATE TABLE game_apns (token text); INSERT INTO game_apns VALUES ('a'), ('b'), ('c')").await.unwrap();
    admin.execute("ALTER DATABASE t_read_only SET default_transaction_read_only = on").await.unwrap();
    let more = [("invalidToken.pg.database", "t_read_only"), ("invalidToken.pg.maxRetries", "1")];
    let config = config("public", None, &more);
    let (ear, control) = (Ear::new(), Control::in_memory());
    let reporters = Reporters::from_config(&config, &Handle::current(), &control).unwrap();
    let origin = origin("game");
    healthy(&reporters, &origin);
    let begun = Instant::now();
    // Asked again after a pause, and refused again.
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(reporters.invalid_token(&origin, &dead(&[("a", None)])[0]).await, Some(Deletion::Deferred));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    admin.execute("ALTER DATABASE t_read_only RESET default_transaction_read_only").await.unwrap();
    until_deleted(&reporters, &origin, "b").await;
    assert_eq!(left(&mut db, "game_apns").await, ["a", "c"]);
    let said = ear.text();
    assert_eq!(ear.times("dead tokens cannot be deleted: they are left to the feedback records"), 1, "{said}");
    assert!(said.contains("SQLSTATE 25006"), "{said}");
    assert_eq!(ear.times("the database of tokens serves again"), 1, "{said}");
    reporters.close(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_missing_table_defers_says_so_once_and_leaves_the_others_alone() {
    let mut db = schema("t_no_table", "game_apns", &["a"]).await;
    let (ear, control) = (Ear::new(), Control::in_memory());
    let reporters = Reporters::from_config(&config("t_no_table", None, &[]), &Handle::current(), &control).unwrap();
    let (game, other) = (origin("game"), origin("other"));
    for origin in [&game, &other] {
        healthy(&reporters, origin);
    }
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(reporters.invalid_token(&other, &dead(&[("x", None)])[0]).await, Some(Deletion::Deferred));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "no push waits for what only a person can mend");
    assert_eq!(reporters.invalid_token(&game, &dead(&[("a", None)])[0]).await, Some(Deletion::Done));
    assert!(left(&mut db, "game_apns").await.is_empty());
    db.execute("CREATE TABLE other_apns (token text)").await.unwrap();
    until_deleted(&reporters, &other, "x").await;
    let said = ear.text();
    assert_eq!(ear.times("dead tokens of this app cannot be deleted"), 1, "{said}");
    assert!(said.contains("other_apns") && said.contains("SQLSTATE 42P01"), "{said}");
    assert_eq!(ear.times("dead tokens are deleted again"), 1, "{said}");
    reporters.close(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_wrong_host_keeps_the_table_but_for_a_few_rows() {
    let names: Vec<String> = (0..1500).map(|n| format!("{n:05}")).collect();
    let mut db = schema("t_valve", "game_apns", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let reporters =
        Reporters::from_config(&config("t_valve", None, &[]), &Handle::current(), &Control::in_memory()).unwrap();
    let origin = Arc::new(origin("game"));
    let mut tasks = Vec::new();
    for name in names {
        reporters.observe(&origin, true);
        let (reporters, origin) = (reporters.clone(), origin.clone());
        tasks.push(tokio::spawn(async move { reporters.invalid_token(&origin, &dead(&[(&name, None)])[0]).await }));
        tokio::task::yield_now().await;
    }
    let mut withheld = 0;
    for task in tasks {
        withheld += usize::from(task.await.unwrap() == Some(Deletion::Withheld));
    }
    assert_eq!(left(&mut db, "game_apns").await.len(), 1490);
    assert_eq!(withheld, 1490);
    reporters.close(Duration::from_secs(5)).await;
}

/// A database of the test's own, with these tables of one token each, `x`.
async fn database(name: &'static str, tables: &[&str]) -> PgConnection {
    let mut admin = connect().await;
    for sql in [format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")] {
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let mut db = PgConnection::connect_with(&server().database(name)).await.unwrap();
    for table in tables {
        let make = format!("CREATE TABLE {table} (token text); INSERT INTO {table} VALUES ('x')");
        db.execute(AssertSqlSafe(make)).await.unwrap();
    }
    db
}

/// Few sessions, and a statement for each token.
fn narrow(database: &'static str, port: Option<u16>, timeout: &'static str) -> Config {
    let more = [
        ("invalidToken.pg.database", database),
        ("invalidToken.pg.poolSize", "2"),
        ("invalidToken.pg.maxRetries", "1"),
        ("invalidToken.timeout", timeout),
        ("invalidToken.batch.size", "1"),
        ("invalidToken.batch.interval", "1ms"),
    ];
    config("public", port, &more)
}

/// So many tokens of an app, all at once.
async fn all_at_once(reporters: &Reporters, origin: &Arc<Origin>, tokens: usize) -> Vec<Option<Deletion>> {
    let tasks: Vec<_> = (0..tokens)
        .map(|n| {
            let (reporters, origin) = (reporters.clone(), origin.clone());
            tokio::spawn(async move { reporters.invalid_token(&origin, &dead(&[(&n.to_string(), None)])[0]).await })
        })
        .collect();
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.await.unwrap());
    }
    ends
}

/// The worker's sessions at the server: all of them, and those that wait for a lock.
async fn sessions(admin: &mut PgConnection, database: &str) -> (i64, i64) {
    let select = "SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') FROM pg_stat_activity \
                  WHERE application_name = 'pusher' AND datname = $1";
    sqlx::query_as(select).bind(database).fetch_one(admin).await.unwrap()
}

/// As while somebody alters it.
#[tokio::test]
async fn a_locked_table_holds_no_session_and_no_other_table_up() {
    let (mut db, mut admin) = (database("t_locked", &["game_apns", "other_apns"]).await, connect().await);
    let (ear, control) = (Ear::new(), Control::in_memory());
    let reporters = Reporters::from_config(&narrow("t_locked", None, "1s"), &Handle::current(), &control).unwrap();
    let (game, other) = (Arc::new(origin("game")), Arc::new(origin("other")));
    for origin in [&game, &other] {
        healthy(&reporters, origin);
    }
    db.execute("BEGIN; LOCK TABLE game_apns").await.unwrap();
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(6) {
        assert_eq!(all_at_once(&reporters, &game, 6).await, [Some(Deletion::Deferred); 6]);
        let asked = Instant::now();
        assert_eq!(all_at_once(&reporters, &other, 2).await, [Some(Deletion::Done); 2]);
        assert!(asked.elapsed() < Duration::from_millis(700), "{:?}", asked.elapsed());
        most = most.max(sessions(&mut admin, "t_locked").await.0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((1..=2).contains(&most), "{most} sessions of at most 2");
    assert_eq!(sessions(&mut admin, "t_locked").await.1, 0, "nobody waits whose asker has gone");
    db.execute("COMMIT").await.unwrap();
    until_deleted(&reporters, &game, "x").await;
    assert!(left(&mut db, "game_apns").await.is_empty());
    let said = ear.text();
    assert_eq!(ear.times("dead tokens of this app cannot be deleted"), 1, "{said}");
    assert!(said.contains("SQLSTATE 57014"), "{said}");
    assert_eq!(ear.times("dead tokens are deleted again"), 1, "{said}");
    assert_eq!(ear.times("dead tokens cannot be deleted"), 0, "the database is there: {said}");
    reporters.close(Duration::from_secs(5)).await;
}

/// As a host that is lost with all that it was asked.
#[tokio::test]
async fn a_server_that_falls_silent_over_statements_is_used_as_soon_as_it_answers() {
    let (mut db, mut admin) = (database("t_silent", &["game_apns"]).await, connect().await);
    let proxy = Proxy::to(server().get_port());
    let (ear, control) = (Ear::new(), Control::in_memory());
    let config = narrow("t_silent", Some(proxy.port), "2s");
    let reporters = Reporters::from_config(&config, &Handle::current(), &control).unwrap();
    let game = Arc::new(origin("game"));
    healthy(&reporters, &game);
    db.execute("BEGIN; LOCK TABLE game_apns").await.unwrap();
    let tasks = tokio::spawn({
        let (reporters, game) = (reporters.clone(), game.clone());
        async move { all_at_once(&reporters, &game, 2).await }
    });
    let begun = Instant::now();
    while sessions(&mut admin, "t_silent").await.1 < 2 {
        assert!(begun.elapsed() < Duration::from_secs(2), "the statements never waited for our lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proxy.set(Way::Silent);
    assert_eq!(tasks.await.unwrap(), [Some(Deletion::Deferred); 2]);
    db.execute("COMMIT").await.unwrap();
    proxy.set(Way::Open);
    until_deleted(&reporters, &game, "x").await;
    assert!(left(&mut db, "game_apns").await.is_empty());
    let said = ear.text();
    assert!(said.contains("the database is away: no answer within 2000 ms"), "{said}");
    assert_eq!(ear.times("the database of tokens serves again"), 1, "{said}");
    reporters.close(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_shorter_time_that_the_operator_gave_a_statement_stays() {
    let mut db = database("t_patience", &["game_apns"]).await;
    db.execute("ALTER DATABASE t_patience SET statement_timeout = '50ms'").await.unwrap();
    db.execute("BEGIN; LOCK TABLE game_apns").await.unwrap();
    let postgres = Postgres::new(Settings::from_config(&narrow("t_patience", None, "1m")).unwrap(), &Handle::current());
    let begun = Instant::now();
    let error = postgres.delete("game", APNS, &dead(&[("x", None)]), Duration::from_mins(1)).await.unwrap_err();
    assert!(matches!(&error, DeleteError::Conflict(text) if text.contains("57014")), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
