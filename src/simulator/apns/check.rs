//! What APNs checks about one request. Pure: a request, the word on its provider token, its body → what is wrong first.
//!
//! Apple documents no order. This one follows jchambers/pushy's mock server: headers, method, path, then the provider token,
//! then the body; what APNs knows about the device comes after the provider token here, for a stranger is not told.

use http::Method;
use http::header::HeaderMap;
use http::request::Parts;
use serde::de::IgnoredAny;

use super::convention::{self, Fate};
use super::reason::Reason;

/// Push types and what each appends to the app's bundle id (Apple: *Sending notification requests to APNs*).
const PUSH_TYPES: [(&str, &str); 11] = [
    ("alert", ""),
    ("background", ""),
    ("controls", ".push-type.controls"),
    ("complication", ".complication"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("liveactivity", ".push-type.liveactivity"),
    ("location", ".location-query"),
    ("mdm", ""),
    ("pushtotalk", ".voip-ptt"),
    ("voip", ".voip"),
    ("widgets", ".push-type.widgets"),
];

const LARGEST: usize = 4096;
const LARGEST_VOIP: usize = 5120;
const COLLAPSE_ID: usize = 64;

/// A request that passed all checks but that of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed<'a> {
    /// Its device token.
    pub device: &'a str,
    /// Its topic: a bundle id, and what the push type appends.
    pub topic: &'a str,
    /// What the token asks for.
    pub fate: Fate,
    /// Whether its body is fit to be sent.
    pub body: Result<(), Reason>,
}

/// Checks a request. `topics`: the bundle ids that may be pushed to; empty: any.
pub fn check<'a>(
    request: &'a Parts,
    authorized: Result<(), Reason>,
    body: &[u8],
    topics: &[String],
) -> Result<Passed<'a>, Reason> {
    let headers = &request.headers;
    if headers.keys_len() != headers.len() {
        return Err(Reason::DuplicateHeaders);
    }
    message_id(headers)?;
    if request.method != Method::POST {
        return Err(Reason::MethodNotAllowed);
    }
    let (topic, push_type) = push_headers(headers, topics)?;
    let device = device(request.uri.path_and_query().map_or("", |path| path.as_str()))?;
    let fate = convention::read(device).ok_or(Reason::BadDeviceToken)?;
    authorized?;
    Ok(Passed { device, topic, fate, body: payload(headers, push_type, body) })
}

/// A header as text; `Some("")` for one that is not visible ASCII, which no check lets pass.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

/// `apns-id`: UUID text, 8-4-4-4-12.
fn message_id(headers: &HeaderMap) -> Result<(), Reason> {
    let fits = |id: &str| {
        id.len() == 36
            && id.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
    };
    text(headers, "apns-id").is_none_or(fits).then_some(()).ok_or(Reason::BadMessageId)
}

/// Topic, collapse id, expiration, priority, push type. Returns the topic and the push type.
fn push_headers<'a>(headers: &'a HeaderMap, topics: &[String]) -> Result<(&'a str, Option<&'a str>), Reason> {
    let topic = text(headers, "apns-topic").ok_or(Reason::MissingTopic)?;
    let of_a_bundle = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if topic.is_empty() || !topic.bytes().all(of_a_bundle) {
        return Err(Reason::BadTopic);
    }
    if headers.get("apns-collapse-id").is_some_and(|id| id.len() > COLLAPSE_ID) {
        return Err(Reason::BadCollapseId);
    }
    if text(headers, "apns-expiration").is_some_and(|seconds| seconds.parse::<u64>().is_err()) {
        return Err(Reason::BadExpirationDate);
    }
    let priority = text(headers, "apns-priority").unwrap_or("10"); // what APNs takes for an absent one
    if !["1", "5", "10"].contains(&priority) {
        return Err(Reason::BadPriority);
    }
    let push_type = text(headers, "apns-push-type");
    let suffix = match push_type {
        None => "",
        Some(name) => PUSH_TYPES.iter().find(|(known, _)| *known == name).ok_or(Reason::InvalidPushType)?.1,
    };
    if push_type == Some("background") && priority == "10" {
        return Err(Reason::BadPriority);
    }
    let bundle = topic.strip_suffix(suffix).unwrap_or(topic);
    if !topics.is_empty() && !topics.iter().any(|allowed| allowed == bundle) {
        return Err(Reason::TopicDisallowed);
    }
    Ok((topic, push_type))
}

fn device(path: &str) -> Result<&str, Reason> {
    match path.strip_prefix("/3/device") {
        Some("" | "/") => Err(Reason::MissingDeviceToken),
        Some(rest) => rest.strip_prefix('/').filter(|token| !token.contains(['/', '?'])).ok_or(Reason::BadPath),
        None => Err(Reason::BadPath),
    }
}

