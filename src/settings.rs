//! Every key of the program in one list, room by room, with the names of the original that are tolerated.
//!
//! A room that reads keys is added to [`ALL_KEYS`]; the tests below then ask for its keys in `config/default.yaml` and
//! `docs/configuration.md`.

use std::num::NonZero;
use std::time::Duration;

use crate::config::{Alias, Catalogue, Config, ConfigError, Ignored, Key};

/// Sender threads.
pub const WORKERS: Key =
    Key::optional("workers", "sender threads, each with its own connections; unset: as many as there are cores");
/// Bound of everything lent.
pub const MAX_IN_FLIGHT: Key =
    Key::new("maxInFlight", "10000", "most messages between Kafka and their outcome, whatever they wait for");
/// The same in bytes.
pub const MAX_IN_FLIGHT_BYTES: Key =
    Key::new("maxInFlightBytes", "67108864", "most bytes of messages between Kafka and their outcome");

/// The keys of the worker as a whole.
pub const KEYS: &[Key] = &[WORKERS, MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES];

/// What the configuration says about the worker as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Sender threads.
    pub workers: usize,
    /// Most messages lent at once.
    pub max_in_flight: usize,
    /// Most bytes lent at once.
    pub max_in_flight_bytes: usize,
    /// How long the end may take.
    pub graceful_shutdown: Duration,
}

impl WorkerSettings {
    /// Reads [`KEYS`] and the grace of the end.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let workers = config.get(&WORKERS)?.unwrap_or(cores);
        if !(1..=256).contains(&workers) {
            return Err(config.error(&WORKERS, "must be from 1 to 256"));
        }
        let max_in_flight: usize = config.require(&MAX_IN_FLIGHT)?;
        if !(2..=1_000_000).contains(&max_in_flight) {
            return Err(config.error(&MAX_IN_FLIGHT, "must be from 2 to 1000000"));
        }
        let max_in_flight_bytes: usize = config.require(&MAX_IN_FLIGHT_BYTES)?;
        if max_in_flight_bytes < 1 << 20 {
            return Err(
                config.error(&MAX_IN_FLIGHT_BYTES, "must be at least 1048576 (1 MiB, Kafka's usual largest message)")
            );
        }
        let graceful_shutdown = crate::shutdown::Settings::from_config(config)?.timeout;
        Ok(WorkerSettings { workers, max_in_flight, max_in_flight_bytes, graceful_shutdown })
    }
}

/// The keys of all rooms, in the order of the documentation.
pub const ALL_KEYS: &[&[Key]] = &[
    crate::shutdown::KEYS,
    crate::telemetry::KEYS,
    KEYS,
    crate::queue::config::KEYS,
    crate::handlers::apns::KEYS,
    crate::reporters::stats::KEYS,
    crate::reporters::stats::statsd::KEYS,
    crate::reporters::feedback::KEYS,
    crate::reporters::feedback::kafka::KEYS,
    crate::reporters::invalid_token::KEYS,
    crate::reporters::invalid_token::postgres::KEYS,
];

/// Names that the original's README and older manifests use.
pub const ALIASES: &[Alias] = &[
    Alias { written: "gracefullShutdownTimeout", name: "gracefulShutdownTimeout" },
    Alias { written: "apns.certs.<app>", name: "apns.certs.<app>.authKeyPath" },
];

const POOL: &str = "connections are opened as the load asks for them, up to apns.maxConnections";
const IN_FLIGHT: &str = "one bound holds for everything that is lent: maxInFlight";
const APNS_ONLY: &str = "this version sends to APNs only";
const NO_LISTENER: &str = "this version has no feedback listener: the worker deletes (invalidToken.handlers)";
const NO_ADMISSION: &str = "this version neither limits rates nor drops duplicates";
const RETRY: &str = "a push is retried as long as it lives, with growing pauses";
const METRICS_CLOCK: &str = "statistics are sent on a clock of their own";
const GO_ONLY: &str = "it belongs to the original's runtime";

/// Keys of the original that change nothing here. A key of [`ALL_KEYS`] goes before a line of this list.
pub const IGNORED: &[Ignored] = &[
    Ignored { name: "apns.concurrentWorkers", because: IN_FLIGHT },
    Ignored { name: "apns.connectionPoolSize", because: POOL },
    Ignored { name: "apns.pushQueueSize", because: IN_FLIGHT },
    Ignored { name: "apns.responseChannelSize", because: IN_FLIGHT },
    Ignored { name: "apns.retry.interval", because: RETRY },
    Ignored { name: "apns.retry.maxRetryAttempts", because: RETRY },
    Ignored { name: "apns.rateLimit.rpm", because: NO_ADMISSION },
    Ignored { name: "apns.dedup.*", because: NO_ADMISSION },
    Ignored { name: "apns.logStatsInterval", because: METRICS_CLOCK },
    Ignored { name: "gcm.*", because: APNS_ONLY },
    Ignored { name: "rateLimiter.*", because: NO_ADMISSION },
    Ignored { name: "dedup.*", because: NO_ADMISSION },
    Ignored { name: "feedbackListeners.*", because: NO_LISTENER },
    Ignored { name: "queue.channelSize", because: IN_FLIGHT },
    Ignored {
        name: "queue.handleAllMessagesBeforeExiting",
        because: "what is on its way is always waited for, up to gracefulShutdownTimeout, and the rest stays in Kafka",
    },
    Ignored { name: "feedback.cache.*", because: "the original stopped reading it in its version 4" },
    Ignored { name: "feedback.kafka.topics", because: "records go to push-<app>-<platform>-feedbacks" },
    Ignored {
        name: "invalidToken.pg.table",
        because: "each app and platform has its own table; one for all would delete in the wrong one",
    },
    Ignored { name: "stats.flush.s", because: METRICS_CLOCK },
    Ignored { name: "stats.statsd.buflen", because: METRICS_CLOCK },
    Ignored { name: "stats.statsd.flushIntervalMs", because: METRICS_CLOCK },
    Ignored { name: "stats.statsd.flushIntervalInMs", because: METRICS_CLOCK },
    Ignored { name: "pprof.*", because: GO_ONLY },
];

/// Everything that a file or the environment may name.
pub fn catalogue() -> Catalogue<'static> {
    Catalogue { keys: ALL_KEYS, aliases: ALIASES, ignored: IGNORED }
}
