//! The demo's providers, each by its simulator over TLS, and all that tells them apart.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::generate::{Generated, Generator, Settings, apns::Apns, gcm::Gcm};
use crate::simulator::ledger::Sums;
use crate::simulator::{apns, fcm};

/// The only app.
const APP: &str = "game";
const PROJECT: &str = "demo-game";

/// One provider's simulator, and how a worker and a producer are to speak to it.
pub(super) struct FarEnd {
    /// Its name for people.
    pub title: &'static str,
    /// The subcommand of its worker, and its part of topics' names.
    pub platform: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// What its worker must be told: names without `PUSHER_`.
    pub settings: Vec<(&'static str, String)>,
    shape: fn(Settings) -> Box<dyn Iterator<Item = Generated>>,
    seen: Box<dyn Fn() -> Sums>,
}

impl FarEnd {
    /// Apple's.
    pub(super) async fn apns(folder: &Path) -> Result<FarEnd> {
        let simulator = apns::Simulator::start(apns::Settings::default()).await?;
        let key = simulator.key();
        let settings = vec![
            ("APNS_APPS", APP.to_owned()),
            ("APNS_CERTS_GAME_AUTHKEYPATH", written(folder, "key.p8", &key.pem)?),
            ("APNS_CERTS_GAME_KEYID", key.key_id.clone()),
            ("APNS_CERTS_GAME_TEAMID", key.team_id.clone()),
            ("APNS_CERTS_GAME_TOPIC", "com.example.game".into()),
            ("APNS_ENDPOINT", format!("https://{}", simulator.address())),
            ("APNS_CAFILE", written(folder, "apns.pem", simulator.ca_pem())?),
        ];
        Ok(FarEnd {
            title: "APNs",
            platform: "apns",
            address: simulator.address(),
            settings,
            shape: |settings| Box::new(Generator::new(Apns { app: APP.into() }, settings)),
            seen: Box::new(move || simulator.handle().ledger().sums()),
        })
    }

    /// Google's, with its token endpoint.
    pub(super) async fn fcm(folder: &Path) -> Result<FarEnd> {
        let settings = fcm::Settings { projects: vec![PROJECT.into()], ..fcm::Settings::default() };
        let simulator = fcm::Simulator::start(settings).await?;
        let account = simulator.credentials(PROJECT).context("the simulator knows its project")?;
        let settings = vec![
            ("GCM_APPS", APP.to_owned()),
            ("GCM_FIREBASECREDENTIALSFILE_GAME", written(folder, "account.json", &account)?),
            ("GCM_ENDPOINT", format!("https://{}", simulator.address())),
            ("GCM_CAFILE", written(folder, "fcm.pem", simulator.ca_pem())?),
            // A demonstration is short: it does not begin as gently as Google is to be met.
            ("GCM_QUOTA_RAMP", "0s".to_owned()),
        ];
        Ok(FarEnd {
            title: "FCM",
            platform: "gcm",
            address: simulator.address(),
            settings,
            shape: |settings| Box::new(Generator::new(Gcm { app: APP.into() }, settings)),
            seen: Box::new(move || simulator.handle().ledger().sums()),
        })
    }

    /// Messages for it, of all kinds.
    pub(super) fn messages(&self, count: u64, seed: u64) -> Box<dyn Iterator<Item = Generated>> {
        (self.shape)(Settings { count, seed, ..Settings::default() })
    }

    /// Where producers write them.
    pub(super) fn topic(&self) -> String {
        format!("push-{APP}_{}-massive", self.platform)
    }

    /// Where their feedback is read.
    pub(super) fn feedback_topic(&self) -> String {
        format!("push-{APP}-{}-feedbacks", self.platform)
    }

    /// Which messages it saw.
    pub(super) fn seen(&self) -> Sums {
        (self.seen)()
    }
}

fn written(folder: &Path, name: &str, text: &str) -> Result<String> {
    let file = folder.join(name);
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file.to_string_lossy().into_owned())
}
