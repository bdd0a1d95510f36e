//! Dead letters: what was given up, kept with its reason and its origin, so that nothing ends in silence.
//!
//! A message is given up when its budget of retries is spent while others of its app pass, or when a bug of ours ended it.
//! Its offset waits until the letter is acknowledged. Adding a reporter: a file here and a line in [`REPORTERS`].

use std::sync::Arc;

use super::DeadLetterReporter;
use super::stats::Stats;
use crate::config::{Config, ConfigError, Key};
use crate::message::Platform;
use crate::registry::Registry;

pub mod kafka;

const ENABLED: Key =
    Key::new("deadLetters.enabled", "true", "whether messages that are given up are kept as dead letters");
const REPORTERS_KEY: Key = Key::new("deadLetters.reporters", "kafka", "who keeps them: a list of names (kafka)");

/// The keys of this room itself.
pub const KEYS: &[Key] = &[ENABLED, REPORTERS_KEY];

/// Builds a reporter from its own section of the configuration.
pub type Factory = fn(&Config, Stats) -> Result<Arc<dyn DeadLetterReporter>, ConfigError>;

/// The reporters that can be named.
pub const REPORTERS: Registry<Factory> = Registry::new(
    REPORTERS_KEY,
    &[("kafka", |config, stats| Ok(Arc::new(kafka::KafkaDeadLetters::from_config(config, stats)?)))],
);

/// The reporters that the configuration names; none when dead letters are switched off.
pub(super) fn from_config(config: &Config, stats: &Stats) -> Result<Vec<Arc<dyn DeadLetterReporter>>, ConfigError> {
    if !config.require::<bool>(&ENABLED)? {
        return Ok(Vec::new());
    }
    REPORTERS.chosen(config)?.into_iter().map(|(_, build)| build(config, stats.clone())).collect()
}

/// The topic of an app's dead letters: `deadletters-<app>-<platform>`, in the app's own case. No pattern of push or
/// feedback topics takes it for one of theirs, for those begin with `push-`.
pub fn topic(app: &str, platform: Platform) -> String {
    format!("deadletters-{app}-{platform}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_kept_unless_switched_off() {
        let built = |pairs: &[(&str, &str)]| {
            from_config(&Config::from_pairs(pairs.iter().copied()), &Stats::default()).map(|all| all.len())
        };
        assert_eq!(built(&[]), Ok(1));
        assert_eq!(built(&[("deadLetters.enabled", "false")]), Ok(0));
        let unknown = built(&[("deadLetters.reporters", "s3")]).unwrap_err();
        insta::assert_snapshot!(unknown, @r#"deadLetters.reporters: "s3" is not known; known are: kafka"#);
    }
}
