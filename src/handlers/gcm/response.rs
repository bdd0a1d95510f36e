//! What FCM's answers mean: the whole table of error codes and statuses, pure.
//!
//! Source: Google, FCM ErrorCode; FCM error codes; Scale FCM (when to try again). The error code decides where there is one,
//! else the HTTP status: `status` in the body is not the error code. Same statuses have other meanings without the code: a
//! 404 without `UNREGISTERED` is a wrong project and must never cost a token, a 401 without a code is our access token, a
//! 403 without one is IAM, a 400 without details is a payload that is too large (all observed).
//!
//! Keys (metric tag `reason`, feedback `error`) are the words of the original, which it had from the XMPP interface.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::answer::{self, Stated};
use crate::handlers::wish::retry_after;
use crate::outcome::Class::{self, Configuration, Message, Provider, Token};
use crate::outcome::{Acceptance, InvalidToken, Outcome, Refusal, Source, Verdict};

/// The headers that are read of an answer.
pub(super) const READS: &[&str] = &["retry-after"];
/// Pause after a 429 without Retry-After (Google: Scale FCM).
const AFTER_QUOTA: Duration = Duration::from_mins(1);
/// Shortest pause after a 5xx (Google: Scale FCM).
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// Pause after a front end's 502, whose page asks for it (observed).
const AFTER_BAD_GATEWAY: Duration = Duration::from_secs(30);

/// An answer, and what of the request is needed to understand it.
pub(super) struct Answered<'a> {
    /// Status.
    pub(super) status: StatusCode,
    /// Headers.
    pub(super) headers: &'a HeaderMap,
    /// Body.
    pub(super) body: &'a [u8],
    /// The registration token that was sent to; `None` for a topic or a condition.
    pub(super) token: Option<&'a str>,
    /// Whether most of the project's last answers were 429.
    pub(super) mostly_limited: bool,
    /// The time, for a Retry-After that is a date.
    pub(super) now: fn() -> SystemTime,
}

#[derive(Deserialize)]
struct Accepted {
    name: String,
}

/// The verdict on an answer.
pub(super) fn understand(answered: &Answered<'_>) -> Verdict {
    let status = answered.status.as_u16();
    if answered.status.is_success() {
        return match serde_json::from_slice::<Accepted>(answered.body) {
            Ok(Accepted { name }) if !name.is_empty() => {
                Verdict::Resolved(Outcome::Delivered(Acceptance { status, provider_id: Some(name) }))
            }
            _ => Verdict::Retry(Refusal { status, ..no_name() }),
        };
    }
    let stated = answer::read(answered.body);
    let refusal = refusal(answered, &stated);
    let retry_after = match refusal.class {
        Provider | Configuration => retry_after(answered.headers, answered.now).or(refusal.retry_after),
        Message | Token => None,
    };
    let refusal = Refusal { status, retry_after, ..refusal };
    match refusal.class {
        Message | Token => Verdict::Resolved(Outcome::Rejected(refusal)),
        Provider => Verdict::Retry(refusal),
        Configuration => Verdict::Hold(refusal),
    }
}

/// Whether FCM refuses our access token itself.
pub(super) fn is_unauthenticated(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::UNAUTHORIZED && {
        let stated = answer::read(body);
        stated.error_code.is_empty() && stated.apns.is_none()
    }
}

/// Whether a verdict says that the project's APNs key or web push key is wrong.
pub(super) fn is_third_party(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Resolved(Outcome::Rejected(refusal)) if refusal.key == "THIRD_PARTY_AUTH_ERROR")
}

/// A success without the message's name is not FCM's.
fn no_name() -> Refusal {
    let what = "accepted without a message name: does something between us and Google answer?";
    Refusal {
        source: Source::Project,
        maybe_delivered: true,
        retry_after: Some(AFTER_FAILURE),
        ..Refusal::local(Provider, "UNKNOWN", "NoMessageName", what)
    }
}

fn refusal(answered: &Answered<'_>, stated: &Stated) -> Refusal {
    let status = answered.status.as_u16();
    let by_code = match (stated.error_code.as_str(), status) {
        // An answer whose words contradict each other: a server's failure is never a token's.
        (_, 500..) if !matches!(stated.error_code.as_str(), "UNAVAILABLE" | "INTERNAL") => None,
        // Nor is it dead by another status than those that FCM says it with (Google: FCM error codes).
        ("UNREGISTERED", 400 | 404) => Some(dead(answered, "UNREGISTERED", "DEVICE_UNREGISTERED", GONE)),
        ("SENDER_ID_MISMATCH", _) => {
            let what = "the token belongs to another project than these credentials";
            Some(of_device(Token, "SENDER_ID_MISMATCH", "SENDER_ID_MISMATCH", what))
        }
        ("INVALID_ARGUMENT", _) => Some(invalid(answered, stated)),
        ("QUOTA_EXCEEDED", _) => Some(quota(answered, stated)),
        ("UNAVAILABLE", _) => Some(of_provider("UNAVAILABLE", "UNAVAILABLE", "FCM is overloaded")),
        ("INTERNAL", _) => Some(of_provider("INTERNAL", "INTERNAL_SERVER_ERROR", "FCM failed inside")),
        ("THIRD_PARTY_AUTH_ERROR" | "APNS_AUTH_ERROR", _) => Some(third_party(stated)),
        _ => None,
    };
    if let Some(refusal) = by_code {
        return refusal;
    }
    let refusal = by_status(status, answered, stated);
    let code = Some(&stated.error_code).filter(|_| status < 500); // not passed on where it was not believed
    match code.into_iter().chain([&stated.status]).find(|word| !word.is_empty()) {
        Some(word) if refusal.invalid_token.is_none() => Refusal { reason: Cow::Owned(word.clone()), ..refusal },
        _ => refusal,
    }
}

