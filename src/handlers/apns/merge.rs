//! The producer's metadata put into the payload's `M`, everything else of the payload left byte for byte.
//!
//! As the original: `M` (this spelling only) is created when it is absent or null; a key that is there and not null wins;
//! nothing happens when the payload or `M` is not an object. An empty metadata object creates an empty `M`.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::handlers::json::{Members, push_entry};

/// Keys that are compared faster one by one than by their hashes. Producers' metadata has no more.
const FEW: usize = 16;

/// A payload as it goes out, with metadata in it or without, as the parts that it consists of.
pub(super) struct Merged<'a> {
    before: &'a str,
    name: &'static str,
    m: Cow<'a, [u8]>,
    after: &'a str,
}

impl<'a> Merged<'a> {
    /// A payload that nothing is merged into.
    pub(super) fn nothing(payload: &'a str) -> Self {
        Merged { before: payload, name: "", m: Cow::Borrowed(&[]), after: "" }
    }

    /// The parts, in their order.
    pub(super) fn parts(&self) -> [&[u8]; 4] {
        [self.before.as_bytes(), self.name.as_bytes(), &self.m, self.after.as_bytes()]
    }

    /// Bytes of all parts.
    pub(super) fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).into_iter().sum()
    }
}

/// The payload `text` with `metadata` merged in; `None` when it goes out as it is.
pub(super) fn merged<'a>(text: &'a str, metadata: &'a str) -> Option<Merged<'a>> {
    if !text.starts_with('{') {
        return None;
    }
    let new = Members::of(metadata)?;
    // Most payloads hold no `M`: one search for it in all spellings spares them the look inside.
    let old = if may_hold_m(text) { Members::of(text)?.get("M") } else { None };
    let Some(old) = old else { return Some(with_new(text, metadata, &new)) };
    let start = old.as_ptr() as usize - text.as_ptr() as usize;
    let (before, after) = (&text[..start], &text[start + old.len()..]);
    let members = if old == "null" { Members(Vec::new()) } else { Members::of(old)? };
    Some(Merged { before, name: "", m: joined(&members, &new).into(), after })
}

/// An object's text with an `M` as its last member.
fn with_new<'a>(text: &'a str, metadata: &'a str, members: &Members<'_>) -> Merged<'a> {
    let (before, after) = text.split_at(text.len() - 1); // an object's raw text ends with its brace
    let name = if before[1..].trim_ascii().is_empty() { "\"M\":" } else { ",\"M\":" };
    let m =
        if has_repeated(members) { joined(&Members(Vec::new()), members).into() } else { metadata.as_bytes().into() };
    Merged { before, name, m, after }
}

/// Whether an object may have a member `M`, be it written as `\u004d`.
fn may_hold_m(object: &str) -> bool {
    object.contains("\"M\"") || object.contains("\\u00")
}

/// Whether a key stands twice in it, or it has too many to say so quickly.
fn has_repeated(members: &Members<'_>) -> bool {
    members.0.len() > FEW
        || members.0.iter().enumerate().any(|(at, (key, _))| members.0[..at].iter().any(|(earlier, _)| earlier == key))
}

/// `old` with what it lacks of `new`. A repeated key of `new` counts with its last value.
fn joined(old: &Members<'_>, new: &Members<'_>) -> Vec<u8> {
    let mut there: HashSet<&str> =
        old.0.iter().filter(|(_, value)| *value != "null").map(|(key, _)| key.as_ref()).collect();
    let mut added = Vec::with_capacity(new.0.len());
    for (key, value) in new.0.iter().rev() {
        if there.insert(key) {
            added.push((key, *value));
        }
    }
    // A null of `old` whose key is now given by `new` would be a second member of the same name.
    let replaced: HashSet<&str> = added.iter().map(|(key, _)| key.as_ref()).collect();
    let kept = old.0.iter().filter(|(key, _)| !replaced.contains(key.as_ref())).map(|(key, value)| (key, *value));
    let mut bytes = vec![b'{'];
    for (key, value) in kept.chain(added.iter().rev().copied()) {
        push_entry(&mut bytes, key, value);
    }
    bytes.push(b'}');
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn merge(payload: &str, metadata: &str) -> Option<String> {
        merged(payload, metadata).map(|merged| {
            let bytes = merged.parts().concat();
            assert_eq!(bytes.len(), merged.len());
            String::from_utf8(bytes).unwrap()
        })
    }

    #[test]
    fn metadata_goes_into_a_new_or_present_m_and_the_rest_keeps_its_bytes() {
        let cases = [
            (r#"{"aps": {"b":1,"a":2.0}}"#, r#"{"jobId":"j"}"#, Some(r#"{"aps": {"b":1,"a":2.0},"M":{"jobId":"j"}}"#)),
            (r"{ }", r#"{"a":1}"#, Some(r#"{ "M":{"a":1}}"#)),
            (r#"{"M" : {"a":1} , "z":1}"#, r#"{"a":2,"b":[ 3 ]}"#, Some(r#"{"M" : {"a":1,"b":[ 3 ]} , "z":1}"#)),
            (r#"{"M":{"a":null}}"#, r#"{"a":2}"#, Some(r#"{"M":{"a":2}}"#)),
            (r#"{"M":null}"#, r#"{"a":2}"#, Some(r#"{"M":{"a":2}}"#)),
            (r#"{"m":{"a":1}}"#, r#"{"b":2}"#, Some(r#"{"m":{"a":1},"M":{"b":2}}"#)),
            (r#"{"M":{},"M":{"x":1}}"#, r#"{"a":1,"a":2}"#, Some(r#"{"M":{},"M":{"x":1,"a":2}}"#)),
            (r#"{"a":1}"#, r"{}", Some(r#"{"a":1,"M":{}}"#)),
            (r#"{"M":"text"}"#, r#"{"a":2}"#, None),
            (r#""text""#, r#"{"a":2}"#, None),
        ];
        for (payload, metadata, expected) in cases {
            assert_eq!(merge(payload, metadata).as_deref(), expected, "{payload} + {metadata}");
        }
    }

    /// The original's rule, on parsed values.
    fn naive(payload: &mut Map<String, Value>, metadata: &Map<String, Value>) {
        let m = payload.entry("M").or_insert(Value::Null);
        if m.is_null() {
            *m = json!({});
        }
        let Value::Object(m) = m else { return };
        for (key, value) in metadata {
            if m.get(key).is_none_or(Value::is_null) {
                m.insert(key.clone(), value.clone());
            }
        }
    }

    fn scalars() -> impl Strategy<Value = Value> {
        prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), "[a\"\\\\é\n]{0,4}".prop_map(Value::from)]
    }

    fn objects() -> impl Strategy<Value = Map<String, Value>> {
        proptest::collection::btree_map("[a-d\"\\\\é]{1,2}", scalars(), 0..6).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn merging_raw_text_agrees_with_merging_values(
            mut payload in objects(), m in proptest::option::of(objects()), metadata in objects(),
        ) {
            if let Some(m) = m {
                payload.insert("M".into(), Value::Object(m));
            }
            let text = serde_json::to_string(&payload).unwrap();
            let result = merge(&text, &serde_json::to_string(&metadata).unwrap()).unwrap();
            naive(&mut payload, &metadata);
            prop_assert_eq!(serde_json::from_str::<Value>(&result).unwrap(), Value::Object(payload));
        }
    }
}
