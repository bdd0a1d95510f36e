//! The provider token: a JWT signed with the team's key, one per (key id, team) and process, shared by its apps and threads.
//!
//! Apple's rules (Establishing a token-based connection to APNs): not older than 60 minutes, not renewed more often than
//! every 20. Ours is renewed when it is used at 50 minutes of age; and at once when Apple calls it expired, unless it is
//! younger than 20 minutes: a second new one would be answered with `TooManyProviderTokenUpdates`, and only a wrong clock
//! makes a young token look old. A clock that was set since the signing lifts that limit, for the old token then bears a
//! wrong time.
//!
//! A key that replaces another begins a new *generation*: its token goes on connections of its own, for Apple ties a
//! connection to the key that it began with.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;

/// Age at which a token is renewed when it is used.
const RENEW_AFTER: Duration = Duration::from_mins(50);
/// Apple takes no new token more often.
const YOUNGEST_RENEWAL: Duration = Duration::from_mins(20);
/// How far wall clock and monotonic clock may drift apart over a token's life before the wall clock counts as set.
const DRIFT: Duration = Duration::from_mins(1);

/// A moment on both clocks: the wall clock that Apple compares with, and one that nobody can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Seconds since the epoch.
    pub epoch_s: i64,
    /// Time since some fixed moment.
    pub monotonic: Duration,
}

/// The key cannot be used; worded to follow the key's path.
#[derive(Debug, thiserror::Error)]
#[error("is not an EC private key in PEM (the .p8 file as downloaded from Apple): {0}")]
pub(super) struct BadKey(#[from] jsonwebtoken::errors::Error);

/// A signing key and the token made with it.
pub(super) struct ProviderToken {
    team_id: String,
    current: RwLock<Signed>,
    /// Held while a new token is signed: one thread signs, the others go on with the old one.
    signer: Mutex<Signer>,
}

struct Signer {
    key: EncodingKey,
    header: Header,
}

/// A token as it is sent.
#[derive(Clone)]
pub(super) struct Signed {
    /// `bearer <jwt>`, marked sensitive.
    pub(super) authorization: HeaderValue,
    /// How many keys there were before the one that signed it.
    pub(super) generation: u32,
    at: Now,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
}

impl ProviderToken {
    /// Reads the key and signs the first token with it, so that a key that cannot sign stops the start.
    pub(super) fn new(pem: &[u8], key_id: &str, team_id: &str, now: Now) -> Result<Self, BadKey> {
        let signer = Signer::new(pem, key_id)?;
        let current = RwLock::new(signer.sign(team_id, now, 0)?);
        Ok(ProviderToken { team_id: team_id.to_owned(), current, signer: Mutex::new(signer) })
    }

    /// Signs with another key from now on. A key that cannot sign changes nothing.
    pub(super) fn replace(&self, pem: &[u8], key_id: &str, now: Now) -> Result<u32, BadKey> {
        let new = Signer::new(pem, key_id)?;
        let mut signer = self.signer.lock();
        let signed = new.sign(&self.team_id, now, self.generation() + 1)?;
        let generation = signed.generation;
        (*signer, *self.current.write()) = (new, signed);
        Ok(generation)
    }

    /// Whether another token than this one is in use.
    pub(super) fn is_replaced(&self, authorization: &HeaderValue) -> bool {
        self.current.read().authorization != *authorization
    }

    /// How many keys there were before the one in use.
    fn generation(&self) -> u32 {
        self.current.read().generation
    }

    /// The token to send now; renewed first when it is due.
    pub(super) fn current(&self, now: Now) -> Signed {
        let current = self.current.read().clone();
        if !due(current.at, now) {
            return current;
        }
        let Some(signer) = self.signer.try_lock() else { return current };
        let current = self.current.read().clone(); // another thread may have been faster
        if due(current.at, now) { self.renewed(&signer, now).unwrap_or(current) } else { current }
    }

    /// Sees to it that another token is sent than `refused`, which Apple called expired: the one that replaced it already, or a
    /// new one; `false` while a new one is not allowed.
    pub(super) fn after_expired(&self, refused: &HeaderValue, now: Now) -> bool {
        let signer = self.signer.lock();
        let current = self.current.read().clone();
        current.authorization != refused || may_renew(current.at, now) && self.renewed(&signer, now).is_some()
    }

    /// Signs anew. `None` when the signer fails, which it never did with this key.
    fn renewed(&self, signer: &Signer, now: Now) -> Option<Signed> {
        match signer.sign(&self.team_id, now, self.generation()) {
            Ok(signed) => {
                *self.current.write() = signed.clone();
                Some(signed)
            }
            Err(error) => {
                tracing::error!(key_id = signer.header.kid, %error, "the provider token cannot be renewed");
                None
            }
        }
    }
}

impl fmt::Debug for ProviderToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderToken").field("team_id", &self.team_id).finish_non_exhaustive()
    }
}

impl Signer {
    fn new(pem: &[u8], key_id: &str) -> Result<Self, jsonwebtoken::errors::Error> {
        let key = EncodingKey::from_ec_pem(pem)?;
        Ok(Signer { key, header: Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::ES256) } })
    }

    fn sign(&self, team_id: &str, now: Now, generation: u32) -> Result<Signed, jsonwebtoken::errors::Error> {
        let jwt = jsonwebtoken::encode(&self.header, &Claims { iss: team_id, iat: now.epoch_s }, &self.key)?;
        let mut authorization = HeaderValue::try_from(format!("bearer {jwt}"))
            .map_err(|_| jsonwebtoken::errors::Error::from(jsonwebtoken::errors::ErrorKind::InvalidToken))?;
        authorization.set_sensitive(true);
        Ok(Signed { authorization, generation, at: now })
    }
}

