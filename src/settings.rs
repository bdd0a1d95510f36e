//! Every key of the program in one list, room by room, with the names of the original that are tolerated.
//!
//! A room that reads keys is added to [`ALL_KEYS`]; the tests below then ask for its keys in `config/default.yaml` and
//! `docs/configuration.md`.

use std::num::NonZero;
use std::time::Duration;

use crate::config::{Alias, Catalogue, Config, ConfigError, Ignored, Key, Plugin};

/// Sender threads.
pub const WORKERS: Key =
    Key::optional("workers", "sender threads, each with its own connections; unset: as many as there are cores");
/// Bound of everything lent.
pub const MAX_IN_FLIGHT: Key =
    Key::new("maxInFlight", "10000", "most messages between Kafka and their outcome, whatever they wait for");
/// The same in bytes.
pub const MAX_IN_FLIGHT_BYTES: Key =
    Key::new("maxInFlightBytes", "67108864", "most bytes of messages between Kafka and their outcome");

/// The keys of the worker as a whole.
pub const KEYS: &[Key] = &[WORKERS, MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES];

/// What the configuration says about the worker as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Sender threads.
    pub workers: usize,
    /// Most messages lent at once.
    pub max_in_flight: usize,
    /// Most bytes lent at once.
    pub max_in_flight_bytes: usize,
    /// How long the end may take.
    pub graceful_shutdown: Duration,
}

impl WorkerSettings {
    /// Reads [`KEYS`] and the grace of the end.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let workers = config.get(&WORKERS)?.unwrap_or(cores);
        if !(1..=256).contains(&workers) {
            return Err(config.error(&WORKERS, "must be from 1 to 256"));
        }
        let max_in_flight: usize = config.require(&MAX_IN_FLIGHT)?;
        if !(2..=1_000_000).contains(&max_in_flight) {
            return Err(config.error(&MAX_IN_FLIGHT, "must be from 2 to 1000000"));
        }
        let max_in_flight_bytes: usize = config.require(&MAX_IN_FLIGHT_BYTES)?;
        if max_in_flight_bytes < 1 << 20 {
            return Err(
                config.error(&MAX_IN_FLIGHT_BYTES, "must be at least 1048576 (1 MiB, Kafka's usual largest message)")
            );
        }
        let graceful_shutdown = crate::shutdown::Settings::from_config(config)?.timeout;
        Ok(WorkerSettings { workers, max_in_flight, max_in_flight_bytes, graceful_shutdown })
    }
}

/// The keys of all rooms, in the order of the documentation.
pub const ALL_KEYS: &[&[Key]] = &[
    crate::shutdown::KEYS,
    crate::telemetry::KEYS,
    KEYS,
    crate::concurrency::settings::KEYS,
    crate::admin::KEYS,
    crate::queue::config::KEYS,
    crate::handlers::retry::KEYS,
    crate::handlers::breaker::KEYS,
    crate::handlers::apns::KEYS,
    crate::handlers::gcm::KEYS,
    crate::admission::KEYS,
    crate::admission::redis::KEYS,
    crate::reporters::stats::KEYS,
    crate::reporters::stats::statsd::KEYS,
    crate::reporters::feedback::KEYS,
    crate::reporters::feedback::kafka::KEYS,
    crate::reporters::dead_letter::KEYS,
    crate::reporters::dead_letter::kafka::KEYS,
    crate::reporters::invalid_token::KEYS,
    crate::reporters::invalid_token::postgres::KEYS,
    crate::control::config::KEYS,
    crate::feedback_listener::config::KEYS[0],
    crate::feedback_listener::config::KEYS[1],
    crate::feedback_listener::config::KEYS[2],
];

/// Names that the original's README and older manifests use.
pub const ALIASES: &[Alias] = &[
    Alias { written: "gracefullShutdownTimeout", name: "gracefulShutdownTimeout" },
    Alias { written: "apns.certs.<app>", name: "apns.certs.<app>.authKeyPath" },
    Alias { written: "dedup.games.<app>.percentage", name: "dedup.games.<app>" },
];