const GONE: &str = "the app was removed from the device, or its token expired or was replaced";

/// A 400 for the message or its token.
fn invalid(answered: &Answered<'_>, stated: &Stated) -> Refusal {
    let may_be_dead = matches!(answered.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND);
    if may_be_dead && stated.apns.as_ref().is_some_and(|(status, _)| *status == 410) {
        return dead(answered, "INVALID_ARGUMENT", "DEVICE_UNREGISTERED", "APNs says that the device is gone");
    }
    if may_be_dead && stated.names_token {
        return dead(answered, "INVALID_ARGUMENT", "BAD_REGISTRATION", "the token is not one of FCM's");
    }
    let what = match &stated.field {
        Some(field) => Cow::Owned(format!("FCM calls the field {field} wrong")),
        None if stated.is_error && !stated.has_details => {
            "FCM gives no details, which it does when the payload is larger than it takes (4096 bytes)".into()
        }
        None => "FCM calls the message wrong".into(),
    };
    of_device(Message, "INVALID_ARGUMENT", "INVALID_JSON", what)
}

/// A token that is to be deleted, when there was one.
fn dead(answered: &Answered<'_>, reason: &'static str, key: &'static str, what: &'static str) -> Refusal {
    let token = answered.token.map(|token| InvalidToken { token: token.to_owned(), unregistered_at_ms: None });
    let class = if token.is_some() { Token } else { Message };
    Refusal { invalid_token: token, ..of_device(class, reason, key, what) }
}

fn of_device(class: Class, reason: &'static str, key: &'static str, what: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal { source: Source::Device, ..Refusal::local(class, key, reason, what) }
}

fn of_provider(reason: &'static str, key: &'static str, what: &'static str) -> Refusal {
    Refusal { source: Source::Project, retry_after: Some(AFTER_FAILURE), ..Refusal::local(Provider, key, reason, what) }
}

/// A quota is the project's only when the answer says so, or most answers are such: else it is one device's or topic's, and
/// others go on.
fn quota(answered: &Answered<'_>, stated: &Stated) -> Refusal {
    let (source, what) = if stated.project_quota {
        (Source::Project, "the project's quota is used up: ask Google for more, or send slower")
    } else if answered.mostly_limited {
        (
            Source::Project,
            "most pushes of the project are too many: its quota is used up, or one device or topic gets them all",
        )
    } else {
        (Source::Device, "too many pushes to this device or topic")
    };
    Refusal {
        source,
        retry_after: Some(AFTER_QUOTA),
        ..Refusal::local(Provider, "DEVICE_MESSAGE_RATE_EXCEEDED", "QUOTA_EXCEEDED", what)
    }
}

/// The project's key for another service is wrong: no push to that service can be sent, all others go on.
fn third_party(stated: &Stated) -> Refusal {
    let what = match &stated.apns {
        Some((status, reason)) if !reason.is_empty() => {
            format!("APNs refuses the project's key ({status} {reason}): mend it in the Firebase console")
        }
        _ => "APNs or web push refuses the project's key: mend it in the Firebase console".to_owned(),
    };
    of_device(Message, "THIRD_PARTY_AUTH_ERROR", "THIRD_PARTY_AUTH_ERROR", what)
}

/// An answer without an error code that we know.
fn by_status(status: u16, answered: &Answered<'_>, stated: &Stated) -> Refusal {
    let held =
        |key, reason, what| Refusal { source: Source::Project, ..Refusal::local(Configuration, key, reason, what) };
    match status {
        400 if stated.is_error => invalid(answered, stated),
        401 => held(
            "unauthenticated",
            "UNAUTHENTICATED",
            "Google refuses a fresh access token: check the credentials and their scope",
        ),
        403 => held(
            "permission-denied",
            "PERMISSION_DENIED",
            "the service account may not send (role with cloudmessaging.messages.create), or the project's FCM API is not enabled",
        ),
        404 => held(
            "not-found",
            "NOT_FOUND",
            "Google does not know the project, or what answers is not FCM: check gcm.projectId and gcm.endpoint",
        ),
        300..=399 | 405 | 407 => held("not-fcm", "NotFcm", "what answers is not FCM: check gcm.endpoint and proxies"),
        408 => Refusal {
            source: Source::Network,
            ..of_provider("Status408", "UNKNOWN", "the request took too long to arrive")
        },
        413 => of_device(Message, "PayloadTooLarge", "INVALID_JSON", "the payload is larger than FCM takes"),
        429 => quota(answered, stated),
        502 => Refusal {
            retry_after: Some(AFTER_BAD_GATEWAY),
            ..of_provider("Status502", "UNAVAILABLE", "Google's front end has no answer")
        },
        503 => of_provider("UNAVAILABLE", "UNAVAILABLE", "FCM is overloaded"),
        500..=599 => of_provider("INTERNAL", "INTERNAL_SERVER_ERROR", "FCM or something before it failed"),
        400..=499 if stated.is_error => of_device(Message, "BadRequest", "UNKNOWN", "refused without a known reason"),
        // Google's errors have a form of their own: what has another may be of anything between us and Google.
        400..=499 => held(
            "not-fcm",
            "NotFcm",
            "refused without Google's word for it: does something between us and Google answer?",
        ),
        _ => of_provider("UnexpectedStatus", "UNKNOWN", "a status that FCM never answers with"),
    }
}

#[cfg(test)]
mod tests;
