//! Providers: what turns a message into a request and an answer into a verdict.
//!
//! One folder per provider, each with the same rooms (`mod config message client response token`), one line in
//! [`providers`]. Nothing here knows the queue, the statistics or the database; nothing outside knows a provider's protocol.

pub mod apns;
pub mod breaker;
pub mod gcm;
mod host;
mod json;
mod known;
mod not_sent;
mod open_gate;
pub mod pace;
pub mod preview;
mod record;
pub mod retry;
mod settings;
mod unanswered;
mod wish;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::PlatformKeys;
use crate::config::{Config, ConfigError, Ignored, Key};
use crate::http2::Stats;
use crate::message::{Platform, QueueMessage};
use crate::outcome::{Attempt, Outcome, Verdict};
use crate::proof::Proof;
use crate::reload::Watched;

pub use open_gate::OpenGate;
use preview::Preview;
pub use record::RecordForm;

/// One line of the registry: a platform and how to set it up.
#[derive(Debug)]
pub struct Registration {
    /// Its name: the subcommand, and the platform in topics.
    pub platform: Platform,
    /// The configuration keys that it reads.
    pub keys: &'static [Key],
    /// Keys of the original that it accepts without effect.
    pub ignored: &'static [Ignored],
    /// Reads configuration and credentials.
    pub build: Build,
}

impl Registration {
    /// The apps of its list (`<platform>.apps`), as far as that can be read.
    pub fn apps(&self, config: &Config) -> Vec<Arc<str>> {
        let list = format!("{}.apps", self.platform);
        let key = self.keys.iter().find(|key| key.name == list);
        let apps: Option<Vec<String>> = key.and_then(|key| config.get(key).ok().flatten());
        apps.unwrap_or_default().into_iter().map(Into::into).collect()
    }
}

/// Sets a platform up from configuration; the flag is `-p`.
pub type Build = fn(&Config, bool) -> Result<Arc<dyn Provider>, ProviderError>;

/// The platforms that exist.
pub fn providers() -> &'static [Registration] {
    &[
        Registration {
            platform: apns::PLATFORM,
            keys: apns::KEYS,
            ignored: apns::IGNORED,
            build: |config, production| {
                Ok(Arc::new(apns::ApnsProvider::new(apns::Settings::from_config(config, production)?)?))
            },
        },
        Registration {
            platform: gcm::PLATFORM,
            keys: gcm::KEYS,
            ignored: gcm::IGNORED,
            build: |config, _| Ok(Arc::new(gcm::GcmProvider::new(gcm::Settings::from_config(config)?)?)),
        },
    ]
}

/// Sets up the platform of this name.
pub fn provider(name: &str, config: &Config, production: bool) -> Result<Arc<dyn Provider>, ProviderError> {
    let known = || providers().iter().map(|one| one.platform.0).collect::<Vec<_>>().join(", ");
    match providers().iter().find(|one| one.platform.0 == name) {
        Some(found) => (found.build)(config, production),
        None => Err(ProviderError::Unknown { name: name.to_owned(), known: known() }),
    }
}

/// Why a platform cannot be set up. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// There is no such platform.
    #[error("unknown platform {name:?}; the known ones are: {known}")]
    Unknown {
        /// As asked for.
        name: String,
        /// The registry's names.
        known: String,
    },
    /// A key has a wrong value.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An app's credentials cannot be used.
    #[error("{platform} app {app}: {key}: {path:?} {rule}")]
    Credentials {
        /// The platform.
        platform: Platform,
        /// The app.
        app: String,
        /// The key that names the file.
        key: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        rule: String,
    },
    /// TLS cannot be set up: no trusted certificates, or a file of them that cannot be read.
    #[error("{platform}.caFile: {rule}")]
    Tls {
        /// The platform.
        platform: Platform,
        /// What is wrong.
        rule: String,
    },
}

/// The sender thread that a pool key begins on and returns to when there is little to send.
pub fn home_sender(pool_key: &str, senders: usize) -> usize {
    crc32fast::hash(pool_key.as_bytes()) as usize % senders.max(1)
}

/// A sender's part of the connections of a process: never none, for a sender that is given pushes must send them.
fn share(all: usize, sender: Sender) -> usize {
    let senders = sender.of.max(1);
    (all / senders + usize::from(sender.index < all % senders)).max(1)
}

/// A boxed future, as an object-safe trait needs it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Asked right before a request leaves: may this message still be sent by this process?
///
/// `false` after a shutdown began or its partition was given away; the handler then answers `Verdict::Released`.
/// A `true` also notes that the message is on a stream from now on.
pub trait Gate: Send + Sync {
    /// Whether the message may be sent now.
    fn pass(&self) -> bool;

    /// Who must be asked once the message is understood and worth sending, before a stream is spent on it; `None`: nobody.
    fn admission(&self) -> Option<&dyn Admit> {
        None
    }
}

/// Rate limit and dedup, as a handler sees them.
pub trait Admit: Send + Sync {
    /// The message's end, when it is not admitted.
    fn admit<'a>(&'a self, subject: Subject<'a>) -> BoxFuture<'a, Option<Outcome>>;
}

