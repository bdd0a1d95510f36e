//! Who may ask the admin server for what: changes need a token, and readings where that is wanted.
//!
//! A room of routes is wrapped once, by [`Guard::changing`] or [`Guard::reading`]; no handler asks for itself. `/healthz` and
//! `/readyz` are never wrapped: who asks them has no secrets to keep.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq as _;

use super::connections::Peer;
use crate::config::{Config, ConfigError, Key};

/// The token itself.
pub const TOKEN: Key = Key::optional(
    "admin.token",
    "token that changes by the admin server need (Authorization: Bearer …); unset, and without admin.tokenFile: changes are refused",
)
.secret();
/// A file that holds it.
pub const TOKEN_FILE: Key =
    Key::optional("admin.tokenFile", "file that holds that token, read at the start; instead of admin.token");
/// Whether readings need it too.
pub const PROTECT_READS: Key = Key::new(
    "admin.protectReads",
    "false",
    "whether reading (/metrics, /api/…) needs the token too; /healthz, /readyz and the empty page at / never do",
);

/// Header in which a person or a tool says who asks; for the log alone.
pub const OPERATOR: &str = "x-pusher-operator";
/// More of it is not logged.
const LONGEST_OPERATOR: usize = 80;

/// The rule, with the token. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Guard {
    token: Option<Arc<str>>,
    protects_reads: bool,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_token = self.token.is_some();
        let protects_reads = self.protects_reads;
        f.debug_struct("Guard").field("has_token", &has_token).field("protects_reads", &protects_reads).finish()
    }
}

impl Guard {
    /// Reads its keys, and the token's file.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let token = token(config)?;
        let protects_reads = config.require(&PROTECT_READS)?;
        if protects_reads && token.is_none() {
            return Err(config.error(&PROTECT_READS, "needs a token: set admin.token or admin.tokenFile"));
        }
        Ok(Guard { token, protects_reads })
    }

    /// These routes change something: refused without the token, and altogether where none is configured.
    pub fn changing<S: Clone + Send + Sync + 'static>(&self, routes: Router<S>) -> Router<S> {
        routes.route_layer(middleware::from_fn_with_state(self.clone(), ask))
    }

    /// These routes tell something: refused without the token where readings are protected.
    pub fn reading<S: Clone + Send + Sync + 'static>(&self, routes: Router<S>) -> Router<S> {
        if self.protects_reads { self.changing(routes) } else { routes }
    }

    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let Some(token) = &self.token else {
            let text = "changes are refused: no token is configured; set admin.token or admin.tokenFile\n";
            return Some((StatusCode::FORBIDDEN, text).into_response());
        };
        let given = headers.get(header::AUTHORIZATION).map(|value| bearer(value.as_bytes()));
        let text = match given {
            Some(Some(given)) if bool::from(given.ct_eq(token.as_bytes())) => return None,
            Some(_) => "this is not the token of admin.token or admin.tokenFile\n",
            None => "a token is needed: Authorization: Bearer with what admin.token or admin.tokenFile says\n",
        };
        Some((StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response())
    }
}

async fn ask(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Some(refusal) = guard.refusal(request.headers()) else { return next.run(request).await };
    let (mut parts, _) = request.into_parts();
    let who = Who::of(&mut parts);
    let (path, status) = (parts.uri.path(), refusal.status().as_u16());
    tracing::warn!(%who, path, status, "a call of the admin server is refused: it has no valid token");
    refusal
}

/// What stands behind `Bearer`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The token that is configured, for whoever asks.
pub fn token(config: &Config) -> Result<Option<Arc<str>>, ConfigError> {
    let (own, file) = (config.get::<String>(&TOKEN)?, config.get::<String>(&TOKEN_FILE)?);
    let (key, token) = match (own, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(config.error(&TOKEN_FILE, "cannot stand beside admin.token: unset one of them"));
        }
        (Some(token), None) => (&TOKEN, token),
        (None, Some(path)) => match std::fs::read_to_string(&path) {
            Ok(text) => (&TOKEN_FILE, text.trim().to_owned()),
            Err(error) => return Err(config.error(&TOKEN_FILE, format!("cannot be read ({error})"))),
        },
    };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(config.error(key, "must hold a token of visible ASCII characters without spaces"));
    }
    Ok(Some(token.into()))
}

/// Who asks: the peer's address, and what it calls itself. For the log, and for the entries that a change leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Where it asks from; unknown in a test without a socket.
    pub peer: Option<SocketAddr>,
    /// What [`OPERATOR`] says.
    pub operator: Option<String>,
}

impl Who {
    fn of(parts: &mut Parts) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(Peer(peer))| *peer);
        let operator = parts.headers.get(OPERATOR).and_then(|value| value.to_str().ok()).map(str::trim);
        let operator = operator.filter(|name| !name.is_empty());
        Who { peer, operator: operator.map(|name| name.chars().take(LONGEST_OPERATOR).collect()) }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string());
        match &self.operator {
            Some(operator) => write!(f, "{operator} at {peer}"),
            None => f.write_str(&peer),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Who::of(parts))
    }
}

#[cfg(test)]
mod tests;