const COLLECTED: &str = "a push waits for its token's deletion: invalidToken.batch bounds for how long";

/// Keys of the original that belong to no room here.
const HOMELESS: &[Ignored] = &[
    Ignored { name: "feedback.cache.*", because: "the original stopped reading it in its version 4" },
    Ignored { name: "pprof.*", because: "it belongs to the original's runtime" },
    Ignored { name: "invalidToken.flush.time.ms", because: COLLECTED },
    Ignored { name: "invalidToken.buffer.size", because: COLLECTED },
    Ignored { name: "push.db.*", because: "the original gave it up in its version 2: use invalidToken.pg" },
];

/// Keys of the original that change nothing here, room by room. A key of [`ALL_KEYS`] goes before a line of this list.
pub const IGNORED: &[&[Ignored]] = &[
    crate::queue::config::IGNORED,
    crate::handlers::apns::IGNORED,
    crate::handlers::gcm::IGNORED,
    crate::reporters::stats::statsd::IGNORED,
    crate::reporters::feedback::kafka::IGNORED,
    crate::reporters::invalid_token::postgres::IGNORED,
    crate::feedback_listener::config::IGNORED,
    HOMELESS,
];

/// Sections that are read when a list names them.
pub const PLUGINS: &[Plugin] = &[
    Plugin { list: "stats.reporters", name: "statsd", section: "stats.statsd.*" },
    Plugin { list: "feedback.reporters", name: "kafka", section: "feedback.kafka.*" },
    Plugin { list: "deadLetters.reporters", name: "kafka", section: "deadLetters.kafka.*" },
    Plugin { list: "invalidToken.handlers", name: "pg", section: "invalidToken.pg.*" },
    Plugin { list: "rateLimiter.store", name: "redis", section: "rateLimiter.redis.*" },
    Plugin { list: "dedup.store", name: "redis", section: "dedup.redis.*" },
];

