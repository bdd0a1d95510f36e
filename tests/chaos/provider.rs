//! The provider at the far end, APNs or FCM: what can be wrong with it, in words that fit both.

use pusher::generate::{Generated, Generator, Settings};
use pusher::simulator::counters::Counts;
use pusher::simulator::handle::{self, Handle};
use pusher::simulator::ledger::Ledger;
use pusher::simulator::{apns, fcm};
use serde_json::Value;
use std::path::Path;

use crate::support::wait_for;

/// Time from a request to its answer, ms: pushes are on streams when something happens.
const PROCESSING_MS: u64 = 30;

/// What is wrong with a provider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ill {
    /// 503 for all.
    Unavailable,
    /// Nobody listens.
    Refused,
    /// Requests are taken in and never answered.
    Silent,
    /// Handshakes fail.
    TlsFails,
    /// GOAWAY after every so many requests of a connection.
    GoAwayEvery(u64),
    /// Streams are reset, some before and some while they are processed, none accepted.
    Resets,
    /// So many of the answers to accepted pushes are lost.
    AnswersLost(f64),
    /// 429 of single devices for this share of the pushes.
    Limited { share: f64, retry_after: Option<u32> },
    /// The token endpoint cannot be reached and the tokens given out count no more (FCM).
    OAuthDown,
    /// The key or the account is refused.
    Revoked,
}

/// A provider as the run sees it.
pub(crate) trait Provider: Send + Sync {
    /// Which serials came.
    fn ledger(&self) -> &Ledger;
    /// What was counted.
    fn counts(&self) -> Counts;
    /// Makes it ill; `None`: well again.
    fn set(&self, ill: Option<Ill>);
    /// Breaks every open connection.
    fn close_connections(&self);
    /// What a worker is told to send to it (keys and values); files go into `folder`.
    fn settings(&self, app: &str, folder: &Path) -> Vec<(String, String)>;
    /// Messages as producers write them.
    fn messages(&self, app: &str, settings: Settings) -> Box<dyn Iterator<Item = Generated> + Send>;
    /// The reason's key in a feedback record; `None`: the record says that the push was delivered.
    fn told<'a>(&self, record: &'a Value) -> Option<&'a str>;
}

/// Starts the provider of a platform, for this app.
pub(crate) fn start(platform: &str, app: &str) -> Box<dyn Provider> {
    match platform {
        "apns" => {
            let settings = apns::Settings { faults: apns_faults(None), ..apns::Settings::default() };
            Box::new(wait_for(apns::Simulator::start(settings)).expect("APNs starts"))
        }
        _ => {
            let projects = vec![app.to_owned()];
            let settings = fcm::Settings { faults: fcm_faults(None), projects, ..fcm::Settings::default() };
            Box::new(wait_for(fcm::Simulator::start(settings)).expect("FCM starts"))
        }
    }
}

fn apns_faults(ill: Option<Ill>) -> apns::faults::Faults {
    use apns::faults::{AnswerFault, Faults};
    let mut faults = Faults { processing_ms: PROCESSING_MS, ..Faults::default() };
    match ill {
        None => {}
        Some(Ill::Unavailable) => faults.answers = vec![AnswerFault::all(503, "ServiceUnavailable")],
        Some(Ill::Refused) => faults.connection.refuse_connections = true,
        Some(Ill::Silent) => faults.silent_share = 1.0,
        Some(Ill::TlsFails) => faults.connection.fail_tls = true,
        Some(Ill::GoAwayEvery(requests)) => faults.goaway_every = requests,
        Some(Ill::Resets) => (faults.reset_share, faults.refuse_share) = (0.3, 0.3),
        Some(Ill::AnswersLost(share)) => faults.answer_lost_share = share,
        Some(Ill::Limited { share, retry_after }) => {
            faults.answers = vec![AnswerFault { share, retry_after, ..AnswerFault::all(429, "TooManyRequests") }];
        }
        Some(Ill::OAuthDown) => unreachable!("APNs has no token endpoint"),
        Some(Ill::Revoked) => faults.rejected_keys = vec!["*".into()],
    }
    faults
}

