//! Wrong values: one, several, and how they are shown.

use std::fmt;

use super::Source;

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

/// Collects the errors of several rooms, so that one start names them all.
#[derive(Debug, Default)]
pub struct Problems(Vec<ConfigError>);

impl Problems {
    /// The value, or `None` after the error was noted. Two rooms that read the same value note the same error once.
    pub fn take<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        let note = |error| {
            if !self.0.contains(&error) {
                self.0.push(error);
            }
        };
        result.map_err(note).ok()
    }
}

fn shown(error: &ConfigError, source: Option<Source>) -> String {
    match source {
        Some(source) => format!("{error} ({source})"),
        None => error.to_string(),
    }
}

/// All wrong values of a configuration, one per line, each with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(Vec<String>);

impl ConfigErrors {
    pub(super) fn new(problems: &Problems, source: impl Fn(&str) -> Option<Source>) -> Result<(), Self> {
        match problems.0.as_slice() {
            [] => Ok(()),
            errors => Err(ConfigErrors(errors.iter().map(|error| shown(error, source(&error.key))).collect())),
        }
    }

    pub(super) fn one(error: &ConfigError, source: Option<Source>) -> Self {
        ConfigErrors(vec![shown(error, source)])
    }

    /// The lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
