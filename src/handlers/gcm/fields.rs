//! The producer's JSON object, its known keys found and nothing else understood. Borrowed from the record.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::handlers::json::{Text, each};
use crate::outcome::{Class, Refusal};

/// The known keys of a message, raw; `null` counts as not given. Of a repeated key the last one counts.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) to: Option<&'a RawValue>,
    pub(super) topic: Option<&'a RawValue>,
    pub(super) condition: Option<&'a RawValue>,
    pub(super) collapse_key: Option<&'a RawValue>,
    pub(super) priority: Option<&'a RawValue>,
    pub(super) time_to_live: Option<&'a RawValue>,
    pub(super) dry_run: Option<&'a RawValue>,
    pub(super) data: Option<&'a RawValue>,
    pub(super) notification: Option<&'a RawValue>,
    pub(super) metadata: Option<&'a RawValue>,
    pub(super) push_expiry: Option<&'a RawValue>,
    pub(super) message: Option<&'a RawValue>,
}

/// Finds the known keys of a record.
pub(super) fn read(record: &[u8]) -> Result<Fields<'_>, Box<Refusal>> {
    let text = std::str::from_utf8(record).map_err(|error| {
        let place = error.valid_up_to();
        refused("bad-utf8", "BadUtf8", format!("the record is not UTF-8: byte {place} is the first wrong one"))
    })?;
    let mut fields = Fields::default();
    each(text, place, |place, value| *place(&mut fields) = (value.get() != "null").then_some(value))
        .map_err(|error| refusal(&error))?;
    Ok(fields)
}

/// Where the value of a known key is kept.
type Place = for<'f, 'a> fn(&'f mut Fields<'a>) -> &'f mut Option<&'a RawValue>;

/// The known keys, in lower case.
const PLACES: [(&str, Place); 12] = [
    ("to", |fields| &mut fields.to),
    ("topic", |fields| &mut fields.topic),
    ("condition", |fields| &mut fields.condition),
    ("collapse_key", |fields| &mut fields.collapse_key),
    ("priority", |fields| &mut fields.priority),
    ("time_to_live", |fields| &mut fields.time_to_live),
    ("dry_run", |fields| &mut fields.dry_run),
    ("data", |fields| &mut fields.data),
    ("notification", |fields| &mut fields.notification),
    ("metadata", |fields| &mut fields.metadata),
    ("push_expiry", |fields| &mut fields.push_expiry),
    ("message", |fields| &mut fields.message),
];

/// The original decodes keys without regard to case.
fn place(key: &str) -> Option<Place> {
    PLACES.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, place)| *place)
}

/// Never quotes the record: only serde's words about syntax and the place.
fn refusal(error: &serde_json::Error) -> Box<Refusal> {
    if error.is_data() {
        return refused(
            "not-an-object",
            "NotAnObject",
            "the record is JSON but not an object; see docs/gcm-message.md",
        );
    }
    refused("malformed-json", "MalformedJson", format!("the record is not JSON: {error}"))
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
pub(super) fn text<'a>(raw: Option<&'a RawValue>, name: &str) -> Result<Option<Cow<'a, str>>, Box<Refusal>> {
    let Some(raw) = raw else { return Ok(None) };
    let Text(text) = Text::of(raw).ok_or_else(|| wrong_type(name, "a string"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A whole number, also written as a float (`1.7e9`) or in quotes, as producers in other languages do.
pub(super) fn number(raw: Option<&RawValue>, name: &str) -> Result<Option<i64>, Box<Refusal>> {
    let Some(raw) = raw else { return Ok(None) };
    let digits = raw.get().trim_matches('"');
    let whole = digits.parse::<i64>().ok().or_else(|| {
        let float = digits.parse::<f64>().ok().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
        Some(float as i64)
    });
    whole.map(Some).ok_or_else(|| wrong_type(name, "a whole number"))
}

/// A truth value.
pub(super) fn flag(raw: Option<&RawValue>, name: &str) -> Result<bool, Box<Refusal>> {
    match raw.map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(wrong_type(name, "true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_with(record: &[u8]) -> &'static str {
        read(record).err().map_or("accepted", |refusal| refusal.key)
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_of_a_repeated_one_counts() {
        let fields = read(br#"{"TO":"a","x":[{"to":1}],"To":"b","Time_To_Live":5,"DATA":null}"#).unwrap();
        assert_eq!(fields.to.map(RawValue::get), Some("\"b\""));
        assert_eq!(fields.time_to_live.map(RawValue::get), Some("5"));
        assert!(fields.data.is_none());
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_own_key_and_never_quoted() {
        for (record, key) in [
            (&b""[..], "malformed-json"),
            (b"s3cret", "malformed-json"),
            (br#"{"to":"s3cret" "#, "malformed-json"),
            (b"[1]", "not-an-object"),
            (br#""s3cret""#, "not-an-object"),
            (b"{\"to\":\"\xff\"}", "bad-utf8"),
        ] {
            assert_eq!(refused_with(record), key);
            assert!(!read(record).err().unwrap().description.contains("s3cret"));
        }
        let deep = format!(r#"{{"data":{}{}}}"#, "[".repeat(300_000), "]".repeat(300_000));
        assert_eq!(refused_with(deep.as_bytes()), "accepted");
    }
}
