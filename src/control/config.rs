//! The section `control`.

use std::collections::BTreeMap;

use crate::config::{Config, ConfigError, Key};

const TOPIC: Key = Key::new(
    "control.topic",
    "pusher-control",
    "compacted topic, made when it may be, that keeps what must outlive a process: closed valves, pauses, stopped jobs; off: in memory only",
);
const BROKERS: Key = Key::optional(
    "control.brokers",
    "brokers of that topic; must be the same for all; unset: those that the process consumes from",
);
const OPTIONS: Key = Key::optional(
    "control.kafka.*",
    "options of librdkafka for that topic; security.*, sasl.* and ssl.* are the consumer's unless written here",
);

/// The keys of this room.
pub const KEYS: &[Key] = &[TOPIC, BROKERS, OPTIONS];

/// Options that are the consumer's too when it and the topic are on one cluster.
const INHERITED: &[&str] =
    &["security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.", "socket.", "broker.address.", "client.dns.lookup"];

/// Options that have a key, or that the room depends on.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use control.brokers"),
    ("metadata.broker.list", "use control.brokers"),
    ("group.id", "the topic is read without a group"),
    ("acks", "an entry counts when all in-sync replicas have it"),
    ("request.required.acks", "an entry counts when all in-sync replicas have it"),
    ("auto.offset.reset", "the topic is read from its beginning"),
];

/// How a process consumes: what the section takes over where it says nothing itself.
#[derive(Clone, Copy, Debug)]
pub struct Consumer<'a> {
    /// Bootstrap servers.
    pub brokers: &'a str,
    /// Its group: the one name of a group that this client may be allowed to use. It is not joined.
    pub group: &'a str,
    /// Its options.
    pub options: &'a BTreeMap<String, String>,
}

/// Where the entries are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The topic.
    pub topic: String,
    /// Bootstrap servers.
    pub brokers: String,
    /// A group's name for a client that joins none.
    pub group: String,
    /// Options passed through.
    pub options: BTreeMap<String, String>,
    /// Whether a topic that is not there is to be made.
    pub create: bool,
}

impl std::fmt::Debug for Settings {
    /// Options may hold passwords and keys: only their names are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("topic", &self.topic)
            .field("brokers", &self.brokers)
            .field("options", &self.options.keys())
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads and checks the section; `None`: no topic.
    pub fn from_config(config: &Config, consumer: Consumer<'_>) -> Result<Option<Self>, ConfigError> {
        let mut options: BTreeMap<String, String> = consumer.options.clone();
        options.retain(|name, _| INHERITED.iter().any(|beginning| name.starts_with(beginning)));
        let written = config.below(&OPTIONS);
        if let Some((name, reason)) = REFUSED.iter().find(|(name, _)| written.contains_key(*name)) {
            let key = OPTIONS.name.replace('*', name);
            return Err(ConfigError { key, value: None, rule: format!("cannot be set: {reason}") });
        }
        options.extend(written);
        // Empty means off in a file; an empty variable means that nothing was said.
        let topic = config.get::<String>(&TOPIC)?.filter(|topic| !topic.eq_ignore_ascii_case("off"));
        let Some(topic) = topic else { return Ok(None) };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if topic.len() > 249 || !topic.chars().all(is_name) {
            return Err(config.error(&TOPIC, "must be a topic's name: at most 249 letters, digits and . _ -"));
        }
        let brokers: Option<Vec<String>> = config.get(&BROKERS)?;
        let brokers = brokers.map_or_else(|| consumer.brokers.to_owned(), |list| list.join(","));
        Ok(Some(Settings { topic, brokers, group: consumer.group.to_owned(), options, create: true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Settings>, ConfigError> {
        let options = [("sasl.password", "hunter2"), ("fetch.min.bytes", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let consumer = Consumer { brokers: "kafka:9092", group: "g", options: &options.into() };
        Settings::from_config(&Config::from_pairs(pairs.iter().copied()), consumer)
    }

    #[test]
    fn what_it_does_not_say_is_the_consumers() {
        let settings = read(&[]).unwrap().unwrap();
        assert_eq!(
            (settings.topic.as_str(), settings.brokers.as_str(), settings.group.as_str()),
            ("pusher-control", "kafka:9092", "g")
        );
        assert_eq!(settings.options.keys().collect::<Vec<_>>(), ["sasl.password"], "how to fetch is its own affair");
        assert!(!format!("{settings:?}").contains("hunter2"));
        let own = read(&[("control.brokers", "a:1, b:2"), ("control.kafka.sasl.password", "x")]).unwrap().unwrap();
        assert_eq!((own.brokers.as_str(), own.options["sasl.password"].as_str()), ("a:1,b:2", "x"));
    }

    #[test]
    fn without_a_topic_there_is_nothing_to_reach() {
        assert_eq!(read(&[("control.topic", "off")]), Ok(None));
        assert_eq!(read(&[("control.topic", "")]), Ok(None));
    }

    #[test]
    fn wrong_values_name_key_and_rule() {
        let wrong = |key, value| read(&[(key, value)]).unwrap_err().to_string();
        insta::assert_snapshot!(wrong("control.topic", "a b"), @r#"control.topic: "a b" must be a topic's name: at most 249 letters, digits and . _ -"#);
        insta::assert_snapshot!(wrong("control.kafka.acks", "0"), @"control.kafka.acks: cannot be set: an entry counts when all in-sync replicas have it");
    }
}
