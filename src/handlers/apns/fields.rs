//! The producer's JSON object, its known keys found and nothing else understood. Borrowed from the record.

use serde_json::value::RawValue;

use crate::handlers::json::each;
use crate::outcome::{Class, Refusal};

/// The known keys of a message, raw; `null` counts as not given. Of a repeated key the last one counts.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) device_token: Option<&'a RawValue>,
    pub(super) payload: Option<&'a RawValue>,
    pub(super) metadata: Option<&'a RawValue>,
    pub(super) push_expiry: Option<&'a RawValue>,
    pub(super) collapse_id: Option<&'a RawValue>,
    pub(super) apns_id: Option<&'a RawValue>,
    pub(super) push_type: Option<&'a RawValue>,
    pub(super) priority: Option<&'a RawValue>,
    pub(super) apns_topic: Option<&'a RawValue>,
    pub(super) expiration: Option<&'a RawValue>,
}

/// Finds the known keys of a record.
pub(super) fn read(record: &[u8]) -> Result<Fields<'_>, Box<Refusal>> {
    let text = std::str::from_utf8(record).map_err(|error| {
        let place = error.valid_up_to();
        malformed("bad-utf8", "BadUtf8", format!("the record is not UTF-8: byte {place} is the first wrong one"))
    })?;
    let mut fields = Fields::default();
    each(text, place, |place, value| *place(&mut fields) = (value.get() != "null").then_some(value))
        .map_err(|error| refusal(&error))?;
    Ok(fields)
}

/// Never quotes the record: only serde's words about syntax and the place.
fn refusal(error: &serde_json::Error) -> Box<Refusal> {
    if error.is_data() {
        let what = "the record is JSON but not an object; see docs/apns-message.md";
        return malformed("not-an-object", "NotAnObject", what.into());
    }
    malformed("malformed-json", "MalformedJson", format!("the record is not JSON: {error}"))
}

fn malformed(key: &'static str, reason: &'static str, description: String) -> Box<Refusal> {
    Box::new(Refusal::local(Class::Message, key, reason, description))
}

/// Where the value of a known key is kept.
type Place = for<'f, 'a> fn(&'f mut Fields<'a>) -> &'f mut Option<&'a RawValue>;

/// The known keys, in lower case.
const PLACES: [(&str, Place); 10] = [
    ("devicetoken", |fields| &mut fields.device_token),
    ("payload", |fields| &mut fields.payload),
    ("metadata", |fields| &mut fields.metadata),
    ("push_expiry", |fields| &mut fields.push_expiry),
    ("collapse_id", |fields| &mut fields.collapse_id),
    ("apnsid", |fields| &mut fields.apns_id),
    ("push_type", |fields| &mut fields.push_type),
    ("priority", |fields| &mut fields.priority),
    ("apns_topic", |fields| &mut fields.apns_topic),
    ("expiration", |fields| &mut fields.expiration),
];

/// The original decodes keys without regard to case, and its own end-to-end tests rely on it.
fn place(key: &str) -> Option<Place> {
    PLACES.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, place)| *place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(record: &[u8]) -> &'static str {
        read(record).err().map_or("accepted", |refusal| refusal.key)
    }

    fn raw(field: Option<&RawValue>) -> Option<&str> {
        field.map(RawValue::get)
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_of_a_repeated_one_counts() {
        let record =
            br#"{"DEVICEtoken":"a","other":[1,{"payload":2}],"deviceToken":"b","PayLoad":{ "x" : 1 },"METADATA":null}"#;
        let fields = read(record).unwrap();
        assert_eq!(raw(fields.device_token), Some("\"b\""));
        assert_eq!(raw(fields.payload), Some("{ \"x\" : 1 }"));
        assert_eq!(raw(fields.metadata), None);
        let escaped = read(br#"{"device\u0054oken":"c"}"#).unwrap();
        assert_eq!(raw(escaped.device_token), Some("\"c\""));
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_own_key() {
        assert_eq!(refused(b""), "malformed-json");
        assert_eq!(refused(b"hello"), "malformed-json");
        assert_eq!(refused(br#"{"payload":{}"#), "malformed-json");
        assert_eq!(refused(br#"{"payload":{}} x"#), "malformed-json");
        assert_eq!(refused(b"[1]"), "not-an-object");
        assert_eq!(refused(b"null"), "not-an-object");
        assert_eq!(refused(br#""secret""#), "not-an-object");
        assert_eq!(refused(b"{\"payload\":\"\xff\"}"), "bad-utf8");
        assert_eq!(refused(b"{\"unknown\":\"\xff\"}"), "bad-utf8");
    }

    #[test]
    fn a_refusal_never_quotes_the_record() {
        for record in [&br#""s3cret""#[..], br#"{"devicetoken":"s3cret" "#, br#"{"s3cret" 1}"#, b"s3cret"] {
            let refusal = read(record).err().unwrap();
            assert!(!refusal.description.contains("s3cret"), "{}", refusal.description);
        }
    }

    #[test]
    fn nesting_of_any_depth_neither_overflows_the_stack_nor_is_refused_where_it_is_not_looked_into() {
        let deep = format!(
            r#"{{"payload":{}{},"x":{}{}}}"#,
            "[".repeat(300_000),
            "]".repeat(300_000),
            "{\"a\":".repeat(100_000),
            "1".to_owned() + &"}".repeat(100_000)
        );
        assert!(read(deep.as_bytes()).is_ok());
        assert_eq!(refused("[".repeat(500_000).as_bytes()), "not-an-object");
    }
}
