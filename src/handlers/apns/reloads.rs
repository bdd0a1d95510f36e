//! The files that are taken into use anew while the worker runs: signing keys and the CA file.

use std::sync::Arc;

use super::keys::{are_one, key_of, replace};
use super::{ApnsProvider, App};
use crate::reload::{Taking, Watched};

/// One entry per signing key, and one for the CA file.
pub(super) fn all(provider: &ApnsProvider) -> Vec<Watched> {
    let apps = &provider.settings.apps;
    let first_of = |(at, app): &(usize, &App)| !apps[..*at].iter().any(|other| are_one(other, app));
    let keys = apps.iter().enumerate().filter(first_of).map(|(at, _)| key(provider, at));
    let names = apps.iter().map(|app| Arc::clone(&app.name)).collect();
    let ca = provider.trust.watched("apns.caFile", names);
    keys.chain(ca).collect()
}

/// The key of the app at this place, and of those that share it. New pushes are signed with what the files hold, on connections
/// of their own; what is on a stream ends where it is.
fn key(provider: &ApnsProvider, at: usize) -> Watched {
    let app = provider.settings.apps[at].clone();
    let sharing = provider.settings.apps.iter().zip(&provider.keys).filter(|(other, _)| are_one(other, &app));
    let mut files = Vec::new();
    let mut names = Vec::new();
    for (other, key) in sharing {
        names.push(Arc::clone(&other.name));
        if !files.iter().any(|(path, _)| *path == other.auth_key_path) {
            files.push((other.auth_key_path.clone(), key.print));
        }
    }
    let named = key_of(&app);
    let token = Arc::clone(&provider.keys[at].token);
    let (pools, pool_key, clock) = (Arc::clone(&provider.pools), provider.key_of(&app), provider.clock);
    let take = move |contents: Vec<Vec<u8>>| -> Taking {
        let taken = replace(&token, &app, &contents, clock()).map(|generation| {
            let pools = pools.lock();
            let of_key = pools.iter().filter(|((pool, _), _)| *pool == pool_key);
            of_key.for_each(|(_, shared)| shared.pool.renew(generation));
        });
        Box::pin(std::future::ready(taken))
    };
    Watched::new(named, names, files, Box::new(take))
}
