//! The section `feedback.kafka`.

use crate::config::{Brokers, Config, ConfigError, Ignored, Key};
use crate::reporters::kafka::{self, Section, refuse};

const BROKERS: Key =
    Key::new("feedback.kafka.brokers", "localhost:9941", "brokers of the feedback topics: host:port, comma-separated");
const LINGER: Key = Key::new(
    "feedback.kafka.linger.ms",
    "5",
    "how long a record waits for company, ms; with 0 nearly every record is a request of its own",
);
const BATCH: Key =
    Key::new("feedback.kafka.batch.size", "1048576", "most bytes of one batch of records (librdkafka's batch.size)");
const OPTIONS: Key =
    Key::optional("feedback.kafka.options.*", "any other librdkafka producer option, e.g. security.protocol");

/// The keys of this reporter.
pub const KEYS: &[Key] = &[BROKERS, LINGER, BATCH, OPTIONS];

/// Keys of the original that are accepted without effect, and why.
pub const IGNORED: &[Ignored] =
    &[Ignored { name: "feedback.kafka.topics", because: "records go to push-<app>-<platform>-feedbacks" }];

pub(super) const SECTION: Section = Section { options: OPTIONS.name };

/// Options with a key of their own here.
const OWN: &[(&str, &str)] = &[
    ("linger.ms", "use feedback.kafka.linger.ms"),
    ("queue.buffering.max.ms", "use feedback.kafka.linger.ms"),
    ("batch.size", "use feedback.kafka.batch.size"),
];

/// The producer's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings(pub(super) kafka::Settings);

impl Settings {
    /// Reads and checks the section `feedback.kafka`.
    pub fn from_config(config: &Config, feedback: &super::super::Settings) -> Result<Self, ConfigError> {
        let Brokers(brokers) = config.require(&BROKERS)?;
        let options = config.below(&OPTIONS);
        refuse(SECTION, &options, OWN)?;
        let linger_ms: u32 = config.require(&LINGER)?;
        if linger_ms > 10_000 {
            return Err(config.error(&LINGER, "must be at most 10000: every failed push waits for it"));
        }
        let batch_bytes: u32 = config.require(&BATCH)?;
        if !(1..=i32::MAX as u32).contains(&batch_bytes) {
            return Err(config.error(&BATCH, "must be from 1 to 2147483647"));
        }
        Ok(Settings(kafka::Settings {
            brokers,
            linger_ms,
            batch_bytes,
            options,
            give_up_after: feedback.give_up_after,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<kafka::Settings, ConfigError> {
        let config = Config::from_pairs(pairs.iter().copied());
        Settings::from_config(&config, &super::super::super::Settings::from_config(&config)?).map(|settings| settings.0)
    }

    #[test]
    fn required_records_wait_for_ever_by_default() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.give_up_after, None);
        assert_eq!(settings.brokers, "localhost:9941");
        assert_eq!((settings.linger_ms, settings.batch_bytes), (5, 1_048_576));
    }

    #[test]
    fn options_pass_but_for_those_that_carry_the_promise_or_have_a_key() {
        let settings = read(&[("feedback.kafka.options.sasl.password", "hunter2")]).unwrap();
        assert_eq!(settings.options["sasl.password"], "hunter2");
        let error = |name| read(&[(name, "0")]).unwrap_err().to_string();
        insta::assert_snapshot!(error("feedback.kafka.options.acks"), @"feedback.kafka.options.acks: must not be set: a record counts as reported when all in-sync replicas have it, exactly once per send");
        insta::assert_snapshot!(error("feedback.kafka.options.batch.size"), @"feedback.kafka.options.batch.size: must not be set: use feedback.kafka.batch.size");
    }
}