fn fcm_faults(ill: Option<Ill>) -> fcm::faults::Faults {
    use fcm::faults::{AnswerFault, Faults, OAuthAnswer};
    let mut faults = Faults { processing_ms: PROCESSING_MS, ..Faults::default() };
    match ill {
        None => {}
        Some(Ill::Unavailable) => faults.answers = vec![AnswerFault::all(503, 0)],
        Some(Ill::Refused) => faults.connection.refuse_connections = true,
        Some(Ill::Silent) => faults.silent_share = 1.0,
        Some(Ill::TlsFails) => faults.connection.fail_tls = true,
        Some(Ill::GoAwayEvery(requests)) => faults.goaway_every = requests,
        Some(Ill::Resets) => (faults.reset_share, faults.refuse_share) = (0.3, 0.3),
        Some(Ill::AnswersLost(share)) => faults.answer_lost_share = share,
        Some(Ill::Limited { share, retry_after }) => {
            faults.answers = vec![AnswerFault { share, retry_after, ..AnswerFault::all(429, 0) }];
        }
        Some(Ill::OAuthDown) => faults.oauth.refuse_connections = true,
        Some(Ill::Revoked) => faults.oauth.answer = Some(OAuthAnswer::InvalidGrant),
    }
    faults
}

fn put<P: handle::Provider>(handle: &Handle<P>, faults: P::Faults) {
    handle.set_faults(faults).expect("valid faults");
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Provider for apns::Simulator {
    fn ledger(&self) -> &Ledger {
        self.handle().ledger()
    }

    fn counts(&self) -> Counts {
        self.stats().counts
    }

    fn set(&self, ill: Option<Ill>) {
        put(self.handle(), apns_faults(ill));
    }

    fn close_connections(&self) {
        self.handle().close_connections();
    }

    fn settings(&self, app: &str, folder: &Path) -> Vec<(String, String)> {
        let (key, ca) = (folder.join("key.p8"), folder.join("ca.pem"));
        std::fs::write(&key, &self.key().pem).expect("the key's file");
        std::fs::write(&ca, self.ca_pem()).expect("the CA's file");
        vec![
            ("apns.apps".into(), app.into()),
            ("apns.endpoint".into(), format!("https://{}", self.address())),
            ("apns.caFile".into(), text(&ca)),
            (format!("apns.certs.{app}.authKeyPath"), text(&key)),
            (format!("apns.certs.{app}.keyID"), self.key().key_id.clone()),
            (format!("apns.certs.{app}.teamID"), self.key().team_id.clone()),
            (format!("apns.certs.{app}.topic"), "com.example.game".into()),
        ]
    }

    fn messages(&self, app: &str, settings: Settings) -> Box<dyn Iterator<Item = Generated> + Send> {
        Box::new(Generator::new(pusher::generate::apns::Apns { app: app.into() }, settings))
    }

    fn told<'a>(&self, record: &'a Value) -> Option<&'a str> {
        record["Err"]["Key"].as_str()
    }
}

impl Provider for fcm::Simulator {
    fn ledger(&self) -> &Ledger {
        self.handle().ledger()
    }

    fn counts(&self) -> Counts {
        self.stats().counts
    }

    fn set(&self, ill: Option<Ill>) {
        put(self.handle(), fcm_faults(ill));
        if matches!(ill, Some(Ill::OAuthDown | Ill::Revoked)) {
            self.handle().revoke_tokens();
        }
    }

    fn close_connections(&self) {
        self.handle().close_connections();
    }

    fn settings(&self, app: &str, folder: &Path) -> Vec<(String, String)> {
        let (account, ca) = (folder.join("account.json"), folder.join("fcm-ca.pem"));
        std::fs::write(&account, self.credentials(app).expect("the app's project")).expect("the account's file");
        std::fs::write(&ca, self.ca_pem()).expect("the CA's file");
        vec![
            ("gcm.apps".into(), app.into()),
            ("gcm.endpoint".into(), format!("https://{}", self.address())),
            ("gcm.caFile".into(), text(&ca)),
            (format!("gcm.firebaseCredentialsFile.{app}"), text(&account)),
        ]
    }

    fn messages(&self, app: &str, settings: Settings) -> Box<dyn Iterator<Item = Generated> + Send> {
        Box::new(Generator::new(pusher::generate::gcm::Gcm { app: app.into() }, settings))
    }

    fn told<'a>(&self, record: &'a Value) -> Option<&'a str> {
        record["error"].as_str()
    }
}