/// Everything that a file or the environment may name.
pub fn catalogue() -> Catalogue<'static> {
    Catalogue { keys: ALL_KEYS, aliases: ALIASES, ignored: IGNORED, plugins: PLUGINS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_its_keys_in_the_lists() {
        for provider in crate::handlers::providers() {
            let name = provider.platform;
            for key in provider.keys {
                assert!(catalogue().keys().any(|known| known.name == key.name), "{name}: {}", key.name);
            }
            for ignored in provider.ignored {
                assert!(catalogue().ignored().any(|known| known.name == ignored.name), "{name}: {}", ignored.name);
            }
        }
    }

    #[test]
    fn a_name_is_a_key_or_without_effect_and_never_both() {
        let keys: Vec<_> = catalogue().keys().map(|key| key.name.to_lowercase()).collect();
        let mut seen = Vec::new();
        for ignored in catalogue().ignored() {
            let name = ignored.name.to_lowercase();
            let below = name.strip_suffix('*');
            let key = keys.iter().find(|key| **key == name || below.is_some_and(|below| key.starts_with(below)));
            assert_eq!(key, None, "{} is read", ignored.name);
            assert!(!seen.contains(&name), "{} is listed twice", ignored.name);
            seen.push(name);
        }
    }

    /// Dead letters go to the brokers of the push topics, whose keys belong to a room that theirs may not use.
    #[test]
    fn dead_letters_read_the_queues_keys_as_the_queue_does() {
        for theirs in crate::reporters::dead_letter::kafka::OF_THE_QUEUE {
            let key = catalogue().keys().find(|key| key.name == theirs.name).expect("the queue's key");
            assert_eq!(key.default, theirs.default, "{}", key.name);
        }
    }

    /// What files and manifests of the original say about rate limit and dedup.
    #[test]
    fn the_originals_shapes_of_rate_limit_and_dedup_are_understood() {
        use crate::admission::content::Shares;
        use crate::admission::settings::Settings;
        use crate::config::{ConfigFile, load};
        let yaml = "apns:\n  apps: game,other\n  rateLimit.rpm: 20\n  dedup.ttl: 90s\n\
                    rateLimiter:\n  redis:\n    host: h\n    port: 1234\n    password: p\n  tls:\n    disabled: true\n";
        let read = |more: &str, env: &[(&str, &str)]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), format!("{yaml}{more}")).unwrap();
            let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let loaded = load(ConfigFile::Explicit(file.path()), env, catalogue()).unwrap();
            let keys = crate::admission::PlatformKeys::new("apns.rateLimit.rpm", "apns.dedup.ttl");
            let settings = Settings::from_config(&loaded.config, &keys, &["game".into(), "other".into()]).unwrap();
            assert_eq!((settings.rpm, settings.ttl), (Some(20), Duration::from_secs(90)));
            (settings.shares, loaded.notices.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        };
        let expected = Shares::new([("game".to_owned(), 50), ("other".to_owned(), 100)]);
        let json = r#"{"game": 50, "other": 100}"#;
        for (more, env) in [
            (format!("dedup.games: '{json}'"), vec![]),
            (format!("dedup: {{games: {json}}}"), vec![]),
            (String::new(), vec![("PUSHER_DEDUP_GAMES", json)]),
            (String::new(), vec![("PUSHER_DEDUP_GAMES_GAME", "50"), ("PUSHER_DEDUP_GAMES_OTHER", "100")]),
        ] {
            assert_eq!(read(&more, &env), (expected.clone(), String::new()), "{more} {env:?}");
        }
        let nested = "dedup: {games: {game: {percentage: 50}}}";
        let (shares, notices) = read(nested, &[("PUSHER_DEDUP_GAMES_OTHER_PERCENTAGE", "100")]);
        assert_eq!(shares, expected);
        insta::assert_snapshot!(notices, @r"
        dedup.games.game.percentage: read as dedup.games.game, which is its name now
        PUSHER_DEDUP_GAMES_OTHER_PERCENTAGE: read as dedup.games.other, which is its name now
        ");
    }

    /// A section that is named after a plug-in is that plug-in's.
    #[test]
    fn every_plug_in_that_has_keys_has_its_section() {
        use crate::admission::settings::{DEDUPS, LIMITERS};
        use crate::reporters::{dead_letter, feedback, invalid_token, stats};
        let names: [(&str, Vec<&str>); 6] = [
            ("stats.reporters", stats::REPORTERS.names().collect()),
            ("feedback.reporters", feedback::REPORTERS.names().collect()),
            ("deadLetters.reporters", dead_letter::REPORTERS.names().collect()),
            ("invalidToken.handlers", invalid_token::HANDLERS.names().collect()),
            ("rateLimiter.store", LIMITERS.names().collect()),
            ("dedup.store", DEDUPS.names().collect()),
        ];
        let mut expected = Vec::new();
        for (list, name) in names.iter().flat_map(|(list, names)| names.iter().map(move |name| (*list, *name))) {
            let section = format!("{}.{name}.", list.split('.').next().unwrap());
            if catalogue().keys().any(|key| key.name.starts_with(&section)) {
                expected.push((list, name, format!("{section}*")));
            }
        }
        let listed: Vec<_> = PLUGINS.iter().map(|one| (one.list, one.name, one.section.to_owned())).collect();
        assert_eq!(listed, expected);
        assert!(PLUGINS.iter().all(|one| catalogue().keys().any(|key| key.name == one.list)));
    }

    #[test]
    fn an_alias_means_a_key_that_exists() {
        for alias in ALIASES {
            assert!(catalogue().keys().any(|key| key.name == alias.name), "{alias:?}");
        }
    }
}
