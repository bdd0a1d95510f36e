//! Apple Push Notification service, with token authentication (.p8 keys).
//!
//! What is here: the producer's message (`message` and its helpers `fields`, `merge`, `push_type`), the `request` made of
//! it, the `client` that makes one attempt, the `response` table, the provider `token`, the `feedback` record, and the
//! `config` keys. What is not: retries that wait (`handlers::retry` and the dispatcher), connections (`http2`), Kafka.
//!
//! Invariants:
//! - The body leaves byte for byte as the producer wrote it, but for metadata merged into its `M`.
//! - A push keeps its `apns-id` through resends, retries and redelivery.
//! - No token and no payload in a description, a log line or `Debug` output.
//! - Apple binds a connection to one team and key, so connections are shared per (host, team, key) and sender thread, by
//!   all apps of that key; and a process signs one provider token per key, or Apple complains of too many.

mod client;
mod clock;
mod config;
mod feedback;
mod fields;
mod keys;
mod merge;
mod message;
mod parts;
pub mod probe;
mod push_type;
mod reloads;
mod request;
mod response;
mod token;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use parking_lot::Mutex;

use self::client::Client;
use self::config::{ADMISSION, App};
pub use self::config::{IGNORED, KEYS, Settings};
use self::fields::Fields;
use self::keys::{AppKey, app_keys};
use self::message::{NotSent, Push};
use self::request::Target;
pub use self::token::Now;
use self::token::ProviderToken;
use super::host::host_proof;
use super::preview::{NOT_SHOWN, Preview, Previewed};
use super::record::About;
use super::{
    BoxFuture, Gate, MessageHandler, Provider, ProviderError, RecordForm, Sender, home_sender, share, without_request,
};
use crate::admission::PlatformKeys;
use crate::http2::tls::{self, Trust};
use crate::http2::{Pool, PoolSettings, Stats};
use crate::message::{Platform, QueueMessage};
use crate::outcome::{Attempt, Outcome};
use crate::proof::{Finding, Proof};
use crate::reload::Watched;

/// The platform's name in topics, tables and tags.
pub const PLATFORM: Platform = Platform("apns");

/// Streams that one connection to Apple usually carries (observed by many clients since 2017; Apple promises nothing).
const STREAMS_PER_CONNECTION: usize = 1000;

/// APNs for the configured apps.
pub struct ApnsProvider {
    settings: Settings,
    trust: Trust,
    hostname: Arc<str>,
    clock: fn() -> Now,
    /// By app, in the order of `settings.apps`.
    keys: Vec<AppKey>,
    pools: Pools,
}

/// By pool key and sender.
type Pools = Arc<Mutex<HashMap<(String, usize), Shared>>>;

/// The connections of one key on one sender thread.
#[derive(Clone)]
struct Shared {
    pool: Pool,
    renewed: Arc<Mutex<Option<Instant>>>,
}

impl ApnsProvider {
    /// Reads and tries the credentials of every app. Connects to nothing.
    pub fn new(settings: Settings) -> Result<Self, ProviderError> {
        ApnsProvider::with_clock(settings, clock::now)
    }

    /// The same with provider tokens that age by `clock`, for tests in which time passes.
    pub fn with_clock(settings: Settings, clock: fn() -> Now) -> Result<Self, ProviderError> {
        let wrong = |error: tls::TlsError| ProviderError::Tls { platform: PLATFORM, rule: error.to_string() };
        let trust = tls::trust(settings.ca_file.as_deref()).map_err(wrong)?;
        let keys = app_keys(&settings.apps, clock())?;
        let hostname = gethostname::gethostname().to_string_lossy().into_owned().into();
        Ok(ApnsProvider { settings, trust, hostname, clock, keys, pools: Pools::default() })
    }

    /// The settings that it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn app(&self, name: &str) -> (&App, &Arc<ProviderToken>) {
        let mut apps = self.settings.apps.iter().zip(self.keys.iter().map(|key| &key.token));
        apps.find(|(app, _)| *app.name == *name).expect("the caller asks for apps that `apps` lists, as the trait says")
    }

    fn target(&self, app: &App) -> Target {
        Target { authority: self.settings.authority.clone(), topic: app.topic.clone() }
    }

    fn key_of(&self, app: &App) -> String {
        format!("apns {} {} {}", self.settings.authority, app.team_id, app.key_id)
    }

    fn pool(&self, app: &App, sender: Sender) -> Shared {
        let key = self.key_of(app);
        let make = || Shared {
            pool: Pool::new(self.pool_settings(&key, sender), self.trust.clone()),
            renewed: Arc::default(),
        };
        self.pools.lock().entry((key.clone(), sender.index)).or_insert_with(make).clone()
    }

    fn pool_settings(&self, key: &str, sender: Sender) -> PoolSettings {
        let authority = &self.settings.authority;
        let at_home = home_sender(key, sender.of) == sender.index;
        let host = authority.host().trim_matches(['[', ']']);
        PoolSettings {
            max_connections: share(self.settings.max_connections, sender),
            min_idle: usize::from(at_home),
            reads: response::READS,
            // With token authentication Apple takes one stream until a request with a valid token was posted.
            streams_until_proven: Some(1),
            // Middleboxes cut idle connections without a word, and Apple tolerates pings. A peer that is silent while a
            // push waits for it is asked earlier, and dead after ten seconds.
            ping_after: Some(Duration::from_mins(1)),
            dead_after: Duration::from_secs(10),
            connect_timeout: self.settings.connect_timeout,
            request_timeout: self.settings.timeout,
            idle_timeout: Duration::from_mins(10),
            // Apple takes reconnecting again and again for an attack; and after an outage we want to be back in seconds.
            // While the breaker is open its probes alone ask for connections.
            backoff: (Duration::from_millis(250), Duration::from_secs(3)),
            proves: |status| status != StatusCode::FORBIDDEN,
            ..PoolSettings::new(host, authority.port_u16().unwrap_or(443))
        }
    }
}

