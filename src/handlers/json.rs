//! JSON read and written in place: members and texts borrowed from a record, raw values appended to a buffer.
//!
//! For what leaves as it came: a value that is not understood here is neither parsed nor changed.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::members::members;

/// The members of an object in order, repeated ones included, values raw.
pub(in crate::handlers) struct Members<'a>(pub(in crate::handlers) Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Members<'a> {
    /// The members of `raw`, which a parser has read; `None` when it is not an object (or holds a key that is no valid text).
    pub(in crate::handlers) fn of(raw: &'a str) -> Option<Self> {
        let mut all = Vec::with_capacity(8);
        for member in members(raw)? {
            all.push((member.key()?, member.value));
        }
        Some(Members(all))
    }

    /// The value of `key`: the last one when it is repeated.
    pub(in crate::handlers) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

/// Reads an object's known members in order, repeated ones included, values raw, keys in place: `known` says what a key is, `found`
/// is given that and the value. An error is of data when the text is JSON but no object.
pub(in crate::handlers) fn each<'a, K>(
    text: &'a str,
    known: impl Fn(&str) -> Option<K>,
    found: impl FnMut(K, &'a RawValue),
) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(EachVisitor { known, found })?;
    json.end()
}

/// A key that we write, with its quotes and its colon. See [`key!`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::handlers) struct Key(pub(in crate::handlers) &'static str);

impl Key {
    /// Bytes of its name.
    pub(in crate::handlers) fn len(self) -> usize {
        self.0.len() - "\"\":".len()
    }
}

/// A key of ours by its name, which needs no escape.
macro_rules! key {
    ($name:literal) => {
        $crate::handlers::json::Key(concat!("\"", $name, "\":"))
    };
}
pub(in crate::handlers) use key;

/// Appends `"key":raw`, with a comma where one is needed.
#[inline]
pub(in crate::handlers) fn push_member(object: &mut Vec<u8>, Key(key): Key, raw: &str) {
    push_comma(object);
    object.extend_from_slice(key.as_bytes());
    object.extend_from_slice(raw.as_bytes());
}

/// Appends `"key":"text"`, with a comma where one is needed.
pub(in crate::handlers) fn push_text_member(object: &mut Vec<u8>, key: Key, text: &str) {
    push_member(object, key, "");
    push_text(object, text);
}

/// Appends `"key":number`, with a comma where one is needed.
pub(in crate::handlers) fn push_number_member(object: &mut Vec<u8>, key: Key, number: impl fmt::Display) {
    push_member(object, key, "");
    let _ = write!(object, "{number}"); // writing to memory cannot fail
}

/// Appends a member of another object, under the key that [`Members`] gave it: it is borrowed only where it needs no escape.
#[expect(clippy::ptr_arg, reason = "whether it is borrowed says whether it needs an escape")]
pub(in crate::handlers) fn push_entry(object: &mut Vec<u8>, key: &Cow<'_, str>, raw: &str) {
    push_comma(object);
    match key {
        Cow::Borrowed(key) => push_quoted(object, key),
        Cow::Owned(key) => push_text(object, key),
    }
    object.push(b':');
    object.extend_from_slice(raw.as_bytes());
}

fn push_comma(object: &mut Vec<u8>) {
    if object.last() != Some(&b'{') {
        object.push(b',');
    }
}

fn push_quoted(json: &mut Vec<u8>, text: &str) {
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}

/// Appends a JSON string.
pub(in crate::handlers) fn push_text(json: &mut Vec<u8>, text: &str) {
    // Most texts need no escape. One look without a way out halfway, which compilers make of vector instructions.
    let special = |byte| u8::from(byte < b' ') | u8::from(byte == b'"') | u8::from(byte == b'\\');
    if text.bytes().fold(0, |found, byte| found | special(byte)) == 0 {
        return push_quoted(json, text);
    }
    // Writing text to memory cannot fail.
    let _ = serde_json::to_writer(json, text);
}

struct EachVisitor<N, F> {
    known: N,
    found: F,
}

impl<'de, K, N: Fn(&str) -> Option<K>, F: FnMut(K, &'de RawValue)> Visitor<'de> for EachVisitor<N, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed(&self.known))? {
            match key {
                Some(key) => (self.found)(key, map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads a key in place, without a copy.
struct KeySeed<'n, N>(&'n N);

impl<'de, K, N: Fn(&str) -> Option<K>> DeserializeSeed<'de> for KeySeed<'_, N> {
    type Value = Option<K>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<K, N: Fn(&str) -> Option<K>> Visitor<'_> for KeySeed<'_, N> {
    type Value = Option<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok((self.0)(key))
    }
}

/// A JSON string, borrowed where it holds no escape.
pub(in crate::handlers) struct Text<'a>(pub(in crate::handlers) Cow<'a, str>);

impl<'a> Text<'a> {
    /// The text of a raw value; `None` when it is no string, or one that is no valid text.
    pub(in crate::handlers) fn of(json: &'a str) -> Option<Self> {
        // What a value's text is, when it holds no escape, was seen when it was read.
        match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(text) if memchr::memchr(b'\\', text.as_bytes()).is_none() => Some(Text(Cow::Borrowed(text))),
            Some(_) => serde_json::from_str(json).ok().map(|text| Text(Cow::Owned(text))),
            None => None,
        }
    }
}
