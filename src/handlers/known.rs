//! A message's known members: found once, and known from then on by their places in the record.

use std::ops::Range;

use serde_json::value::RawValue;

use crate::handlers::json::each;
use crate::message::QueueMessage;
use crate::outcome::{Class, Refusal};

/// The values of some keys, raw, in the order of the keys; `None`: not given, or `null`.
pub(in crate::handlers) type Known<'a, const N: usize> = [Option<&'a str>; N];

/// The struct `Fields` of a platform's known keys, which are given by field and in lower case, and where its messages are
/// described.
macro_rules! fields {
    ($docs:literal, $($field:ident: $key:literal),+ $(,)?) => {
        const KEYS: Keys<{ [$($key),+].len() }> = Keys { names: [$($key),+], docs: $docs };

        /// The known keys of a message, raw; `null` counts as not given. Of a repeated key the last one counts.
        #[derive(Default)]
        pub(super) struct Fields<'a> {
            $(pub(super) $field: Option<&'a str>),+
        }

        impl<'a> Fields<'a> {
            /// Those of a message, which remembers where they stand.
            pub(super) fn of(message: &'a QueueMessage) -> Result<Self, Box<Refusal>> {
                KEYS.of(message).map(|[$($field),+]| Fields { $($field),+ })
            }

            /// Those of a record.
            pub(super) fn read(record: &'a [u8]) -> Result<Self, Box<Refusal>> {
                KEYS.read(record).map(|[$($field),+]| Fields { $($field),+ })
            }
        }
    };
}
pub(in crate::handlers) use fields;

/// The keys that a platform's messages have.
pub(in crate::handlers) struct Keys<const N: usize> {
    /// In lower case: the original decodes keys without regard to case, and its own end-to-end tests rely on it.
    pub(in crate::handlers) names: [&'static str; N],
    /// Where a message's form is described.
    pub(in crate::handlers) docs: &'static str,
}

impl<const N: usize> Keys<N> {
    /// Their values in a message, which remembers where they stand.
    ///
    /// # Errors
    /// As [`Keys::read`].
    pub(in crate::handlers) fn of<'a>(&self, message: &'a QueueMessage) -> Result<Known<'a, N>, Box<Refusal>> {
        if let Some(known) = message.payload.places().and_then(|places| known_at(&message.payload, places)) {
            return Ok(known);
        }
        let known = self.read(&message.payload)?;
        let start = message.payload.as_ptr() as usize;
        let place = |value: &str| {
            let at = value.as_ptr() as usize - start;
            at as u32..(at + value.len()) as u32 // Kafka's records are shorter than 2 GiB
        };
        message.payload.keep_places(known.iter().map(|value| value.map_or(0..0, place)).collect());
        Ok(known)
    }

    /// Their values in a record. Of a repeated key the last one counts.
    ///
    /// # Errors
    /// What is no JSON object. Never quotes the record: only serde's words about syntax and the place.
    pub(in crate::handlers) fn read<'a>(&self, record: &'a [u8]) -> Result<Known<'a, N>, Box<Refusal>> {
        let text = std::str::from_utf8(record).map_err(|error| {
            let place = error.valid_up_to();
            malformed("bad-utf8", "BadUtf8", format!("the record is not UTF-8: byte {place} is the first wrong one"))
        })?;
        let mut known = [None; N];
        let key = |key: &str| self.names.iter().position(|name| name.eq_ignore_ascii_case(key));
        let found = |at: usize, value: &'a RawValue| known[at] = Some(value.get()).filter(|text| *text != "null");
        each(text, key, found).map_err(|error| self.refusal(&error))?;
        Ok(known)
    }

    fn refusal(&self, error: &serde_json::Error) -> Box<Refusal> {
        if error.is_data() {
            let what = format!("the record is JSON but not an object; see {}", self.docs);
            return malformed("not-an-object", "NotAnObject", what);
        }
        malformed("malformed-json", "MalformedJson", format!("the record is not JSON: {error}"))
    }
}