/// What a push is limited and compared by.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The token of the device that it goes to.
    pub device: &'a str,
    /// What the device gets, in up to two parts.
    pub content: [&'a str; 2],
}

/// The end of an attempt whose push is not admitted; `None`: it goes on. A push that goes to no single device always does.
async fn turned_away<'a>(gate: &'a dyn Gate, subject: impl FnOnce() -> Option<Subject<'a>>) -> Option<Attempt> {
    let outcome = gate.admission()?.admit(subject()?).await?;
    Some(Attempt::local(Verdict::Resolved(outcome)))
}

/// An attempt that ended before a request left us.
fn without_request<'a>(outcome: Outcome) -> BoxFuture<'a, Attempt> {
    Box::pin(std::future::ready(Attempt::local(Verdict::Resolved(outcome))))
}

/// Sends the messages of one app. One instance per app and sender thread; it owns no task of the message.
pub trait MessageHandler: Send + Sync {
    /// One attempt: parse, check, build, send, understand the answer. Never an error: a refused push is a verdict.
    /// `attempt` counts from 0 for the same message in this process.
    fn handle<'a>(&'a self, message: &'a QueueMessage, attempt: u32, gate: &'a dyn Gate) -> BoxFuture<'a, Attempt>;

    /// The feedback record of this outcome, JSON in the provider's documented shape.
    fn feedback(&self, message: &QueueMessage, outcome: &Outcome, form: RecordForm) -> Vec<u8>;

    /// The producer's own `metadata`, raw JSON; `None`: there is none, or the message cannot be read.
    fn metadata<'a>(&self, message: &'a QueueMessage) -> Option<&'a str>;

    /// When the message stops being worth sending, ms since the epoch, as its producer wrote it; `None`: never.
    fn expires_at_ms(&self, message: &QueueMessage) -> Option<i64>;

    /// The `client` tag of `send_notification_latency`.
    fn client(&self) -> &'static str;

    /// Another metric that each round trip is told to, by app alone: one that the original had beside the common one.
    fn own_latency(&self) -> Option<&'static str> {
        None
    }
}

/// One platform, set up once per process: credentials read and checked, nothing connected yet.
pub trait Provider: Send + Sync {
    /// The platform in topic names and tables.
    fn platform(&self) -> Platform;

    /// The apps that this provider is configured for, in the configuration's order and case.
    fn apps(&self) -> Vec<Arc<str>>;

    /// Begins what the provider does besides pushes (access tokens that must be kept fresh), on the runtime `house`. Called
    /// once, before the first handler is asked for.
    fn start(&self, house: &tokio::runtime::Handle) {
        let _ = house;
    }

    /// The handler of `app` on sender thread `sender` of `senders`. Called on that thread, inside its runtime:
    /// connections belong to the runtime that made them. Panics for an app that [`Provider::apps`] does not list.
    fn handler(&self, app: &str, sender: Sender) -> Arc<dyn MessageHandler>;

    /// Which apps share connections: apps with an equal key have one pool (host and credential). Panics for an app that
    /// [`Provider::apps`] does not list.
    fn pool_key(&self, app: &str) -> String;

    /// What a message of a configured app would become at `now_ms` (ms since the epoch), without sending it: read and built by
    /// what reads and builds when it is sent. Panics for an app that [`Provider::apps`] does not list.
    fn preview(&self, message: &QueueMessage, now_ms: i64) -> Preview;

    /// The keys of its rate limit and dedup.
    fn admission_keys(&self) -> PlatformKeys;

    /// When its refused messages are tried again.
    fn retry(&self) -> retry::Policy {
        retry::Policy::default()
    }

    /// From the first good answer after an outage to full speed (`breaker.ramp`).
    fn ramp(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// How fast `app`'s requests may leave, with those of others who share its limit; `None`: as fast as they can. Panics for an
    /// app that [`Provider::apps`] does not list.
    fn pace(&self, app: &str) -> Option<Arc<pace::Pace>> {
        let _ = app;
        None
    }

    /// The provider was found to answer `app` again: whoever holds back because of earlier failures need not any more.
    /// Panics for an app that [`Provider::apps`] does not list.
    fn reached(&self, app: &str) {
        let _ = app;
    }

    /// Its connections in numbers: one entry for each pool, with its key.
    fn pools(&self) -> Vec<(String, Stats)> {
        Vec::new()
    }

    /// Apps that nothing can be sent for now, because what authenticates them is not in hand.
    fn without_credentials(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// The files that its credentials are read from, to be looked at for new content while the process runs. Asked after
    /// [`Provider::start`]; what takes the content runs on its runtime.
    fn watched(&self) -> Vec<Watched> {
        Vec::new()
    }

    /// Streams that one connection can be expected to carry; beyond it a key widens to more senders.
    fn streams_per_connection(&self) -> usize;

    /// What can be proved about credentials and hosts without a push. Asked before, or instead of, [`Provider::start`].
    fn proofs(&self) -> Vec<Proof>;

    /// Begins the end: what waits for a stream is refused at once (`Verdict::Released`), open streams go on.
    fn close(&self);
}

/// One of the sender threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}
