//! A member's value in the text of an object, found by counting brackets. For JSON without escapes.

/// The last value of a key, among the members of the object in `text`.
pub(super) fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut found) = (0, 0_u32, None);
    // The last text at the members' depth, and where the value begins whose key it was.
    let (mut last, mut begun) = ("", None);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = at + 1 + memchr::memchr(b'"', &bytes[at + 1..])?;
                if depth == 1 {
                    last = &text[at + 1..end];
                }
                at = end;
            }
            b'{' | b'[' => depth += 1,
            b':' if depth == 1 && last == key => begun = Some(at + 1),
            byte @ (b',' | b'}' | b']') => {
                if depth == 1
                    && let Some(begin) = begun.take()
                {
                    found = Some(text[begin..at].trim_ascii());
                }
                depth = depth.saturating_sub(u32::from(byte != b','));
            }
            _ => {}
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    #[test]
    fn brackets_and_keys_within_texts_and_values_mislead_nobody() {
        let find = |text| value_of(text, "k");
        assert_eq!(find(r#"{"a":"{[:,k","k" : [ 1, {"k":2} ] , "z":"}"}"#), Some(r#"[ 1, {"k":2} ]"#));
        assert_eq!(find(r#"{"k":1,"k":"k"}"#), Some(r#""k""#));
        assert_eq!(find(r#"{"a":{"k":1},"b":["k",2]}"#), None);
        assert_eq!(find(r#"{"a":"k"}"#), None);
        assert_eq!(find(r#"["k"]"#), None);
        for broken in ["", "}", "{", "\"", "{\"k\":", "{\"k\":1", "]]]", "{\"k"] {
            assert_eq!(find(broken), None, "{broken}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c:,{}\\[\\] é]{0,5}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]{0,2}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_parser(value in values(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let found = value_of(&text, "a").map(|raw| serde_json::from_str::<Value>(raw).unwrap());
            prop_assert_eq!(found.as_ref(), value.as_object().and_then(|object| object.get("a")), "{}", text);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            value_of(&text, "a");
        }
    }
}
