//! Feedback: one record per message that came to an end worth telling (all failures; successes when switched on).
//!
//! A message's offset waits for its record, so "reported" means "acknowledged by the broker". What may end that wait
//! without an acknowledgement is written here and nowhere else: `feedback.required: false` with `feedback.timeout`, and
//! a record that is too large even in its truncated form. Adding a reporter: a file here and a line in [`REPORTERS`].

use std::sync::Arc;
use std::time::Duration;

use super::FeedbackReporter;
use super::stats::Stats;
use crate::config::{Config, ConfigError, Key};
use crate::message::{Origin, Platform};
use crate::registry::Registry;

pub mod kafka;

const REPORTERS_KEY: Key =
    Key::optional("feedback.reporters", "who gets feedback records: a list of names (kafka); unset: nobody");
const SUCCESS: Key = Key::new("feedback.success", "false", "whether delivered messages get a record too");
const METADATA: Key = Key::new("feedback.metadata", "true", "whether records carry the producer's metadata");
const REQUIRED: Key = Key::new(
    "feedback.required",
    "true",
    "true: offsets wait until records are acknowledged; false: a record is counted as lost after feedback.timeout",
);
const TIMEOUT: Key =
    Key::new("feedback.timeout", "30s", "with feedback.required: false, how long a record may wait, 1s to 1h");

/// The keys of this room itself.
pub const KEYS: &[Key] = &[REPORTERS_KEY, SUCCESS, METADATA, REQUIRED, TIMEOUT];

/// Builds a reporter from its own section of the configuration.
pub type Factory = fn(&Config, &Settings, Stats) -> Result<Arc<dyn FeedbackReporter>, ConfigError>;

/// The reporters that can be named.
pub const REPORTERS: Registry<Factory> = Registry::new(
    REPORTERS_KEY,
    &[("kafka", |config, settings, stats| {
        Ok(Arc::new(kafka::KafkaFeedback::new(kafka::Settings::from_config(config, settings)?, stats)?))
    })],
);

/// What is reported, and for how long an acknowledgement is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Delivered messages get a record too.
    pub success: bool,
    /// Records carry the producer's metadata.
    pub metadata: bool,
    /// How long a record may stay unacknowledged; `None`: for ever, and the message's offset waits with it.
    pub give_up_after: Option<Duration>,
}

impl Settings {
    /// Reads and checks the section `feedback`.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let timeout: Duration = config.require(&TIMEOUT)?;
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&timeout) {
            return Err(config.error(&TIMEOUT, "must be from 1s to 1h"));
        }
        let required: bool = config.require(&REQUIRED)?;
        Ok(Settings {
            success: config.require(&SUCCESS)?,
            metadata: config.require(&METADATA)?,
            give_up_after: (!required).then_some(timeout),
        })
    }
}

/// The topic of an app's feedback: `push-<app>-<platform>-feedbacks`, in the app's own case.
pub fn topic(app: &str, platform: Platform) -> String {
    format!("push-{app}-{platform}-feedbacks")
}

/// The topic of the feedback on a message from `origin`.
pub(super) fn topic_of(origin: &Origin) -> String {
    topic(&origin.app, origin.platform)
}
