//! Configuration: YAML file, then `PUSHER_*` environment, then validation by the rooms that use a key.
//!
//! Keys are case-insensitive and dotted (`queue.sessionTimeout`); names of apps keep the case they were written in. A room
//! declares its keys as [`Key`]s and parses them with [`Config::get`]; this room knows no key by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One known key, declared by the room that reads it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted name as documented, e.g. `queue.sessionTimeout`; a part in angle brackets (`apns.certs.<app>.keyID`) stands
    /// for each configured app; a last part `*` passes whatever is below through (`queue.kafka.*`).
    pub name: &'static str,
    /// The default in the notation of the YAML file; `None`: unset.
    pub default: Option<&'static str>,
    /// Never printed.
    pub secret: bool,
    /// One line for people: what it is, unit, what the default means.
    pub doc: &'static str,
}

impl Key {
    /// A key with a default.
    pub const fn new(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        Key { name, default: Some(default), secret: false, doc }
    }

    /// A key that is unset unless written.
    pub const fn optional(name: &'static str, doc: &'static str) -> Self {
        Key { name, default: None, secret: false, doc }
    }

    /// The same key, never printed.
    #[must_use]
    pub const fn secret(self) -> Self {
        Key { secret: true, ..self }
    }
}

/// A wrong value: names key, value and rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key as documented.
    pub key: String,
    /// The value as written; `None` for a missing or secret one.
    pub value: Option<String>,
    /// What it must be and what to do.
    pub rule: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}: {value:?} {}", self.key, self.rule),
            None => write!(f, "{}: {}", self.key, self.rule),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A value as written: a scalar's text or a list of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A scalar, in the text of the file or environment.
    Scalar(String),
    /// A YAML list.
    List(Vec<String>),
}

/// A type that a key's value can be read as. The error is the rule, worded to follow the quoted value: "must be …".
pub trait FromValue: Sized {
    /// Reads the value.
    fn from_value(value: &Value) -> Result<Self, String>;
}

impl FromValue for String {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Scalar(text) => Ok(text.clone()),
            Value::List(_) => Err("must be one value, not a list".into()),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, String> {
        match String::from_value(value)?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err("must be true or false".into()),
        }
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl FromValue for $type {
            fn from_value(value: &Value) -> Result<Self, String> {
                String::from_value(value)?
                    .trim()
                    .parse()
                    .map_err(|_| format!("must be a whole number from {} to {}", <$type>::MIN, <$type>::MAX))
            }
        }
    )*};
}
whole_numbers!(u16, u32, u64, usize, i64);

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<Self, String> {
        String::from_value(value)?.trim().parse().map_err(|_| "must be a number".into())
    }
}

/// Lists: YAML lists, or text separated by commas or white space.
impl FromValue for Vec<String> {
    fn from_value(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::List(items) => items.clone(),
            Value::Scalar(text) => text
                .split([',', ' ', '\t', '\n'])
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(Into::into)
                .collect(),
        })
    }
}

/// Durations with a unit: `250ms`, `1s`, `50m`, `1h`. A bare number is refused unless the key is read with
/// [`Config::millis`] or [`Config::seconds`], which is how the original's unit-less keys are read.
impl FromValue for Duration {
    fn from_value(value: &Value) -> Result<Self, String> {
        let text = String::from_value(value)?;
        parse_duration(text.trim()).ok_or_else(|| "must be a duration such as 250ms, 5s, 10m or 1h".into())
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// The effective configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    values: BTreeMap<String, Value>,
}

impl Config {
    /// A configuration of exactly these pairs; for tests and embedded runs.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let values = pairs.into_iter().map(|(k, v)| (k.to_lowercase(), Value::Scalar(v.to_owned()))).collect();
        Config { values }
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
            .filter_map(|(name, value)| match (name.strip_prefix(&prefix), value) {
                (Some(rest), Value::Scalar(text)) => Some((rest.to_owned(), text.clone())),
                (Some(rest), Value::List(items)) => Some((rest.to_owned(), items.join(","))),
                (None, _) => None,
            })
            .collect()
    }

    /// An error about a value that has the right type and breaks a rule of its room.
    pub fn error(&self, key: &Key, rule: impl Into<String>) -> ConfigError {
        let shown = if key.secret { None } else { self.get::<String>(key).ok().flatten() };
        ConfigError { key: key.name.into(), value: shown, rule: rule.into() }
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
        let written = self.values.get(&name.to_lowercase()).cloned();
        let Some(value) = written.or_else(|| key.default.map(|text| Value::Scalar(text.to_owned()))) else {
            return Ok(None);
        };
        if matches!(&value, Value::Scalar(text) if text.trim().is_empty()) {
            return Ok(None);
        }
        T::from_value(&value).map(Some).map_err(|rule| {
            let shown = match (&value, key.secret) {
                (Value::Scalar(text), false) => Some(text.clone()),
                (Value::List(items), false) => Some(items.join(", ")),
                (_, true) => None,
            };
            ConfigError { key: name, value: shown, rule }
        })
    }
}
