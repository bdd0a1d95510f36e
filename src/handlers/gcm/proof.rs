//! What can be proved without a push: that the credentials are granted an access token, by asking for one, and that the host
//! answers.

use std::time::Duration;

use tokio::time::timeout;

use super::GcmProvider;
use super::account::Account;
use super::config::App;
use super::credentials::Credentials;
use crate::handlers::Sender;
use crate::handlers::host::host_proof;
use crate::http2::tls::Trust;
use crate::outcome::Class;
use crate::proof::{Finding, Proof};

const SUBJECT: &str = "fcm credentials";
/// Longest wait for the grant.
const PATIENCE: Duration = Duration::from_secs(10);

/// One proof per credential, and one of the host.
pub(super) fn all(provider: &GcmProvider) -> Vec<Proof> {
    let mut proofs = Vec::new();
    let accounts: Vec<_> = provider.settings.apps.iter().zip(&provider.accounts).collect();
    for (at, (_, account)) in accounts.iter().enumerate() {
        let shares = |other: &Account| other.shares_with(account);
        if accounts[..at].iter().any(|(_, other)| shares(other)) {
            continue;
        }
        let of = |(app, one): &(&App, &Account)| format!("{} (project {})", app.name, one.project);
        let apps: Vec<_> = accounts.iter().filter(|(_, other)| shares(other)).map(of).collect();
        proofs.push(granted(apps.join(", "), (*account).clone(), provider.trust.clone()));
    }
    let settings = provider.pool_settings("", Sender { index: 0, of: 1 });
    proofs.push(host_proof("fcm host", settings, provider.trust.current()));
    proofs
}

/// A token is asked for once, for all apps of these credentials.
fn granted(apps: String, account: Account, trust: Trust) -> Proof {
    Proof::new(SUBJECT, async move {
        let source = account.source(&trust);
        let place = match &*account.credentials {
            Credentials::ServiceAccount(account) => account.token_uri.text.clone(),
            Credentials::User(user) => user.token_uri.text.clone(),
            Credentials::Metadata(host) => format!("the metadata server at {host}"),
        };
        vec![match timeout(PATIENCE, source.fetch()).await {
            Ok(Ok(token)) => {
                let minutes = token.lifetime.as_secs() / 60;
                Finding::proved(SUBJECT, format!("{apps}: an access token for {minutes} minutes is granted by {place}"))
            }
            Ok(Err(error)) if error.class == Class::Configuration => {
                // Its detail says what to look at.
                Finding::wrong(SUBJECT, format!("{apps}: {}", error.detail))
            }
            Ok(Err(error)) => Finding::away(SUBJECT, format!("{apps}: {}", error.detail))
                .fix(format!("see that this machine may connect to {place}")),
            Err(_) => Finding::away(SUBJECT, format!("{apps}: {place} granted nothing within {PATIENCE:?}"))
                .fix("see that this machine may connect there"),
        }]
    })
}
