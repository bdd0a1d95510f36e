//! What tells the platforms apart in a bench: how their simulators are started, what their workers are told, and which
//! requests the floor sends.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pusher::generate::{self, Generated, Generator, Mix, apns::Apns, gcm::Gcm};
use serde_json::{Value, json};

use crate::bare::{Form, Plan};

/// Ids of the APNs simulator's key.
const KEY_ID: &str = "SIMULATE01";
const TEAM_ID: &str = "SIMTEAM001";
/// The FCM simulator's project.
const PROJECT: &str = "simulated-project";
/// Messages whose bodies the floor sends: enough to have every style of a producer.
const BODIES: u64 = 24;

/// A platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// Apple's.
    Apns,
    /// Google's.
    Gcm,
}

/// Files of a simulator, in its folder.
#[derive(Debug)]
pub(crate) struct Files {
    /// Its CA, PEM.
    pub ca: PathBuf,
    /// The key or the service account that it trusts.
    pub credentials: PathBuf,
}

impl Platform {
    /// All of them.
    pub(crate) const ALL: [Platform; 2] = [Platform::Apns, Platform::Gcm];

    /// The worker's subcommand, and the part of topics' names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Platform::Apns => "apns",
            Platform::Gcm => "gcm",
        }
    }

    /// Where its simulator keeps what others must know.
    pub(crate) fn files(self, scratch: &Path) -> Files {
        let credentials = match self {
            Platform::Apns => "key.p8",
            Platform::Gcm => "account.json",
        };
        Files { ca: scratch.join(format!("{}.pem", self.name())), credentials: scratch.join(credentials) }
    }

    /// The simulator's command line.
    pub(crate) fn simulator(self, files: &Files) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let words: &[&str] = match self {
            Platform::Apns => &["apns", "--key-out"],
            Platform::Gcm => &["fcm", "--quota", "0", "--oauth", "127.0.0.1:0", "--credentials-out"],
        };
        let mut all: Vec<String> = vec!["simulate".into()];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all.push(text(&files.credentials));
        all.extend(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--ca-out"].map(ToOwned::to_owned));
        all.push(text(&files.ca));
        all
    }

    /// What the worker is told beside what every worker is told: names without `PUSHER_`.
    pub(crate) fn settings(self, app: &str, address: &str, files: &Files) -> Vec<(String, String)> {
        let (text, app_name) = (|path: &Path| path.display().to_string(), app.to_uppercase());
        let (prefix, of_app) = match self {
            Platform::Apns => {
                let of_app = [
                    ("AUTHKEYPATH", text(&files.credentials)),
                    ("KEYID", KEY_ID.into()),
                    ("TEAMID", TEAM_ID.into()),
                    ("TOPIC", "com.example.game".into()),
                ];
                ("APNS", of_app.map(|(name, value)| (format!("APNS_CERTS_{app_name}_{name}"), value)).to_vec())
            }
            Platform::Gcm => {
                // As fast as it can from the first push on: it is CPU time that is measured.
                let of_app = [
                    (format!("GCM_FIREBASECREDENTIALSFILE_{app_name}"), text(&files.credentials)),
                    ("GCM_QUOTA_PERMINUTE".to_owned(), "1000000000".to_owned()),
                    ("GCM_QUOTA_RAMP".to_owned(), "0s".to_owned()),
                ];
                ("GCM", of_app.to_vec())
            }
        };
        let common =
            [("APPS", app.to_owned()), ("ENDPOINT", format!("https://{address}")), ("CAFILE", text(&files.ca))];
        let common = common.map(|(name, value)| (format!("{prefix}_{name}"), value));
        of_app.into_iter().chain(common).collect()
    }

    /// Messages that are delivered at once.
    pub(crate) fn messages(self, count: u64) -> Box<dyn Iterator<Item = Generated>> {
        let settings = generate::Settings { count, mix: Mix::CALM, ..generate::Settings::default() };
        match self {
            Platform::Apns => Box::new(Generator::new(Apns { app: "game".into() }, settings)),
            Platform::Gcm => Box::new(Generator::new(Gcm { app: "game".into() }, settings)),
        }
    }

    /// The bare client's task: what the worker sends of the same messages, on as many streams as one connection of APNs has;
    /// for FCM on as many connections as the worker opens by default.
    pub(crate) fn plan(self, address: &str, tokens: Option<&str>, files: &Files, count: u64) -> Result<Plan> {
        let (connections, streams) = match self {
            Platform::Apns => (1, 1000),
            Platform::Gcm => (16, 100),
        };
        let bodies = self.messages(BODIES).map(|push| self.body(&push.line)).collect::<Result<_>>()?;
        let (address, ca) = (address.to_owned(), files.ca.clone());
        Ok(Plan { address, ca, form: self.form(tokens, files)?, bodies, count, connections, streams })
    }

    /// What the worker makes of a message.
    fn body(self, line: &str) -> Result<String> {
        match self {
            // Its payload with the metadata merged in.
            Platform::Apns => {
                let line: Value = serde_json::from_str(line)?;
                let mut payload = line["Payload"].clone();
                payload["M"] = line["metadata"].clone();
                Ok(payload.to_string())
            }
            Platform::Gcm => {
                let body = pusher::handlers::gcm::request_body(line.as_bytes(), now()? * 1000);
                let body = body.map_err(|_| anyhow!("a generated message is refused"))?;
                Ok(String::from_utf8(body.to_vec())?)
            }
        }
    }

    fn form(self, tokens: Option<&str>, files: &Files) -> Result<Form> {
        let credentials = std::fs::read_to_string(&files.credentials)?;
        match self {
            Platform::Apns => {
                let header = Header { kid: Some(KEY_ID.into()), typ: None, ..Header::new(Algorithm::ES256) };
                let claims = json!({ "iss": TEAM_ID, "iat": now()? });
                let key = EncodingKey::from_ec_pem(credentials.as_bytes())?;
                let authorization = format!("bearer {}", jsonwebtoken::encode(&header, &claims, &key)?);
                Ok(Form::Apns { authorization, topic: "com.example.game".into() })
            }
            Platform::Gcm => {
                let account: Value = serde_json::from_str(&credentials)?;
                let text = |name: &str| account[name].as_str().with_context(|| format!("no {name} in the account"));
                let claims = json!({
                    "iss": text("client_email")?, "aud": text("token_uri")?, "iat": now()?, "exp": now()? + 3600,
                    "scope": "https://www.googleapis.com/auth/firebase.messaging",
                });
                let key = EncodingKey::from_rsa_pem(text("private_key")?.as_bytes())?;
                let assertion = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key)?;
                let grant =
                    format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
                let path = format!("/v1/projects/{PROJECT}/messages:send");
                Ok(Form::Fcm { path, tokens: tokens.context("no token endpoint")?.to_owned(), grant })
            }
        }
    }
}

/// Seconds since the epoch.
fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}
