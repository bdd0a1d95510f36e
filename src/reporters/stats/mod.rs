//! Statistics: what is counted ([`metric`]), who is told ([`statsd`]), and what was told so far ([`told`]).
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
pub mod told;

pub use metric::{Descent, Kind, Metric};

use super::StatsReporter;
use told::Told;

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

/// All configured reporters as one, and the memory of what they were told.
#[derive(Clone, Default)]
pub struct Stats {
    reporters: Arc<[Arc<dyn StatsReporter>]>,
    told: Arc<Told>,
}

impl Stats {
    /// These reporters as one.
    pub fn new(reporters: impl IntoIterator<Item = Arc<dyn StatsReporter>>) -> Self {
        Stats { reporters: reporters.into_iter().collect(), told: Arc::default() }
    }

    /// The reporters that the configuration names.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let built: Result<Vec<_>, _> = REPORTERS.chosen(config)?.into_iter().map(|(_, build)| build(config)).collect();
        built.map(Stats::new)
    }

    /// What was told so far.
    pub fn told(&self) -> &Told {
        &self.told
    }
}

impl std::fmt::Debug for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stats({} reporters)", self.reporters.len())
    }
}

impl StatsReporter for Stats {
    fn sent(&self, origin: &Origin) {
        self.reporters.iter().for_each(|reporter| reporter.sent(origin));
    }

    fn success(&self, origin: &Origin) {
        self.reporters.iter().for_each(|reporter| reporter.success(origin));
    }

    fn failure(&self, origin: &Origin, reason: &'static str) {
        self.reporters.iter().for_each(|reporter| reporter.failure(origin, reason));
    }

    fn latency(&self, origin: &Origin, client: &'static str, took: Duration) {
        self.reporters.iter().for_each(|reporter| reporter.latency(origin, client, took));
    }

    fn count(&self, metric: Metric, tags: &[(&'static str, &str)], n: u64) {
        debug_assert!(metric.has_tags(tags), "{metric:?} has other tags: {tags:?}");
        self.told.count(metric, tags, n);
        self.reporters.iter().for_each(|reporter| reporter.count(metric, tags, n));
    }

    fn time(&self, metric: Metric, tags: &[(&'static str, &str)], took: Duration) {
        self.told.time(metric, tags, took);
        self.reporters.iter().for_each(|reporter| reporter.time(metric, tags, took));
    }

    fn gauge(&self, metric: Metric, tags: &[(&'static str, &str)], value: f64) {
        debug_assert!(metric.has_tags(tags), "{metric:?} has other tags: {tags:?}");
        self.told.gauge(metric, tags, value);
        self.reporters.iter().for_each(|reporter| reporter.gauge(metric, tags, value));
    }

    fn proofs(&self) -> Vec<Proof> {
        self.reporters.iter().flat_map(|reporter| reporter.proofs()).collect()
    }

    fn close(&self, deadline: Duration) {
        self.reporters.iter().for_each(|reporter| reporter.close(deadline));
    }
}
