//! From a record to a push, or to the reason why it cannot be one. Pure: the clock is an argument.
//!
//! Checks are made here when a wrong value would cost a stream and an error answer, of which Apple counts too many
//! against the connection. What only Apple can judge (the token's form, the payload's content) is left to Apple.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;
use uuid::Uuid;

use super::fields::Fields;
use super::merge::{self, Merged};
use super::parts::{Body, Parts};
use super::push_type::{self, PushType};
use crate::handlers::Subject;
use crate::handlers::json::{Members, Text};
pub(super) use crate::handlers::not_sent::NotSent;
use crate::handlers::not_sent::is_late;
use crate::outcome::{Class, Refusal};

/// Longest token that we put into a path. Apple's are 64 characters today and may grow; its server refuses header lists
/// over 8000 bytes, and one such request would cost the connection.
pub(super) const LONGEST_TOKEN: usize = 1024;
/// Longest `apns-collapse-id`, bytes (Apple: Sending notification requests to APNs).
const LONGEST_COLLAPSE_ID: usize = 64;
/// Expiries below this are seconds, others milliseconds: 10^11 s is the year 5138, 10^11 ms is 1973.
const SECONDS_BELOW: i64 = 100_000_000_000;

/// RFC 3986 `pchar` without percent-encoding: what stands in a path as it is, in every client and server.
const IN_PATHS: [bool; 256] = {
    let (mut fits, mut byte) = ([false; 256], 0);
    while byte < 256 {
        fits[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let (signs, mut at) = (b"-._~!$&'()*+,;=:@", 0);
    while at < signs.len() {
        fits[signs[at] as usize] = true;
        at += 1;
    }
    fits
};

/// A push that may be sent.
pub(super) struct Push<'a> {
    /// The device token as the producer wrote it.
    pub(super) token: Cow<'a, str>,
    /// The payload as the producer wrote it.
    pub(super) payload: &'a str,
    /// Path, `apns-id` and body.
    pub(super) parts: Parts,
    /// `apns-push-type`.
    pub(super) kind: HeaderValue,
    /// `apns-priority`; `None`: Apple's default, 10.
    pub(super) priority: Option<&'static str>,
    /// `apns-expiration`, seconds since the epoch; 0: one attempt, never stored.
    pub(super) expiration: Option<i64>,
    /// When it stops being worth sending, ms since the epoch.
    pub(super) expires_at_ms: Option<i64>,
    /// `apns-collapse-id`.
    pub(super) collapse_id: Option<HeaderValue>,
    /// `apns-topic` when the message chose it, by name or by its push type; `None`: the app's own.
    pub(super) topic: Option<HeaderValue>,
}

impl Push<'_> {
    /// Metadata does not count: a copy of a push has its own.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject { device: &self.token, content: [self.payload, ""] }
    }
}

/// Reads a record by the fields that were found in this very one. `topic` is the app's own; `identity` is asked for when the message brings no
/// UUID.
pub(super) fn parse<'a>(
    record: &Bytes,
    fields: &Fields<'a>,
    now_ms: i64,
    topic: &str,
    identity: impl FnOnce() -> Uuid,
) -> Result<Push<'a>, NotSent> {
    let expiry_ms = expiry_ms(fields)?;
    if is_late(expiry_ms, || now_ms) {
        return Err(NotSent::Expired);
    }
    let token = token(fields)?;
    check_token(&token)?;
    let payload = payload(fields)?;
    let given = text(fields.push_type, "push_type")?.filter(|name| !name.is_empty());
    let push_type = match given.as_deref() {
        Some(name) => PushType::named(name).ok_or_else(push_type::refusal)?,
        None => push_type::inferred(payload),
    };
    let body = body(payload, fields.metadata, push_type.longest_payload)?;
    let id = apns_id(fields)?.unwrap_or_else(identity);
    let parts = Parts::new(&token, id, body, record).ok_or_else(malformed_token)?;
    Ok(Push {
        expires_at_ms: expiry_ms,
        priority: push_type::priority(&push_type, number(fields.priority, "priority")?)?,
        expiration: number(fields.expiration, "expiration")?
            .filter(|seconds| *seconds >= 0)
            .or(expiry_ms.map(|end| (end / 1000).max(1))),
        collapse_id: collapse_id(fields)?,
        topic: chosen_topic(fields, push_type.suffix, topic)?,
        kind: push_type.value,
        payload,
        parts,
        token,
    })
}

