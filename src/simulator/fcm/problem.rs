//! The error answers of `messages:send`; `catalogue` numbers those that targets can ask for.
//!
//! Bodies are as Google's front end and FCM send them, seen by bloomberg/pushiko (`docs/fcm_responses.md`) and in the trackers
//! of Google's SDKs; details come in any order, and so they do here.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::form::Violation;

/// An error answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// What it is counted under: FCM's error code, else Google's canonical name, else the status.
    pub name: Cow<'static, str>,
    /// When to come again.
    pub retry_after: Option<RetryAfter>,
    body: Body,
}

/// The two forms of `retry-after` (RFC 9110, 10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Seconds.
    Seconds(u32),
    /// A date so many seconds ahead.
    Date(u32),
}

mod catalogue;

pub use self::catalogue::CODES;

#[derive(Clone, Debug, PartialEq)]
enum Body {
    Error { message: Cow<'static, str>, status: &'static str, details: Vec<Value> },
    Html,
    Empty,
}

/// In the order that Google writes it.
#[derive(Serialize)]
struct Written<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: u16,
    message: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    details: &'a [Value],
}

const BAD_TOKEN: &str = "The registration token is not a valid FCM registration token";
const NO_CREDENTIAL: &str = "Request is missing required authentication credential. Expected OAuth 2 access token, login \
    cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.";
const WRONG_CREDENTIAL: &str = "Request had invalid authentication credentials. Expected OAuth 2 access token, login \
    cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.";

fn fcm_error(code: &str) -> Value {
    json!({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code })
}

fn apns_error(status: u16, reason: &str) -> Value {
    let kind = "type.googleapis.com/google.firebase.fcm.v1.ApnsError";
    json!({ "@type": kind, "statusCode": status, "reason": reason })
}

fn bad_request(violations: &[Violation]) -> Value {
    let one = |violation: &Violation| match violation.field.as_str() {
        "" => json!({ "description": violation.description }),
        field => json!({ "field": field, "description": violation.description }),
    };
    let violations: Vec<Value> = violations.iter().map(one).collect();
    json!({ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations })
}

fn quota_failure(project: &str) -> Value {
    let violation =
        json!({ "subject": format!("project:{project}"), "description": "Message rate exceeded for project" });
    json!({ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation] })
}

fn error_info(reason: &str, metadata: &Value) -> Value {
    let kind = "type.googleapis.com/google.rpc.ErrorInfo";
    json!({ "@type": kind, "reason": reason, "domain": "googleapis.com", "metadata": metadata })
}

fn method() -> Value {
    json!({ "service": "fcm.googleapis.com", "method": "google.firebase.fcm.v1.FcmService.SendMessage" })
}

/// With the error code of FCM among the details.
fn fcm(
    status: u16,
    canonical: &'static str,
    code: &'static str,
    message: impl Into<Cow<'static, str>>,
    others: impl IntoIterator<Item = Value>,
) -> Problem {
    let details = [fcm_error(code)].into_iter().chain(others).collect();
    let body = Body::Error { message: message.into(), status: canonical, details };
    Problem { status, name: Cow::Borrowed(code), retry_after: None, body }
}

/// Without it: Google's front end speaks.
fn google(
    status: u16,
    canonical: &'static str,
    message: impl Into<Cow<'static, str>>,
    details: impl IntoIterator<Item = Value>,
) -> Problem {
    let body = Body::Error { message: message.into(), status: canonical, details: details.into_iter().collect() };
    Problem { status, name: Cow::Borrowed(canonical), retry_after: None, body }
}

