//! The task that fetches the access token of one credential, and when it does.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{AccessToken, FETCH_TIMEOUT, FetchError, Fetched, Installed, SHORTEST_PAUSE, Source};
use crate::outcome::Class;

/// Keeps the token of one credential fresh until `stop`. `name` is the credential's in the log.
pub(in crate::handlers::gcm) async fn keep_fresh(
    token: Arc<AccessToken>,
    source: Arc<dyn Source>,
    name: String,
    stop: CancellationToken,
) {
    let mut installed = token.installed.subscribe();
    let work = async {
        let mut present = Installed { source, due: Instant::now(), number: 0 };
        loop {
            tokio::select! {
                () = ask_in_time(&token, &present, &name) => {}
                _ = installed.changed() => {}
            }
            if let Some(newer) = installed.borrow_and_update().clone() {
                present = newer;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Asks one source again and again, whenever a token is due.
async fn ask_in_time(token: &AccessToken, from: &Installed, name: &str) {
    let mut failures = 0;
    pause(token, from.due, Instant::now(), false).await;
    loop {
        let begun = Instant::now();
        let came = match timeout(FETCH_TIMEOUT, from.source.fetch()).await {
            Ok(came) => came,
            Err(_) => Err(FetchError::endpoint(format!("no access token within {FETCH_TIMEOUT:?}"))),
        };
        log(name, &came, failures);
        let failed = came.is_err();
        let due = token.take(came, begun, failures, from.number);
        failures = if failed { failures.saturating_add(1) } else { 0 };
        pause(token, due, begun, failed).await;
    }
}

/// Waits until the next fetch is due, or FCM refuses the token. A failing endpoint is not asked sooner by that.
async fn pause(token: &AccessToken, due: Instant, begun: Instant, failed: bool) {
    if failed {
        return sleep_until(due).await;
    }
    tokio::select! {
        () = sleep_until(due) => {}
        () = async {
            loop {
                token.wanted.notified().await;
                if token.state.borrow().refused {
                    break;
                }
            }
        } => sleep_until(begun + SHORTEST_PAUSE).await,
    }
}

/// Once per change: what is wrong now, and that it is well again.
fn log(name: &str, came: &Result<Fetched, FetchError>, failures: u32) {
    match came {
        Ok(_) if failures > 0 => tracing::info!(credentials = name, failures, "access tokens are given again"),
        Err(error) if failures == 0 => {
            let refused = error.class == Class::Configuration;
            tracing::error!(alarm = refused, credentials = name, reason = %error.detail, "no new access token; pushes go on with the old one while it lasts");
        }
        _ => {}
    }
}
