//! The section `feedback.kafka`.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::error::KafkaError;

use crate::config::{Brokers, Config, ConfigError, Ignored, Key};

const BROKERS: Key =
    Key::new("feedback.kafka.brokers", "localhost:9941", "brokers of the feedback topics: host:port, comma-separated");
const LINGER: Key = Key::new("feedback.kafka.linger.ms", "0", "how long a record waits for company, ms");
const BATCH: Key =
    Key::new("feedback.kafka.batch.size", "1048576", "most bytes of one batch of records (librdkafka's batch.size)");
const OPTIONS: Key =
    Key::optional("feedback.kafka.options.*", "any other librdkafka producer option, e.g. security.protocol");

/// The keys of this reporter.
pub const KEYS: &[Key] = &[BROKERS, LINGER, BATCH, OPTIONS];

/// Keys of the original that are accepted without effect, and why.
pub const IGNORED: &[Ignored] =
    &[Ignored { name: "feedback.kafka.topics", because: "records go to push-<app>-<platform>-feedbacks" }];

/// While a record is required the producer gives it up after this long, and it is given to it again.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Options that carry a promise or have a key of their own, and what to say to who sets them.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["acks", "request.required.acks", "enable.idempotence", "transactional.id"],
        "must not be set: a record counts as reported when all in-sync replicas have it, exactly once per send",
    ),
    (
        &["message.timeout.ms", "delivery.timeout.ms", "retries", "message.send.max.retries"],
        "must not be set: use feedback.required and feedback.timeout to say how long a record is tried",
    ),
    (
        &[
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "delivery.report.only.error",
            "test.mock.num.brokers",
        ],
        "must not be set: the producer's idempotence and the offsets' accounting depend on it",
    ),
    (&["bootstrap.servers", "metadata.broker.list"], "must not be set: use feedback.kafka.brokers"),
    (&["linger.ms", "queue.buffering.max.ms"], "must not be set: use feedback.kafka.linger.ms"),
    (&["batch.size"], "must not be set: use feedback.kafka.batch.size"),
];

/// The producer's settings.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bootstrap servers.
    pub brokers: String,
    /// How long a record waits for company.
    pub linger_ms: u32,
    /// Most bytes of a batch.
    pub batch_bytes: u32,
    /// Options passed through.
    pub options: BTreeMap<String, String>,
    /// See [`super::super::Settings::give_up_after`].
    pub give_up_after: Option<Duration>,
}

impl std::fmt::Debug for Settings {
    /// Options may hold passwords and keys: only their names are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("brokers", &self.brokers)
            .field("linger_ms", &self.linger_ms)
            .field("batch_bytes", &self.batch_bytes)
            .field("options", &self.options.keys())
            .field("give_up_after", &self.give_up_after)
            .finish()
    }
}

impl Settings {
    /// Reads and checks the section `feedback.kafka`.
    pub fn from_config(config: &Config, feedback: &super::super::Settings) -> Result<Self, ConfigError> {
        let Brokers(brokers) = config.require(&BROKERS)?;
        let options = config.below(&OPTIONS);
        if let Some((name, rule)) = options.keys().find_map(|name| Some((name, refused(name)?))) {
            let key = OPTIONS.name.replace('*', name);
            return Err(ConfigError { key, value: None, rule: rule.into() });
        }
        let linger_ms: u32 = config.require(&LINGER)?;
        if linger_ms > 10_000 {
            return Err(config.error(&LINGER, "must be at most 10000: every failed push waits for it"));
        }
        let batch_bytes: u32 = config.require(&BATCH)?;
        if !(1..=i32::MAX as u32).contains(&batch_bytes) {
            return Err(config.error(&BATCH, "must be from 1 to 2147483647"));
        }
        Ok(Settings { brokers, linger_ms, batch_bytes, options, give_up_after: feedback.give_up_after })
    }

    /// How long the producer itself tries one record.
    pub(super) fn message_timeout(&self) -> Duration {
        self.give_up_after.map_or(MESSAGE_TIMEOUT, |limit| limit.min(MESSAGE_TIMEOUT))
    }
}

fn refused(option: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(names, _)| names.contains(&option)).map(|(_, rule)| *rule)
}

/// An option that librdkafka does not know or take.
pub(super) fn option_error(error: &KafkaError) -> ConfigError {
    match error {
        KafkaError::ClientConfig(_, description, key, _) => ConfigError {
            key: OPTIONS.name.replace('*', key),
            value: None,
            rule: format!("was refused by librdkafka: {description}"),
        },
        other => {
            ConfigError { key: OPTIONS.name.into(), value: None, rule: format!("was refused by librdkafka: {other}") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Settings, ConfigError> {
        let config = Config::from_pairs(pairs.iter().copied());
        Settings::from_config(&config, &super::super::super::Settings::from_config(&config)?)
    }

    #[test]
    fn required_records_wait_for_ever_by_default() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.give_up_after, None);
        assert_eq!(settings.brokers, "localhost:9941");
        assert_eq!((settings.linger_ms, settings.batch_bytes), (0, 1_048_576));
    }

    #[test]
    fn options_that_carry_the_promise_are_refused_with_the_reason() {
        for names in REFUSED.iter().map(|(names, _)| names) {
            for name in *names {
                assert!(refused(name).is_some());
            }
        }
        let error = read(&[("feedback.kafka.options.acks", "0")]).unwrap_err();
        insta::assert_snapshot!(error, @"feedback.kafka.options.acks: must not be set: a record counts as reported when all in-sync replicas have it, exactly once per send");
    }

    #[test]
    fn other_options_pass_and_their_values_do_not_show() {
        let settings = read(&[("feedback.kafka.options.sasl.password", "hunter2")]).unwrap();
        assert_eq!(settings.options["sasl.password"], "hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
