//! The key files of the apps, and the provider tokens that they sign.
//!
//! A file may say which key it holds, in a line `keyID: ABC123DEFG` above the PEM: it then goes before the configuration's
//! `keyID`. A new key of Apple's has a new id, and so both change at one stroke while the worker runs.

use std::sync::Arc;

use super::PLATFORM;
use super::config::App;
use super::token::{Now, ProviderToken};
use crate::handlers::ProviderError;
use crate::reload::{Print, Refused};

/// Begins the line that names the key's id.
const KEY_ID: &str = "keyid:";

/// What an app signs with.
pub(super) struct AppKey {
    /// Shared by the apps of one (team, key id).
    pub(super) token: Arc<ProviderToken>,
    /// The key's id: the file's word, else the configuration's.
    pub(super) id: String,
    /// What its file held.
    pub(super) print: Print,
}

/// One token per (team, key id): made by the first app that names it, shared by the others.
pub(super) fn app_keys(apps: &[App], now: Now) -> Result<Vec<AppKey>, ProviderError> {
    let mut made: Vec<(&App, Vec<u8>, Arc<ProviderToken>)> = Vec::new();
    let mut keys = Vec::with_capacity(apps.len());
    for app in apps {
        let wrong = |rule: String| ProviderError::Credentials {
            platform: PLATFORM,
            app: app.name.to_string(),
            key: key_of(app),
            path: app.auth_key_path.display().to_string(),
            rule,
        };
        let content = std::fs::read(&app.auth_key_path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let id = key_id(&content).unwrap_or(&app.key_id).to_owned();
        let same = made.iter().find(|(other, ..)| are_one(other, app));
        let token = match same {
            Some((other, of_other, _)) if of_other.trim_ascii() != content.trim_ascii() => {
                let rule = format!("is another key than app {}'s, under the same keyID and teamID", other.name);
                return Err(wrong(rule));
            }
            Some((.., token)) => Arc::clone(token),
            None => {
                let token =
                    ProviderToken::new(&content, &id, &app.team_id, now).map_err(|error| wrong(error.to_string()))?;
                Arc::new(token)
            }
        };
        keys.push(AppKey { token: Arc::clone(&token), id, print: Print::of(&content) });
        made.push((app, content, token));
    }
    Ok(keys)
}

/// Signs with what the files of these apps, which share `token`, hold now; the generation that this begins.
pub(super) fn replace(token: &ProviderToken, app: &App, contents: &[Vec<u8>], now: Now) -> Result<u32, Refused> {
    let Some(content) = contents.first() else { return Err(Refused::for_good("there is no file")) };
    if contents.iter().any(|other| other.trim_ascii() != content.trim_ascii()) {
        // The others are probably about to follow.
        return Err(Refused::for_good("the files of apps with the same keyID and teamID hold different keys"));
    }
    let id = key_id(content).unwrap_or(&app.key_id);
    let path = app.auth_key_path.display();
    token.replace(content, id, now).map_err(|error| Refused::for_good(format!("{path} {error}")))
}

/// Whether two apps sign with the same key.
pub(super) fn are_one(one: &App, other: &App) -> bool {
    one.key_id == other.key_id && one.team_id == other.team_id
}

/// The key that names an app's file in the configuration.
pub(super) fn key_of(app: &App) -> String {
    format!("apns.certs.{}.authKeyPath", app.name)
}

/// The key's id, where the file says it.
fn key_id(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let mut above = text.lines().map(str::trim).take_while(|line| !line.starts_with("-----BEGIN"));
    let is_named = |line: &&str| line.get(..KEY_ID.len()).is_some_and(|name| name.eq_ignore_ascii_case(KEY_ID));
    let id = above.find(is_named)?[KEY_ID.len()..].trim();
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_name_its_key_above_the_pem() {
        let pem = super::super::token::tests::key_pem();
        let named = |above: &str| key_id(format!("{above}{pem}").as_bytes()).map(str::to_owned);
        assert_eq!(named(""), None);
        assert_eq!(named("keyID: ABC123DEFG\n").as_deref(), Some("ABC123DEFG"));
        assert_eq!(named("Key of the game\n  KeyId:ABC123DEFG \r\n\n").as_deref(), Some("ABC123DEFG"));
        assert_eq!(named("keyID:\n"), None);
        assert_eq!(key_id(b"\xff"), None);
        let now = Now { epoch_s: 0, monotonic: std::time::Duration::ZERO };
        let with_id = format!("keyID: ABC123DEFG\n{pem}\n");
        ProviderToken::new(with_id.as_bytes(), "ABC123DEFG", "T", now).expect("what stands above a PEM is not of it");
    }
}
