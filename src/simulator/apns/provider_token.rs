//! The provider token (JWT) as APNs judges it (Apple: *Establishing a token-based connection to APNs*).
//!
//! Real clients vary, and APNs takes them all: signatures as raw r‖s or as DER (jchambers/pushy auth/ApnsKey.java, a2
//! src/signer.rs), base64 URL-safe without padding or standard with it (a2), `bearer` in either case.

use std::collections::HashMap;

use base64::Engine as _;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::reason::Reason;
use crate::simulator::jwt::decode;

/// A key that providers may sign with.
#[derive(Clone)]
pub struct PublicKey {
    /// The team that it belongs to.
    pub team_id: String,
    key: DecodingKey,
}

impl PublicKey {
    /// From the private key of a `.p8` file, of which only the public half is kept.
    pub fn from_private_pem(team_id: &str, pem: &str) -> Result<Self, rcgen::Error> {
        let pair = rcgen::KeyPair::from_pem(pem)?;
        Ok(PublicKey { team_id: team_id.to_owned(), key: DecodingKey::from_ec_der(pair.public_key_raw()) })
    }

    /// From a public key in PEM.
    pub fn from_public_pem(team_id: &str, pem: &str) -> Result<Self, jsonwebtoken::errors::Error> {
        Ok(PublicKey { team_id: team_id.to_owned(), key: DecodingKey::from_ec_pem(pem.as_bytes())? })
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey").field("team_id", &self.team_id).finish_non_exhaustive()
    }
}

/// The keys known, by key id.
pub type Keys = HashMap<String, PublicKey>;

/// A token whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its key id.
    pub key_id: String,
    /// Its team.
    pub team_id: String,
    /// When it was made, s since the epoch.
    pub issued_at: i64,
}

impl Verified {
    /// Whether it may still be used: `iat` at most `max_age_s` away, in either direction.
    pub fn age(&self, now_s: i64, max_age_s: i64) -> Result<(), Reason> {
        if now_s - self.issued_at > max_age_s {
            Err(Reason::ExpiredProviderToken)
        } else if self.issued_at - now_s > max_age_s {
            Err(Reason::InvalidProviderToken)
        } else {
            Ok(())
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: i64,
}

/// Checks form, key, team and signature. `None`: an invalid provider token.
pub fn verify(token: &[u8], keys: &Keys) -> Option<Verified> {
    let token = std::str::from_utf8(token).ok()?;
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
    let key = keys.get(&header.kid)?;
    if header.alg != "ES256" || claims.iss != key.team_id {
        return None;
    }
    let signature = raw_signature(&decode(signature)?)?;
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(signature);
    let holds = jsonwebtoken::crypto::verify(&signature, message.as_bytes(), &key.key, Algorithm::ES256);
    holds.unwrap_or(false).then_some(Verified { key_id: header.kid, team_id: claims.iss, issued_at: claims.iat })
}

/// r‖s of 64 bytes, from itself or from DER: SEQUENCE of two INTEGERs.
fn raw_signature(bytes: &[u8]) -> Option<[u8; 64]> {
    if let Ok(raw) = bytes.try_into() {
        return Some(raw);
    }
    let [0x30, length, rest @ ..] = bytes else { return None };
    if rest.len() != usize::from(*length) {
        return None;
    }
    let (r, rest) = integer(rest)?;
    let (s, rest) = integer(rest)?;
    let mut raw = [0; 64];
    raw[..32].copy_from_slice(&r);
    raw[32..].copy_from_slice(&s);
    rest.is_empty().then_some(raw)
}

fn integer(der: &[u8]) -> Option<([u8; 32], &[u8])> {
    let [0x02, length, rest @ ..] = der else { return None };
    let (digits, rest) = rest.split_at_checked(usize::from(*length))?;
    let significant = &digits[digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len())..];
    let mut number = [0; 32];
    number.get_mut(32_usize.checked_sub(significant.len())?..)?.copy_from_slice(significant);
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::EncodingKey;

    const NOW: i64 = 1_800_000_000;

    fn keys() -> (Keys, EncodingKey) {
        let pair = rcgen::KeyPair::generate().expect("key");
        let public = PublicKey::from_private_pem("TEAMID0001", &pair.serialize_pem()).expect("public half");
        let encoding = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("signing key");
        (HashMap::from([("KEYID00001".to_owned(), public)]), encoding)
    }

    fn sign(key: &EncodingKey, header: &str, claims: &str) -> String {
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::ES256).expect("signature");
        format!("{message}.{signature}")
    }

    fn der(raw: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for half in raw.chunks(32) {
            let lead = half.iter().position(|digit| *digit != 0).unwrap_or(31);
            let mut digits = half[lead..].to_vec();
            if digits[0] & 0x80 != 0 {
                digits.insert(0, 0);
            }
            body.extend([2, digits.len() as u8]);
            body.extend(digits);
        }
        [vec![0x30, body.len() as u8], body].concat()
    }

    #[test]
    fn the_signature_may_be_raw_or_der_in_either_base64() {
        let (keys, key) = keys();
        for _ in 0..20 {
            let token = sign(&key, r#"{"alg":"ES256","kid":"KEYID00001"}"#, r#"{"iss":"TEAMID0001","iat":1800000000}"#);
            let expected = Verified { key_id: "KEYID00001".into(), team_id: "TEAMID0001".into(), issued_at: NOW };
            assert_eq!(verify(token.as_bytes(), &keys), Some(expected.clone()));
            let (message, signature) = token.rsplit_once('.').expect("three parts");
            let raw = decode(signature).expect("base64");
            let lenient = format!("{message}.{}", base64::engine::general_purpose::STANDARD.encode(der(&raw)));
            assert_eq!(verify(lenient.as_bytes(), &keys), Some(expected));
        }
    }

    #[test]
    fn whatever_is_wrong_makes_it_invalid() {
        let (keys, key) = keys();
        let good_header = r#"{"alg":"ES256","kid":"KEYID00001"}"#;
        let good_claims = r#"{"iss":"TEAMID0001","iat":1800000000}"#;
        for (header, claims) in [
            (r#"{"alg":"HS256","kid":"KEYID00001"}"#, good_claims),
            (r#"{"alg":"ES256","kid":"UNKNOWN001"}"#, good_claims),
            (r#"{"alg":"ES256"}"#, good_claims),
            (good_header, r#"{"iss":"OTHERTEAM1","iat":1800000000}"#),
            (good_header, r#"{"iss":"TEAMID0001"}"#),
            (good_header, "no json"),
        ] {
            assert_eq!(verify(sign(&key, header, claims).as_bytes(), &keys), None, "{header} {claims}");
        }
        let mut forged = sign(&key, good_header, good_claims).into_bytes();
        let last = forged.len() - 10;
        forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
        assert_eq!(verify(&forged, &keys), None);
        for nonsense in ["", ".", "a.b", "a.b.c", "ä.ö.ü"] {
            assert_eq!(verify(nonsense.as_bytes(), &keys), None, "{nonsense:?}");
        }
    }

    #[test]
    fn age_counts_in_both_directions() {
        let token = Verified { key_id: String::new(), team_id: String::new(), issued_at: NOW };
        assert_eq!(token.age(NOW + 3600, 3600), Ok(()));
        assert_eq!(token.age(NOW + 3601, 3600), Err(Reason::ExpiredProviderToken));
        assert_eq!(token.age(NOW - 3601, 3600), Err(Reason::InvalidProviderToken));
    }
}
