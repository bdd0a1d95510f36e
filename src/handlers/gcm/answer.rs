//! An answer of FCM's, read: what its body states, of whatever form it is.
//!
//! Google's errors are an object `error` with `code`, `message`, `status` and `details`, a list of typed objects in any order
//! (Google: AIP-193, FCM ErrorCode). Details that cannot be read are passed over, so that one strange detail does not hide
//! the others. `message` is only searched, never passed on: it may quote the payload.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest word of Google's that is passed on, bytes.
const LONGEST_WORD: usize = 64;

/// What an answer states; empty where it states nothing.
#[derive(Debug, Default)]
pub(super) struct Stated {
    /// Whether the body is an error of Google's form, which has a `status`.
    pub(super) is_error: bool,
    /// Whether it has details at all.
    pub(super) has_details: bool,
    /// `error.status`: Google's canonical name, such as `NOT_FOUND`.
    pub(super) status: String,
    /// `errorCode` of the detail `FcmError`.
    pub(super) error_code: String,
    /// The first field that a `BadRequest` detail complains of, when it can be passed on.
    pub(super) field: Option<String>,
    /// Whether the answer calls the registration token itself wrong.
    pub(super) names_token: bool,
    /// APNs' status and reason, of the detail `ApnsError`.
    pub(super) apns: Option<(u16, String)>,
    /// Whether a detail says that the quota is the project's: a `QuotaFailure` that names it, or the `ErrorInfo` of Google's
    /// front end, which counts by project alone (firebase/firebase-admin-go issue 719).
    pub(super) project_quota: bool,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: Error<'a>,
}

#[derive(Deserialize)]
struct Error<'a> {
    #[serde(default, borrow)]
    message: Option<&'a RawValue>,
    #[serde(default, borrow)]
    status: Option<&'a RawValue>,
    #[serde(default, borrow)]
    details: Option<&'a RawValue>,
}

/// Any detail: the fields of all types that we know.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(rename = "@type", default)]
    kind: String,
    #[serde(default)]
    error_code: String,
    #[serde(default)]
    field_violations: Vec<Violation>,
    #[serde(default)]
    violations: Vec<Violation>,
    #[serde(default)]
    status_code: u16,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Violation {
    #[serde(default)]
    field: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    description: String,
}

/// Reads the body of an answer that is no success.
pub(super) fn read(body: &[u8]) -> Stated {
    let Ok(Body { error }) = serde_json::from_slice(body) else { return Stated::default() };
    let text = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let status = word(text(error.status).unwrap_or_default());
    let mut stated = Stated { is_error: !status.is_empty(), status, ..Stated::default() };
    stated.names_token = text(error.message).is_some_and(|message| names_token(&message));
    let details: Vec<&RawValue> =
        error.details.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    stated.has_details = !details.is_empty();
    for detail in details.into_iter().filter_map(|raw| serde_json::from_str::<Detail>(raw.get()).ok()) {
        stated.add(detail);
    }
    stated
}

impl Stated {
    fn add(&mut self, detail: Detail) {
        match detail.kind.rsplit('/').next().unwrap_or_default() {
            "google.firebase.fcm.v1.FcmError" => self.error_code = word(detail.error_code),
            "google.firebase.fcm.v1.ApnsError" => self.apns = Some((detail.status_code, word(detail.reason))),
            "google.rpc.BadRequest" => {
                self.names_token |= detail.field_violations.iter().any(|violation| violation.field == "message.token");
                let fields = detail.field_violations.into_iter().map(|violation| violation.field);
                self.field = self.field.take().or_else(|| fields.into_iter().find(|field| is_path(field)));
            }
            "google.rpc.QuotaFailure" => {
                let of_project = |violation: &Violation| {
                    [&violation.subject, &violation.description]
                        .iter()
                        .any(|text| text.to_lowercase().contains("project"))
                };
                self.project_quota |= detail.violations.iter().any(of_project);
            }
            "google.rpc.ErrorInfo" => self.project_quota |= detail.reason == "RATE_LIMIT_EXCEEDED",
            _ => {}
        }
    }
}

/// Google's words about a token that can never have been one.
fn names_token(message: &str) -> bool {
    message.contains("registration token is not a valid")
}

/// A path of fields, which quotes no value.
fn is_path(field: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.[]".contains(&byte);
    !field.is_empty() && field.len() <= LONGEST_WORD && field.bytes().all(fits)
}

/// A word of Google's, if it is one.
fn word(text: String) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.len() <= LONGEST_WORD && text.bytes().all(fits) { text } else { String::new() }
}
