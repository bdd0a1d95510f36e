//! The token endpoint: `POST /token` with a JWT assertion (RFC 7523), over HTTPS by the same CA as the push endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::post;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use super::account::{Key, Project};
use super::assertion::{Grant, Refusal, judge};
use super::faults::{OAuthAnswer, OAuthFaults};
use super::tokens::Tokens;

/// Where in the endpoint's address tokens are given out.
pub const PATH: &str = "/token";

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The stand-in for Google's token endpoint.
#[derive(Debug)]
pub struct OAuth {
    projects: Vec<Project>,
    /// `None`: revoked.
    keys: Mutex<Vec<Option<Arc<Key>>>>,
    /// Its own address: the only right audience.
    token_uri: String,
    tokens: Tokens,
    faults: Mutex<Arc<OAuthFaults>>,
    requests: AtomicU64,
    /// Requests since the faults were set.
    since_faults: AtomicU64,
    at_once: AtomicU64,
    most_at_once: AtomicU64,
    answers: Mutex<BTreeMap<&'static str, u64>>,
    issued: Mutex<BTreeMap<String, u64>>,
}

/// What the token endpoint saw, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OAuthStats {
    /// Requests, refused ones included.
    pub requests: u64,
    /// Most requests under way at once.
    pub most_at_once: u64,
    /// Answers by `error`; `token`: those with a token.
    pub answers: BTreeMap<String, u64>,
    /// Tokens given out, by project.
    pub tokens: BTreeMap<String, u64>,
}

/// Counts a request as under way for as long as it lives.
struct UnderWay<'a>(&'a OAuth);

impl<'a> UnderWay<'a> {
    fn begin(oauth: &'a OAuth) -> Self {
        let now = oauth.at_once.fetch_add(1, Relaxed) + 1;
        oauth.most_at_once.fetch_max(now, Relaxed);
        UnderWay(oauth)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Relaxed);
    }
}

impl OAuth {
    pub(super) fn new(projects: Vec<Project>, key: Arc<Key>, token_uri: String, faults: OAuthFaults) -> Self {
        OAuth {
            projects,
            keys: Mutex::new(vec![Some(key)]),
            token_uri,
            tokens: Tokens::default(),
            faults: Mutex::new(Arc::new(faults)),
            requests: AtomicU64::new(0),
            since_faults: AtomicU64::new(0),
            at_once: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
            answers: Mutex::default(),
            issued: Mutex::default(),
        }
    }

    /// Trusts another key besides.
    pub(super) fn trust(&self, key: Arc<Key>) {
        self.keys.lock().push(Some(key));
    }

    /// Revokes the key of this id, and the tokens that were given for it.
    pub(super) fn revoke_key(&self, id: &str) {
        let mut keys = self.keys.lock();
        let found = keys.iter().position(|key| key.as_ref().is_some_and(|key| key.id == id));
        if let Some(place) = found {
            keys[place] = None;
            self.tokens.revoke_of(place);
        }
    }

    /// The tokens given out.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// What was seen.
    pub fn stats(&self) -> OAuthStats {
        OAuthStats {
            requests: self.requests.load(Relaxed),
            most_at_once: self.most_at_once.load(Relaxed),
            answers: self.answers.lock().iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            tokens: self.issued.lock().clone(),
        }
    }

    /// Forgets what was seen; tokens go on to count.
    pub(super) fn forget(&self) {
        self.requests.store(0, Relaxed);
        self.most_at_once.store(0, Relaxed);
        self.answers.lock().clear();
        self.issued.lock().clear();
    }

    pub(super) fn set_faults(&self, faults: OAuthFaults) {
        *self.faults.lock() = Arc::new(faults);
        self.since_faults.store(0, Relaxed);
    }

    /// The route.
    pub(super) fn routes(self: Arc<Self>) -> Router {
        Router::new().route(PATH, post(token)).with_state(self)
    }

    /// Judges a request and makes a token for it.
    fn grant(&self, headers: &HeaderMap, body: &[u8], faults: &OAuthFaults, now_ms: i64) -> Result<String, Refusal> {
        let assertion = assertion(headers, body)?;
        let now_s = now_ms / 1000 + faults.clock_ahead_s;
        let grant = judge(&assertion, &self.projects, &self.keys.lock(), &self.token_uri, now_s)?;
        let lifetime = if faults.lifetime_s == 0 { faults.expires_in_s } else { faults.lifetime_s };
        Ok(self.issue(grant, now_ms, lifetime))
    }

    /// Makes a token without being asked, for tests of the push endpoint alone.
    pub(super) fn issue(&self, grant: Grant, now_ms: i64, lifetime_s: u32) -> String {
        let project = self.projects.get(grant.project).map(|project| project.id.clone());
        *self.issued.lock().entry(project.unwrap_or_default()).or_default() += 1;
        self.tokens.issue(grant, now_ms, lifetime_s)
    }

