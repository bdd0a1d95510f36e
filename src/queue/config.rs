//! The section `queue`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{client, topic};
use crate::config::{Brokers, Config, ConfigError, Ignored, Key};

mod section;

pub use section::Section;
pub(crate) use section::section;

/// The worker's section.
pub const WORKER: Section = section!(
    "queue",
    topics: "^push-[^-_]+_(apns|gcm)[_-](single|massive)",
    "topics to consume: names, or regular expressions that begin with ^; an app's own -single and -massive are added"
);

/// The keys of this room.
pub const KEYS: &[Key] = &WORKER.keys();

/// Keys of the original that are accepted without effect, and why.
pub const IGNORED: &[Ignored] = &[
    Ignored { name: "queue.channelSize", because: CHANNEL_SIZE },
    Ignored { name: "queue.handleAllMessagesBeforeExiting", because: HANDLE_ALL },
];
/// Why a channel has no size here.
pub const CHANNEL_SIZE: &str = "one bound holds for everything that is lent: maxInFlight";
/// Why nothing needs to be handled before the exit.
pub const HANDLE_ALL: &str =
    "what is on its way is always waited for, up to gracefulShutdownTimeout, and the rest stays in Kafka";

/// Options that carry the promise or have a key of their own: refused, each with the reason, worded for the worker's section.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use queue.brokers"),
    ("metadata.broker.list", "use queue.brokers"),
    ("group.id", "use queue.group"),
    ("session.timeout.ms", "use queue.sessionTimeout"),
    ("heartbeat.interval.ms", "it goes by queue.sessionTimeout: a third of that, at most 500 ms"),
    ("fetch.min.bytes", "use queue.fetch.min.bytes"),
    ("fetch.wait.max.ms", "use queue.fetch.wait.max.ms"),
    ("partition.assignment.strategy", "use queue.assignment"),
    ("enable.auto.commit", "offsets move only after an outcome is final and reported; see queue.commitInterval"),
    ("auto.commit.enable", "offsets move only after an outcome is final and reported; see queue.commitInterval"),
    ("auto.commit.interval.ms", "use queue.commitInterval"),
    ("enable.auto.offset.store", "offsets move only after an outcome is final and reported"),
    ("auto.offset.reset", "use queue.offsetResetStrategy; it is resolved and committed before anything is consumed"),
    ("enable.partition.eof", "it would be taken for an error"),
    ("check.crcs", "the client passes over a batch whose checksum is wrong, and the next commit would pass it too"),
];

/// Longer than a broker makes a client wait in order to slow it down (30 s), and than a member of the group may be silent.
const CLIENT_PATIENCE: Duration = Duration::from_secs(45);

/// Where a partition without a committed offset begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// At its end: what is there already is not sent.
    Latest,
    /// At its beginning.
    Earliest,
}

/// What the configuration says about the queue.
#[derive(Clone, Debug)]
pub struct Settings {
    section: &'static str,
    /// `bootstrap.servers`.
    pub brokers: String,
    /// `group.id`.
    pub group: String,
    /// Names, or regular expressions that begin with `^`.
    pub topics: Vec<String>,
    /// `session.timeout.ms`.
    pub session_timeout: Duration,
    /// Where a partition without a committed offset begins.
    pub reset: Reset,
    /// The commit clock.
    pub commit_interval: Duration,
    /// How often new topics are looked for.
    pub topic_interval: Duration,
    /// For how long the client may stand still while the brokers answer before another one takes its place.
    pub client_patience: Duration,
    /// Bytes that are fetched ahead at most.
    pub prefetch_bytes: u64,
    /// Everything for librdkafka besides what the promise fixes.
    pub options: BTreeMap<String, String>,
}

