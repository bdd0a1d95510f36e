//! Google's token endpoint, over our own HTTP/2 transport: its trust store, deadlines and backoff.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use serde::Deserialize;

use super::credentials::{Credentials, TokenUri, form};
use super::token::{FetchError, Fetched, Source};
use crate::clock;
use crate::handlers::BoxFuture;
use crate::handlers::wish::retry_after;
use crate::http2::tls::Trust;
use crate::http2::{Pool, PoolSettings};

/// The headers that are read of an answer.
const READS: &[&str] = &["retry-after"];
/// Life of a token whose answer names none: short, so that it is asked again.
const UNNAMED_LIFE: u64 = 300;
/// Longest life that is believed, seconds; Google's is an hour, twelve for some organisations.
const LONGEST_LIFE: u64 = 24 * 3600;
/// Longest word or sentence of the endpoint's that is passed on, bytes.
const LONGEST_TEXT: usize = 200;

/// Exchanges assertions, or a user's refresh token, for access tokens.
pub(super) struct TokenEndpoint {
    credentials: Arc<Credentials>,
    uri: TokenUri,
    pool: Pool,
}

#[derive(Deserialize)]
struct Given {
    access_token: String,
    expires_in: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    error: String,
    error_description: String,
}

impl TokenEndpoint {
    /// Connects to nothing yet. Runs on the current runtime.
    pub(super) fn new(credentials: Arc<Credentials>, uri: TokenUri, trust: Trust) -> Self {
        let host = uri.authority.host().trim_matches(['[', ']']).to_owned();
        let settings = PoolSettings {
            max_connections: 1,
            reads: READS,
            connect_timeout: Duration::from_secs(5),
            // Sooner than who asks has no more patience: a connection whose peer says nothing, not to a PING either, is left
            // for another.
            ping_after: Some(Duration::from_mins(1)),
            dead_after: Duration::from_secs(6),
            request_timeout: Duration::from_secs(8),
            // Who asks has pauses of its own, longer than these.
            backoff: (Duration::from_millis(250), Duration::from_secs(2)),
            ..PoolSettings::new(host, uri.authority.port_u16().unwrap_or(443))
        };
        TokenEndpoint { credentials, uri, pool: Pool::new(settings, trust) }
    }

    fn body(&self) -> Result<String, FetchError> {
        match &*self.credentials {
            Credentials::ServiceAccount(account) => {
                let assertion = account
                    .assertion(clock::now_ms() / 1000)
                    .map_err(|error| FetchError::credentials(format!("the private key cannot sign: {error}")))?;
                Ok(form(&[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)]))
            }
            Credentials::User(user) => Ok(user.form().to_owned()),
            Credentials::Metadata(_) => Err(FetchError::credentials("the metadata server is asked in another way")),
        }
    }

    async fn ask(&self) -> Result<Fetched, FetchError> {
        let failed =
            |error: crate::http2::SendError| FetchError::endpoint(format!("the token endpoint failed: {error}"));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let body = self.body()?;
        let slot = self.pool.acquire().await.map_err(failed)?;
        let answer = slot.send(request, Bytes::from(body)).await.map_err(failed)?;
        let wish = retry_after(&answer.headers, clock::now);
        understand(answer.status, &answer.body).map_err(|error| FetchError { retry_after: wish, ..error })
    }
}

impl Source for TokenEndpoint {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, FetchError>> {
        Box::pin(self.ask())
    }
}

/// What an answer means: pure.
pub(super) fn understand(status: StatusCode, body: &[u8]) -> Result<Fetched, FetchError> {
    if status == StatusCode::OK {
        return given(body).ok_or_else(|| FetchError::endpoint("the token endpoint's answer holds no access token"));
    }
    let Refused { error, error_description } = serde_json::from_slice(body).unwrap_or_default();
    let said = match (printable(&error), printable(&error_description)) {
        (error, _) if error.is_empty() => format!("status {}", status.as_u16()),
        (error, description) if description.is_empty() => error,
        (error, description) => format!("{error} ({description})"),
    };
    Err(match status.as_u16() {
        // RFC 6749, 5.2; a server that only has no time says so with 429 or 5xx.
        400 | 401 | 403 if !error.is_empty() && error != "temporarily_unavailable" => FetchError::credentials(format!(
            "the token endpoint refuses the credentials: {said}; is the key revoked, or this host's clock wrong?"
        )),
        300..=399 | 404 | 405 => {
            FetchError::credentials(format!("what answers is no token endpoint: {said}; check token_uri"))
        }
        _ => FetchError::endpoint(format!("the token endpoint failed: {said}")),
    })
}

/// The token of a good answer.
pub(super) fn given(body: &[u8]) -> Option<Fetched> {
    let Given { access_token, expires_in } = serde_json::from_slice(body).ok()?;
    if access_token.is_empty() {
        return None;
    }
    // Some endpoints pad their tokens with dots, as the metadata server of Google's older machines did.
    let mut authorization = HeaderValue::try_from(format!("Bearer {access_token}")).ok()?;
    authorization.set_sensitive(true);
    Some(Fetched { authorization, lifetime: Duration::from_secs(expires_in.unwrap_or(UNNAMED_LIFE).min(LONGEST_LIFE)) })
}

fn printable(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(LONGEST_TEXT)];
    cut.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_a_token_or_says_whose_fault_it_is() {
        let cases = [
            (200, r#"{"access_token":"ya29.s3cret","expires_in":3599,"token_type":"Bearer"}"#),
            (200, r#"{"access_token":"ya29.s3cret"}"#),
            (200, r#"{"access_token":""}"#),
            (200, "<html>"),
            (400, r#"{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a short-lived token"}"#),
            (401, r#"{"error":"invalid_client"}"#),
            (400, r#"{"error":7}"#),
            (403, "forbidden by a proxy"),
            (404, ""),
            (429, r#"{"error":"rate_limit_exceeded"}"#),
            (500, ""),
            (503, r#"{"error":"temporarily_unavailable"}"#),
        ];
        let lines =
            cases.map(|(status, body)| match understand(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
                Ok(fetched) => {
                    assert!(fetched.authorization.is_sensitive());
                    format!("{status} {body} = a token for {:?}", fetched.lifetime)
                }
                Err(error) => format!("{status} {body} = {:?} {}", error.class, error.detail),
            });
        insta::assert_snapshot!(lines.join("\n"));
    }
}