    fn count(&self, name: &'static str) {
        *self.answers.lock().entry(name).or_default() += 1;
    }
}

/// The assertion in a request.
fn assertion(headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Err(Refusal::new(
            "invalid_request",
            "Invalid content type: it must be application/x-www-form-urlencoded.",
        ));
    }
    let form: BTreeMap<_, _> = form_urlencoded::parse(body).collect();
    let required = |name: &str| {
        let missing = || Refusal::new("invalid_request", format!("Required parameter is missing: {name}"));
        form.get(name).filter(|value| !value.is_empty()).ok_or_else(missing)
    };
    let grant_type = required("grant_type")?;
    if grant_type != GRANT_TYPE {
        return Err(Refusal::new("unsupported_grant_type", format!("Invalid grant_type: {grant_type}")));
    }
    required("assertion").map(ToString::to_string)
}

async fn token(State(oauth): State<Arc<OAuth>>, headers: HeaderMap, body: Bytes) -> Response {
    let _under_way = UnderWay::begin(&oauth);
    oauth.requests.fetch_add(1, Relaxed);
    let number = oauth.since_faults.fetch_add(1, Relaxed);
    let faults = Arc::clone(&oauth.faults.lock());
    if faults.refuse_connections {
        return std::future::pending().await; // until the client gives up or the simulator stops
    }
    tokio::time::sleep(Duration::from_millis(faults.delay_ms)).await;
    if let Some(answer) = faults.answer.filter(|_| faults.times == 0 || number < u64::from(faults.times)) {
        return if answer == OAuthAnswer::Silence { std::future::pending().await } else { oauth.misbehave(answer) };
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    match oauth.grant(&headers, &body, &faults, now_ms) {
        Ok(token) => {
            oauth.count("token");
            let body = json!({ "access_token": token, "expires_in": faults.expires_in_s, "token_type": "Bearer" });
            written(StatusCode::OK, &body)
        }
        Err(refusal) => {
            oauth.count(refusal.error);
            refused(&refusal)
        }
    }
}

impl OAuth {
    fn misbehave(&self, answer: OAuthAnswer) -> Response {
        let (status, error, description) = match answer {
            OAuthAnswer::InvalidGrant => (400, "invalid_grant", "Invalid JWT Signature."),
            OAuthAnswer::InvalidScope => (400, "invalid_scope", "Invalid OAuth scope or ID token audience provided."),
            OAuthAnswer::InvalidClient => (401, "invalid_client", "The OAuth client was not found."),
            OAuthAnswer::UnauthorizedClient => (401, "unauthorized_client", "Unauthorized"),
            OAuthAnswer::DisabledClient => (401, "disabled_client", "The OAuth client was disabled."),
            OAuthAnswer::Internal => (500, "internal_failure", "Backend Error"),
            OAuthAnswer::Unavailable => (503, "temporarily_unavailable", "The service is currently unavailable."),
            OAuthAnswer::Html => {
                self.count("html");
                return (StatusCode::BAD_GATEWAY, Html("<title>Error 502 (Server Error)!!1</title>\n")).into_response();
            }
            OAuthAnswer::NoToken | OAuthAnswer::Silence => {
                self.count("no_token");
                return written(StatusCode::OK, &json!({ "token_type": "Bearer" }));
            }
        };
        self.count(error);
        refused(&Refusal { status, error, description: description.to_owned() })
    }
}

fn refused(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    written(status, &json!({ "error": refusal.error, "error_description": refusal.description }))
}

fn written(status: StatusCode, body: &Value) -> Response {
    let kind = (header::CONTENT_TYPE, "application/json; charset=utf-8");
    (status, [kind, (header::CACHE_CONTROL, "no-cache, no-store, max-age=0")], format!("{body:#}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_read_as_rfc_7523_says() {
        let mut headers = HeaderMap::new();
        let say = |headers: &HeaderMap, body: &str| match assertion(headers, body.as_bytes()) {
            Ok(assertion) => assertion,
            Err(refusal) => format!("{}: {}", refusal.error, refusal.description),
        };
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        assert!(say(&headers, grant).starts_with("invalid_request: Invalid content type"));
        let kind = "application/x-www-form-urlencoded; charset=utf-8".parse().expect("a value");
        headers.insert(header::CONTENT_TYPE, kind);
        assert_eq!(say(&headers, &format!("{grant}&assertion=a.b.c%3D")), "a.b.c=");
        assert_eq!(say(&headers, grant), "invalid_request: Required parameter is missing: assertion");
        assert_eq!(say(&headers, "assertion=a"), "invalid_request: Required parameter is missing: grant_type");
        assert_eq!(
            say(&headers, "grant_type=password&assertion=a"),
            "unsupported_grant_type: Invalid grant_type: password"
        );
    }
}
