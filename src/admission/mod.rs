//! Whether a push that could be sent may be sent: a rate limit per device, and no second copy of the same content.
//!
//! Two questions, each a trait with two implementations: [`RateLimiter`] and [`Dedup`], in [`memory`] for one process and
//! in [`redis`] for all workers together. A [`Plan`] is what the configuration asks for; each sender thread opens an
//! [`Admission`] of it, because connections belong to the runtime that made them. Adding a store: a file here and a line
//! in [`settings`].
//!
//! What holds here, and why:
//! - *A message is never in its own way.* Both questions carry the message's identity: a redelivered push is no duplicate
//!   of itself, and does not pay the limit again. (A retry within the process does not even ask.)
//! - *Dedup goes first, and a refused push leaves no trace.* A duplicate does not use up the device's limit; a push over the
//!   limit gives its claim on the content back, or the copy after it would be dropped for nothing.
//! - *Fail open.* A store that cannot say in time is [`Answer::Unknown`], which admits. That costs the store's time limit
//!   once, and nothing to speak of from then on until the store answers again.
//!
//! Knows no provider, no queue and no statistics: `gate` joins it to a delivery.

pub mod content;
pub mod memory;
pub mod redis;
pub mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use self::redis::Servers;
use crate::config::{Config, ConfigError};
use crate::reload::Watched;
use content::{ContentKey, Shares};
use settings::Settings;
pub use settings::{KEYS, PlatformKeys};

/// What a store says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The push may go.
    Yes,
    /// It may not.
    No,
    /// The store could not say in time: the push goes.
    Unknown,
}

/// Counts pushes per device and minute.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Whether the message `identity` may go to `device` now; a yes is counted, once per identity.
    async fn allow(&self, device: &str, identity: Uuid) -> Answer;
}

/// Remembers what was sent lately.
#[async_trait]
pub trait Dedup: Send + Sync {
    /// Whether no other message than `identity` has claimed this content; a yes is a claim.
    async fn is_unique(&self, key: ContentKey, identity: Uuid) -> Answer;

    /// Gives a claim of `identity` up, when it is still its: the message was not delivered. Does not wait.
    fn forget(&self, key: ContentKey, identity: Uuid);
}

/// Opens a store for the sender thread of this number, on it, inside its runtime.
pub type Open<T> = Box<dyn Fn(usize) -> Arc<T> + Send + Sync>;

/// What the configuration asks for; nothing is connected yet.
pub struct Plan {
    limiter: Option<Open<dyn RateLimiter>>,
    dedup: Option<Open<dyn Dedup>>,
    shares: Arc<Shares>,
    servers: Servers,
}

impl Plan {
    /// Reads the keys, those of the platform included; `None`: nothing is limited and nothing compared.
    pub fn from_config(config: &Config, keys: &PlatformKeys, apps: &[Arc<str>]) -> Result<Option<Plan>, ConfigError> {
        let Settings { rpm, ttl, shares } = Settings::from_config(config, keys, apps)?;
        let mut servers = Servers::default();
        let limiter = rpm.map(|rpm| settings::limiter(config, rpm, &mut servers)).transpose()?;
        let dedup = if shares.is_empty() { None } else { Some(settings::dedup(config, ttl, &mut servers)?) };
        let plan = Plan { limiter, dedup, shares: Arc::new(shares), servers };
        Ok(Some(plan).filter(|plan| plan.limiter.is_some() || plan.dedup.is_some()))
    }

    /// Looks whether each server can be reached and answers in time: its address, and what is wrong. For a look before a
    /// deployment; a worker starts without.
    pub async fn reach(&self) -> Vec<(String, Result<(), String>)> {
        self.servers.reach().await
    }

    /// The CA files of its servers, to be looked at for new content while the process runs.
    pub fn watched(&self) -> Vec<Watched> {
        self.servers.watched()
    }

    /// Opens it for the sender thread of this number, on it, inside its runtime.
    pub fn open(&self, sender: usize) -> Admission {
        Admission {
            limiter: self.limiter.as_ref().map(|open| open(sender)),
            dedup: self.dedup.as_ref().map(|open| open(sender)),
            shares: self.shares.clone(),
        }
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("limiter", &self.limiter.is_some())
            .field("shares", &self.shares)
            .finish_non_exhaustive()
    }
}

/// Why a push is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its device has had its pushes of this minute.
    Limited,
    /// Another message with this content went to this device lately.
    Duplicate,
}

/// What was decided about a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// `None`: it goes.
    pub refused: Option<Refused>,
    /// The content that it claims, to be given up if it is not delivered.
    pub claim: Option<ContentKey>,
    /// The rate limiter could not say.
    pub limit_failed: bool,
    /// Dedup could not say.
    pub dedup_failed: bool,
}

/// Under which identities a message is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// The message's, which its content is claimed by.
    pub message: Uuid,
    /// The record's that brought it, which its device's limit is paid by: whoever names an earlier message pays as anyone.
    pub record: Uuid,
}

impl From<Uuid> for Names {
    /// Of a message that came once.
    fn from(identity: Uuid) -> Self {
        Names { message: identity, record: identity }
    }
}

/// One sender's way to the stores.
#[derive(Clone)]
pub struct Admission {
    limiter: Option<Arc<dyn RateLimiter>>,
    dedup: Option<Arc<dyn Dedup>>,
    shares: Arc<Shares>,
}

impl Admission {
    /// Of these parts; for tests.
    pub fn new(limiter: Option<Arc<dyn RateLimiter>>, dedup: Option<Arc<dyn Dedup>>, shares: Shares) -> Self {
        Admission { limiter, dedup, shares: Arc::new(shares) }
    }

    /// Decides about a message of `app` that would bring `content` to `device`.
    pub async fn decide(&self, app: &str, device: &str, content: &[&str], names: Names) -> Decision {
        let mut decision = Decision::default();
        if let Some(dedup) = self.dedup.as_ref().filter(|_| self.shares.includes(app, device)) {
            let key = ContentKey::of(device, content);
            match dedup.is_unique(key, names.message).await {
                Answer::Yes => decision.claim = Some(key),
                Answer::No => return Decision { refused: Some(Refused::Duplicate), ..decision },
                // The claim may have been made all the same.
                Answer::Unknown => (decision.claim, decision.dedup_failed) = (Some(key), true),
            }
        }
        if let Some(limiter) = &self.limiter {
            match limiter.allow(device, names.record).await {
                Answer::Yes => {}
                Answer::No => {
                    self.give_up(decision.claim.take(), names.message);
                    decision.refused = Some(Refused::Limited);
                }
                Answer::Unknown => decision.limit_failed = true,
            }
        }
        decision
    }

    /// Gives a claim up: the message was not delivered, and its copy must not be dropped in its stead.
    pub fn give_up(&self, claim: Option<ContentKey>, identity: Uuid) {
        if let (Some(dedup), Some(key)) = (&self.dedup, claim) {
            dedup.forget(key, identity);
        }
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("shares", &self.shares).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
