//! The JWT that asks for an access token, as Google judges it (Google: *Using OAuth 2.0 for server to server applications*).
//! Pure: an assertion, the accounts, a time → an account, or Google's refusal.
//!
//! Segments may be padded, and `sub` may be null: the `gcp_auth` crate sends both, and Google takes them.

use std::sync::Arc;

use base64::Engine as _;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::account::{Key, Project};
use crate::simulator::jwt::decode;

/// Longest life of an assertion, s, and how far its times may be off.
const LONGEST: i64 = 3600;
const SKEW: i64 = 300;

/// Scopes that FCM takes.
const OF_FCM: [&str; 2] =
    ["https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform"];

/// A refusal of the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `error`.
    pub error: &'static str,
    /// `error_description`.
    pub description: String,
}

impl Refusal {
    /// A refusal with 400.
    pub fn new(error: &'static str, description: impl Into<String>) -> Refusal {
        Refusal { status: 400, error, description: description.into() }
    }
}

/// What an assertion earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The account's project, by its place in the list.
    pub project: usize,
    /// Whether FCM takes its scope.
    pub for_fcm: bool,
    /// How many keys there were before the one that signed.
    pub key: usize,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    scope: Option<String>,
    aud: Option<String>,
    iat: Option<i64>,
    exp: Option<i64>,
    sub: Option<String>,
}

/// Judges an assertion for `audience`, which is the endpoint's own address.
pub fn judge(
    assertion: &str,
    projects: &[Project],
    keys: &[Option<Arc<Key>>],
    audience: &str,
    now_s: i64,
) -> Result<Grant, Refusal> {
    let unreadable = || Refusal::new("invalid_grant", "Bad Request");
    let (message, signature) = assertion.rsplit_once('.').ok_or_else(unreadable)?;
    let (header, claims) = message.split_once('.').ok_or_else(unreadable)?;
    let header: Header = parse(header).ok_or_else(unreadable)?;
    let claims: Claims = parse(claims).ok_or_else(unreadable)?;
    let signature = decode(signature).ok_or_else(unreadable)?;

    let issuer = claims.iss.as_deref().unwrap_or("");
    let project = projects.iter().position(|project| project.email() == issuer);
    let project = project.ok_or_else(|| Refusal::new("invalid_grant", "Invalid grant: account not found"))?;
    let fits =
        |key: &Key| header.kid.as_ref().is_none_or(|kid| *kid == key.id) && signed(message, &signature, &key.public);
    let key = keys.iter().position(|key| key.as_deref().is_some_and(fits)).filter(|_| header.alg == "RS256");
    let key = key.ok_or_else(|| Refusal::new("invalid_grant", "Invalid JWT Signature."))?;
    if claims.aud.as_deref() != Some(audience) {
        let text = format!("Invalid JWT: Failed audience check. The right audience is {audience}");
        return Err(Refusal::new("invalid_grant", text));
    }
    if !timely(claims.iat, claims.exp, now_s) {
        let text = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
                    Check your iat and exp values in the JWT claim.";
        return Err(Refusal::new("invalid_grant", text));
    }
    if claims.sub.is_some_and(|sub| sub != issuer) {
        let text = "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of \
                    the scopes requested.";
        return Err(Refusal { status: 401, ..Refusal::new("unauthorized_client", text) });
    }
    Ok(Grant { project, for_fcm: scopes(claims.scope.as_deref().unwrap_or(""))?, key })
}

fn parse<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&decode(part)?).ok()
}

fn signed(message: &str, signature: &[u8], key: &DecodingKey) -> bool {
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(signature);
    jsonwebtoken::crypto::verify(&signature, message.as_bytes(), key, Algorithm::RS256).unwrap_or(false)
}

fn timely(issued: Option<i64>, expires: Option<i64>, now_s: i64) -> bool {
    let (Some(issued), Some(expires)) = (issued, expires) else { return false };
    let life = expires.saturating_sub(issued);
    (1..=LONGEST).contains(&life) && issued <= now_s.saturating_add(SKEW) && expires > now_s.saturating_sub(SKEW)
}

/// Whether FCM takes one of the scopes; an error when one of them is no scope at all.
fn scopes(text: &str) -> Result<bool, Refusal> {
    let mut scopes = text.split_ascii_whitespace().peekable();
    if scopes.peek().is_none() {
        return Err(Refusal::new("invalid_scope", "Empty or missing scope not allowed."));
    }
    let mut for_fcm = false;
    for scope in scopes {
        if !scope.starts_with("https://www.googleapis.com/auth/") {
            return Err(Refusal::new("invalid_scope", "Invalid OAuth scope or ID token audience provided."));
        }
        for_fcm |= OF_FCM.contains(&scope);
    }
    Ok(for_fcm)
}

