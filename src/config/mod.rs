//! Configuration: YAML file, then `PUSHER_*` environment, then validation by the rooms that use a key.
//!
//! What lives here: reading, folding of names, types of values, errors with their source. What may not: any key. A room
//! declares its keys as [`Key`]s and parses them with [`Config::get`]; the caller of [`load()`] collects them in a
//! [`Catalogue`].
//!
//! - Names are dotted (`queue.sessionTimeout`) and compared without case, as the original's library (viper) did; names of
//!   apps are compared so too, and keep the case of the list of apps wherever they are used.
//! - The environment goes before the file, the file before the default. Which one won is remembered ([`Config::source_of`]).
//! - A key without a value (`key:`, an empty variable) counts as not written; an explicit `""` unsets a default.
//! - A wrong value is an error of the room that reads the key; an unknown name is a [`Notice`] and never an error.

mod effective;
mod env;
mod errors;
mod key;
mod load;
mod nearest;
mod notice;
mod value;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use effective::Row;
pub use env::ambiguous;
pub use errors::{ConfigError, ConfigErrors, Problems};
pub use key::{Alias, Catalogue, Ignored, Key, Plugin};
pub use load::{ConfigFile, LoadError, Loaded, load};
pub use nearest::nearest;
pub use notice::Notice;
use value::parse_duration;
pub use value::{Brokers, FromValue, Value};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Not written anywhere.
    Default,
    /// The configuration file.
    File {
        /// Its path as given.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The environment.
    Environment {
        /// The variable's name.
        variable: String,
    },
    /// Set by the program itself: command line, demo, tests.
    Given,
}

impl Source {
    fn line(&self) -> Option<usize> {
        match self {
            Source::File { line, .. } => Some(*line),
            _ => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line } => write!(f, "{} line {line}", path.display()),
            Source::Environment { variable } => f.write_str(variable),
            Source::Given => f.write_str("given"),
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug)]
struct Written {
    /// The dotted name as written.
    name: String,
    value: Value,
    source: Source,
}

/// The effective configuration.
///
/// Its `Debug` output shows names only: what is secret is known to the keys' declarations, not to the values.
#[derive(Clone, Default)]
pub struct Config {
    /// By name in lower case.
    values: BTreeMap<String, Written>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.values().map(|written| &written.name)).finish()
    }
}

