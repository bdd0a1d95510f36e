//! Firebase Cloud Messaging through its HTTP v1 interface, for messages of the original (platform `gcm` in topics and tables).
//!
//! What is here: the producer's message (`message` with `fields`, `data`, `notification`; `native` with `schema` and `forms` for
//! messages in Google's own form), the `request` made of it, the `client` that makes one attempt, the `response` table over
//! what `answer` reads (and `quota` counts), what an app sends with (`account`: `credentials`, and the access `token` that
//! a `token_endpoint` or the `metadata` server gives), the `feedback` record, and the `config` keys. What is not: retries that
//! wait (`handlers::retry` and the dispatcher), connections (`http2`), Kafka.
//!
//! Invariants:
//! - What leaves is valid v1, or nothing leaves and the message has a reason.
//! - One fetch per expiry of an access token, by one task; an app without a token waits and disturbs no other.
//! - A token is deleted only on answers that name it: never on a 404 or 403 about the project.
//! - Connections are shared per (endpoint, project) and sender thread, access tokens per credential and process.
//! - No token, key and payload in a description, a log line or `Debug` output.

mod account;
mod answer;
mod client;
mod config;
mod credentials;
mod data;
mod feedback;
mod fields;
mod forms;
mod handler;
mod message;
mod metadata;
mod native;
mod notification;
pub mod probe;
mod proof;
mod quota;
mod reloads;
mod request;
mod response;
mod schema;
mod token;
mod token_endpoint;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::account::Account;
use self::client::Client;
use self::config::{ADMISSION, App};
pub use self::config::{IGNORED, KEYS, Origin, Settings};
use self::fields::Fields;
use self::handler::GcmHandler;
use self::message::NotSent;
use self::request::Target;
use self::token::{AccessToken, keep_fresh};
use super::pace::Pace;
use super::preview::{NOT_SHOWN, Preview, Previewed};
use super::{MessageHandler, Provider, ProviderError, Sender, home_sender};
use crate::admission::PlatformKeys;
use crate::http2::tls::{self, Trust};
use crate::http2::{Pool, PoolSettings, Stats};
use crate::message::{Platform, QueueMessage};
use crate::outcome::Refusal;
use crate::proof::Proof;
use crate::reload::Watched;

/// The platform's name in topics, tables and tags.
pub const PLATFORM: Platform = Platform("gcm");

/// Streams that one connection to FCM carries (observed; it answers more with GOAWAY).
const STREAMS_PER_CONNECTION: usize = 100;

/// FCM for the configured apps.
pub struct GcmProvider {
    settings: Settings,
    trust: Trust,
    hostname: Arc<str>,
    /// By app, in the order of `settings.apps`.
    accounts: Vec<Account>,
    /// By pool key and sender.
    pools: Mutex<HashMap<(String, usize), Pool>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl GcmProvider {
    /// Reads and tries the credentials of every app. Connects to nothing.
    pub fn new(settings: Settings) -> Result<Self, ProviderError> {
        let wrong = |error: tls::TlsError| ProviderError::Tls { platform: PLATFORM, rule: error.to_string() };
        let trust = tls::trust(settings.ca_file.as_deref()).map_err(wrong)?;
        let accounts = account::all(&settings.apps, settings.pace)?;
        let hostname = gethostname::gethostname().to_string_lossy().into_owned().into();
        let (pools, tasks, stop) = (Mutex::default(), TaskTracker::new(), CancellationToken::new());
        Ok(GcmProvider { settings, trust, hostname, accounts, pools, tasks, stop })
    }

    fn app(&self, name: &str) -> (&App, &Account) {
        let mut apps = self.settings.apps.iter().zip(&self.accounts);
        apps.find(|(app, _)| *app.name == *name).expect("the caller asks for apps that `apps` lists, as the trait says")
    }

    fn target(&self, account: &Account) -> Target {
        Target::new(&self.settings.authority, &account.project)
    }

    fn key_of(&self, account: &Account) -> String {
        format!("fcm {} {}", self.settings.authority, account.project)
    }

    fn pool(&self, account: &Account, sender: Sender) -> Pool {
        let key = self.key_of(account);
        let make = || Pool::new(self.pool_settings(&key, sender), self.trust.clone());
        self.pools.lock().entry((key.clone(), sender.index)).or_insert_with(make).clone()
    }

    fn pool_settings(&self, key: &str, sender: Sender) -> PoolSettings {
        let authority = &self.settings.authority;
        let at_home = home_sender(key, sender.of) == sender.index;
        PoolSettings {
            max_connections: super::share(self.settings.max_connections, sender),
            min_idle: usize::from(at_home),
            reads: response::READS,
            streams_unless_named: STREAMS_PER_CONNECTION,
            // FCM answers three pings without a request between them with GOAWAY, at any interval.
            ping_after: None,
            // Silence is all that tells a dead peer here; FCM's own limit for a slow backend is 5 s.
            dead_after: Duration::from_secs(15).min(self.settings.timeout),
            connect_timeout: self.settings.connect_timeout,
            request_timeout: self.settings.timeout,
            // FCM says goodbye to an idle connection after 3 to 4 minutes.
            idle_timeout: Duration::from_mins(2),
            // It says so to every connection after an hour; ours go before that, and not together.
            max_age: Some(Duration::from_mins(55)),
            backoff: (Duration::from_millis(500), Duration::from_secs(5)),
            ..PoolSettings::new(authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(443))
        }
    }
}

/// The request's body that a record leads to at `now_ms` (ms since the epoch), or why it is not sent; `None`: its expiry has
/// passed. What a worker sends, without sending it.
pub fn request_body(record: &[u8], now_ms: i64) -> Result<bytes::Bytes, Option<Box<Refusal>>> {
    match Fields::read(record).map_err(NotSent::from).and_then(|fields| message::parse(&fields, now_ms)) {
        Ok(push) => Ok(push.body),
        Err(NotSent::Refused(refusal)) => Err(Some(refusal)),
        Err(NotSent::Expired) => Err(None),
    }
}

impl Provider for GcmProvider {
    fn platform(&self) -> Platform {
        PLATFORM
    }