/// When the message stops being worth sending, ms since the epoch; `None`: never (absent, zero or negative).
pub(super) fn expiry_ms(fields: &Fields<'_>) -> Result<Option<i64>, Box<Refusal>> {
    let given = number(fields.push_expiry, "push_expiry")?.filter(|end| *end > 0);
    Ok(given.map(|end| if end < SECONDS_BELOW { end * 1000 } else { end }))
}

/// The token, which is there; its characters are not looked at.
pub(super) fn token<'a>(fields: &Fields<'a>) -> Result<Cow<'a, str>, Box<Refusal>> {
    text(fields.device_token, "DeviceToken")?.filter(|token| !token.is_empty()).ok_or_else(|| {
        refused("missing-device-token", "MissingDeviceToken", "the message has no DeviceToken: nobody to send to")
    })
}

/// The payload, an object or a string.
fn payload<'a>(fields: &Fields<'a>) -> Result<&'a str, Box<Refusal>> {
    let empty = || refused("payload-empty", "PayloadEmpty", "the message has no Payload, or an empty string as one");
    let payload = fields.payload.ok_or_else(empty)?;
    match payload {
        "\"\"" => Err(empty()),
        text if text.starts_with(['{', '"']) => Ok(payload),
        _ => Err(wrong_type("Payload", "an object or a string")),
    }
}

fn check_token(token: &str) -> Result<(), Box<Refusal>> {
    let fits = |byte: u8| IN_PATHS[usize::from(byte)];
    let readable = token.len() <= LONGEST_TOKEN && token.bytes().all(fits) && !matches!(token, "." | "..");
    if readable { Ok(()) } else { Err(malformed_token()) }
}

fn malformed_token() -> Box<Refusal> {
    let description = "the DeviceToken holds a character that cannot stand in a request's path (white space, %, /, a \
                       control or non-ASCII character), or is longer than 1024 bytes; was it cut out of a file with its \
                       line end?";
    Box::new(Refusal::local(Class::Token, "malformed-device-token", "MalformedDeviceToken", description))
}

/// The body: the record's own bytes, unless metadata is merged into them.
fn body<'a>(payload: &'a str, metadata: Option<&'a str>, longest: usize) -> Result<Body<'a>, Box<Refusal>> {
    if metadata.is_some_and(|raw| !raw.starts_with('{')) {
        return Err(wrong_type("metadata", "an object"));
    }
    let own = payload.as_bytes();
    if own.len() > longest {
        return Err(too_large(own.len(), longest));
    }
    let body = match metadata.and_then(|metadata| merge::merged(payload, metadata)) {
        Some(merged) => Body::Merged(merged),
        None => Body::AsItCame(own),
    };
    if body.len() > longest { Err(too_large(body.len(), longest)) } else { Ok(body) }
}

/// The payload as it goes out, for the feedback record; `None` when it is not known.
pub(super) fn sent_payload<'a>(fields: &Fields<'a>) -> Option<Merged<'a>> {
    let payload = fields.payload?;
    let merged = fields.metadata.and_then(|metadata| merge::merged(payload, metadata));
    Some(merged.unwrap_or_else(|| Merged::nothing(payload)))
}

fn collapse_id(fields: &Fields<'_>) -> Result<Option<HeaderValue>, Box<Refusal>> {
    let Some(id) = text(fields.collapse_id, "collapse_id")?.filter(|id| !id.is_empty()) else { return Ok(None) };
    let value = (id.len() <= LONGEST_COLLAPSE_ID).then(|| HeaderValue::from_bytes(id.as_bytes()).ok()).flatten();
    let value = value.ok_or_else(|| {
        refused("bad-collapse-id", "BadCollapseId", "collapse_id must have at most 64 bytes and no control character")
    })?;
    Ok(Some(value))
}

