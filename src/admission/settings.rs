//! The keys of rate limit and dedup, and the stores that can be named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::content::Shares;
use super::redis::{Servers, dedup as redis_dedup, limiter as redis_limiter};
use super::{Dedup, Open, RateLimiter, memory};
use crate::config::{Config, ConfigError, Key};
use crate::registry::Registry;

const LIMITER_STORE: Key = Key::new(
    "rateLimiter.store",
    "redis",
    "who counts pushes per device: redis (all workers together, and the original) or memory (this process alone)",
);
const DEDUP_STORE: Key = Key::new(
    "dedup.store",
    "redis",
    "who remembers contents: redis (all workers together) or memory (this process alone)",
);
const TTL: Key = Key::new("dedup.ttl", "60s", "how long a content is remembered, 1s to 24h (a bare number: seconds)");
const GAMES: Key = Key::optional(
    "dedup.games",
    "share of each app's devices whose pushes are compared, per cent, as JSON: {\"game\": 100}; unset: none",
);
const GAME: Key = Key::optional("dedup.games.<app>", "the same for one app, 0 to 100");

/// The keys of this room itself.
pub const KEYS: &[Key] = &[LIMITER_STORE, DEDUP_STORE, TTL, GAMES, GAME];

/// The keys that each platform has of its own; a provider declares them.
#[derive(Clone, Copy, Debug)]
pub struct PlatformKeys {
    /// Most pushes to one device in a minute (`apns.rateLimit.rpm`).
    pub rpm: Key,
    /// In place of `dedup.ttl` (`apns.dedup.ttl`).
    pub dedup_ttl: Key,
}

impl PlatformKeys {
    /// For the platform whose keys have these names.
    pub const fn new(rpm: &'static str, dedup_ttl: &'static str) -> Self {
        PlatformKeys {
            rpm: Key::optional(rpm, "most pushes to one device in a minute, over all workers; unset: no limit"),
            dedup_ttl: Key::optional(dedup_ttl, "how long a content is remembered; unset: dedup.ttl"),
        }
    }
}

/// Builds a limiter of so many pushes per minute.
pub type LimiterFactory = fn(&Config, u32, &mut Servers) -> Result<Open<dyn RateLimiter>, ConfigError>;
/// Builds a dedup with this memory.
pub type DedupFactory = fn(&Config, Duration, &mut Servers) -> Result<Open<dyn Dedup>, ConfigError>;

/// The limiters that can be named.
pub const LIMITERS: Registry<LimiterFactory> = Registry::new(
    LIMITER_STORE,
    &[
        ("redis", redis_limiter),
        ("memory", |_, rpm, _| {
            let limiter: Arc<dyn RateLimiter> = Arc::new(memory::Minutes::new(rpm));
            Ok(Box::new(move |_| limiter.clone()))
        }),
    ],
);
/// The dedups that can be named.
pub const DEDUPS: Registry<DedupFactory> = Registry::new(
    DEDUP_STORE,
    &[
        ("redis", redis_dedup),
        ("memory", |_, ttl, _| {
            let dedup: Arc<dyn Dedup> = Arc::new(memory::Contents::new(ttl));
            Ok(Box::new(move |_| dedup.clone()))
        }),
    ],
);

/// The configured limiter.
pub(super) fn limiter(config: &Config, rpm: u32, servers: &mut Servers) -> Result<Open<dyn RateLimiter>, ConfigError> {
    one(config, &LIMITERS, &LIMITER_STORE)?(config, rpm, servers)
}

/// The configured dedup.
pub(super) fn dedup(config: &Config, ttl: Duration, servers: &mut Servers) -> Result<Open<dyn Dedup>, ConfigError> {
    one(config, &DEDUPS, &DEDUP_STORE)?(config, ttl, servers)
}

fn one<F: Copy + 'static>(config: &Config, registry: &Registry<F>, key: &Key) -> Result<F, ConfigError> {
    match registry.chosen(config)?[..] {
        [(_, build)] => Ok(build),
        _ => Err(config.error(key, "must name one store: redis or memory")),
    }
}

/// What is limited and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most pushes to one device in a minute; `None`: no limit.
    pub rpm: Option<u32>,
    /// How long a content is remembered.
    pub ttl: Duration,
    /// Of which devices.
    pub shares: Shares,
}

