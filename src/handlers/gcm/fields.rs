//! The producer's JSON object, its known keys found and nothing else understood. Borrowed from the record.

use std::borrow::Cow;

use crate::handlers::json::Text;
use crate::handlers::known::{Keys, fields};
use crate::message::QueueMessage;
use crate::outcome::{Class, Refusal};

fields! {
    "docs/gcm-message.md",
    to: "to",
    topic: "topic",
    condition: "condition",
    collapse_key: "collapse_key",
    priority: "priority",
    time_to_live: "time_to_live",
    dry_run: "dry_run",
    data: "data",
    notification: "notification",
    metadata: "metadata",
    push_expiry: "push_expiry",
    message: "message",
}

impl Fields<'_> {
    /// Bytes of the values that may be large.
    pub(super) fn len(&self) -> usize {
        let Fields { data, notification, metadata, message, to, .. } = self;
        [data, notification, metadata, message, to].into_iter().flatten().map(|value| value.len()).sum()
    }
}

/// A refusal that is the message's own fault.
pub(super) fn refused(
    key: &'static str,
    reason: &'static str,
    description: impl Into<Cow<'static, str>>,
) -> Box<Refusal> {
    Box::new(Refusal::local(Class::Message, key, reason, description))
}

/// A known key with a value of another type.
pub(super) fn wrong_type(name: &str, expected: &str) -> Box<Refusal> {
    refused("wrong-type", "WrongType", format!("{name} must be {expected}"))
}

/// A text, decoded; `None` when it is not given or empty, as in the original.
pub(super) fn text<'a>(raw: Option<&'a str>, name: &str) -> Result<Option<Cow<'a, str>>, Box<Refusal>> {
    let Some(raw) = raw else { return Ok(None) };
    let Text(text) = Text::of(raw).ok_or_else(|| wrong_type(name, "a string"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A whole number, also written as a float (`1.7e9`) or in quotes, as producers in other languages do.
pub(super) fn number(raw: Option<&str>, name: &str) -> Result<Option<i64>, Box<Refusal>> {
    let Some(raw) = raw else { return Ok(None) };
    let digits = raw.trim_matches('"');
    let whole = digits.parse::<i64>().ok().or_else(|| {
        let float = digits.parse::<f64>().ok().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
        Some(float as i64)
    });
    whole.map(Some).ok_or_else(|| wrong_type(name, "a whole number"))
}

/// A truth value.
pub(super) fn flag(raw: Option<&str>, name: &str) -> Result<bool, Box<Refusal>> {
    match raw {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(wrong_type(name, "true or false")),
    }
}
