//! Every key of the program in one list, room by room, with the names of the original that are tolerated.
//!
//! A room that reads keys is added to [`ALL_KEYS`]; the tests below then ask for its keys in `config/default.yaml` and
//! `docs/configuration.md`.

use crate::config::{Alias, Catalogue, Ignored, Key};

/// The keys of all rooms, in the order of the documentation.
pub const ALL_KEYS: &[&[Key]] = &[crate::shutdown::KEYS, crate::telemetry::KEYS];

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
