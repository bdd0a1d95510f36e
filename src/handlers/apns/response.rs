//! What Apple's answers mean: the whole table of statuses and reasons, pure.
//!
//! Source: Apple, Handling notification responses from APNs; Troubleshooting push notifications. The status decides;
//! the reason refines it, and only where the two agree: an answer with a reason that we do not know is understood by its
//! status alone. One without a body, or with one that is not JSON (a proxy's page), is not Apple's word, and ends no push
//! but for one that is too large.
//!
//! Keys (metric tag `reason`, feedback `Err.Key`) are the original's: what it did not know is `unexpected`, whatever the
//! reason says, so that its dashboards and consumers go on to work and the set of tags stays closed. The reason itself is
//! kept verbatim beside the key.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock;
use crate::handlers::wish::retry_after;
use crate::outcome::Class::{self, Configuration, Message, Provider, Token};
use crate::outcome::{Acceptance, InvalidToken, Outcome, Refusal, Source, Verdict};

/// The headers that are read of an answer.
pub(super) const READS: &[&str] = &["apns-id", "retry-after"];
/// Longest reason that is kept, bytes.
const LONGEST_REASON: usize = 128;
/// Pause after `TooManyProviderTokenUpdates`: the connection stays unusable for a while (Apple staff, developer forum).
const AFTER_TOO_MANY_TOKENS: Duration = Duration::from_mins(1);

/// One known reason.
struct Known {
    reason: &'static str,
    status: u16,
    class: Class,
    source: Source,
    key: &'static str,
    deletes_token: bool,
    description: &'static str,
}

const fn known(reason: &'static str, status: u16, class: Class, key: &'static str, description: &'static str) -> Known {
    let source = match class {
        Message | Token => Source::Device,
        Provider | Configuration => Source::Project,
    };
    Known { reason, status, class, source, key, deletes_token: false, description }
}

const fn dead_token(reason: &'static str, status: u16, key: &'static str, description: &'static str) -> Known {
    Known { deletes_token: true, ..known(reason, status, Token, key, description) }
}

const UNEXPECTED: &str = "unexpected";

#[rustfmt::skip]
const TABLE: &[Known] = &[
    known("BadCollapseId", 400, Message, UNEXPECTED, "collapse_id is longer than 64 bytes"),
    dead_token("BadDeviceToken", 400, "bad-device-token", "the token is malformed or belongs to the other environment (production, development)"),
    known("BadExpirationDate", 400, Message, "bad-expiration-date", "the expiration is not a number"),
    known("BadMessageId", 400, Message, "bad-message-id", "the apns-id is not a UUID"),
    known("BadPriority", 400, Message, "bad-priority", "the priority is not one that this push type takes"),
    known("BadTopic", 400, Configuration, "bad-topic", "the topic is malformed: check apns.certs.<app>.topic"),
    dead_token("DeviceTokenNotForTopic", 400, "device-token-not-for-topic", "the token belongs to another app than the topic"),
    known("DuplicateHeaders", 400, Message, "duplicate-headers", "a header was sent twice"),
    Known { source: Source::Network, ..known("IdleTimeout", 400, Provider, "idle-timeout", "the connection was idle for too long for Apple") },
    known("InvalidPushType", 400, Message, UNEXPECTED, "Apple does not know this push type"),
    known("MissingDeviceToken", 400, Message, "missing-device-token", "the path holds no token"),
    known("MissingTopic", 400, Configuration, "missing-topic", "Apple wants a topic: check apns.certs.<app>.topic"),
    known("PayloadEmpty", 400, Message, "payload-empty", "the payload is empty"),
    known("TopicDisallowed", 400, Configuration, "topic-disallowed", "the key may not push to this topic: check apns.certs.<app>.topic and the key's team"),
    known("BadCertificate", 403, Configuration, "bad-certificate", "the certificate is bad"),
    known("BadCertificateEnvironment", 403, Configuration, "bad-certificate-environment", "the certificate is for the other environment: check -p"),
    known("BadEnvironmentKeyIdInToken", 403, Configuration, UNEXPECTED, "the key is for the other environment: check -p and apns.certs.<app>.keyID"),
    known("ExpiredProviderToken", 403, Provider, "expired-provider-token", "Apple calls a fresh provider token expired: check this host's clock"),
    known("Forbidden", 403, Configuration, "forbidden", "Apple does not allow this action to the key"),
    known("InvalidProviderToken", 403, Configuration, "invalid-provider-token", "Apple refuses the key: revoked, or keyID and teamID of apns.certs.<app> do not belong to it"),
    known("MissingProviderToken", 403, Configuration, "missing-provider-token", "the provider token did not reach Apple: does a proxy remove headers?"),
    known("UnrelatedKeyIdInToken", 403, Configuration, UNEXPECTED, "the key is not related to the one that this connection began with: check apns.certs.<app>.keyID"),
    known("BadPath", 404, Message, "bad-path", "Apple does not know the path that this token makes"),
    known("MethodNotAllowed", 405, Configuration, "method-not-allowed", "the endpoint takes no POST: check apns.endpoint"),
    dead_token("ExpiredToken", 410, UNEXPECTED, "the token has expired"),
    dead_token("Unregistered", 410, "unregistered", "the device is no longer registered for the topic"),
    known("PayloadTooLarge", 413, Message, "payload-too-large", "the payload is larger than Apple takes"),
    // Counted per connection (Apple: Establishing a token-based connection to APNs).
    Known { source: Source::Network, ..known("TooManyProviderTokenUpdates", 429, Provider, UNEXPECTED, "Apple saw too many new provider tokens: do many processes share an address and a key?") },
    Known { source: Source::Device, ..known("TooManyRequests", 429, Provider, "too-many-requests", "too many pushes in a row to this device") },
    known("InternalServerError", 500, Provider, "internal-server-error", "Apple failed inside"),
    known("ServiceUnavailable", 503, Provider, "service-unavailable", "Apple is not available"),
    known("Shutdown", 503, Provider, "shutdown", "Apple's server is shutting down"),
];

