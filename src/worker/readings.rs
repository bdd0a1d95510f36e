//! What the configuration says, room by room, as far as it can be read. A start and a check read the same in the same way: the
//! one gives up where something is missing, the other goes on with what is there.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::admin;
use crate::admission::Plan;
use crate::concurrency::settings::weights;
use crate::config::{Config, ConfigError, Problems};
use crate::control::{self, Control};
use crate::handlers::breaker;
use crate::handlers::retry::ShareSettings;
use crate::handlers::{self, Provider, ProviderError};
use crate::queue;
use crate::reporters::{Reporters, feedback};
use crate::settings::WorkerSettings;

/// One platform's rooms; `None` where a value is wrong, which is then among the problems.
pub struct Readings {
    /// The worker as a whole.
    pub settings: Option<WorkerSettings>,
    /// The weights of the platform's apps.
    pub weights: Option<HashMap<Arc<str>, u32>>,
    /// The queue.
    pub queue: Option<queue::config::Settings>,
    /// Which feedback is written.
    pub feedback: Option<feedback::Settings>,
    /// The breakers.
    pub breaker: Option<breaker::Settings>,
    /// The share of retries.
    pub retries: Option<ShareSettings>,
    /// The entries that outlive the process; not followed yet.
    pub control: Control,
    /// Who is told what happened.
    pub reporters: Option<Reporters>,
    /// The provider, or what is wrong with its credentials.
    pub provider: Option<Result<Arc<dyn Provider>, ProviderError>>,
    /// The admin server.
    pub admin: Option<admin::Settings>,
    /// What is limited and compared; inside `None`: nothing is.
    pub admission: Option<Option<Plan>>,
}

impl Readings {
    /// Reads all rooms. Connects to nothing; `house` runs what reporters do besides.
    pub fn take(config: &Config, platform: &str, production: bool, house: &Handle, problems: &mut Problems) -> Self {
        let settings = problems.take(WorkerSettings::from_config(config));
        let queue = problems.take(queue::config::Settings::from_config(config));
        let feedback = problems.take(feedback::Settings::from_config(config));
        let control = problems.take(control(config, queue.as_ref())).unwrap_or_else(Control::in_memory);
        let reporters = problems.take(Reporters::from_config(config, house, &control));
        let provider = match handlers::provider(platform, config, production) {
            Err(ProviderError::Config(error)) => problems.take(Err(error)),
            other => Some(other),
        };
        let built = provider.as_ref().and_then(|built| built.as_ref().ok());
        let own_ramp = built.map(|provider| provider.ramp()).unwrap_or_default();
        let breaker = problems.take(breaker::Settings::from_config(config, own_ramp));
        let retries = problems.take(ShareSettings::from_config(config));
        let admission = problems.take(match built {
            Some(provider) => Plan::from_config(config, &provider.admission_keys(), &provider.apps()),
            None => Ok(None),
        });
        let apps = built.map(|provider| provider.apps()).unwrap_or_default();
        let weights = problems.take(weights(config, &apps));
        let admin = problems.take(admin::Settings::from_config(config));
        Readings {
            settings,
            weights,
            queue,
            feedback,
            breaker,
            retries,
            control,
            reporters,
            provider,
            admin,
            admission,
        }
    }
}

/// The entries that outlive this process, when it keeps any.
fn control(config: &Config, queue: Option<&queue::config::Settings>) -> Result<Control, ConfigError> {
    let Some(queue) = queue else { return Ok(Control::in_memory()) };
    let consumer = control::config::Consumer { brokers: &queue.brokers, group: &queue.group, options: &queue.options };
    Ok(Control::new(control::Settings::from_config(config, consumer)?))
}

impl std::fmt::Debug for Readings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readings").field("settings", &self.settings).finish_non_exhaustive()
    }
}
