//! The files that are taken into use anew while the worker runs: service accounts and the CA file.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::account::{Account, source_of};
use super::credentials::{self, Credentials};
use super::token::{AccessToken, FETCH_TIMEOUT};
use super::{App, GcmProvider};
use crate::http2::tls::Trust;
use crate::reload::{Refused, Taking, Watched};

/// One entry per credential that comes from files, and one for the CA file.
pub(super) fn all(provider: &GcmProvider) -> Vec<Watched> {
    let accounts = &provider.accounts;
    let first_of = |(at, account): &(usize, &Account)| !accounts[..*at].iter().any(|other| other.shares_with(account));
    let own = accounts.iter().enumerate().filter(first_of).filter_map(|(_, account)| credential(provider, account));
    let names = provider.settings.apps.iter().map(|app| Arc::clone(&app.name)).collect();
    let ca = provider.trust.watched("gcm.caFile", names);
    own.chain(ca).collect()
}

/// The credential of this account and of those that share it; `None` when no file holds it.
fn credential(provider: &GcmProvider, account: &Account) -> Option<Watched> {
    account.file.as_ref()?;
    let sharing = provider.settings.apps.iter().zip(&provider.accounts).filter(|(_, other)| other.shares_with(account));
    let sharing: Vec<(&App, &Account)> = sharing.collect();
    let mut files = Vec::new();
    for file in sharing.iter().filter_map(|(_, other)| other.file.as_ref()) {
        if !files.iter().any(|(path, _)| *path == file.0) {
            files.push(file.clone());
        }
    }
    let names = sharing.iter().map(|(app, _)| Arc::clone(&app.name)).collect();
    // The projects that the configuration does not name: the new credentials must be of the same.
    let unnamed = sharing.iter().filter(|(app, _)| app.project.is_none());
    let projects: Vec<String> = unnamed.map(|(_, other)| other.project.clone()).collect();
    let (token, trust) = (Arc::clone(&account.token), provider.trust.clone());
    let take = move |contents: Vec<Vec<u8>>| -> Taking {
        let read = read(&contents, &projects);
        let (token, trust) = (Arc::clone(&token), trust.clone());
        Box::pin(async move { replace(&token, &Arc::new(read?), &trust).await })
    };
    Some(Watched::new(account.key.clone(), names, files, Box::new(take)))
}

/// The credential that all of these files hold, for pushes to these projects.
fn read(contents: &[Vec<u8>], projects: &[String]) -> Result<Credentials, Refused> {
    let parsed = contents.iter().map(|content| {
        let text = std::str::from_utf8(content).map_err(|_| Refused::for_good("is not text"))?;
        credentials::parse(text).map_err(Refused::for_good)
    });
    let mut parsed = parsed.collect::<Result<Vec<_>, _>>()?;
    let Some(last) = parsed.pop() else { return Err(Refused::for_good("there is no file")) };
    if parsed.iter().any(|other| other.identity() != last.identity()) {
        return Err(Refused::for_good("the files of apps that had one account hold different ones"));
    }
    if let Some(project) = projects.iter().find(|project| last.project() != Some(project)) {
        let rule = format!("is of another project than {project}: that takes a restart, or gcm.projectId.<app>");
        return Err(Refused::for_good(rule));
    }
    Ok(last)
}

/// Takes a credential into use if it is granted an access token; until then pushes go on with the old one. A key that was just
/// made may be refused for a minute (Google: Create and delete service account keys), and the endpoint may be away.
async fn replace(token: &AccessToken, credentials: &Arc<Credentials>, trust: &Trust) -> Result<(), Refused> {
    let (begun, source) = (Instant::now(), source_of(credentials, trust));
    match timeout(FETCH_TIMEOUT, source.fetch()).await {
        Ok(Ok(fetched)) => {
            token.install(source, fetched, begun);
            Ok(())
        }
        Ok(Err(error)) => Err(Refused::for_now(error.detail)),
        Err(_) => Err(Refused::for_now(format!("no access token within {FETCH_TIMEOUT:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::gcm::credentials::tests::account;

    #[test]
    fn files_that_differ_and_another_project_are_refused() {
        let one = account();
        let mut other = account();
        other["client_email"] = "another@my-game.iam.gserviceaccount.com".into();
        let [one, other] = [one, other].map(|account| account.to_string().into_bytes());
        let of = |contents: &[Vec<u8>], project: &str| {
            read(contents, &[project.to_owned()]).map(|_| ()).map_err(|refused| refused.rule)
        };
        assert_eq!(of(&[one.clone(), one.clone()], "my-game"), Ok(()));
        assert_eq!(of(std::slice::from_ref(&other), "my-game"), Ok(()));
        assert!(of(&[one.clone(), other], "my-game").unwrap_err().contains("different"));
        assert!(of(std::slice::from_ref(&one), "my-other-game").unwrap_err().contains("my-other-game"));
        assert!(of(&[one, b"{".to_vec()], "my-game").unwrap_err().contains("JSON"));
        assert!(read(&[b"\xff".to_vec()], &[]).unwrap_err().rule.contains("text"));
    }
}
