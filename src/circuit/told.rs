//! What people are told of a change of the breaker: a line in the log, and a count.

use crate::handlers::breaker::Change;
use crate::reporters::StatsReporter as _;
use crate::reporters::stats::{Metric, Stats};

/// Tells of a change of an app's breaker (`tags`: its platform, its name), caused by a failure of this key and in these words.
pub(super) fn tell(
    stats: &Stats,
    tags: [(&'static str, &str); 2],
    change: Change,
    cause: Option<&(&'static str, String)>,
) {
    let [(_, platform), (_, app)] = tags;
    let (reason, error) = cause.map_or(("unknown", ""), |(key, words)| (*key, words.as_str()));
    match change {
        Change::Opened => {
            stats.count(Metric::BreakerOpened, &[tags[0], tags[1], ("reason", reason)], 1);
            tracing::error!(alarm = true, %app, %platform, reason, error, "the breaker is open: everything fails, the app's partitions are paused, its backlog stays in Kafka; single pushes probe");
        }
        Change::Slowed => {
            tracing::warn!(%app, %platform, reason, error, "the provider is overloaded: the app is slowed down");
        }
        Change::Recovering => {
            tracing::info!(%app, %platform, "the provider answers again: the app goes on, slowly at first");
        }
        Change::Closed => tracing::info!(%app, %platform, "the breaker is closed: the app is at full speed"),
    }
}
