//! What the producers of all reporters have in common: which options are refused, and how a wrong one is told.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::error::KafkaError;

use crate::config::ConfigError;

/// While a record is required the producer gives it up after this long, and it is given to it again.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Options that carry a promise or have a key of their own, and what to say to who sets them.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["acks", "request.required.acks", "enable.idempotence", "transactional.id"],
        "a record counts as reported when all in-sync replicas have it, exactly once per send",
    ),
    (
        &["message.timeout.ms", "delivery.timeout.ms", "retries", "message.send.max.retries"],
        "use feedback.required and feedback.timeout to say how long a feedback record is tried; a dead letter is tried for ever",
    ),
    (
        &[
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "delivery.report.only.error",
            "test.mock.num.brokers",
        ],
        "the producer's idempotence and the offsets' accounting depend on it",
    ),
    (&["bootstrap.servers", "metadata.broker.list"], "use the key for the brokers beside the options"),
];

/// A reporter's section of the configuration.
#[derive(Clone, Copy, Debug)]
pub(in crate::reporters) struct Section {
    /// The pass-through key of the producer's options: `feedback.kafka.options.*`.
    pub(in crate::reporters) options: &'static str,
}

impl Section {
    /// An option that librdkafka does not know or take.
    pub(super) fn option_error(self, error: &KafkaError) -> ConfigError {
        match error {
            KafkaError::ClientConfig(_, description, key, _) => ConfigError {
                key: self.options.replace('*', key),
                value: None,
                rule: format!("was refused by librdkafka: {description}"),
            },
            other => ConfigError {
                key: self.options.into(),
                value: None,
                rule: format!("was refused by librdkafka: {other}"),
            },
        }
    }
}

/// Refuses options that carry a promise; `own` has those with a key of their own in this section.
pub(in crate::reporters) fn refuse(
    section: Section,
    options: &BTreeMap<String, String>,
    own: &[(&str, &str)],
) -> Result<(), ConfigError> {
    for name in options.keys() {
        let fixed = REFUSED.iter().find(|(names, _)| names.contains(&name.as_str())).map(|(_, rule)| *rule);
        let own = own.iter().find(|(known, _)| known == name).map(|(_, rule)| *rule);
        if let Some(rule) = fixed.or(own) {
            let key = section.options.replace('*', name);
            return Err(ConfigError { key, value: None, rule: format!("must not be set: {rule}") });
        }
    }
    Ok(())
}

/// A producer's settings.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::reporters) struct Settings {
    /// Bootstrap servers.
    pub(in crate::reporters) brokers: String,
    /// How long a record waits for company, ms.
    pub(in crate::reporters) linger_ms: u32,
    /// Most bytes of a batch.
    pub(in crate::reporters) batch_bytes: u32,
    /// Options passed through.
    pub(in crate::reporters) options: BTreeMap<String, String>,
    /// How long a record may stay unacknowledged; `None`: for ever, and the message's offset waits with it.
    pub(in crate::reporters) give_up_after: Option<Duration>,
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
    /// The same, for records that are each a request of their own.
    pub(super) fn one_by_one(&self) -> Settings {
        let mut settings = Settings { linger_ms: 0, ..self.clone() };
        settings.options.insert("batch.num.messages".into(), "1".into());
        settings
    }

    /// How long the producer itself tries one record.
    pub(super) fn message_timeout(&self) -> Duration {
        self.give_up_after.map_or(MESSAGE_TIMEOUT, |limit| limit.min(MESSAGE_TIMEOUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: Section = Section { options: "feedback.kafka.options.*" };

    fn error(name: &str) -> String {
        let options = BTreeMap::from([(name.to_owned(), "0".to_owned())]);
        refuse(SECTION, &options, &[("linger.ms", "use feedback.kafka.linger.ms")]).unwrap_err().to_string()
    }

    #[test]
    fn options_that_carry_the_promise_are_refused_with_the_reason() {
        for (names, rule) in REFUSED {
            for name in *names {
                assert_eq!(error(name), format!("feedback.kafka.options.{name}: must not be set: {rule}"));
            }
        }
        insta::assert_snapshot!(error("linger.ms"), @"feedback.kafka.options.linger.ms: must not be set: use feedback.kafka.linger.ms");
        assert_eq!(refuse(SECTION, &BTreeMap::from([("security.protocol".into(), "SSL".into())]), &[]), Ok(()));
    }

    #[test]
    fn values_of_options_do_not_show() {
        let options = BTreeMap::from([("sasl.password".into(), "hunter2".into())]);
        let settings = Settings { brokers: "b".into(), linger_ms: 0, batch_bytes: 1, options, give_up_after: None };
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(settings.message_timeout(), MESSAGE_TIMEOUT);
    }
}
