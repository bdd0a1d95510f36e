//! Statistics: what is counted ([`metric`]) and who is told ([`statsd`]).
//!
//! A reporter never waits and never fails: a lost statistic must not cost a push. Calls come from every sender thread,
//! several per message, so an implementation adds up in place and speaks to the network from a thread of its own.
//! Adding one: a file here and a line in [`REPORTERS`].

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ConfigError, Key};
use crate::message::Origin;
use crate::proof::Proof;
use crate::registry::Registry;

mod datagrams;
pub mod metric;
mod series;
pub mod statsd;

pub use metric::{Descent, Kind, Metric};

use super::StatsReporter;

/// The key of this room itself.
pub const KEYS: &[Key] = &[REPORTERS_KEY];
const REPORTERS_KEY: Key =
    Key::optional("stats.reporters", "who gets statistics: a list of names (statsd); unset: nobody");

/// Builds a reporter from its own section of the configuration.
pub type Factory = fn(&Config) -> Result<Arc<dyn StatsReporter>, ConfigError>;

/// The reporters that can be named.
pub const REPORTERS: Registry<Factory> = Registry::new(
    REPORTERS_KEY,
    &[("statsd", |config| Ok(Arc::new(statsd::Statsd::start(statsd::Settings::from_config(config)?))))],
);

/// All configured reporters as one.
#[derive(Clone, Default)]
pub struct Stats(Arc<[Arc<dyn StatsReporter>]>);

impl Stats {
    /// These reporters as one.
    pub fn new(reporters: impl IntoIterator<Item = Arc<dyn StatsReporter>>) -> Self {
        Stats(reporters.into_iter().collect())
    }

    /// The reporters that the configuration names.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let built: Result<Vec<_>, _> = REPORTERS.chosen(config)?.into_iter().map(|(_, build)| build(config)).collect();
        built.map(Stats::new)
    }
}

impl std::fmt::Debug for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stats({} reporters)", self.0.len())
    }
}

impl StatsReporter for Stats {
    fn sent(&self, origin: &Origin) {
        self.0.iter().for_each(|reporter| reporter.sent(origin));
    }

    fn success(&self, origin: &Origin) {
        self.0.iter().for_each(|reporter| reporter.success(origin));
    }

    fn failure(&self, origin: &Origin, reason: &'static str) {
        self.0.iter().for_each(|reporter| reporter.failure(origin, reason));
    }

    fn latency(&self, origin: &Origin, client: &'static str, took: Duration) {
        self.0.iter().for_each(|reporter| reporter.latency(origin, client, took));
    }

    fn count(&self, metric: Metric, tags: &[(&'static str, &str)], n: u64) {
        debug_assert!(metric.has_tags(tags), "{metric:?} has other tags: {tags:?}");
        self.0.iter().for_each(|reporter| reporter.count(metric, tags, n));
    }

    fn time(&self, metric: Metric, tags: &[(&'static str, &str)], took: Duration) {
        self.0.iter().for_each(|reporter| reporter.time(metric, tags, took));
    }

    fn gauge(&self, metric: Metric, tags: &[(&'static str, &str)], value: f64) {
        debug_assert!(metric.has_tags(tags), "{metric:?} has other tags: {tags:?}");
        self.0.iter().for_each(|reporter| reporter.gauge(metric, tags, value));
    }

    fn proofs(&self) -> Vec<Proof> {
        self.0.iter().flat_map(|reporter| reporter.proofs()).collect()
    }

    fn close(&self, deadline: Duration) {
        self.0.iter().for_each(|reporter| reporter.close(deadline));
    }
}