/// The message's own topic, else the app's with the suffix that the push type asks for.
fn chosen_topic(fields: &Fields<'_>, suffix: &str, own: &str) -> Result<Option<HeaderValue>, Box<Refusal>> {
    let bad = || refused("bad-topic", "BadTopic", "apns_topic must be a bundle id: letters, digits, and . - _");
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match text(fields.apns_topic, "apns_topic")?.filter(|topic| !topic.is_empty()) {
        Some(topic) if topic.len() > 255 || !topic.bytes().all(fits) => Err(bad()),
        Some(topic) if topic == own => Ok(None),
        Some(topic) => HeaderValue::from_str(&topic).map(Some).map_err(|_| bad()),
        None if suffix.is_empty() || own.ends_with(suffix) => Ok(None),
        None => HeaderValue::from_str(&format!("{own}{suffix}")).map(Some).map_err(|_| bad()),
    }
}

/// The message's own identity when it is a UUID in any spelling.
pub(super) fn apns_id(fields: &Fields<'_>) -> Result<Option<Uuid>, Box<Refusal>> {
    Ok(text(fields.apns_id, "ApnsID")?.and_then(|id| Uuid::try_parse(&id).ok()))
}

fn text<'a>(raw: Option<&'a str>, name: &'static str) -> Result<Option<Cow<'a, str>>, Box<Refusal>> {
    let Some(raw) = raw else { return Ok(None) };
    Text::of(raw).map(|Text(text)| Some(text)).ok_or_else(|| wrong_type(name, "a string"))
}

/// A whole number, also written as a float (`1.7e9`) or in quotes, as producers in other languages do.
fn number(raw: Option<&str>, name: &'static str) -> Result<Option<i64>, Box<Refusal>> {
    let Some(raw) = raw else { return Ok(None) };
    let digits = raw.trim_matches('"');
    let whole = digits.parse::<i64>().ok().or_else(|| {
        let float = digits.parse::<f64>().ok().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
        Some(float as i64)
    });
    whole.map(Some).ok_or_else(|| wrong_type(name, "a whole number"))
}

fn wrong_type(name: &str, expected: &str) -> Box<Refusal> {
    refused("wrong-type", "WrongType", format!("{name} must be {expected}"))
}

fn too_large(length: usize, longest: usize) -> Box<Refusal> {
    let what = format!("the payload has {length} bytes with its metadata merged in; Apple takes {longest}");
    refused("payload-too-large", "PayloadTooLarge", what)
}

pub(super) fn refused(
    key: &'static str,
    reason: &'static str,
    description: impl Into<Cow<'static, str>>,
) -> Box<Refusal> {
    Box::new(Refusal::local(Class::Message, key, reason, description))
}

