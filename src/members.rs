//! The members of a JSON object whose text a parser has read already: found by counting brackets, not parsed once more.
//!
//! A text that no parser has read gives wrong members, or none; it does no other harm.

use std::borrow::Cow;

/// A member of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key as it stands between its quotes.
    key: &'a str,
    has_escape: bool,
    /// The value as it stands.
    pub value: &'a str,
}

impl<'a> Member<'a> {
    /// The key; `None` when an escape in it is half a character.
    pub fn key(&self) -> Option<Cow<'a, str>> {
        if !self.has_escape {
            return Some(Cow::Borrowed(self.key));
        }
        serde_json::from_str(&format!("\"{}\"", self.key)).ok().map(Cow::Owned)
    }
}

/// The members of `object` in order, repeated ones included; `None` when it is no object.
pub fn members(object: &str) -> Option<impl Iterator<Item = Member<'_>>> {
    let mut scan = Scan { text: object, at: 0 };
    scan.pass(b'{').then(move || std::iter::from_fn(move || scan.member()))
}

/// A place in a text.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn member(&mut self) -> Option<Member<'a>> {
        self.pass(b',');
        let (key, has_escape) = self.string()?;
        if !self.pass(b':') {
            return None;
        }
        let start = self.skip_space();
        self.skip_value()?;
        Some(Member { key, has_escape, value: self.text.get(start..self.at)? })
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Where the white space ends.
    fn skip_space(&mut self) -> usize {
        while self.next().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.at
    }

    /// Passes over this sign, if it comes next, white space aside.
    fn pass(&mut self, sign: u8) -> bool {
        self.skip_space();
        let comes = self.next() == Some(sign);
        self.at += usize::from(comes);
        comes
    }

    /// Passes over a string: what is between its quotes, and whether it holds an escape.
    fn string(&mut self) -> Option<(&'a str, bool)> {
        if !self.pass(b'"') {
            return None;
        }
        let (start, mut has_escape) = (self.at, false);
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.text.as_bytes().get(self.at..)?)?;
            if self.next() == Some(b'"') {
                let between = self.text.get(start..self.at)?;
                self.at += 1;
                return Some((between, has_escape));
            }
            has_escape = true;
            self.at += 2; // what is escaped ends no string
        }
    }

    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                _ if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => self.skip_word(),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Passes over a number, `true`, `false` or `null`.
    fn skip_word(&mut self) {
        let ends = |byte: u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
        while self.next().is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    /// Keys and values.
    fn found(text: &str) -> Option<Vec<(String, &str)>> {
        members(text).map(|all| all.map(|one| (one.key().unwrap_or_default().into_owned(), one.value)).collect())
    }

    #[test]
    fn members_come_in_order_with_their_texts_and_signs_within_texts_mislead_nobody() {
        let text = r#" { "a" : "{[:,\"k\\" , "k":[1, {"k": "]"} ],"k":-1.5e3, "":null ,"\u0041\n":{}} "#;
        let expected =
            [("a", r#""{[:,\"k\\""#), ("k", r#"[1, {"k": "]"} ]"#), ("k", "-1.5e3"), ("", "null"), ("A\n", "{}")];
        assert_eq!(found(text).unwrap(), expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(found("{}").unwrap(), []);
    }

    #[test]
    fn what_is_no_object_has_none_and_half_a_character_is_no_key() {
        for other in ["", "[\"a\",1]", "\"{\"", "null", "1"] {
            assert_eq!(found(other), None, "{other}");
        }
        assert_eq!(members(r#"{"\ud83d":1}"#).unwrap().next().unwrap().key(), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c:,{}\\[\\]\"\\\\\n é]{0,5}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c\"\\\\\t]{0,2}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_parser(value in values(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let found = found(&text).map(|all| all.into_iter().map(|(key, raw)| (key, serde_json::from_str(raw).unwrap())).collect());
            let parsed = value.as_object().map(|object| object.clone().into_iter().collect::<Vec<(String, Value)>>());
            prop_assert_eq!(found, parsed, "{}", text);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), signs in "[{}\\[\\]:,\"\\\\ é1]{0,24}") {
            for text in [text, signs.clone(), format!("{{{signs}")] {
                members(&text).into_iter().flatten().for_each(|one| drop(one.key()));
            }
        }
    }
}