impl Problem {
    /// The token is none of FCM's.
    pub fn invalid_token() -> Problem {
        let violation = Violation::new("message.token", "Invalid registration token");
        fcm(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", BAD_TOKEN, [bad_request(&[violation])])
    }

    /// Too many bytes: no details.
    pub fn too_large() -> Problem {
        google(400, "INVALID_ARGUMENT", "Request contains an invalid argument.", [])
    }

    /// A field's value breaks a rule of FCM.
    pub fn invalid(field: &str, description: &str) -> Problem {
        let violation = bad_request(&[Violation::new(field, description)]);
        fcm(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", description.to_owned(), [violation])
    }

    /// The body has not the form that the fields prescribe.
    pub fn ill_formed(violations: &[Violation]) -> Problem {
        let texts: Vec<&str> = violations.iter().map(|violation| violation.description.as_str()).collect();
        google(400, "INVALID_ARGUMENT", texts.join("\n"), [bad_request(violations)])
    }

    /// No credential at all.
    pub fn no_credential() -> Problem {
        google(401, "UNAUTHENTICATED", NO_CREDENTIAL, [error_info("CREDENTIALS_MISSING", &method())])
    }

    /// A credential that does not count, any more or at all.
    pub fn unauthenticated(reason: &str) -> Problem {
        google(401, "UNAUTHENTICATED", WRONG_CREDENTIAL, [error_info(reason, &method())])
    }

    /// The access token was not asked for with a scope that FCM takes.
    pub fn wrong_scope() -> Problem {
        let text = "Request had insufficient authentication scopes.";
        google(403, "PERMISSION_DENIED", text, [error_info("ACCESS_TOKEN_SCOPE_INSUFFICIENT", &method())])
    }

    /// The service account has no role in the project.
    pub fn permission_denied(project: &str) -> Problem {
        let text = format!(
            "Permission 'cloudmessaging.messages.create' denied on resource \
             '//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
        );
        let metadata = json!({
            "permission": "cloudmessaging.messages.create",
            "resource": format!("//cloudresourcemanager.googleapis.com/projects/{project}"),
        });
        google(403, "PERMISSION_DENIED", text, [error_info("IAM_PERMISSION_DENIED", &metadata)])
    }

    /// Nobody knows the project.
    pub fn no_such_project() -> Problem {
        google(404, "NOT_FOUND", "Requested entity was not found.", [])
    }

    /// The project's quota is spent.
    pub fn over_quota(project: &str) -> Problem {
        let text = format!("Quota exceeded for project {project}.");
        fcm(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", text, [quota_failure(project)])
    }

    /// A page for people.
    pub fn page(status: u16) -> Problem {
        Problem { status, name: Cow::Owned(status.to_string()), retry_after: None, body: Body::Html }
    }

    /// A code that nobody knows.
    pub fn unknown_code() -> Problem {
        fcm(400, "FAILED_PRECONDITION", "UNHEARD_OF_CODE", "Something new.", [])
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn after(self, seconds: u32) -> Problem {
        Problem { retry_after: Some(RetryAfter::Seconds(seconds)), ..self }
    }

    /// As it goes out.
    pub fn written(&self, now_ms: i64) -> (Response<()>, Bytes) {
        let (kind, body) = match &self.body {
            Body::Error { message, status, details } => {
                let written = Written { error: Inner { code: self.status, message, status, details } };
                // A struct of strings and values cannot fail to be written.
                let text = serde_json::to_string_pretty(&written).unwrap_or_default();
                (Some("application/json; charset=UTF-8"), text + "\n")
            }
            Body::Html => (Some("text/html; charset=UTF-8"), page(self.status)),
            Body::Empty => (None, String::new()),
        };
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(kind) = kind {
            response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
        }
        if self.status == 401 {
            let realm =
                HeaderValue::from_static("Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"");
            response.headers_mut().insert("www-authenticate", realm);
        }
        let retry_after = self.retry_after.and_then(|after| match after {
            RetryAfter::Seconds(seconds) => Some(HeaderValue::from(seconds)),
            RetryAfter::Date(ahead) => {
                let at = UNIX_EPOCH + Duration::from_millis(now_ms.unsigned_abs()) + Duration::from_secs(ahead.into());
                HeaderValue::try_from(httpdate::fmt_http_date(at)).ok()
            }
        });
        if let Some(value) = retry_after {
            response.headers_mut().insert("retry-after", value);
        }
        (response, body.into())
    }
}

fn page(status: u16) -> String {
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
    let advice = if status >= 500 { "Please try again in 30 seconds." } else { "That’s all we know." };
    format!(
        "<!DOCTYPE html>\n<html lang=en>\n<title>Error {status} ({title})!!1</title>\n\
         <p><b>{status}.</b> <ins>That’s an error.</ins>\n<p>{advice}\n"
    )
}