/// A body that is not JSON, a compressed one among them, holds no payload for APNs: `PayloadEmpty`. (Our reading: Apple's
/// list has no other word for it.)
fn payload(headers: &HeaderMap, push_type: Option<&str>, body: &[u8]) -> Result<(), Reason> {
    let largest = if push_type == Some("voip") { LARGEST_VOIP } else { LARGEST };
    let encoded = text(headers, "content-encoding").is_some_and(|encoding| encoding != "identity");
    if body.len() > largest {
        Err(Reason::PayloadTooLarge)
    } else if encoded || serde_json::from_slice::<IgnoredAny>(body).is_err() {
        Err(Reason::PayloadEmpty)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use std::fmt::Write as _;

    const BODY: &[u8] = br#"{"aps":{"alert":"hi"}}"#;

    fn answer(edit: impl FnOnce(http::request::Builder) -> http::request::Builder, topic: bool, body: &[u8]) -> String {
        let mut request = Request::post("/3/device/00ff");
        if topic {
            request = request.header("apns-topic", "com.example.game");
        }
        let (parts, ()) = edit(request).body(()).expect("request").into_parts();
        let topics = ["com.example.game".to_owned()];
        match check(&parts, Ok(()), body, &topics).and_then(|passed| passed.body.map(|()| passed.fate)) {
            Ok(fate) => format!("{fate:?}"),
            Err(reason) => format!("{} {}", reason.status, reason.word),
        }
    }

    #[test]
    fn each_fault_has_its_reason() {
        let large = format!("\"{}\"", "x".repeat(4095));
        let mut seen = String::new();
        let mut note = |what: &str, answer: String| writeln!(seen, "{what}: {answer}").expect("a string");
        note("plain", answer(|r| r, true, BODY));
        note(
            "all headers",
            answer(
                |r| {
                    r.header("apns-id", "0F5D1E3B-1111-2222-3333-444455556666")
                        .header("apns-priority", "5")
                        .header("apns-push-type", "background")
                        .header("apns-expiration", "0")
                        .header("apns-collapse-id", "c".repeat(64))
                },
                true,
                BODY,
            ),
        );
        note("unknown id", answer(|r| r.header("apns-id", "7"), true, BODY));
        note("id without hyphens", answer(|r| r.header("apns-id", "0F5D1E3B111122223333444455556666"), true, BODY));
        note("GET", answer(|r| r.method("GET"), true, BODY));
        note("no topic", answer(|r| r, false, BODY));
        note("strange topic", answer(|r| r.header("apns-topic", "a b"), false, BODY));
        note("other topic", answer(|r| r.header("apns-topic", "com.other"), false, BODY));
        note("suffix of another type", answer(|r| r.header("apns-topic", "com.example.game.voip"), false, BODY));
        note(
            "voip",
            answer(
                |r| r.header("apns-topic", "com.example.game.voip").header("apns-push-type", "voip"),
                false,
                large.as_bytes(),
            ),
        );
        note("collapse id of 65", answer(|r| r.header("apns-collapse-id", "c".repeat(65)), true, BODY));
        note("expiration", answer(|r| r.header("apns-expiration", "soon"), true, BODY));
        note("priority 7", answer(|r| r.header("apns-priority", "7"), true, BODY));
        note(
            "background at 10",
            answer(|r| r.header("apns-push-type", "background").header("apns-priority", "10"), true, BODY),
        );
        note("background by default", answer(|r| r.header("apns-push-type", "background"), true, BODY));
        note("push type", answer(|r| r.header("apns-push-type", "loud"), true, BODY));
        note("twice", answer(|r| r.header("apns-priority", "5").header("apns-priority", "5"), true, BODY));
        note("no token", answer(|r| r.uri("/3/device/"), true, BODY));
        note("other path", answer(|r| r.uri("/4/device/00"), true, BODY));
        note("query", answer(|r| r.uri("/3/device/00?x"), true, BODY));
        note("longer path", answer(|r| r.uri("/3/device/00/11"), true, BODY));
        note("not hex", answer(|r| r.uri("/3/device/zz"), true, BODY));
        note("odd length", answer(|r| r.uri("/3/device/000"), true, BODY));
        note("empty body", answer(|r| r, true, b""));
        note("not json", answer(|r| r, true, b"\x1f\x8b\x08\x00"));
        note("compressed", answer(|r| r.header("content-encoding", "gzip"), true, BODY));
        note("4097 bytes", answer(|r| r, true, large.as_bytes()));
        insta::assert_snapshot!(seen);
    }

    #[test]
    fn the_first_fault_in_order_is_the_answer() {
        let build = |path: &str, id: &str| {
            let request = Request::post(path).header("apns-topic", "com.example.game").header("apns-id", id);
            request.body(()).expect("request").into_parts().0
        };
        let refused = Err(Reason::MissingProviderToken);
        let id = "0f5d1e3b-1111-2222-3333-444455556666";
        assert_eq!(check(&build("/3/device/zz", "x"), refused, b"", &[]), Err(Reason::BadMessageId));
        assert_eq!(check(&build("/3/device/zz", id), refused, b"", &[]), Err(Reason::BadDeviceToken));
        assert_eq!(check(&build("/3/device/dead0410", id), refused, b"", &[]), refused.map(|()| unreachable!()));
        let passed = build("/3/device/dead0410", id);
        let passed = check(&passed, Ok(()), b"", &[]).expect("passes but for its body");
        assert_eq!((passed.device, passed.body), ("dead0410", Err(Reason::PayloadEmpty)));
    }
}