/// Whether `aps` holds `content-available` alone.
pub(super) fn is_silent(payload: &str) -> bool {
    // Most payloads never mention it: one search spares them the look inside.
    if !payload.contains("content-available") {
        return false;
    }
    let Some(aps) = Members::of(payload).and_then(|members| members.get("aps")).and_then(Members::of) else {
        return false;
    };
    matches!(&aps.0[..], [(key, value)] if key == "content-available" && matches!(*value, "1" | "true"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const IDENTITY: Uuid = Uuid::from_u128(0x1234_5678);

    fn read<'a>(record: &'a Bytes, topic: &str) -> Result<Push<'a>, NotSent> {
        parse(record, &Fields::read(record)?, NOW, topic, || IDENTITY)
    }

    /// What came of a record, in words.
    fn came_of(record: &[u8]) -> String {
        match read(&Bytes::copy_from_slice(record), "com.example.game") {
            Ok(push) => format!(
                "{} {} topic={} priority={} expiration={} collapse={} body={}",
                push.parts.path,
                push.kind.to_str().unwrap(),
                push.topic.map_or("own".into(), |value| value.to_str().unwrap().to_owned()),
                push.priority.unwrap_or("-"),
                push.expiration.map_or("-".into(), |seconds| seconds.to_string()),
                push.collapse_id.map_or("-".into(), |value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
                String::from_utf8_lossy(&push.parts.body),
            ),
            Err(NotSent::Expired) => "expired".into(),
            Err(NotSent::Refused(refusal)) => {
                let secret = ["s3cret", "token-of-someone"].iter().any(|word| refusal.description.contains(word));
                assert!(!secret, "{}", refusal.description);
                assert_eq!((refusal.status, refusal.invalid_token), (0, None));
                format!("{:?} {} {}: {}", refusal.class, refusal.key, refusal.reason, refusal.description)
            }
        }
    }

    fn of(members: &str) -> String {
        came_of(format!(r#"{{"deviceToken":"ab12","payload":{{"aps":{{}}}}{members}}}"#).as_bytes())
    }

    fn with_payload(payload: &str) -> String {
        came_of(format!(r#"{{"deviceToken":"ab12","payload":{payload}}}"#).as_bytes())
    }

    fn with_token(token: &str) -> String {
        came_of(format!(r#"{{"payload":{{}},"deviceToken":{token}}}"#).as_bytes())
    }

    #[test]
    fn a_plain_message_is_an_alert_with_its_bytes_untouched_and_uncopied() {
        let record = Bytes::from_static(br#"{"DeviceToken":"ab12","Payload":{"b" :1,"a":"<\u00e9>"},"push_expiry":0}"#);
        let push = read(&record, "t").ok().unwrap();
        assert_eq!(&push.parts.body[..], br#"{"b" :1,"a":"<\u00e9>"}"#);
        assert!(record.as_ptr_range().contains(&push.parts.body.as_ptr()), "the body is a part of the record");
        assert!(matches!(push.token, Cow::Borrowed("ab12")));
        assert_eq!(push.parts.apns_id, IDENTITY.to_string().as_str());
    }

    #[test]
    fn messages_of_the_original_and_with_the_new_keys() {
        insta::assert_snapshot!(
            [
                of(""),
                of(r#","metadata":{"jobId":"j"}"#),
                of(r#","collapse_id":"é1""#),
                of(r#","collapse_id":"""#),
                of(r#","push_type":"voip""#),
                of(r#","push_type":"voip","apns_topic":"com.other""#),
                of(r#","push_type":"liveactivity","priority":"5""#),
                of(r#","push_type":"newtype-of-apple","apns_topic":"com.example.game""#),
                of(r#","push_type":"background""#),
                of(r#","push_type":"background","priority":1,"expiration":0"#),
                of(r#","push_type":"alert","priority":10,"expiration":1800000000,"push_expiry":1700000000001"#),
                of(r#","PUSH_EXPIRY":1700000001"#),
                of(r#","push_expiry":-1"#),
                of(r#","push_expiry":1.700000001e9"#),
                with_payload(r#""text""#),
                with_payload(r#"{"aps":{"content-available":1},"x":1}"#),
                with_payload(r#"{"aps":{"content-available":1,"sound":""}}"#),
                with_payload(r#"{"aps":{"alert":"content-available"}}"#),
            ]
            .join("\n")
        );
    }

    #[test]
    fn what_is_refused_says_why_and_what_to_do() {
        let long = format!(r#","collapse_id":"{}""#, "x".repeat(65));
        insta::assert_snapshot!(
            [
                came_of(b"{}"),
                came_of(br#"{"DeviceToken":"token-of-someone"}"#),
                came_of(br#"{"deviceToken":5,"payload":{}}"#),
                came_of(br#"{"deviceToken":"\ud800","payload":{}}"#),
                with_token("\"\""),
                with_token(r#""token-of-someone\n""#),
                with_token(r#""token-of-someone%zz""#),
                with_payload("null"),
                with_payload("\"\""),
                with_payload("[\"s3cret\"]"),
                with_payload(&format!("\"{}\"", "x".repeat(4095))),
                of(r#","metadata":"s3cret""#),
                of(&format!(r#","metadata":{{"s3cret":"{}"}}"#, "x".repeat(4096))),
                of(&long),
                of(r#","collapse_id":"a\u0000""#),
                of(r#","priority":7"#),
                of(r#","priority":"s3cret""#),
                of(r#","priority":10,"push_type":"background""#),
                of(r#","push_type":"no such""#),
                of(r#","apns_topic":"com example""#),
                of(r#","push_expiry":"s3cret""#),
                of(r#","push_expiry":1e300"#),
                of(r#","push_expiry":1699999999999"#),
                of(r#","push_expiry":1699999999"#),
                of(r#","ApnsID":7"#),
            ]
            .join("\n")
        );
    }

    #[test]
    fn tokens_that_would_break_a_path_are_refused_and_their_form_is_not_judged() {
        for bad in ["a b", "a/b", "a?b", "a#b", "é", "a\\u0000", "..", ".", "a\\\"b", "a%41", "a\\r\\n"] {
            let came = with_token(&format!("\"{bad}\""));
            assert!(came.starts_with("Token malformed-device-token"), "{bad}: {came}");
        }
        assert!(with_token(&format!("\"{}\"", "a".repeat(1025))).starts_with("Token malformed-device-token"));
        for good in ["x", "not-hex:_~", &"a".repeat(1024)] {
            assert!(with_token(&format!("\"{good}\"")).starts_with("/3/device/"), "{good}");
        }
    }

    #[test]
    fn a_voip_push_may_be_larger_and_the_limit_is_exact() {
        let sized = |bytes: usize, rest: &str| {
            let payload = format!("\"{}\"", "x".repeat(bytes - 2));
            came_of(format!(r#"{{"deviceToken":"a","payload":{payload}{rest}}}"#).as_bytes())
        };
        assert!(sized(4096, "").starts_with("/3"));
        assert!(sized(4097, "").contains("payload-too-large"));
        assert!(sized(5120, r#","push_type":"voip""#).starts_with("/3"));
        assert!(sized(5121, r#","push_type":"voip""#).contains("payload-too-large"));
    }

    #[test]
    fn a_producers_uuid_is_the_identity_in_any_spelling_and_anything_else_is_not() {
        let id = |members: &str| {
            let record = Bytes::from(format!(r#"{{"deviceToken":"a","payload":{{}}{members}}}"#));
            read(&record, "t").ok().unwrap().parts.apns_id
        };
        let ours = IDENTITY.to_string();
        assert_eq!(id(r#","ApnsID":"EC268A4C-0000-4000-8000-000000000001""#), "ec268a4c-0000-4000-8000-000000000001");
        assert_eq!(id(r#","apnsid":"job-1""#), ours.as_str());
        assert_eq!(id(r#","ApnsID":"""#), ours.as_str());
        assert_eq!(id(r#","ApnsID":null"#), ours.as_str());
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(record in proptest::collection::vec(any::<u8>(), 0..200)) {
            came_of(&record);
        }

        #[test]
        fn no_value_of_a_known_key_makes_it_panic(
            key in prop_oneof![
                Just("deviceToken"), Just("payload"), Just("metadata"), Just("push_expiry"), Just("collapse_id"),
                Just("ApnsID"), Just("push_type"), Just("priority"), Just("apns_topic"), Just("expiration"),
            ],
            value in prop_oneof![
                Just("[[[[".to_owned() + "]]]]"), Just("1e999".into()), Just("-9223372036854775808".into()),
                Just("9223372036854775807".into()), Just("\"\\ud800\"".into()), any::<f64>().prop_map(|f| format!("{f:e}")),
                "\"[ -!#-\\[\\]-~é]{0,80}\"", Just("{\"M\":{}}".into()), Just("true".into()),
            ],
        ) {
            of(&format!(r#","{key}":{value}"#));
        }
    }

    #[test]
    fn hostile_depth_reaches_no_recursion() {
        let deep = format!("{}1{}", "{\"a\":".repeat(400_000), "}".repeat(400_000));
        assert!(with_payload(&deep).contains("payload-too-large"));
        assert!(of(&format!(r#","metadata":{{"x":{deep}}}"#)).contains("payload-too-large"));
        let fits = format!("{{\"aps\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
        assert!(with_payload(&fits).starts_with("/3"));
        assert!(of(&format!(r#","x":{deep}"#)).starts_with("/3"));
        for key in ["deviceToken", "push_type", "priority", "collapse_id", "push_expiry", "ApnsID", "apns_topic"] {
            assert!(of(&format!(r#","{key}":{deep}"#)).contains("wrong-type"), "{key}");
        }
    }
}