/// An answer, and what of the request is needed to understand it.
pub(super) struct Answered<'a> {
    /// Status.
    pub(super) status: StatusCode,
    /// Headers.
    pub(super) headers: &'a HeaderMap,
    /// Body.
    pub(super) body: &'a [u8],
    /// The device token that was sent to.
    pub(super) token: &'a str,
    /// Whether the message chose its topic: then a wrong topic is the message's fault, not the operator's.
    pub(super) own_topic: bool,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    reason: String,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

/// The reason that an answer states, cut to 128 bytes, and its timestamp (ms since the epoch).
fn stated(body: &[u8]) -> (String, Option<i64>) {
    // serde takes an array for a struct, too.
    let object = if body.trim_ascii_start().starts_with(b"{") { body } else { b"" };
    let Ok(Body { mut reason, timestamp }) = serde_json::from_slice(object) else { return (String::new(), None) };
    reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
    (reason, timestamp.and_then(|raw| raw.get().parse().ok()))
}

/// Whether the answer says that our provider token is too old.
pub(super) fn is_expired_provider_token(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::FORBIDDEN && stated(body).0 == "ExpiredProviderToken"
}

/// Whether a new connection will do better than the one that this answer came on.
pub(super) fn spoils_connection(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason.as_ref(),
        "ExpiredProviderToken" | "TooManyProviderTokenUpdates" | "UnrelatedKeyIdInToken" | "IdleTimeout" | "Shutdown"
    )
}

/// The verdict on an answer.
pub(super) fn understand(answered: &Answered<'_>) -> Verdict {
    let provider_id = answered.headers.get("apns-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    if answered.status == StatusCode::OK {
        return Verdict::Resolved(Outcome::Delivered(Acceptance { status: 200, provider_id }));
    }
    let refusal = Refusal { provider_id, ..refusal(answered) };
    match refusal.class {
        Message | Token => Verdict::Resolved(Outcome::Rejected(refusal)),
        Provider => Verdict::Retry(refusal),
        Configuration => Verdict::Hold(refusal),
    }
}

fn refusal(answered: &Answered<'_>) -> Refusal {
    let (reason, timestamp) = stated(answered.body);
    let status = answered.status.as_u16();
    let timestamp = timestamp.filter(|_| status == 410); // Apple documents it there alone
    let refusal = match TABLE.iter().find(|known| known.reason == reason) {
        Some(known) if known.status == status => by_reason(known, answered, timestamp),
        // Its words contradict each other: the reason is not passed on, for others act on it (delete the token).
        Some(_) => Refusal { description: contradiction(status, &reason), ..by_status(status, false) },
        None if reason.is_empty() => by_status(status, false),
        None => Refusal { key: UNEXPECTED, reason: Cow::Owned(reason), ..by_status(status, true) },
    };
    // Apple documents no Retry-After; what stands before it may send one.
    Refusal { status, retry_after: refusal.retry_after.max(retry_after(answered.headers, clock::now)), ..refusal }
}

