//! Service accounts: one per project, all with one RSA key, until a test makes another. Unless one is given it is made when it is first needed and lives
//! as long as the process. (Making one takes a good part of a second; it protects nothing.)

use std::sync::{Arc, OnceLock};

use jsonwebtoken::DecodingKey;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

/// The id of the key of the start.
pub const KEY_ID: &str = "51b0a7e5111a7ed0000000000000000000000001";

/// What is known of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Its number, which paths may name as well.
    pub number: String,
}

impl Project {
    /// The one at this place of the list.
    pub fn new(id: &str, place: usize) -> Project {
        Project { id: id.to_owned(), number: (100_000_000_001 + place).to_string() }
    }

    /// Its service account.
    pub fn email(&self) -> String {
        format!("simulator@{}.iam.gserviceaccount.com", self.id)
    }

    /// Whether a path's name means it.
    pub fn is(&self, name: &str) -> bool {
        self.id == name || self.number == name
    }

    /// The service account's JSON, as the console gives it out.
    pub fn credentials(&self, key: &Key, token_uri: &str) -> String {
        let credentials = serde_json::json!({
            "type": "service_account",
            "project_id": self.id,
            "private_key_id": key.id,
            "private_key": key.pem,
            "client_email": self.email(),
            "client_id": self.number,
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        });
        format!("{credentials:#}\n")
    }
}

/// The key that assertions are signed with.
pub struct Key {
    /// Its id.
    pub id: String,
    pem: String,
    /// Its public half.
    pub public: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl Key {
    /// The key of this process.
    pub fn of_this_process() -> Result<Arc<Key>, rcgen::Error> {
        static KEY: OnceLock<Arc<Key>> = OnceLock::new();
        if let Some(key) = KEY.get() {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(Key::of(&KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?));
        Ok(Arc::clone(KEY.get_or_init(|| key)))
    }

    /// A key of an earlier start.
    pub fn from_pem(pem: &str) -> Result<Arc<Key>, rcgen::Error> {
        Ok(Arc::new(Key::of(&KeyPair::from_pem_and_sign_algo(pem, &PKCS_RSA_SHA256)?)))
    }

    /// A new one, with an id of its own.
    pub fn another() -> Result<Arc<Key>, rcgen::Error> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        Ok(Arc::new(Key { id: uuid::Uuid::new_v4().simple().to_string(), ..Key::of(&pair) }))
    }

    fn of(pair: &KeyPair) -> Key {
        Key {
            id: KEY_ID.to_owned(),
            pem: pair.serialize_pem(),
            public: DecodingKey::from_rsa_der(pair.public_key_raw()),
        }
    }

    #[cfg(test)]
    pub(super) fn signing(&self) -> jsonwebtoken::EncodingKey {
        jsonwebtoken::EncodingKey::from_rsa_pem(self.pem.as_bytes()).expect("a key of ours")
    }
}