/// What stands at these places; no value is empty, so an empty place is that of none.
fn known_at<'a, const N: usize>(record: &'a [u8], places: &[Range<u32>]) -> Option<Known<'a, N>> {
    let places: &[Range<u32>; N] = places.try_into().ok()?;
    let mut known = [None; N];
    for (value, place) in known.iter_mut().zip(places).filter(|(_, place)| !place.is_empty()) {
        *value = Some(std::str::from_utf8(record.get(place.start as usize..place.end as usize)?).ok()?);
    }
    Some(known)
}

fn malformed(key: &'static str, reason: &'static str, description: String) -> Box<Refusal> {
    Box::new(Refusal::local(Class::Message, key, reason, description))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Lane, Origin, Platform};

    const KEYS: Keys<3> = Keys { names: ["to", "metadata", "push_expiry"], docs: "docs/some.md" };

    fn message(payload: &[u8]) -> QueueMessage {
        let origin = Origin {
            topic: "push-game_gcm".into(),
            partition: 0,
            app: "game".into(),
            platform: Platform("gcm"),
            lane: Lane::Single,
        };
        QueueMessage {
            origin: Arc::new(origin),
            offset: 0,
            timestamp_ms: None,
            redrive_of: None,
            lent_at: Instant::now(),
            payload: Bytes::copy_from_slice(payload).into(),
        }
    }

    fn refused(record: &[u8]) -> &'static str {
        let refusal = KEYS.read(record).err();
        assert!(refusal.as_ref().is_none_or(|refusal| !refusal.description.contains("s3cret")), "{refusal:?}");
        refusal.map_or("accepted", |refusal| refusal.key)
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_of_a_repeated_one_counts() {
        let record = br#"{"TO":"a","x":[{"to":1}],"To":"b","Push_Expiry":{ "x" : 1 },"METADATA":null}"#;
        assert_eq!(KEYS.read(record).unwrap(), [Some("\"b\""), None, Some("{ \"x\" : 1 }")]);
        assert_eq!(KEYS.read(br#"{"\u0054o":"c"}"#).unwrap(), [Some("\"c\""), None, None]);
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_own_key_and_never_quoted() {
        for record in
            [&b""[..], b"s3cret", br#"{"to":{}"#, br#"{"to":{}} x"#, br#"{"to":"s3cret" "#, br#"{"s3cret" 1}"#]
        {
            assert_eq!(refused(record), "malformed-json");
        }
        for record in [&b"[1]"[..], b"null", br#""s3cret""#] {
            assert_eq!(refused(record), "not-an-object");
        }
        for record in [&b"{\"to\":\"\xff\"}"[..], b"{\"unknown\":\"\xff\"}"] {
            assert_eq!(refused(record), "bad-utf8");
        }
    }

    #[test]
    fn nesting_of_any_depth_neither_overflows_the_stack_nor_is_refused_where_it_is_not_looked_into() {
        let (open, close) = ("[".repeat(300_000), "]".repeat(300_000));
        let objects = "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000);
        assert_eq!(refused(format!(r#"{{"to":{open}{close},"x":{objects}}}"#).as_bytes()), "accepted");
        assert_eq!(refused("[".repeat(500_000).as_bytes()), "not-an-object");
    }

    #[test]
    fn what_cannot_be_read_is_refused_each_time() {
        let broken = message(b"{");
        assert!((0..2).all(|_| KEYS.of(&broken).is_err()));
    }

    proptest! {
        #[test]
        fn a_message_that_is_read_again_says_the_same(
            members in proptest::collection::vec(("(?i)to|metadata|push_expiry|x", "[1-9]{1,3}|null|\"[é a]{0,3}\"|\\[ \\]"), 0..6),
        ) {
            let members: Vec<_> = members.into_iter().map(|(key, value)| format!(" \"{key}\" : {value} ")).collect();
            let message = message(format!("{{{}}}", members.join(",")).as_bytes());
            let read = KEYS.read(&message.payload).unwrap();
            prop_assert_eq!(KEYS.of(&message).unwrap(), read);
            prop_assert!(message.payload.places().is_some());
            prop_assert_eq!(KEYS.of(&message).unwrap(), read);
        }
    }
}
