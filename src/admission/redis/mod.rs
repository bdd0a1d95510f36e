//! Both stores in Redis, shared by all workers; the limit also with the original, whose keys these are.
//!
//! | | database | key | value | lives |
//! |---|---|---|---|---|
//! | limit | 0 | `<device>:<minute of the hour>` | pushes counted | 60 s from the last one |
//! | limit | 0 | `pusher:paid:<device>` | the last 32 messages counted, 8 bytes each | 120 s |
//! | dedup | 1 | `pusher:dedup:<hash of device and content>` | the claiming message's identity | `dedup.ttl` |
//!
//! Each sender thread has one connection per server, whatever it asks there (`link`): calls of many pushes go as one
//! pipeline of a few scripts (`batch`), so that a push costs microseconds and a decision is atomic. `connect` opens the
//! connection, `health` says who is away. The only user of the client crate.

mod batch;
mod connect;
mod health;
mod link;
mod settings;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::batch::Question;
use self::health::Health;
use self::link::Link;
pub use self::settings::KEYS;
use self::settings::{DEDUP, RATE_LIMITER, Settings};
use super::content::ContentKey;
use super::{Answer, Dedup, Open, RateLimiter};
use crate::config::{Config, ConfigError};
use crate::reload::Watched;

/// The servers in use: limit and dedup of the same one share it.
#[derive(Debug, Default)]
pub struct Servers(Vec<Arc<Server>>);

/// One server.
struct Server {
    settings: Settings,
    health: Health,
    /// By sender thread.
    links: Mutex<HashMap<usize, Weak<Link>>>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

impl Servers {
    /// Connects to each once, as a link would: its address, and what is wrong.
    pub(super) async fn reach(&self) -> Vec<(String, Result<(), String>)> {
        let reach = async |server: &Arc<Server>| {
            let reached = connect::open(&server.settings).await.map(drop);
            (server.settings.address(), reached)
        };
        join_all(self.0.iter().map(reach)).await
    }

    /// Their CA files.
    pub(super) fn watched(&self) -> Vec<Watched> {
        self.0.iter().filter_map(|server| server.settings.watched()).collect()
    }

    fn server(&mut self, settings: Settings) -> Arc<Server> {
        if let Some(same) = self.0.iter().find(|server| server.settings == settings) {
            return same.clone();
        }
        let health = Health::new(settings.address());
        let server = Arc::new(Server { settings, health, links: Mutex::default(), tasks: TaskTracker::new() });
        self.0.push(server.clone());
        server
    }
}

impl Server {
    /// The link of a sender thread, started by its first user on that thread.
    fn link(self: &Arc<Self>, sender: usize) -> Arc<Link> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(&sender).and_then(Weak::upgrade) {
            return link;
        }
        let link = Arc::new(Link::start(self, &self.tasks));
        links.insert(sender, Arc::downgrade(&link));
        link
    }
}

/// A limiter over the server of `rateLimiter.redis`.
pub(super) fn limiter(config: &Config, rpm: u32, all: &mut Servers) -> Result<Open<dyn RateLimiter>, ConfigError> {
    let server = all.server(Settings::from_config(config, &RATE_LIMITER)?);
    Ok(Box::new(move |sender| Arc::new(Limiter { link: server.link(sender), rpm })))
}

/// A dedup over the server of `dedup.redis`.
pub(super) fn dedup(config: &Config, ttl: Duration, all: &mut Servers) -> Result<Open<dyn Dedup>, ConfigError> {
    let server = all.server(Settings::from_config(config, &DEDUP)?);
    Ok(Box::new(move |sender| Arc::new(Contents { link: server.link(sender), ttl })))
}

/// Counts pushes per device and minute.
struct Limiter {
    link: Arc<Link>,
    rpm: u32,
}

#[async_trait]
impl RateLimiter for Limiter {
    async fn allow(&self, device: &str, identity: Uuid) -> Answer {
        if !self.link.is_open() {
            return Answer::Unknown;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let question = Question::Allow {
            counter: counter(device, since.as_secs()),
            device: device.len(),
            limit: self.rpm,
            identity,
        };
        self.link.ask(question).await
    }
}

/// The original's counter of a device at a moment: the device and the minute of the hour.
fn counter(device: &str, epoch_s: u64) -> String {
    format!("{device}:{}", epoch_s / 60 % 60)
}

/// Remembers who claims a content.
struct Contents {
    link: Arc<Link>,
    ttl: Duration,
}

#[async_trait]
impl Dedup for Contents {
    async fn is_unique(&self, key: ContentKey, identity: Uuid) -> Answer {
        if !self.link.is_open() {
            return Answer::Unknown;
        }
        self.link.ask(Question::Unique { key, ttl: self.ttl, identity }).await
    }

    fn forget(&self, key: ContentKey, identity: Uuid) {
        if self.link.is_open() {
            self.link.tell(Question::Forget { key, identity });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_the_originals() {
        // 2024-06-20T16:39:59Z and the second after it.
        assert_eq!(counter("a1b2", 1_718_901_599), "a1b2:39");
        assert_eq!(counter("a1b2", 1_718_901_600), "a1b2:40");
        assert_eq!(counter("x:y", 3_600 * 7 + 59), "x:y:0");
        assert_eq!(counter("", 3_599), ":59");
    }
}
