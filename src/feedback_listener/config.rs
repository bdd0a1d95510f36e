//! The section `feedbackListeners`.

use std::time::Duration;

use crate::config::{Config, ConfigError, Ignored, Key, Problems};
use crate::queue;
use crate::reporters::invalid_token::postgres;

use super::valve::Limits;

/// How feedback topics are consumed.
pub const QUEUE: queue::config::Section = queue::config::section!(
    "feedbackListeners.queue",
    topics: "^push-.+[-_](apns|gcm)[-_]feedbacks$",
    "feedback topics: names, or regular expressions that begin with ^; those of the apps in apns.apps and gcm.apps are added"
);
const QUEUE_KEYS: &[Key] = &QUEUE.keys();

const GRACE: Key = Key::new(
    "feedbackListeners.gracefulShutdownTimeout",
    "10",
    "seconds that statements under way are waited for at the end",
);
const ENABLED: Key = Key::new(
    "feedbackListeners.broker.invalidTokenEnabled",
    "true",
    "false: records are read and counted, and nothing is deleted",
);
const FLUSH: Key = Key::new(
    "feedbackListeners.invalidToken.flush.time.ms",
    "1000",
    "how long a token waits for company at most, ms, 1 to 60000",
);
const SIZE: Key =
    Key::new("feedbackListeners.invalidToken.buffer.size", "1000", "most tokens of one DELETE, 1 to 10000");
const MAX_SHARE: Key = Key::new(
    "feedbackListeners.invalidToken.valve.maxShare",
    "0.1",
    "share of a table's rows that may go in the window; then the valve closes; 1: never",
);
const WINDOW: Key = Key::new("feedbackListeners.invalidToken.valve.window", "1h", "the window, 1m to 24h");
const MIN_ROWS: Key = Key::new(
    "feedbackListeners.invalidToken.valve.minRows",
    "1000",
    "rows that may go in the window however small the table is, or while nobody has counted it",
);
const OWN: &[Key] = &[GRACE, ENABLED, FLUSH, SIZE, MAX_SHARE, WINDOW, MIN_ROWS];

/// Where the tokens are.
pub const POSTGRES: postgres::Section = postgres::section!("feedbackListeners.invalidToken.pg");
const POSTGRES_KEYS: &[Key] = &POSTGRES.keys();

/// The keys of this room.
pub const KEYS: [&[Key]; 3] = [QUEUE_KEYS, OWN, POSTGRES_KEYS];

/// Keys of the original that are accepted without effect, and why.
pub const IGNORED: &[Ignored] = &[
    Ignored { name: "feedbackListeners.queue.channelSize", because: queue::config::CHANNEL_SIZE },
    Ignored { name: "feedbackListeners.queue.handleAllMessagesBeforeExiting", because: queue::config::HANDLE_ALL },
    Ignored { name: "feedbackListeners.broker.invalidTokenChan.size", because: queue::config::CHANNEL_SIZE },
    Ignored {
        name: "feedbackListeners.invalidToken.pg.maxRetries",
        because: "a DELETE that failed is tried until it commits; the records stay in Kafka meanwhile",
    },
];

/// What the configuration says about the listener itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How long the end may take.
    pub grace: Duration,
    /// Whether anything is deleted.
    pub enabled: bool,
    /// Most tokens of one statement.
    pub batch_size: usize,
    /// How long a token waits for company.
    pub batch_interval: Duration,
    /// Of the valves.
    pub limits: Limits,
}

impl Settings {
    /// Reads and checks the section, without `queue` and `invalidToken.pg`.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let grace = config.seconds(&GRACE)?.unwrap_or(Duration::from_secs(10));
        if grace.is_zero() || grace > Duration::from_hours(1) {
            return Err(config.error(&GRACE, "must be from 1 second to 1 hour"));
        }
        let batch_interval = config.millis(&FLUSH)?.unwrap_or(Duration::from_secs(1));
        if !(Duration::from_millis(1)..=Duration::from_mins(1)).contains(&batch_interval) {
            return Err(config.error(&FLUSH, "must be from 1 to 60000 (ms)"));
        }
        let batch_size: usize = config.require(&SIZE)?;
        if !(1..=10_000).contains(&batch_size) {
            return Err(config.error(&SIZE, "must be from 1 to 10000"));
        }
        let limits = limits(config)?;
        Ok(Settings { grace, enabled: config.require(&ENABLED)?, batch_size, batch_interval, limits })
    }
}

