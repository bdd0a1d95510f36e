//! Real neighbours for the tests: Apache Kafka, PostgreSQL, Redis and a StatsD sink.
//!
//! Each server is started once per run of the test binary, on free ports, by the first test that asks for it, and shared by
//! all: tests keep apart by names from [`unique`] (topics, groups, databases). Nothing has to be stopped by hand: every
//! server hangs on a leash (see [`process`]) that ends it and removes its folder even when the tests are killed.
//!
//! `PUSHER_TEST_KAFKA=host:port` and `PUSHER_TEST_POSTGRES=postgres://…` name servers that are already there.

// A toolbox: what one level of tests needs, another does not.
#![allow(dead_code, unused_imports)]

use std::future::Future;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(crate) mod ear;
pub(crate) mod far;
pub(crate) mod flow;
pub(crate) mod jobs;
pub(crate) mod kafka;
pub(crate) mod letters;
pub(crate) mod mock;
pub(crate) mod place;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod reader;
pub(crate) mod redis;
pub(crate) mod rig;
pub(crate) mod scrape;
pub(crate) mod statsd;
pub(crate) mod worker;
pub(crate) mod world;

pub(crate) use kafka::Kafka;
pub(crate) use postgres::Postgres;
pub(crate) use redis::Redis;
pub(crate) use statsd::Statsd;

/// The one Apache Kafka of this run.
pub(crate) fn kafka() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(Kafka::find_or_start)
}

/// The one PostgreSQL of this run.
pub(crate) fn postgres() -> &'static Postgres {
    static POSTGRES: OnceLock<Postgres> = OnceLock::new();
    POSTGRES.get_or_init(Postgres::find_or_start)
}

/// The one Redis of this run.
pub(crate) fn redis() -> &'static Redis {
    static REDIS: OnceLock<Redis> = OnceLock::new();
    REDIS.get_or_init(Redis::start)
}

/// A name no other test or run uses, made of lower-case letters and digits only, so that it can stand for an app, a topic,
/// a group or a database.
pub(crate) fn unique(stem: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{stem}{}", &id[..10])
}

/// Waits until `condition` gives something, at most `limit`. Looks every 20 ms: for conditions of other processes that
/// cannot be awaited.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        #[allow(clippy::disallowed_methods, reason = "another process cannot be awaited, only looked at")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a future to its end from anywhere, inside or outside a runtime: on a thread of its own.
pub(crate) fn wait_for<F: Future + Send>(future: F) -> F::Output
where
    F::Output: Send,
{
    std::thread::scope(|scope| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        scope.spawn(move || runtime.block_on(future)).join().expect("the future's thread")
    })
}

/// The root of the source tree.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
