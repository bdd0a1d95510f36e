//! What the keys of every provider have in common: lists of apps, endpoints, bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::{Authority, Uri};

use super::retry::Policy;
use crate::config::{Config, ConfigError, Key};

/// Longest wait that may be configured.
const LONGEST: Duration = Duration::from_mins(10);

/// The apps of a platform, in the configuration's order and case; at least one.
pub(in crate::handlers) fn app_names(config: &Config, key: &Key) -> Result<Vec<String>, ConfigError> {
    let names: Vec<String> = config.get(key)?.unwrap_or_default();
    if names.is_empty() {
        return Err(config.error(key, "must name at least one app, by the name that its topics have"));
    }
    for (index, name) in names.iter().enumerate() {
        // Apps become parts of topic and table names; letters, digits, `_` and `-` are what topics are parsed by.
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Err(config.error(key, format!("must hold names of letters, digits, _ and -, unlike {name:?}")));
        }
        if names[..index].iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(config.error(key, format!("must name every app once, {name:?} is there twice")));
        }
    }
    Ok(names)
}

/// Host and port of `https://host:port`; `None` when the key is unset.
pub(in crate::handlers) fn endpoint(config: &Config, key: &Key) -> Result<Option<Authority>, ConfigError> {
    let Some(endpoint) = config.get::<String>(key)? else { return Ok(None) };
    let wrong = || config.error(key, "must be https://host:port, without a path");
    let uri: Uri = endpoint.trim().parse().map_err(|_| wrong())?;
    let bare = uri.path() == "/" && uri.query().is_none();
    authority_of(&uri).filter(|_| bare).map(Some).ok_or_else(wrong)
}

/// Host and port of an `https` URL; 443 when it names no port.
pub(in crate::handlers) fn authority_of(uri: &Uri) -> Option<Authority> {
    let authority = uri.authority().filter(|name| !name.as_str().contains('@'))?;
    match uri.scheme_str() {
        Some("https") if authority.port().is_some() => Some(authority.clone()),
        Some("https") => format!("{authority}:443").parse().ok(),
        _ => None,
    }
}

/// The keys of a provider's retries.
#[derive(Clone, Copy, Debug)]
pub(in crate::handlers) struct RetryKeys {
    /// Ceiling of the first pause.
    pub(in crate::handlers) interval: Key,
    /// Attempts of the budget.
    pub(in crate::handlers) attempts: Key,
    /// Time of the budget.
    pub(in crate::handlers) time: Key,
}

impl RetryKeys {
    /// What they say; 0 for the interval means unset, as nobody wants to spin.
    pub(in crate::handlers) fn read(&self, config: &Config) -> Result<Policy, ConfigError> {
        let attempts: Option<u32> = config.get(&self.attempts)?;
        if attempts == Some(0) {
            return Err(config.error(&self.attempts, "must be at least 1"));
        }
        let time: Option<Duration> = config.get(&self.time)?;
        if time.is_some_and(|time| time < Duration::from_secs(1)) {
            return Err(config.error(&self.time, "must be at least 1s"));
        }
        let first = config.seconds(&self.interval)?.filter(|first| !first.is_zero());
        Ok(Policy { first, attempts, time })
    }
}

/// A whole number within bounds.
pub(in crate::handlers) fn number(
    config: &Config,
    key: &Key,
    bounds: RangeInclusive<usize>,
) -> Result<usize, ConfigError> {
    let number = config.require(key)?;
    let rule = || format!("must be from {} to {}", bounds.start(), bounds.end());
    if bounds.contains(&number) { Ok(number) } else { Err(config.error(key, rule())) }
}

/// A wait of at least `shortest` and at most ten minutes; a bare number counts seconds.
pub(in crate::handlers) fn duration(config: &Config, key: &Key, shortest: Duration) -> Result<Duration, ConfigError> {
    let duration = config.seconds(key)?.ok_or_else(|| config.error(key, "must be set"))?;
    let rule = || format!("must be from {shortest:?} to 10m");
    if (shortest..=LONGEST).contains(&duration) { Ok(duration) } else { Err(config.error(key, rule())) }
}