fn limits(config: &Config) -> Result<Limits, ConfigError> {
    let max_share: f64 = config.require(&MAX_SHARE)?;
    if !(max_share > 0.0 && max_share <= 1.0) {
        return Err(config.error(&MAX_SHARE, "must be above 0 and at most 1"));
    }
    let window: Duration = config.require(&WINDOW)?;
    if !(Duration::from_mins(1)..=Duration::from_hours(24)).contains(&window) {
        return Err(config.error(&WINDOW, "must be from 1m to 24h"));
    }
    Ok(Limits { max_share, window, min_rows: config.require(&MIN_ROWS)? })
}

/// What a listener is told by the configuration, room by room.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) own: Settings,
    pub(super) queue: queue::config::Settings,
    pub(super) postgres: postgres::Settings,
}

impl Configured {
    /// Reads all sections; what is wrong is left in `problems`.
    pub(super) fn read(config: &Config, problems: &mut Problems) -> Option<Configured> {
        let own = problems.take(Settings::from_config(config));
        let queue = problems.take(queue::config::Settings::read(config, &QUEUE));
        let postgres = problems.take(postgres::Settings::read(config, &POSTGRES));
        Some(Configured { own: own?, queue: queue?, postgres: postgres? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_safe() {
        let settings = Settings::from_config(&Config::default()).unwrap();
        assert!(settings.enabled && !settings.limits.are_off());
        assert_eq!((settings.batch_size, settings.batch_interval), (1000, Duration::from_secs(1)));
    }

    #[test]
    fn values_of_the_original_are_read() {
        let config = Config::from_pairs([
            ("feedbackListeners.gracefulShutdownTimeout", "1"),
            ("feedbackListeners.invalidToken.flush.time.ms", "2000"),
            ("feedbackListeners.invalidToken.buffer.size", "99"),
            ("feedbackListeners.broker.invalidTokenEnabled", "false"),
            ("feedbackListeners.queue.topics", "^push-[^-_]+-(apns|gcm)-feedbacks"),
            ("feedbackListeners.invalidToken.pg.user", "pusher_user"),
            ("feedbackListeners.invalidToken.pg.database", "push"),
            ("feedbackListeners.invalidToken.pg.sslmode", "false"),
        ]);
        let mut problems = Problems::default();
        let Configured { own, queue, .. } = Configured::read(&config, &mut problems).expect("nothing is wrong");
        assert_eq!(
            (own.grace, own.batch_interval, own.batch_size),
            (Duration::from_secs(1), Duration::from_secs(2), 99)
        );
        assert!(!own.enabled);
        assert_eq!(queue.topics, ["^push-[^-_]+-(apns|gcm)-feedbacks"]);
    }

    #[test]
    fn wrong_values_name_key_value_and_rule() {
        let wrong = |key, value| Settings::from_config(&Config::from_pairs([(key, value)])).unwrap_err().to_string();
        insta::assert_snapshot!(wrong("feedbackListeners.invalidToken.buffer.size", "0"), @r#"feedbackListeners.invalidToken.buffer.size: "0" must be from 1 to 10000"#);
        insta::assert_snapshot!(wrong("feedbackListeners.invalidToken.flush.time.ms", "2m"), @r#"feedbackListeners.invalidToken.flush.time.ms: "2m" must be from 1 to 60000 (ms)"#);
        insta::assert_snapshot!(wrong("feedbackListeners.invalidToken.valve.maxShare", "10"), @r#"feedbackListeners.invalidToken.valve.maxShare: "10" must be above 0 and at most 1"#);
        insta::assert_snapshot!(wrong("feedbackListeners.invalidToken.valve.window", "5s"), @r#"feedbackListeners.invalidToken.valve.window: "5s" must be from 1m to 24h"#);
        let queue = |pairs: &[(&str, &str)]| {
            queue::config::Settings::read(&Config::from_pairs(pairs.iter().copied()), &QUEUE).unwrap_err().to_string()
        };
        insta::assert_snapshot!(queue(&[("feedbackListeners.queue.kafka.group.id", "x")]), @"feedbackListeners.queue.kafka.group.id: cannot be set: use feedbackListeners.queue.group");
        insta::assert_snapshot!(queue(&[("feedbackListeners.queue.offsetResetStrategy", "newest")]), @r#"feedbackListeners.queue.offsetResetStrategy: "newest" must be latest or earliest"#);
    }
}
