//! The provider at the far end, APNs or FCM: what can be wrong with it, in words that fit both.

use std::path::Path;
use std::sync::Arc;

use pusher::generate::apns::Apns;
use pusher::generate::gcm::Gcm;
use pusher::generate::{Generated, Generator, Settings};
use pusher::simulator::counters::Counts;
use pusher::simulator::handle::Provider as Simulated;
use pusher::simulator::ledger::Ledger;
use pusher::simulator::{apns, fcm};
use serde_json::Value;

use crate::support::far::{Far, TOPICS};

/// Time from a request to its answer, ms: pushes are on streams when something happens.
const PROCESSING_MS: u64 = 30;
/// What the tests' harness sets for its own sake.
const NOT_OURS: &str = "apns.retry.interval";

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

/// Messages as producers write them.
pub(crate) type Messages = Box<dyn Iterator<Item = Generated> + Send>;

/// A provider as the run sees it.
pub(crate) trait Provider: Send + Sync {
    /// Which serials came.
    fn ledger(&self) -> &Ledger;
    /// What was counted.
    fn counts(&self) -> Counts;
    /// Makes it ill; `None`: well again.
    fn set(&self, ill: Option<Ill>);
    /// Makes it ill for its first app alone, where what is wrong is not of a connection.
    fn set_for_first(&self, app: &str, ill: Ill);
    /// Breaks every open connection.
    fn close_connections(&self);
    /// What a worker is told to send to it (keys and values); files go into `folder`.
    fn settings(&self, apps: &[&str], folder: &Path) -> Vec<(String, String)>;
    /// Messages as producers write them.
    fn messages(&self, app: &str, settings: Settings) -> Messages;
    /// The reason's key in a feedback record; `None`: the record says that the push was delivered.
    fn told<'a>(&self, record: &'a Value) -> Option<&'a str>;
}

/// Starts the provider of a platform, for these apps.
pub(crate) fn start(platform: &str, apps: &[&str]) -> Arc<dyn Provider> {
    match platform {
        "apns" => Arc::new(<apns::Simulator as Far>::start(apns::Simulator::faults(None), apps)),
        _ => Arc::new(<fcm::Simulator as Far>::start(fcm::Simulator::faults(None), apps)),
    }
}

/// What each of them does to be ill, and what is written for it.
trait Patient: Far {
    fn faults(ill: Option<Ill>) -> <Self::Levers as Simulated>::Faults;

    /// The first app alone meets answers and what is drawn for single pushes.
    fn only_first(faults: &mut <Self::Levers as Simulated>::Faults, app: &str);

    /// What is done besides when it begins.
    fn fall(&self, _: Ill) {}

    /// Messages as producers write them for it.
    fn written(app: &str, settings: Settings) -> Messages;
}

impl Patient for apns::Simulator {
    fn faults(ill: Option<Ill>) -> apns::faults::Faults {
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

    fn only_first(faults: &mut apns::faults::Faults, _: &str) {
        faults.topic = Some(TOPICS[0].into());
    }

    fn written(app: &str, settings: Settings) -> Messages {
        Box::new(Generator::new(Apns { app: app.into() }, settings))
    }
}

impl Patient for fcm::Simulator {
    fn faults(ill: Option<Ill>) -> fcm::faults::Faults {
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

    fn only_first(faults: &mut fcm::faults::Faults, app: &str) {
        faults.project = Some(app.into());
    }

    fn fall(&self, ill: Ill) {
        if matches!(ill, Ill::OAuthDown | Ill::Revoked) {
            self.handle().revoke_tokens();
        }
    }

    fn written(app: &str, settings: Settings) -> Messages {
        Box::new(Generator::new(Gcm { app: app.into() }, settings))
    }
}

impl<F: Patient + Send> Provider for F {
    fn ledger(&self) -> &Ledger {
        self.levers().ledger()
    }

    fn counts(&self) -> Counts {
        Far::counts(self)
    }

    fn set(&self, ill: Option<Ill>) {
        self.levers().set_faults(F::faults(ill)).expect("valid faults");
        if let Some(ill) = ill {
            self.fall(ill);
        }
    }

    fn set_for_first(&self, app: &str, ill: Ill) {
        let mut faults = F::faults(Some(ill));
        F::only_first(&mut faults, app);
        self.levers().set_faults(faults).expect("valid faults");
    }

    fn close_connections(&self) {
        self.levers().close_connections();
    }

    fn settings(&self, apps: &[&str], folder: &Path) -> Vec<(String, String)> {
        let all = Far::settings(self, apps, folder);
        all.into_iter().filter(|(key, _)| key != NOT_OURS).collect()
    }

    fn messages(&self, app: &str, settings: Settings) -> Messages {
        F::written(app, settings)
    }

    fn told<'a>(&self, record: &'a Value) -> Option<&'a str> {
        F::told(record)
    }
}