    fn apps(&self) -> Vec<Arc<str>> {
        self.settings.apps.iter().map(|app| Arc::clone(&app.name)).collect()
    }

    fn start(&self, house: &tokio::runtime::Handle) {
        let _inside = house.enter();
        let mut started: Vec<&Arc<AccessToken>> = Vec::new();
        for (app, account) in self.settings.apps.iter().zip(&self.accounts) {
            if started.iter().any(|token| Arc::ptr_eq(token, &account.token)) {
                continue;
            }
            started.push(&account.token);
            let (token, source) = (Arc::clone(&account.token), account.source(&self.trust));
            // Task `keep_fresh`, named in the log by the first app of its credentials.
            self.tasks.spawn_on(keep_fresh(token, source, app.name.to_string(), self.stop.clone()), house);
        }
    }

    fn handler(&self, app: &str, sender: Sender) -> Arc<dyn MessageHandler> {
        let (app, account) = self.app(app);
        let client = Client {
            app: Arc::clone(&app.name),
            pool: self.pool(account, sender),
            token: Arc::clone(&account.token),
            target: self.target(account),
            limited: Arc::clone(&account.limited),
            alarmed: Arc::clone(&account.alarmed),
        };
        Arc::new(GcmHandler { app: Arc::clone(&app.name), hostname: Arc::clone(&self.hostname), client })
    }

    fn preview(&self, message: &QueueMessage, now_ms: i64) -> Preview {
        let (_, account) = self.app(&message.origin.app);
        match message::read(message, now_ms) {
            Ok(push) => {
                let request = request::build(&self.target(account), NOT_SHOWN);
                Previewed::of(request, push.body, push.token.as_deref(), expires_at_ms(message))
            }
            Err(not_sent) => Preview::Ends(not_sent.into()),
        }
    }

    fn pool_key(&self, app: &str) -> String {
        self.key_of(self.app(app).1)
    }

    fn retry(&self) -> super::retry::Policy {
        self.settings.retry
    }

    fn pace(&self, app: &str) -> Option<Arc<Pace>> {
        Some(Arc::clone(&self.app(app).1.pace))
    }

    fn ramp(&self) -> Duration {
        Duration::from_mins(1) // Google: Scale FCM
    }

    fn proofs(&self) -> Vec<Proof> {
        proof::all(self)
    }

    fn watched(&self) -> Vec<Watched> {
        reloads::all(self)
    }

    fn reached(&self, app: &str) {
        let apps = self.settings.apps.iter().zip(&self.accounts);
        apps.filter(|(of, _)| *of.name == *app).for_each(|(_, account)| account.limited.forget());
        let key = self.pool_key(app);
        self.pools.lock().iter().filter(|((pool, _), _)| *pool == key).for_each(|(_, pool)| pool.end_rest());
    }

    fn admission_keys(&self) -> PlatformKeys {
        ADMISSION
    }

    fn streams_per_connection(&self) -> usize {
        STREAMS_PER_CONNECTION
    }

    fn pools(&self) -> Vec<(String, Stats)> {
        self.pools.lock().iter().map(|((key, _), pool)| (key.clone(), pool.stats())).collect()
    }

    fn without_credentials(&self) -> Vec<Arc<str>> {
        let apps = self.settings.apps.iter().zip(&self.accounts);
        apps.filter(|(_, account)| !account.token.is_in_hand()).map(|(app, _)| Arc::clone(&app.name)).collect()
    }

    fn close(&self) {
        for pool in self.pools.lock().values() {
            pool.close();
        }
        self.stop.cancel();
        self.tasks.close();
    }
}

impl Drop for GcmProvider {
    /// Ends the tasks that renew tokens.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn expires_at_ms(message: &QueueMessage) -> Option<i64> {
    Fields::of(message).and_then(|fields| message::expires_at_ms(&fields)).ok().flatten()
}

#[cfg(test)]
mod tests;
