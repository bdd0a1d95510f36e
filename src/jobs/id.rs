//! To which job (campaign) a message belongs: `metadata.jobId`, as its producer wrote it. Pure.
//!
//! Asked for each message, so metadata without an escape is not parsed but looked through (`scan`).

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

mod scan;

/// Bytes of the longest name; a longer one is no job's.
pub const LONGEST: usize = 200;

/// The job that a message's metadata names; `None`: none, or it is no JSON object. Of a repeated key the last one counts.
pub fn of(metadata: &str) -> Option<Cow<'_, str>> {
    if metadata.contains('\\') {
        return name(parsed(metadata)?.get());
    }
    name(scan::value_of(metadata, "jobId")?)
}

/// The value of the last `jobId`, found by a parser that knows escapes.
fn parsed(metadata: &str) -> Option<&RawValue> {
    let mut json = serde_json::Deserializer::from_str(metadata);
    json.deserialize_map(LastId).ok().flatten()
}

/// The name that a value is.
fn name(id: &str) -> Option<Cow<'_, str>> {
    let id = match id.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => Cow::Borrowed(text),
        Some(_) => Cow::Owned(serde_json::from_str(id).ok()?),
        None if id.starts_with(|c: char| c.is_ascii_digit()) => Cow::Borrowed(id),
        None => return None,
    };
    is_name(&id).then_some(id)
}

/// Whether a text can be a job's name.
pub fn is_name(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control)
}

struct LastId;

impl<'de> Visitor<'de> for LastId {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Key)? {
            if is_it {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Looks at a key in place, without a copy: whether it is the one.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == "jobId")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_what_the_producers_metadata_says() {
        let cases: [(&str, Option<&str>); 13] = [
            (r#"{"a":[1,{}],"jobId":"j-1","z":null}"#, Some("j-1")),
            (r#"{"jobId":"first","jobId":"last"}"#, Some("last")),
            (r#"{"jobId":"a\"\u00e4"}"#, Some("a\"ä")),
            (r#"{"a":"\n","jobId":{"jobId":"x"},"jobId":"last"}"#, Some("last")),
            (r#"{"jobId":42}"#, Some("42")),
            (r#"{"jobId":""}"#, None),
            (r#"{"jobId":"a\nb"}"#, None),
            (r#"{"jobId":null}"#, None),
            (r#"{"jobId":{"jobId":"x"}}"#, None),
            (r#"{"JobId":"x","a":{"jobId":"y"}}"#, None),
            (r#""{\"jobId\":\"x\"}""#, None),
            (r#"["jobId"]"#, None),
            ("{}", None),
        ];
        for (metadata, expected) in cases {
            assert_eq!(of(metadata).as_deref(), expected, "{metadata}");
        }
        let long = |n| format!(r#"{{"jobId":"{}"}}"#, "x".repeat(n));
        assert!(of(&long(LONGEST)).is_some() && of(&long(LONGEST + 1)).is_none());
    }
}
