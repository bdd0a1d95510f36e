//! Dead letters by Kafka: topic `deadletters-<app>-<platform>`, the message's payload as it was consumed for value, the rest
//! as headers. How they are sent, and waited for, is the business of `crate::reporters::kafka`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::topic;
use crate::config::{Brokers, Config, ConfigError, Key};
use crate::message::Platform;
use crate::proof::Finding;
use crate::reporters::kafka::{Kind, Records, Section, Settings, refuse};
use crate::reporters::stats::{Metric, Stats};
use crate::reporters::{Backlog, DeadLetter, DeadLetterReporter, FeedbackFate, RecordSource};

const BROKERS: Key = Key::optional(
    "deadLetters.kafka.brokers",
    "brokers of their topics; unset: those of the push topics, with their options for security",
);
const OPTIONS: Key = Key::optional("deadLetters.kafka.options.*", "any librdkafka producer option");
/// Where the push topics are: the queue's keys, whose rooms this one does not know.
const QUEUE_BROKERS: Key = Key::new("queue.brokers", "localhost:9092", "");
const QUEUE_OPTIONS: Key = Key::optional("queue.kafka.*", "");
/// Beginnings of the consumer's options that are about reaching the brokers, so that they hold for a producer as well.
const OF_THE_CONNECTION: [&str; 6] = ["security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.", "broker.address."];

/// The keys of another room that are read here.
pub const OF_THE_QUEUE: [Key; 2] = [QUEUE_BROKERS, QUEUE_OPTIONS];

/// The keys of this reporter.
pub const KEYS: &[Key] = &[BROKERS, OPTIONS];

const KIND: Kind = Kind {
    name: "dead-letter",
    section: Section { options: OPTIONS.name },
    truncated: Metric::DeadLettersTruncated,
    lost: Metric::DeadLettersLost,
    rebuilt: Metric::DeadLetterProducerRebuilt,
    or_else: " (deadLetters.enabled: false does without)",
};

/// The reporter.
#[derive(Debug)]
pub struct KafkaDeadLetters(Records);

impl KafkaDeadLetters {
    /// As the section `deadLetters.kafka` says. The broker need not be there.
    ///
    /// # Errors
    /// A value that is wrong, or a client option that librdkafka does not know or take.
    pub fn from_config(config: &Config, stats: Stats) -> Result<Self, ConfigError> {
        Records::new(KIND, settings(config)?, stats).map(KafkaDeadLetters)
    }
}

fn settings(config: &Config) -> Result<Settings, ConfigError> {
    let own: Option<Brokers> = config.get(&BROKERS)?;
    let mut options = config.below(&OPTIONS);
    refuse(KIND.section, &options, &[])?;
    let brokers = if let Some(Brokers(own)) = own {
        own
    } else {
        for (name, value) in of_the_connection(config.below(&QUEUE_OPTIONS)) {
            options.entry(name).or_insert(value);
        }
        config.require::<Brokers>(&QUEUE_BROKERS)?.0
    };
    Ok(Settings { brokers, linger_ms: 0, batch_bytes: 1_048_576, options, give_up_after: None })
}

fn of_the_connection(options: BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    options.into_iter().filter(|(name, _)| OF_THE_CONNECTION.iter().any(|beginning| name.starts_with(beginning)))
}

/// A letter as a record.
struct Letter<'a>(&'a DeadLetter<'a>);

impl RecordSource for Letter<'_> {
    fn record(&self, truncated: bool) -> Vec<u8> {
        if truncated { Vec::new() } else { self.0.message.payload.to_vec() }
    }

    fn headers(&self, truncated: bool) -> Vec<(&'static str, String)> {
        let DeadLetter { message, .. } = self.0;
        let ms = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()).to_string();
        let mut headers = vec![
            ("pusherId", message.identity().to_string()),
            ("reason", self.0.reason.to_owned()),
            ("description", self.0.description.to_owned()),
            ("status", self.0.status.to_string()),
            ("attempts", self.0.attempts.to_string()),
            ("topic", message.origin.topic.to_string()),
            ("partition", message.origin.partition.to_string()),
            ("offset", message.offset.to_string()),
            ("firstAttempt", ms(self.0.first_attempt)),
            ("lastAttempt", ms(self.0.last_attempt)),
        ];
        if truncated {
            headers.push(("truncated", "true".to_owned()));
        }
        headers
    }
}

#[async_trait]
impl DeadLetterReporter for KafkaDeadLetters {
    async fn send_dead_letter(&self, letter: &DeadLetter<'_>) -> FeedbackFate {
        let origin = &letter.message.origin;
        self.0.send(&topic(&origin.app, origin.platform), origin, &Letter(letter)).await
    }

    async fn inspect(&self, apps: &[(Arc<str>, Platform)], deadline: Duration) -> Vec<Finding> {
        self.0.inspect(apps.iter().map(|(app, platform)| topic(app, *platform)).collect(), deadline).await
    }

    async fn flush(&self, deadline: Duration) -> bool {
        self.0.flush(deadline).await
    }

    fn backlog(&self) -> Backlog {
        self.0.backlog()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Settings {
        settings(&Config::from_pairs(pairs.iter().copied())).expect("settings")
    }

    #[test]
    fn they_go_to_the_brokers_of_the_push_topics_by_the_same_way() {
        let queue = [
            ("queue.brokers", "one:9092,two:9092"),
            ("queue.kafka.security.protocol", "SASL_SSL"),
            ("queue.kafka.sasl.password", "s3cret"),
            ("queue.kafka.fetch.max.bytes", "1"),
        ];
        let settings = read(&queue);
        assert_eq!(settings.brokers, "one:9092,two:9092");
        assert_eq!(settings.options.keys().collect::<Vec<_>>(), ["sasl.password", "security.protocol"]);
        assert_eq!(settings.give_up_after, None);
        let elsewhere: Vec<_> = queue.into_iter().chain([("deadLetters.kafka.brokers", "three:9092")]).collect();
        assert_eq!((read(&elsewhere).brokers.as_str(), read(&elsewhere).options.len()), ("three:9092", 0));
    }
}
