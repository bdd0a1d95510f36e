//! What each app sends with: its project, its credentials and their access token. Read and tried before anything connects.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::PLATFORM;
use super::config::{App, CREDENTIALS, CREDENTIALS_FILE, Origin, PROJECT_ID, is_project};
use super::credentials::{self, Credentials};
use super::metadata::MetadataServer;
use super::quota::LimitedShare;
use super::token::{AccessToken, Source};
use super::token_endpoint::TokenEndpoint;
use crate::handlers::ProviderError;
use crate::handlers::pace::{self, Pace};
use crate::http2::tls::Trust;
use crate::reload::Print;

/// What an app sends with.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) project: String,
    /// As they were at the start.
    pub(super) credentials: Arc<Credentials>,
    /// The file that they were read from, and what it held.
    pub(super) file: Option<(PathBuf, Print)>,
    /// The key that names them in the configuration.
    pub(super) key: String,
    /// Shared by apps of the same credentials.
    pub(super) token: Arc<AccessToken>,
    /// Shared by apps of the same project.
    pub(super) limited: Arc<LimitedShare>,
    /// Likewise: how fast the project's requests may leave.
    pub(super) pace: Arc<Pace>,
    /// When its last alarm was raised.
    pub(super) alarmed: Arc<Mutex<Option<Instant>>>,
}

impl Account {
    /// Where its access tokens come from. Runs inside a runtime.
    pub(super) fn source(&self, trust: &Trust) -> Arc<dyn Source> {
        source_of(&self.credentials, trust)
    }

    /// Whether two apps share their credentials, and with them their access token.
    pub(super) fn shares_with(&self, other: &Account) -> bool {
        Arc::ptr_eq(&self.token, &other.token)
    }
}

/// Where the access tokens of these credentials come from. Runs inside a runtime.
pub(super) fn source_of(credentials: &Arc<Credentials>, trust: &Trust) -> Arc<dyn Source> {
    let uri = match &**credentials {
        Credentials::ServiceAccount(account) => &account.token_uri,
        Credentials::User(user) => &user.token_uri,
        Credentials::Metadata(host) => return Arc::new(MetadataServer::new(host)),
    };
    Arc::new(TokenEndpoint::new(Arc::clone(credentials), uri.clone(), trust.clone()))
}

/// The accounts of the apps; apps of the same credentials share their access token.
pub(super) fn all(apps: &[App], pace: pace::Settings) -> Result<Vec<Account>, ProviderError> {
    let mut accounts: Vec<Account> = Vec::with_capacity(apps.len());
    for app in apps {
        let wrong = |key: &str, path: String, rule: String| ProviderError::Credentials {
            platform: PLATFORM,
            app: app.name.to_string(),
            key: key.replace("<app>", &app.name),
            path,
            rule,
        };
        let key = match app.credentials {
            Origin::Text(_) => CREDENTIALS.name,
            Origin::File(_) => CREDENTIALS_FILE.name,
            Origin::Default => PROJECT_ID.name,
        };
        let (credentials, file) =
            credentials::read(&app.credentials).map_err(|unusable| wrong(key, unusable.place, unusable.rule))?;
        let project = app.project.clone().or_else(|| credentials.project().map(str::to_owned)).unwrap_or_default();
        if !is_project(&project) {
            let rule = "is needed: the credentials name no project that can be one";
            return Err(wrong(PROJECT_ID.name, project, rule.into()));
        }
        // What the configuration itself holds cannot change together with a file.
        let same = accounts.iter().find(|account| {
            account.credentials.identity() == credentials.identity() && account.file.is_some() == file.is_some()
        });
        let (credentials, token) = match same {
            Some(account) => (Arc::clone(&account.credentials), Arc::clone(&account.token)),
            None => (Arc::new(credentials), Arc::new(AccessToken::new())),
        };
        let neighbour = accounts.iter().find(|account| account.project == project);
        let (limited, pace) = match neighbour {
            Some(account) => (Arc::clone(&account.limited), Arc::clone(&account.pace)),
            None => (Arc::default(), Arc::new(Pace::new(pace, Instant::now()))),
        };
        let key = key.replace("<app>", &app.name);
        accounts.push(Account { project, credentials, file, key, token, limited, pace, alarmed: Arc::default() });
    }
    Ok(accounts)
}