fn topic(app: &App) -> String {
    String::from_utf8_lossy(app.topic.as_bytes()).into_owned()
}

impl Provider for ApnsProvider {
    fn platform(&self) -> Platform {
        PLATFORM
    }

    fn apps(&self) -> Vec<Arc<str>> {
        self.settings.apps.iter().map(|app| Arc::clone(&app.name)).collect()
    }

    fn handler(&self, app: &str, sender: Sender) -> Arc<dyn MessageHandler> {
        let (app, token) = self.app(app);
        let Shared { pool, renewed } = self.pool(app, sender);
        let target = self.target(app);
        let client = Client { pool, token: Arc::clone(token), target, clock: self.clock, renewed };
        let (name, hostname) = (Arc::clone(&app.name), Arc::clone(&self.hostname));
        Arc::new(ApnsHandler { app: name, hostname, topic: topic(app), client })
    }

    fn preview(&self, message: &QueueMessage, now_ms: i64) -> Preview {
        let (app, _) = self.app(&message.origin.app);
        match read(message, now_ms, &topic(app)) {
            Ok(push) => {
                let request = request::build(&push, &self.target(app), NOT_SHOWN);
                Previewed::of(request, push.parts.body.clone(), Some(&push.token), expires_at_ms(message))
            }
            Err(not_sent) => Preview::Ends(not_sent.into()),
        }
    }

    fn pool_key(&self, app: &str) -> String {
        self.key_of(self.app(app).0)
    }

    fn admission_keys(&self) -> PlatformKeys {
        ADMISSION
    }

    fn streams_per_connection(&self) -> usize {
        STREAMS_PER_CONNECTION
    }

    fn retry(&self) -> super::retry::Policy {
        self.settings.retry
    }

    fn watched(&self) -> Vec<Watched> {
        reloads::all(self)
    }

    fn proofs(&self) -> Vec<Proof> {
        // Signing was tried when the keys were read.
        let signed = self.settings.apps.iter().zip(&self.keys).map(|(app, key)| {
            let App { name, team_id, .. } = app;
            let (path, id) = (app.auth_key_path.display(), &key.id);
            let said = format!(
                "{name}: {path} signs for team {team_id} as key {id}; whether Apple takes it shows with a push"
            );
            Finding::proved("apns key", said)
        });
        let signed = signed.collect();
        let settings = self.pool_settings("", Sender { index: 0, of: 1 });
        vec![Proof::new("apns key", async move { signed }), host_proof("apns host", settings, self.trust.current())]
    }

    fn reached(&self, app: &str) {
        let key = self.pool_key(app);
        let pools = self.pools.lock();
        let of_app = pools.iter().filter(|((pool, _), _)| *pool == key);
        of_app.for_each(|(_, shared)| shared.pool.end_rest());
    }

    fn pools(&self) -> Vec<(String, Stats)> {
        self.pools.lock().iter().map(|((key, _), shared)| (key.clone(), shared.pool.stats())).collect()
    }

    fn close(&self) {
        for shared in self.pools.lock().values() {
            shared.pool.close();
        }
    }
}

/// A message of an app whose topic is `topic`, as a push.
fn read<'a>(message: &'a QueueMessage, now_ms: i64, topic: &str) -> Result<Push<'a>, NotSent> {
    message::parse(&message.payload, &Fields::of(message)?, now_ms, topic, || message.identity())
}

fn expires_at_ms(message: &QueueMessage) -> Option<i64> {
    Fields::of(message).and_then(|fields| message::expiry_ms(&fields)).ok().flatten()
}

/// Sends the pushes of one app on one sender thread.
struct ApnsHandler {
    app: Arc<str>,
    hostname: Arc<str>,
    topic: String,
    client: Client,
}

impl ApnsHandler {
    fn attempt<'a>(&'a self, push: Push<'a>, gate: &'a dyn Gate) -> BoxFuture<'a, Attempt> {
        Box::pin(async move {
            match super::turned_away(gate, || Some(push.subject())).await {
                Some(attempt) => attempt,
                None => self.client.send(&push, gate).await,
            }
        })
    }
}

impl MessageHandler for ApnsHandler {
    fn handle<'a>(&'a self, message: &'a QueueMessage, _attempt: u32, gate: &'a dyn Gate) -> BoxFuture<'a, Attempt> {
        match read(message, crate::clock::now_ms(), &self.topic) {
            Ok(push) => self.attempt(push, gate),
            Err(not_sent) => without_request(not_sent.into()),
        }
    }

    fn feedback(&self, message: &QueueMessage, outcome: &Outcome, form: RecordForm) -> Vec<u8> {
        let about = About::of(message, &self.app, &self.hostname, form);
        feedback::record(&Fields::of(message).unwrap_or_default(), outcome, &about)
    }

    fn metadata<'a>(&self, message: &'a QueueMessage) -> Option<&'a str> {
        Fields::of(message).ok()?.metadata
    }

    fn expires_at_ms(&self, message: &QueueMessage) -> Option<i64> {
        expires_at_ms(message)
    }

    fn client(&self) -> &'static str {
        "apns"
    }
}

#[cfg(test)]
mod tests;