impl Settings {
    /// Reads and checks the worker's section.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        Settings::read(config, &WORKER)
    }

    /// Reads and checks a section.
    pub fn read(config: &Config, section: &Section) -> Result<Self, ConfigError> {
        let session_timeout = config.millis(&section.session_timeout)?.unwrap_or(Duration::from_secs(6));
        if !(Duration::from_secs(1)..=Duration::from_mins(30)).contains(&session_timeout) {
            return Err(config.error(&section.session_timeout, "must be from 1000 to 1800000 (ms)"));
        }
        let commit_interval: Duration = config.require(&section.commit_interval)?;
        if !(Duration::from_millis(10)..=Duration::from_mins(1)).contains(&commit_interval) {
            return Err(config.error(&section.commit_interval, "must be from 10ms to 1m"));
        }
        let topic_interval: Duration = config.require(&section.topic_interval)?;
        if !(Duration::from_millis(100)..=Duration::from_hours(1)).contains(&topic_interval) {
            return Err(config.error(&section.topic_interval, "must be from 100ms to 1h"));
        }
        let settings = Settings {
            section: section.name,
            brokers: config.require::<Brokers>(&section.brokers)?.0,
            group: config.require(&section.group)?,
            topics: topics(config, section)?,
            session_timeout,
            reset: reset(config, section)?,
            commit_interval,
            topic_interval,
            client_patience: CLIENT_PATIENCE,
            prefetch_bytes: config.require(&section.prefetch_bytes)?,
            options: options(config, section)?,
        };
        client::check(&settings)?;
        if settings.brokers_assign() {
            let key = section.session_timeout.name;
            tracing::warn!(
                key,
                "with group.protocol consumer the brokers' group.consumer.session.timeout.ms says when the partitions of a worker that crashed go to others (45 s where nobody set it); this key, after which one that stood still asks before it sends, must not be longer"
            );
        }
        Ok(settings)
    }

    /// Whether partitions are shared by the brokers (`group.protocol: consumer`, KIP-848), not by a member.
    pub fn brokers_assign(&self) -> bool {
        brokers_assign(&self.options)
    }

    /// The name of what is below the section: `.topics` of the worker is `queue.topics`.
    pub fn key(&self, below: &str) -> String {
        format!("{}{below}", self.section)
    }

    /// An error about the topics: the rule that one of them breaks.
    pub fn wrong_topics(&self, rule: String) -> ConfigError {
        ConfigError { key: self.key(".topics"), value: None, rule }
    }
}

/// Patterns that make sense; one that is nobody's name is said, and no reason to stop: others may do.
fn topics(config: &Config, section: &Section) -> Result<Vec<String>, ConfigError> {
    let topics: Vec<String> = config.require(&section.topics)?;
    for pattern in &topics {
        topic::check(pattern).map_err(|rule| ConfigError { value: None, ..config.error(&section.topics, rule) })?;
        if topic::is_nobodys(pattern) {
            let key = section.topics.name;
            tracing::warn!(key, pattern, "no topic can have this name: begin it with ^ if it is a regular expression");
        }
    }
    Ok(topics)
}

fn reset(config: &Config, section: &Section) -> Result<Reset, ConfigError> {
    match config.require::<String>(&section.reset)?.to_ascii_lowercase().as_str() {
        "latest" | "largest" | "end" => Ok(Reset::Latest),
        "earliest" | "smallest" | "beginning" => Ok(Reset::Earliest),
        _ => Err(config.error(&section.reset, "must be latest or earliest")),
    }
}

fn brokers_assign(options: &BTreeMap<String, String>) -> bool {
    options.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"))
}