/// Whether the clock was set between the two moments. Not for one that looked at it before the token was signed: another thread was
/// faster.
fn clock_was_set(then: Now, now: Now) -> bool {
    if now.monotonic < then.monotonic {
        return false;
    }
    let wall = i128::from(now.epoch_s) - i128::from(then.epoch_s);
    let true_age = now.monotonic.saturating_sub(then.monotonic).as_secs();
    (wall - i128::from(true_age)).unsigned_abs() > u128::from(DRIFT.as_secs())
}

/// Whether a token signed `then` is to be renewed before it is used.
fn due(then: Now, now: Now) -> bool {
    now.monotonic.saturating_sub(then.monotonic) >= RENEW_AFTER || clock_was_set(then, now)
}

/// Whether a token signed `then` may be replaced.
fn may_renew(then: Now, now: Now) -> bool {
    now.monotonic.saturating_sub(then.monotonic) >= YOUNGEST_RENEWAL || clock_was_set(then, now)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A fresh P-256 key in PKCS #8 PEM, as Apple's .p8 files are.
    pub(in crate::handlers::apns) fn key_pem() -> String {
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem()
    }

    fn at(minutes: u64) -> Now {
        Now { epoch_s: 1_700_000_000 + minutes as i64 * 60, monotonic: Duration::from_mins(1000 + minutes) }
    }

    fn token() -> ProviderToken {
        ProviderToken::new(key_pem().as_bytes(), "KEY1234567", "TEAM123456", at(0)).unwrap()
    }

    #[test]
    fn the_token_is_a_verifiable_es256_jwt_with_key_team_and_time() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let token = ProviderToken::new(pair.serialize_pem().as_bytes(), "KEY1234567", "TEAM123456", at(0)).unwrap();
        let signed = token.current(at(0));
        assert!(signed.authorization.is_sensitive());
        let jwt = signed.authorization.to_str().unwrap().strip_prefix("bearer ").unwrap().to_owned();
        let mut rules = jsonwebtoken::Validation::new(Algorithm::ES256);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        let key = jsonwebtoken::DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes()).unwrap();
        let decoded = jsonwebtoken::decode::<serde_json::Value>(&jwt, &key, &rules).unwrap();
        assert_eq!(decoded.header.kid.as_deref(), Some("KEY1234567"));
        assert_eq!(decoded.claims, serde_json::json!({"iss": "TEAM123456", "iat": 1_700_000_000}));
    }

    #[test]
    fn it_is_renewed_on_use_at_fifty_minutes_and_not_before() {
        let token = token();
        let first = token.current(at(0)).authorization;
        assert_eq!(token.current(at(49)).authorization, first);
        let second = token.current(at(50)).authorization;
        assert_ne!(second, first);
        assert_eq!(token.current(at(99)).authorization, second);
    }

    #[test]
    fn an_expired_one_is_replaced_once_and_all_others_get_the_same_new_one() {
        let token = token();
        let old = token.current(at(0)).authorization;
        assert!(token.after_expired(&old, at(20)));
        let new = token.current(at(20)).authorization;
        assert_ne!(new, old);
        for later in [20, 39] {
            assert!(token.after_expired(&old, at(later)));
            assert_eq!(token.current(at(later)).authorization, new);
        }
    }

    #[test]
    fn a_young_one_is_not_replaced_unless_the_clock_was_set() {
        let token = token();
        let old = token.current(at(0)).authorization;
        assert!(!token.after_expired(&old, at(19)));
        let set = Now { epoch_s: at(19).epoch_s + 7200, ..at(19) };
        assert!(token.after_expired(&old, set));
    }

    #[test]
    fn another_key_begins_a_generation_and_one_that_cannot_sign_changes_nothing() {
        let token = token();
        let old = token.current(at(0));
        assert!(token.replace(b"no key", "KEY7654321", at(1)).is_err());
        assert_eq!(token.current(at(1)).authorization, old.authorization);
        assert_eq!(token.replace(key_pem().as_bytes(), "KEY7654321", at(1)).unwrap(), 1);
        let new = token.current(at(1));
        assert_eq!((new.generation, old.generation), (1, 0));
        let header = new.authorization.to_str().unwrap().trim_start_matches("bearer ").to_owned();
        assert_eq!(jsonwebtoken::decode_header(header).unwrap().kid.as_deref(), Some("KEY7654321"));
        assert_eq!(token.current(at(60)).generation, 1, "a renewal is of the same key");
    }

    #[test]
    fn a_key_that_cannot_sign_is_refused_without_being_shown() {
        let error =
            ProviderToken::new(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n", "K", "T", at(0));
        let text = error.err().unwrap().to_string();
        assert!(text.contains(".p8") && !text.contains("c2VjcmV0"), "{text}");
        assert!(ProviderToken::new(b"", "K", "T", at(0)).is_err());
    }

    proptest! {
        #[test]
        fn on_a_steady_clock_no_two_tokens_are_signed_within_twenty_minutes(
            steps in proptest::collection::vec((0u64..25, any::<bool>()), 1..60),
        ) {
            let token = token();
            let (mut minute, mut last_signed, mut seen) = (0, 0, token.current(at(0)).authorization);
            for (step, expired) in steps {
                minute += step;
                if expired && !token.after_expired(&seen, at(minute)) {
                    continue;
                }
                let now = token.current(at(minute));
                if now.authorization != seen {
                    prop_assert!(minute - last_signed >= 20);
                    last_signed = minute;
                    seen = now.authorization;
                }
                prop_assert!(expired || minute - last_signed < 50);
            }
        }
    }
}
