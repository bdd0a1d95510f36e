//! To which job (campaign) a message belongs: `metadata.jobId`, as its producer wrote it. Pure.
//!
//! Asked for each message before its handler reads it, so a record without an escape is not parsed but looked through (`scan`).

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

mod scan;

/// Bytes of the longest name; a longer one is no job's.
pub const LONGEST: usize = 200;

/// The job of a record; `None`: it names none, or is no JSON object. As in the rest of a message `metadata` may be written in
/// any case, and of a repeated key the last one counts.
pub fn of(record: &[u8]) -> Option<Cow<'_, str>> {
    static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"jobId\""));
    // Most that name none are known by that, without being read.
    NAME.find(record)?;
    let record = std::str::from_utf8(record).ok()?;
    if record.contains('\\') {
        return parsed(record);
    }
    let id = scan::value_of(record, |key| key.eq_ignore_ascii_case("metadata"))?;
    name(scan::value_of(id, |key| key == "jobId")?)
}

/// The same by a parser that knows escapes.
fn parsed(record: &str) -> Option<Cow<'_, str>> {
    let metadata = member(record, |key| key.eq_ignore_ascii_case("metadata"))?;
    name(member(metadata.get(), |key| key == "jobId")?.get())
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

/// The last value in an object whose key is the one.
fn member(object: &str, is_it: fn(&str) -> bool) -> Option<&RawValue> {
    let mut json = serde_json::Deserializer::from_str(object);
    json.deserialize_map(Member(is_it)).ok().flatten()
}

struct Member(fn(&str) -> bool);

impl<'de> Visitor<'de> for Member {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Key(self.0))? {
            if is_it {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Looks at a key in place, without a copy.
struct Key(fn(&str) -> bool);

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
        Ok((self.0)(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_what_the_producers_metadata_says() {
        let cases: [(&str, Option<&str>); 16] = [
            (r#"{"to":"t","metadata":{"a":[1,{}],"jobId":"j-1","z":null}}"#, Some("j-1")),
            (r#"{"Metadata":{"jobId":"first","jobId":"last"}}"#, Some("last")),
            (r#"{"metadata":{"jobId":"first"},"METADATA":{"jobId":"last"}}"#, Some("last")),
            (r#"{"metadata":{"jobId":"a\"\u00e4"}}"#, Some("a\"ä")),
            (r#"{"metadata":{"jobId":42}}"#, Some("42")),
            (r#"{"metadata":{"jobId":""}}"#, None),
            (r#"{"metadata":{"jobId":"a\nb"}}"#, None),
            (r#"{"metadata":{"jobId":null}}"#, None),
            (r#"{"metadata":{"jobId":{"jobId":"x"}}}"#, None),
            (r#"{"metadata":{"JobId":"x"},"data":{"jobId":"y"}}"#, None),
            (r#"{"metadata":"{\"jobId\":\"x\"}"}"#, None),
            (r#"{"metadata":["jobId"]}"#, None),
            (r#"{"jobId":"x"}"#, None),
            (r#"["jobId"]"#, None),
            (r#"{"metadata":{"jobId":"#, None),
            ("", None),
        ];
        for (record, expected) in cases {
            assert_eq!(of(record.as_bytes()).as_deref(), expected, "{record}");
        }
        assert_eq!(of(b"{\"metadata\":{\"jobId\":\"\xff\"}}"), None);
        let long = |n| format!(r#"{{"metadata":{{"jobId":"{}"}}}}"#, "x".repeat(n));
        assert!(of(long(LONGEST).as_bytes()).is_some() && of(long(LONGEST + 1).as_bytes()).is_none());
    }
}