fn contradiction(status: u16, reason: &str) -> Cow<'static, str> {
    format!("status {status} does not go with the reason {reason}: does something between us and Apple answer?").into()
}

fn by_reason(known: &Known, answered: &Answered<'_>, timestamp: Option<i64>) -> Refusal {
    let topical = matches!(known.reason, "BadTopic" | "MissingTopic" | "TopicDisallowed" | "DeviceTokenNotForTopic");
    let chosen = topical && answered.own_topic;
    let invalid_token = (known.deletes_token && !chosen)
        .then(|| InvalidToken { token: answered.token.to_owned(), unregistered_at_ms: timestamp });
    let description = if chosen { "the topic that the message chose does not fit" } else { known.description };
    Refusal {
        source: if chosen { Source::Device } else { known.source },
        invalid_token,
        retry_after: (known.reason == "TooManyProviderTokenUpdates").then_some(AFTER_TOO_MANY_TOKENS),
        ..Refusal::local(if chosen { Message } else { known.class }, known.key, known.reason, description)
    }
}

/// An answer of which nothing but the status is known, and whether it is Apple's: Apple gives each refusal a reason, what
/// has none may be of anything between us and Apple, and ends no push but for one that is too large.
fn by_status(status: u16, is_apples: bool) -> Refusal {
    let (class, source, key, reason, description) = match status {
        413 => {
            (Message, Source::Device, "payload-too-large", "PayloadTooLarge", "the payload is larger than Apple takes")
        }
        // Without a reason that is known no token is deleted.
        410 if is_apples => {
            (Token, Source::Device, UNEXPECTED, "Status410", "the token is gone, says an answer without a known reason")
        }
        429 => (Provider, Source::Project, UNEXPECTED, "Status429", "slow down, says an answer without a known reason"),
        503 => (Provider, Source::Project, "service-unavailable", "ServiceUnavailable", "Apple is not available"),
        500..=599 => (
            Provider,
            Source::Project,
            "internal-server-error",
            "InternalServerError",
            "Apple or something before it failed",
        ),
        408 => (Provider, Source::Network, UNEXPECTED, "Status408", "the request took too long to arrive"),
        401 | 403 | 407 => (
            Configuration,
            Source::Project,
            "forbidden",
            "Forbidden",
            "refused without a known reason: does a proxy want credentials?",
        ),
        404 | 405 => {
            (Configuration, Source::Project, UNEXPECTED, "NotApns", "what answers is not APNs: check apns.endpoint")
        }
        300..=399 => (
            Configuration,
            Source::Project,
            UNEXPECTED,
            "NotApns",
            "redirected, which APNs never does: check apns.endpoint",
        ),
        400..=499 if is_apples => (Message, Source::Device, UNEXPECTED, "BadRequest", "refused for an unknown reason"),
        400..=499 => (
            Configuration,
            Source::Project,
            UNEXPECTED,
            "NotApns",
            "refused without Apple's word for it: does something between us and Apple answer?",
        ),
        _ => (Provider, Source::Project, UNEXPECTED, "UnexpectedStatus", "a status that APNs never answers with"),
    };
    // 2xx other than 200 is not Apple's word, but something did take the request.
    let maybe_delivered = (200..300).contains(&status);
    Refusal { source, maybe_delivered, ..Refusal::local(class, key, reason, description) }
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;

    use super::*;

    fn answer(status: u16, body: &str, own_topic: bool) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert("apns-id", "the-id".parse().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        understand(&Answered { status, headers: &headers, body: body.as_bytes(), token: "the-token", own_topic })
    }

    fn refusal_of(verdict: &Verdict) -> Option<&Refusal> {
        match verdict {
            Verdict::Retry(refusal) | Verdict::Hold(refusal) | Verdict::Resolved(Outcome::Rejected(refusal)) => {
                Some(refusal)
            }
            _ => None,
        }
    }

    fn line(status: u16, body: &str, own_topic: bool) -> String {
        let verdict = answer(status, body, own_topic);
        let word = match &verdict {
            Verdict::Resolved(Outcome::Delivered(_)) => "delivered",
            Verdict::Resolved(_) => "rejected",
            Verdict::Retry(_) => "retry",
            Verdict::Hold(_) => "hold",
            Verdict::Released => "released",
        };
        let Some(refusal) = refusal_of(&verdict) else { return format!("{status} {word}") };
        assert_eq!((refusal.status, refusal.provider_id.as_deref()), (status, Some("the-id")));
        let deletes = refusal.invalid_token.as_ref().map_or(String::new(), |token| {
            assert_eq!(token.token, "the-token");
            format!(" deletes({})", token.unregistered_at_ms.map_or("-".into(), |at| at.to_string()))
        });
        let maybe = if refusal.maybe_delivered { " maybe-delivered" } else { "" };
        let floor = refusal.retry_after.map_or(String::new(), |wish| format!(" after({wish:?})"));
        format!(
            "{status} {} = {word} {:?}/{:?} {}{deletes}{maybe}{floor}",
            refusal.reason, refusal.class, refusal.source, refusal.key
        )
    }

    #[test]
    fn every_status_and_reason_of_apples_table() {
        let mut lines = vec![line(200, "", false)];
        lines.extend(TABLE.iter().map(|known| {
            line(known.status, &format!(r#"{{"reason":"{}","timestamp":1454948015990}}"#, known.reason), false)
        }));
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn answers_that_apple_does_not_document() {
        let page = "<html><h1>502 Bad Gateway</h1></html>";
        let unknown = r#"{"reason":"SomethingNew"}"#;
        let mut lines = Vec::new();
        for status in
            [201, 204, 301, 400, 401, 403, 404, 405, 407, 408, 410, 413, 418, 429, 500, 502, 503, 504, 599, 700]
        {
            lines.push(line(status, "", false));
            lines.push(line(status, unknown, false));
        }
        lines.push(line(200, page, false));
        lines.push(line(200, r#"{"reason":"Unregistered"}"#, false));
        lines.push(line(502, page, false));
        lines.push(line(500, r#"{"reason":"Unregistered","timestamp":1}"#, false));
        lines.push(line(410, r#"{"reason":"Unregistered","timestamp":"soon"}"#, false));
        lines.push(line(410, r#"{"reason":"Unregistered"}"#, false));
        lines.push(line(410, r#"{"reason":7}"#, false));
        lines.push(line(410, r#"["Unregistered",1]"#, false));
        lines.push(line(403, &"[".repeat(60_000), false));
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_topic_that_the_message_chose_is_its_own_fault_and_costs_no_token() {
        let lines: Vec<_> = ["BadTopic", "MissingTopic", "TopicDisallowed", "DeviceTokenNotForTopic"]
            .map(|reason| line(400, &format!(r#"{{"reason":"{reason}"}}"#), true))
            .into();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn only_reasons_that_name_the_token_delete_it() {
        let deleting: Vec<_> = TABLE.iter().filter(|known| known.deletes_token).map(|known| known.reason).collect();
        assert_eq!(deleting, ["BadDeviceToken", "DeviceTokenNotForTopic", "ExpiredToken", "Unregistered"]);
    }

    #[test]
    fn retry_after_is_a_floor_also_above_our_own() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "90".parse().unwrap());
        let of = |headers: &HeaderMap, body: &str| {
            let answered = Answered {
                status: StatusCode::TOO_MANY_REQUESTS,
                headers,
                body: body.as_bytes(),
                token: "",
                own_topic: false,
            };
            refusal_of(&understand(&answered)).unwrap().retry_after
        };
        for body in ["", r#"{"reason":"TooManyProviderTokenUpdates"}"#] {
            assert_eq!(of(&headers, body), Some(Duration::from_secs(90)));
        }
        headers.insert(RETRY_AFTER, "Fri, 22 Nov 2126 08:00:00 GMT".parse().unwrap());
        assert!(of(&headers, "") > Some(Duration::from_hours(24)), "a gateway's date");
    }

    #[test]
    fn a_reason_is_kept_verbatim_and_cut_when_it_is_no_word() {
        let long = "é".repeat(1000);
        let verdict = answer(400, &format!(r#"{{"reason":"{long}"}}"#), false);
        let reason = &refusal_of(&verdict).unwrap().reason;
        assert!(reason.len() <= LONGEST_REASON && long.starts_with(reason.as_ref()));
    }
}
