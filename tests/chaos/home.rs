//! What the apps of one worker have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::options::Membership;
use super::provider::{self, Provider};
use super::world::Neighbours;
use crate::support::unique;

/// How a side is set up.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) partitions: i32,
    pub(crate) seed: u64,
    pub(crate) membership: Membership,
    pub(crate) settings: &'a [(&'a str, &'a str)],
    /// Whether the machine may be too slow for what is promised by time.
    pub(crate) lenient: bool,
}

/// A provider and what workers that send to it are told.
pub(crate) struct Home {
    pub(crate) platform: &'static str,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) group: String,
    pub(crate) settings: BTreeMap<String, String>,
    /// The files that the settings name.
    pub(crate) credentials: Arc<tempfile::TempDir>,
}

impl Home {
    /// For these apps; the plan's settings go before what they need.
    pub(crate) fn start(platform: &'static str, apps: &[&str], world: &Neighbours, plan: &Plan<'_>) -> Home {
        let (provider, group) = (provider::start(platform, apps), unique("group"));
        let credentials = tempfile::tempdir().expect("a folder");
        let common = world.settings().into_iter().chain([("queue.group".to_owned(), group.clone())]);
        let own = provider.settings(apps, credentials.path());
        let given = plan.settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let settings = common.chain(own).chain(given).collect();
        Home { platform, provider, group, settings, credentials: Arc::new(credentials) }
    }
}
