//! The key files of the apps, and the provider tokens that they sign.

use std::path::Path;
use std::sync::Arc;

use super::PLATFORM;
use super::config::App;
use super::token::{Now, ProviderToken};
use crate::handlers::ProviderError;

/// One token per (team, key id): made by the first app that names it, shared by the others.
pub(super) fn tokens(apps: &[App], now: Now) -> Result<Vec<Arc<ProviderToken>>, ProviderError> {
    let mut made: Vec<(&App, Vec<u8>, Arc<ProviderToken>)> = Vec::new();
    let mut tokens = Vec::with_capacity(apps.len());
    for app in apps {
        let wrong = |rule: String| ProviderError::Credentials {
            platform: PLATFORM,
            app: app.name.to_string(),
            key: format!("apns.certs.{}.authKeyPath", app.name),
            path: app.auth_key_path.display().to_string(),
            rule,
        };
        let pem = read_key(&app.auth_key_path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let same = made.iter().find(|(other, ..)| other.key_id == app.key_id && other.team_id == app.team_id);
        let token = match same {
            Some((other, other_pem, _)) if *other_pem != pem => {
                let rule = format!("is another key than app {}'s, under the same keyID and teamID", other.name);
                return Err(wrong(rule));
            }
            Some((.., token)) => Arc::clone(token),
            None => {
                let token = ProviderToken::new(&pem, &app.key_id, &app.team_id, now)
                    .map_err(|error| wrong(error.to_string()))?;
                Arc::new(token)
            }
        };
        made.push((app, pem, Arc::clone(&token)));
        tokens.push(token);
    }
    Ok(tokens)
}

/// The key file, without the white space at its ends, which editors add.
fn read_key(path: &Path) -> std::io::Result<Vec<u8>> {
    Ok(std::fs::read(path)?.trim_ascii().to_vec())
}
