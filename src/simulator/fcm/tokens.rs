//! The access tokens that the token endpoint gave out: what the push endpoint knows of them.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::assertion::Grant;

/// Tokens remembered; expired ones leave first.
const REMEMBERED: usize = 10_000;

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whose it is and for what.
    pub grant: Grant,
    /// When it ends, ms since the epoch.
    pub ends_ms: i64,
}

/// The tokens given out.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<HashMap<String, Access>>);

impl Tokens {
    /// Makes a token.
    pub fn issue(&self, grant: Grant, now_ms: i64, lifetime_s: u32) -> String {
        let token = format!("ya29.simulated-{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let access = Access { grant, ends_ms: now_ms + i64::from(lifetime_s) * 1000 };
        let mut tokens = self.0.lock();
        if tokens.len() >= REMEMBERED {
            tokens.retain(|_, access| access.ends_ms > now_ms);
        }
        if tokens.len() >= REMEMBERED {
            tokens.clear();
        }
        tokens.insert(token.clone(), access);
        token
    }

    /// What a token stands for, while it counts.
    pub fn find(&self, token: &[u8], now_ms: i64) -> Option<Access> {
        let token = std::str::from_utf8(token).ok()?;
        self.0.lock().get(token).copied().filter(|access| access.ends_ms > now_ms)
    }

    /// None of them counts any more.
    pub fn revoke(&self) {
        self.0.lock().clear();
    }

    /// None that was given for this key counts any more.
    pub fn revoke_of(&self, key: usize) {
        self.0.lock().retain(|_, access| access.grant.key != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_until_its_end_or_its_revocation() {
        let tokens = Tokens::default();
        let grant = Grant { project: 3, for_fcm: true, key: 0 };
        let token = tokens.issue(grant, 1_000, 2);
        assert_ne!(token, tokens.issue(grant, 1_000, 2));
        assert_eq!(tokens.find(token.as_bytes(), 2_999), Some(Access { grant, ends_ms: 3_000 }));
        assert_eq!(tokens.find(token.as_bytes(), 3_000), None);
        assert_eq!(tokens.find(b"\xff", 0), None);
        let token = tokens.issue(grant, 1_000, 2);
        tokens.revoke_of(1);
        assert!(tokens.find(token.as_bytes(), 1_000).is_some());
        tokens.revoke();
        assert_eq!(tokens.find(token.as_bytes(), 1_000), None);
    }
}
