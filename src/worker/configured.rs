//! What the configuration says, as a start needs it: whole.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::readings::Readings;
use super::{LAST_WORDS, StartError};
use crate::admin;
use crate::admission;
use crate::config::{Config, Problems};
use crate::control::Control;
use crate::handlers::breaker;
use crate::handlers::retry::ShareSettings;
use crate::handlers::{Provider, ProviderError};
use crate::queue;
use crate::reporters::stats::Metric;
use crate::reporters::{Reporters, StatsReporter as _, feedback};
use crate::settings::WorkerSettings;

/// What the configuration says, room by room.
pub(super) struct Configured {
    pub(super) settings: WorkerSettings,
    pub(super) weights: HashMap<Arc<str>, u32>,
    pub(super) queue: queue::config::Settings,
    pub(super) feedback: feedback::Settings,
    pub(super) breaker: breaker::Settings,
    pub(super) retries: ShareSettings,
    pub(super) control: Control,
    pub(super) reporters: Arc<Reporters>,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) admission: Option<Arc<admission::Plan>>,
    pub(super) admin: admin::Settings,
}

impl Configured {
    /// Reads all rooms before it gives up: one start names everything that is wrong. Connects to nothing.
    pub(super) fn read(
        config: &Config,
        platform: &str,
        production: bool,
        house: &Runtime,
    ) -> Result<Configured, StartError> {
        let mut problems = Problems::default();
        let readings = Readings::take(config, platform, production, house.handle(), &mut problems);
        config.check(problems)?;
        let Readings {
            settings: Some(settings),
            weights: Some(weights),
            queue: Some(queue),
            feedback: Some(feedback),
            breaker: Some(breaker),
            retries: Some(retries),
            control,
            reporters: Some(reporters),
            provider: Some(provider),
            admission: Some(admission),
            admin: Some(admin),
        } = readings
        else {
            unreachable!("what is missing has left a problem, and there is none")
        };
        control.start();
        let provider = provider.inspect_err(|error| tell_initialize_failure(&reporters, error))?;
        let (reporters, admission) = (Arc::new(reporters), admission.map(Arc::new));
        Ok(Configured {
            settings,
            weights,
            queue,
            feedback,
            breaker,
            retries,
            control,
            reporters,
            provider,
            admission,
            admin,
        })
    }
}

/// Counts an app whose credentials cannot be used, and waits until that is sent: the program ends now.
fn tell_initialize_failure(reporters: &Reporters, error: &ProviderError) {
    if let ProviderError::Credentials { platform, app, .. } = error {
        reporters.stats().count(Metric::InitializeFailure, &[("platform", platform.0), ("game", app)], 1);
        reporters.stats().close(LAST_WORDS);
    }
}