impl Settings {
    /// Reads and checks the keys for these apps of one platform.
    pub fn from_config(config: &Config, keys: &PlatformKeys, apps: &[Arc<str>]) -> Result<Self, ConfigError> {
        let rpm = config.get(&keys.rpm)?;
        if rpm == Some(0) {
            // The original drops everything then, set or unset.
            return Err(config.error(&keys.rpm, "must be at least 1; leave it out for no limit"));
        }
        let (key, ttl) = match config.seconds(&keys.dedup_ttl)? {
            Some(ttl) => (&keys.dedup_ttl, Some(ttl)),
            None => (&TTL, config.seconds(&TTL)?),
        };
        let ttl = ttl.filter(|ttl| (Duration::from_secs(1)..=Duration::from_hours(24)).contains(ttl));
        let ttl = ttl.ok_or_else(|| config.error(key, "must be from 1s to 24h"))?;
        Ok(Settings { rpm, ttl, shares: shares(config, apps)? })
    }
}

/// An app's own key goes before the JSON.
fn shares(config: &Config, apps: &[Arc<str>]) -> Result<Shares, ConfigError> {
    let json: String = config.get(&GAMES)?.unwrap_or_else(|| "{}".to_owned());
    let listed = serde_json::from_str::<BTreeMap<String, u8>>(&json).ok();
    let listed = listed.filter(|shares| shares.values().all(|percent| *percent <= 100)).ok_or_else(|| {
        config.error(&GAMES, "must be JSON such as {\"game\": 100}, of whole numbers from 0 to 100 (per cent)")
    })?;
    let mut shares = Vec::new();
    for app in apps {
        let named = listed.iter().find(|(name, _)| name.eq_ignore_ascii_case(app)).map_or(0, |(_, percent)| *percent);
        let percent = match config.get_for::<String>(&GAME, app)? {
            Some(own) => own.trim().parse().ok().filter(|percent| *percent <= 100),
            None => Some(named),
        };
        let wrong = || config.error_for(&GAME, app, "must be a whole number from 0 to 100 (per cent)");
        shares.push((app.to_string(), percent.ok_or_else(wrong)?));
    }
    Ok(Shares::new(shares))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLATFORM: PlatformKeys = PlatformKeys::new("apns.rateLimit.rpm", "apns.dedup.ttl");

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let apps = ["Game".into(), "other".into()];
        let config = Config::from_pairs(pairs.iter().copied());
        Settings::from_config(&config, &PLATFORM, &apps).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_limited_or_compared_unless_asked_for() {
        let settings = read(&[]).unwrap();
        assert_eq!((settings.rpm, settings.shares.is_empty(), settings.ttl), (None, true, Duration::from_mins(1)));
        let plan = super::super::Plan::from_config(&Config::default(), &PLATFORM, &["game".into()]);
        assert!(plan.unwrap().is_none());
    }

    #[test]
    fn shares_come_as_json_or_one_by_one_and_the_platform_has_its_own_ttl() {
        let settings = read(&[
            ("apns.rateLimit.rpm", "20"),
            ("dedup.games", r#"{"game": 50, "elsewhere": 100}"#),
            ("dedup.games.OTHER", "7"),
            ("dedup.ttl", "90"),
        ])
        .unwrap();
        let shares = Shares::new([("Game".to_owned(), 50), ("other".to_owned(), 7)]);
        assert_eq!(settings, Settings { rpm: Some(20), ttl: Duration::from_secs(90), shares });
        assert_eq!(read(&[("dedup.ttl", "90"), ("apns.dedup.ttl", "5m")]).unwrap().ttl, Duration::from_mins(5));
    }

    #[test]
    fn wrong_values_name_key_value_and_rule() {
        let cases: [&[(&str, &str)]; 8] = [
            &[("apns.rateLimit.rpm", "0")],
            &[("apns.rateLimit.rpm", "many")],
            &[("dedup.ttl", "0")],
            &[("apns.dedup.ttl", "48h")],
            &[("dedup.games", "game=50")],
            &[("dedup.games", r#"{"game": 101}"#)],
            &[("dedup.games.Game", "300")],
            &[("dedup.games.Game", "half")],
        ];
        insta::assert_snapshot!(cases.map(|pairs| read(pairs).unwrap_err()).join("\n"));
    }

    #[test]
    fn a_store_is_one_of_those_that_exist() {
        let plan = |store| {
            let pairs = [("apns.rateLimit.rpm", "20"), ("rateLimiter.store", store)];
            super::super::Plan::from_config(&Config::from_pairs(pairs), &PLATFORM, &["game".into()])
                .map_err(|error| error.to_string())
        };
        assert!(plan("memory").is_ok_and(|plan| plan.is_some()));
        insta::assert_snapshot!(plan("memcached").unwrap_err(), @r#"rateLimiter.store: "memcached" is not known; known are: redis, memory"#);
        insta::assert_snapshot!(plan("redis, memory").unwrap_err(), @r#"rateLimiter.store: "redis, memory" must name one store: redis or memory"#);
    }
}