fn options(config: &Config, section: &Section) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut options = config.below(&section.options);
    if let Some((name, reason)) = REFUSED.iter().find(|(name, _)| options.contains_key(*name)) {
        let reason = reason.replace("queue.", &format!("{}.", section.name));
        let (key, rule) = (format!("{}.kafka.{name}", section.name), format!("cannot be set: {reason}"));
        return Err(ConfigError { key, value: None, rule });
    }
    let assignment: Vec<String> = config.require(&section.assignment)?;
    let known = |name: &String| ["range", "roundrobin", "cooperative-sticky"].contains(&name.as_str());
    let mixed = assignment.len() > 1 && assignment.iter().any(|name| name == "cooperative-sticky");
    if assignment.is_empty() || mixed || !assignment.iter().all(known) {
        return Err(config.error(&section.assignment, "must be range, roundrobin, both, or cooperative-sticky alone"));
    }
    let whole: u64 = config.require(&section.fetch_min_bytes)?;
    let wait = config.millis(&section.fetch_wait)?.unwrap_or_default().as_millis().to_string();
    let members_assign = !brokers_assign(&options);
    let mut default = |name: &str, value: String| {
        options.entry(name.to_owned()).or_insert(value);
    };
    if members_assign {
        default("partition.assignment.strategy", assignment.join(","));
    }
    default("fetch.min.bytes", whole.to_string());
    default("fetch.wait.max.ms", wait);
    // A partition's queue that is full stops its fetches for this long. The default of a second would cap the throughput
    // at one queue per second.
    default("fetch.queue.backoff.ms", "5".into());
    default("topic.metadata.refresh.interval.ms", "30000".into());
    // The default of 10 s would outlast the session timeout: a broker that restarts would cost the membership.
    default("reconnect.backoff.max.ms", "1000".into());
    // Found where the system keeps it, also by an OpenSSL that was built elsewhere.
    default("ssl.ca.location", "probe".into());
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pairs: &[(&str, &str)]) -> String {
        Settings::from_config(&Config::from_pairs(pairs.iter().copied()))
            .map_or_else(|e| e.to_string(), |s| format!("{s:?}"))
    }

    #[test]
    fn the_defaults_are_the_originals_and_safe() {
        let settings = Settings::from_config(&Config::default()).expect("every key has a default");
        assert_eq!((settings.brokers.as_str(), settings.group.as_str()), ("localhost:9092", "test"));
        assert_eq!((settings.reset, settings.session_timeout), (Reset::Latest, Duration::from_secs(6)));
        assert_eq!(settings.options["partition.assignment.strategy"], "range,roundrobin");
        assert_eq!(settings.options["fetch.queue.backoff.ms"], "5");
    }

    #[test]
    fn where_brokers_share_partitions_no_assignor_is_named() {
        let of = |pairs: &[(&str, &str)]| {
            Settings::from_config(&Config::from_pairs(pairs.iter().copied())).expect("both may be set")
        };
        let settings = of(&[("queue.kafka.group.protocol", "consumer")]);
        assert!(settings.brokers_assign() && !settings.options.contains_key("partition.assignment.strategy"));
        assert!(!of(&[("queue.kafka.group.protocol", "classic")]).brokers_assign());
    }

    #[test]
    fn options_pass_through_but_for_those_that_carry_the_promise() {
        let pairs = [("queue.kafka.security.protocol", "SASL_SSL"), ("queue.kafka.fetch.queue.backoff.ms", "7")];
        let settings = Settings::from_config(&Config::from_pairs(pairs)).expect("both may be set");
        assert_eq!(
            (&*settings.options["security.protocol"], &*settings.options["fetch.queue.backoff.ms"]),
            ("SASL_SSL", "7")
        );
        for (name, reason) in REFUSED {
            let key = format!("queue.kafka.{name}");
            assert_eq!(error(&[(&key, "x")]), format!("{key}: cannot be set: {reason}"));
        }
    }

    #[test]
    fn wrong_values_name_key_value_and_rule() {
        assert_eq!(
            error(&[("queue.offsetResetStrategy", "newest")]),
            r#"queue.offsetResetStrategy: "newest" must be latest or earliest"#
        );
        assert_eq!(
            error(&[("queue.assignment", "range,cooperative-sticky")]),
            r#"queue.assignment: "range,cooperative-sticky" must be range, roundrobin, both, or cooperative-sticky alone"#
        );
        assert_eq!(error(&[("queue.commitInterval", "1h")]), r#"queue.commitInterval: "1h" must be from 10ms to 1m"#);
        assert_eq!(
            error(&[("queue.sessionTimeout", "5")]),
            r#"queue.sessionTimeout: "5" must be from 1000 to 1800000 (ms)"#
        );
    }
}
