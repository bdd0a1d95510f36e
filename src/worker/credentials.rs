//! Credentials and trusted certificates are taken into use anew when their files change: looked at on a clock, and when asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::Parts;
use crate::reload::{Look, Watched};
use crate::reporters::StatsReporter as _;
use crate::reporters::stats::Metric;
use crate::shutdown::Shutdown;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Asks a worker to look at its files now; clones ask the same one.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<watch::Sender<()>>);

impl Reload {
    /// Asks.
    pub fn ask(&self) {
        self.0.send_replace(());
    }
}

/// Looks until the end begins.
pub(super) async fn watch(parts: Parts, asked: Reload, shutdown: Shutdown) {
    let (mut files, mut asked, token) = (parts.provider.watched(), asked.0.subscribe(), shutdown.token());
    files.extend(parts.admission.iter().flat_map(|plan| plan.watched()));
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_asked = tokio::select! {
            _ = clock.tick() => false,
            Ok(()) = asked.changed() => true,
            () = token.cancelled() => return,
        };
        let look_and_tell = async |file: &mut Watched| {
            let look = file.look().await;
            tell(&parts, file, look, is_asked);
        };
        // Side by side: one whose endpoint is slow keeps no other waiting.
        let looks = join_all(files.iter_mut().map(look_and_tell));
        if token.run_until_cancelled(looks).await.is_none() {
            return;
        }
    }
}

/// Tells what a look came to, and whether it was asked for or the clock's; lets those go on who were held up.
fn tell(parts: &Parts, file: &Watched, look: Look, asked: bool) {
    let (stats, platform, key) = (parts.reporters.stats(), parts.provider.platform(), file.key());
    let tags = [("platform", platform.0), ("key", key)];
    stats.gauge(Metric::CredentialsRefused, &tags, if file.is_refused() { 1.0 } else { 0.0 });
    match look {
        Look::Same => {}
        Look::Taken => {
            stats.count(Metric::CredentialsReloaded, &tags, 1);
            tracing::info!(%platform, key, asked, "the file has changed: what it holds is in use for new pushes");
            for app in file.apps() {
                // Connections first: a probe must not meet the pause after those that failed.
                parts.provider.reached(app);
                parts.circuits[app].renewed(Instant::now());
            }
        }
        Look::Restored => tracing::info!(%platform, key, asked, "the file holds again what is in use"),
        Look::Refused(error) => {
            stats.count(Metric::CredentialsReloadFailed, &tags, 1);
            tracing::error!(alarm = true, %platform, reason = "credentials", key, asked, error, "the file has changed and is refused; the old content stays in use");
        }
    }
}
