//! What tells one row of the table from another: the worker's settings, how far the provider is away, and how many processes
//! share the work.

use crate::platform::Platform;

/// A row of the worker's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    /// What it is, behind the platform's name.
    pub name: &'static str,
    /// How long the provider takes to answer.
    pub latency_ms: u64,
    /// Whether every push has a feedback record, deliveries too.
    feedback_on_all: bool,
    /// Whether every push is counted in Redis.
    pub is_limited: bool,
    /// Workers of one group.
    pub processes: usize,
}

const PLAIN: Variant =
    Variant { name: "feedback on failures", latency_ms: 0, feedback_on_all: false, is_limited: false, processes: 1 };

/// All of them; the first is the one that `--quick` measures.
pub(crate) const ALL: [Variant; 5] = [
    PLAIN,
    Variant { name: "provider 100 ms away", latency_ms: 100, ..PLAIN },
    Variant { name: "feedback on all", feedback_on_all: true, ..PLAIN },
    Variant { name: "rate limit in Redis", is_limited: true, ..PLAIN },
    Variant { name: "two processes", processes: 2, ..PLAIN },
];

impl Variant {
    /// What the worker is told beside what every worker is told: names without `PUSHER_`.
    pub(crate) fn settings(self, platform: Platform, redis_port: Option<u16>) -> Vec<(String, String)> {
        let mut all = Vec::new();
        if self.feedback_on_all {
            all.push(("FEEDBACK_SUCCESS".to_owned(), "true".to_owned()));
        }
        if let Some(port) = redis_port.filter(|_| self.is_limited) {
            all.extend([
                (format!("{}_RATELIMIT_RPM", platform.name().to_uppercase()), "1000000".to_owned()),
                ("RATELIMITER_REDIS_HOST".to_owned(), "127.0.0.1".to_owned()),
                ("RATELIMITER_REDIS_PORT".to_owned(), port.to_string()),
                ("RATELIMITER_TLS_DISABLED".to_owned(), "true".to_owned()),
                // It shares a core with the provider and Kafka, and is to be asked all the same.
                ("RATELIMITER_REDIS_TIMEOUT".to_owned(), "5s".to_owned()),
            ]);
        }
        all
    }
}