#[cfg(test)]
mod tests {
    use super::super::account::KEY_ID;
    use super::*;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    use serde_json::{Value, json};
    use std::fmt::Write as _;

    const NOW: i64 = 1_800_000_000;
    const AUDIENCE: &str = "https://127.0.0.1:9/token";

    fn claims(edit: &Value) -> Value {
        let mut claims = json!({
            "iss": "simulator@p-1.iam.gserviceaccount.com", "aud": AUDIENCE, "iat": NOW, "exp": NOW + 3600,
            "scope": OF_FCM[0], "sub": null,
        });
        for (name, value) in edit.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    }

    fn sign(header: &Value, claims: &Value, padded: bool) -> String {
        let engine = if padded { &URL_SAFE } else { &URL_SAFE_NO_PAD };
        let message = format!("{}.{}", engine.encode(header.to_string()), engine.encode(claims.to_string()));
        let key = Key::of_this_process().expect("key").signing();
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::RS256).expect("signature");
        let signature = if padded { URL_SAFE.encode(decode(&signature).expect("base64")) } else { signature };
        format!("{message}.{signature}")
    }

    fn judged(assertion: &str) -> Result<Grant, Refusal> {
        let projects = [Project::new("p-0", 0), Project::new("p-1", 1)];
        judge(assertion, &projects, &[Some(Key::of_this_process().expect("key"))], AUDIENCE, NOW)
    }

    #[test]
    fn what_google_takes() {
        let good = Ok(Grant { project: 1, for_fcm: true, key: 0 });
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID });
        for padded in [false, true] {
            assert_eq!(judged(&sign(&header, &claims(&json!({})), padded)), good);
        }
        assert_eq!(judged(&sign(&json!({ "alg": "RS256" }), &claims(&json!({})), false)), good, "kid is optional");
        let early = claims(&json!({ "iat": NOW - 60, "exp": NOW + 3535 }));
        assert_eq!(judged(&sign(&header, &early, false)), good);
        let other = claims(&json!({ "scope": "https://www.googleapis.com/auth/devstorage.read_only" }));
        assert_eq!(judged(&sign(&header, &other, false)), Ok(Grant { project: 1, for_fcm: false, key: 0 }));
        let both = claims(&json!({ "scope": format!("https://www.googleapis.com/auth/datastore {}", OF_FCM[1]) }));
        assert_eq!(judged(&sign(&header, &both, false)), good);
    }

    #[test]
    fn what_google_refuses() {
        let header = json!({ "alg": "RS256", "kid": KEY_ID });
        let mut seen = String::new();
        let mut note = |what: &str, assertion: String| {
            let refusal = judged(&assertion).expect_err(what);
            writeln!(seen, "{what}: {} {}: {}", refusal.status, refusal.error, refusal.description).expect("a string");
        };
        note("nonsense", "a.b".into());
        note("not json", format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode("x")));
        note("other algorithm", sign(&json!({ "alg": "HS256" }), &claims(&json!({})), false));
        note("other key", sign(&json!({ "alg": "RS256", "kid": "other" }), &claims(&json!({})), false));
        let mut forged = sign(&header, &claims(&json!({})), false);
        forged.replace_range(forged.len() - 9..forged.len() - 5, "AAAA");
        note("forged", forged);
        for (what, edit) in [
            ("stranger", json!({ "iss": "somebody@else" })),
            ("no issuer", json!({ "iss": null })),
            ("audience", json!({ "aud": "https://oauth2.googleapis.com/token" })),
            ("no times", json!({ "iat": null })),
            ("an hour and a second", json!({ "exp": NOW + 3601 })),
            ("expired", json!({ "iat": NOW - 4000, "exp": NOW - 400 })),
            ("from the future", json!({ "iat": NOW + 301, "exp": NOW + 3000 })),
            ("ends before it begins", json!({ "iat": NOW, "exp": NOW - 1 })),
            ("for somebody else", json!({ "sub": "user@example.com" })),
            ("no scope", json!({ "scope": "" })),
            ("no such scope", json!({ "scope": "firebase" })),
        ] {
            note(what, sign(&header, &claims(&edit), false));
        }
        insta::assert_snapshot!(seen);
    }
}
