//! JSON read and written in place: members and texts borrowed from a record, raw values appended to a buffer.
//!
//! For what leaves as it came: a value that is not understood here is neither parsed nor changed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object in order, repeated ones included, values raw.
pub(in crate::handlers) struct Members<'a>(pub(in crate::handlers) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The members of `raw`; `None` when it is not an object (or holds a key that is no valid text).
    pub(in crate::handlers) fn of(raw: &'a str) -> Option<Self> {
        serde_json::from_str(raw).ok()
    }

    /// The value of `key`: the last one when it is repeated.
    pub(in crate::handlers) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.get())
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

/// Appends `"key":raw`, with a comma where one is needed.
pub(in crate::handlers) fn push_member(object: &mut Vec<u8>, key: &str, raw: &str) {
    if object.last() != Some(&b'{') {
        object.push(b',');
    }
    push_text(object, key);
    object.push(b':');
    object.extend_from_slice(raw.as_bytes());
}

/// Appends `"key":"text"`, with a comma where one is needed.
pub(in crate::handlers) fn push_text_member(object: &mut Vec<u8>, key: &str, text: &str) {
    push_member(object, key, "");
    push_text(object, text);
}

/// Appends a JSON string.
pub(in crate::handlers) fn push_text(json: &mut Vec<u8>, text: &str) {
    // Most texts need no escape. One look without a way out halfway, which compilers make of vector instructions.
    let special = |byte| u8::from(byte < b' ') | u8::from(byte == b'"') | u8::from(byte == b'\\');
    if text.bytes().fold(0, |found, byte| found | special(byte)) == 0 {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
        return;
    }
    // Writing text to memory cannot fail.
    let _ = serde_json::to_writer(json, text);
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some(Text(key)) = map.next_key()? {
            members.push((key, map.next_value()?));
        }
        Ok(Members(members))
    }
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
            Some(text) if !text.contains('\\') => Some(Text(Cow::Borrowed(text))),
            Some(_) => serde_json::from_str(json).ok(),
            None => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}