impl Config {
    /// A configuration of exactly these pairs; for tests and embedded runs.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Config::default().with(pairs)
    }

    /// The same configuration with these pairs in place of what was written.
    #[must_use]
    pub fn with<'a>(mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        for (name, text) in pairs {
            let value = Value::Scalar(text.to_owned());
            self.values.insert(name.to_lowercase(), Written { name: name.to_owned(), value, source: Source::Given });
        }
        self
    }

    /// The value of `key`, or its default; `None` when neither is there or the value is empty.
    pub fn get<T: FromValue>(&self, key: &Key) -> Result<Option<T>, ConfigError> {
        self.get_named(key, key.name.to_owned())
    }

    /// The value of a key with a placeholder, for one app.
    pub fn get_for<T: FromValue>(&self, key: &Key, app: &str) -> Result<Option<T>, ConfigError> {
        self.get_named(key, key.name.replace("<app>", app))
    }

    /// The value of a key that has a default or must be given.
    pub fn require<T: FromValue>(&self, key: &Key) -> Result<T, ConfigError> {
        self.get(key)?.ok_or_else(|| ConfigError { key: key.name.into(), value: None, rule: "must be set".into() })
    }

    /// A duration whose bare number counts milliseconds.
    pub fn millis(&self, key: &Key) -> Result<Option<Duration>, ConfigError> {
        self.duration(key, "ms")
    }

    /// A duration whose bare number counts seconds.
    pub fn seconds(&self, key: &Key) -> Result<Option<Duration>, ConfigError> {
        self.duration(key, "s")
    }

    /// Everything below a pass-through key (`queue.kafka.*`), with the names below it in lower case.
    pub fn below(&self, key: &Key) -> BTreeMap<String, String> {
        let prefix = key.name.trim_end_matches('*').to_lowercase();
        self.values
            .iter()
            .filter_map(|(name, written)| match (name.strip_prefix(&prefix), &written.value) {
                (Some(rest), Value::Scalar(text)) if !rest.is_empty() => Some((rest.to_owned(), text.clone())),
                (Some(rest), Value::List(items)) if !rest.is_empty() => Some((rest.to_owned(), items.join(","))),
                _ => None,
            })
            .collect()
    }

    /// Where the value of `key` came from; `app` for a key with a placeholder.
    pub fn source_of(&self, key: &Key, app: Option<&str>) -> Source {
        let name = key.name.replace("<app>", app.unwrap_or("<app>"));
        self.values.get(&name.to_lowercase()).map_or(Source::Default, |written| written.source.clone())
    }

    /// An error about a value that has the right type and breaks a rule of its room.
    pub fn error(&self, key: &Key, rule: impl Into<String>) -> ConfigError {
        self.error_named(key, key.name.to_owned(), rule.into())
    }

    /// The same for one app's value of a key with a placeholder.
    pub fn error_for(&self, key: &Key, app: &str, rule: impl Into<String>) -> ConfigError {
        self.error_named(key, key.name.replace("<app>", app), rule.into())
    }

    /// `Ok` when `problems` is empty; else all of them, each with the place where the value was written.
    #[expect(clippy::needless_pass_by_value, reason = "the collection ends here")]
    pub fn check(&self, problems: Problems) -> Result<(), ConfigErrors> {
        ConfigErrors::new(&problems, |name| self.place(name))
    }

    /// An error that was found alone, with the place where the value was written.
    pub fn placed(&self, error: &ConfigError) -> ConfigErrors {
        ConfigErrors::one(error, self.place(&error.key))
    }

    fn place(&self, name: &str) -> Option<Source> {
        self.values.get(&name.to_lowercase()).map(|written| written.source.clone())
    }

    fn error_named(&self, key: &Key, name: String, rule: String) -> ConfigError {
        let value = self.effective(key, &name).filter(|_| !key.secret).map(|value| value.text());
        ConfigError { key: name, value, rule }
    }

    fn duration(&self, key: &Key, unit: &str) -> Result<Option<Duration>, ConfigError> {
        let Some(text) = self.get::<String>(key)? else { return Ok(None) };
        let text = text.trim();
        let with_unit =
            if text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}{unit}") } else { text.to_owned() };
        parse_duration(&with_unit)
            .map(Some)
            .ok_or_else(|| self.error(key, format!("must be a number ({unit}) or a duration such as 250ms, 5s, 10m")))
    }

    fn get_named<T: FromValue>(&self, key: &Key, name: String) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.effective(key, &name) else { return Ok(None) };
        T::from_value(&value).map(Some).map_err(|rule| self.error_named(key, name, rule))
    }

    /// What is written, or the default; `None` when there is neither or the value is blank.
    fn effective(&self, key: &Key, name: &str) -> Option<Value> {
        let written = self.values.get(&name.to_lowercase()).map(|written| written.value.clone());
        written.or_else(|| key.default.map(|text| Value::Scalar(text.to_owned()))).filter(|value| !value.is_blank())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: Key = Key::new("log.level", "info", "");
    const KEY_ID: Key = Key::optional("apns.certs.<app>.keyID", "");
    const PASSWORD: Key = Key::optional("pg.password", "").secret();
    const TIMEOUT: Key = Key::new("queue.sessionTimeout", "6000", "");
    const KAFKA: Key = Key::optional("queue.kafka.*", "");

    #[test]
    fn names_have_no_case() {
        let config = Config::from_pairs([("LOG.Level", "debug"), ("apns.certs.mygame.KEYID", "K1")]);
        assert_eq!(config.get::<String>(&LEVEL), Ok(Some("debug".into())));
        assert_eq!(config.get_for::<String>(&KEY_ID, "MyGame"), Ok(Some("K1".into())));
        assert_eq!(config.get_for::<String>(&KEY_ID, "other"), Ok(None));
        assert_eq!(config.source_of(&KEY_ID, Some("MyGame")), Source::Given);
        assert_eq!(config.source_of(&TIMEOUT, None), Source::Default);
    }

    #[test]
    fn an_explicit_blank_unsets_a_default() {
        assert_eq!(Config::from_pairs([("log.level", " ")]).get::<String>(&LEVEL), Ok(None));
        assert_eq!(Config::default().get::<String>(&LEVEL), Ok(Some("info".into())));
    }

    #[test]
    fn durations_of_the_original_have_no_unit() {
        let read = |text| Config::from_pairs([("queue.sessionTimeout", text)]).millis(&TIMEOUT);
        assert_eq!(read("250"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(read("2s"), Ok(Some(Duration::from_secs(2))));
        assert_eq!(Config::default().seconds(&TIMEOUT), Ok(Some(Duration::from_mins(100))));
        insta::assert_snapshot!(read("soon").unwrap_err(), @r#"
queue.sessionTimeout: "soon" must be a number (ms) or a duration such as 250ms, 5s, 10m
"#);
    }

    #[test]
    fn errors_name_key_value_and_rule_but_no_secret() {
        let config = Config::from_pairs([("pg.password", "hunter2"), ("queue.sessionTimeout", "x")]);
        insta::assert_snapshot!(config.get::<u16>(&TIMEOUT).unwrap_err(), @r#"
queue.sessionTimeout: "x" must be a whole number from 0 to 65535
"#);
        insta::assert_snapshot!(config.get::<u16>(&PASSWORD).unwrap_err(), @"pg.password: must be a whole number from 0 to 65535");
        insta::assert_snapshot!(config.error_for(&KEY_ID, "game", "must have 10 characters"), @"apns.certs.game.keyID: must have 10 characters");
        insta::assert_snapshot!(config.require::<String>(&Key::optional("apns.apps", "")).unwrap_err(), @"apns.apps: must be set");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_below_a_key() {
        let config =
            Config::from_pairs([("queue.kafka.SASL.username", "u"), ("queue.kafka", "x"), ("queue.group", "g")]);
        assert_eq!(config.below(&KAFKA), BTreeMap::from([("sasl.username".into(), "u".into())]));
    }
}
