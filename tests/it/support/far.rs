//! The provider at the far end, as the harness needs it: what APNs and FCM have in common, and where they differ.

use std::path::Path;

use pusher::generate::{Shape, apns::Apns, gcm::Gcm};
use pusher::simulator::counters::Counts;
use pusher::simulator::handle::{Handle, Provider};
use pusher::simulator::{apns, fcm};
use serde_json::Value;

use super::wait_for;

/// A simulated provider and its platform's conventions.
pub(crate) trait Far: Sized + Sync {
    /// The platform: the subcommand, and the part of topics' and tables' names.
    const PLATFORM: &'static str;
    /// Whose levers it has.
    type Levers: Provider;

    /// Starts a simulator that knows these apps.
    fn start(faults: <Self::Levers as Provider>::Faults, apps: &[&str]) -> Self;

    fn levers(&self) -> &Handle<Self::Levers>;

    fn counts(&self) -> Counts;

    /// So long to an answer, and so many streams on a connection.
    fn slow(&self, processing_ms: u64, streams: u32);

    /// What a worker is told to send to it, keys and values; files go into `folder`.
    fn settings(&self, apps: &[&str], folder: &Path) -> Vec<(String, String)>;

    /// How producers write for it.
    fn shape(app: &str) -> impl Shape;

    /// The token in a producer's message.
    fn token(line: &Value) -> Option<&str>;

    /// The reason's key in a feedback record.
    fn told(record: &Value) -> Option<&str>;
}

/// The bundle ids of the first app and of all others.
pub(crate) const TOPICS: [&str; 2] = ["com.example.game", "com.example.other"];

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Puts a file there as a whole: a worker that has just been started may be reading it.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("a new file");
    std::fs::rename(&new, path).expect("the file in its place");
}

impl Far for apns::Simulator {
    const PLATFORM: &'static str = "apns";
    type Levers = apns::Apns;

    fn start(faults: apns::faults::Faults, _: &[&str]) -> Self {
        let topics = TOPICS.map(ToOwned::to_owned).into();
        wait_for(apns::Simulator::start(apns::Settings { faults, topics, ..apns::Settings::default() })).expect("APNs")
    }

    fn levers(&self) -> &Handle<apns::Apns> {
        self.handle()
    }

    fn counts(&self) -> Counts {
        self.stats().counts
    }

    fn slow(&self, processing_ms: u64, streams: u32) {
        let edit =
            |faults: &mut apns::faults::Faults| (faults.processing_ms, faults.streams) = (processing_ms, streams);
        self.handle().change(edit).expect("valid faults");
    }

    fn settings(&self, apps: &[&str], folder: &Path) -> Vec<(String, String)> {
        let (key, ca) = (folder.join("key.p8"), folder.join("ca.pem"));
        put(&key, &self.key().pem);
        put(&ca, self.ca_pem());
        let mut all = vec![
            ("apns.apps".to_owned(), apps.join(",")),
            ("apns.endpoint".into(), format!("https://{}", self.address())),
            ("apns.caFile".into(), text(&ca)),
            // Refusals that pass are tried again soon: what is shown is that they are, not how patient we are.
            ("apns.retry.interval".into(), "200ms".into()),
        ];
        for (place, app) in apps.iter().enumerate() {
            let of_app = [
                ("authKeyPath", text(&key)),
                ("keyID", self.key().key_id.clone()),
                ("teamID", self.key().team_id.clone()),
                ("topic", TOPICS[place.min(1)].into()),
            ];
            all.extend(of_app.map(|(name, value)| (format!("apns.certs.{app}.{name}"), value)));
        }
        all
    }

    fn shape(app: &str) -> impl Shape {
        Apns { app: app.to_owned() }
    }

    fn token(line: &Value) -> Option<&str> {
        line.get("DeviceToken")?.as_str().filter(|token| token.chars().all(|c| c.is_ascii_hexdigit()))
    }

    fn told(record: &Value) -> Option<&str> {
        record["Err"]["Key"].as_str()
    }
}

impl Far for fcm::Simulator {
    const PLATFORM: &'static str = "gcm";
    type Levers = fcm::Fcm;

    /// Each app has a project of its name.
    fn start(faults: fcm::faults::Faults, apps: &[&str]) -> Self {
        let projects = apps.iter().map(|app| (*app).to_owned()).collect();
        wait_for(fcm::Simulator::start(fcm::Settings { faults, projects, ..fcm::Settings::default() })).expect("FCM")
    }

    fn levers(&self) -> &Handle<fcm::Fcm> {
        self.handle()
    }

    fn counts(&self) -> Counts {
        self.stats().counts
    }

    fn slow(&self, processing_ms: u64, streams: u32) {
        let edit = |faults: &mut fcm::faults::Faults| (faults.processing_ms, faults.streams) = (processing_ms, streams);
        self.handle().change(edit).expect("valid faults");
    }

    fn settings(&self, apps: &[&str], folder: &Path) -> Vec<(String, String)> {
        let ca = folder.join("fcm-ca.pem");
        put(&ca, self.ca_pem());
        let mut all = vec![
            ("gcm.apps".to_owned(), apps.join(",")),
            ("gcm.endpoint".into(), format!("https://{}", self.address())),
            ("gcm.caFile".into(), text(&ca)),
            // The simulator's own quota is the limit.
            ("gcm.quota.perMinute".into(), "100000000".into()),
            ("gcm.quota.ramp".into(), "0s".into()),
        ];
        for app in apps {
            let account = folder.join(format!("{app}.json"));
            put(&account, &self.credentials(app).expect("a project"));
            all.push((format!("gcm.firebaseCredentialsFile.{app}"), text(&account)));
        }
        all
    }

    fn shape(app: &str) -> impl Shape {
        Gcm { app: app.to_owned() }
    }

    fn token(line: &Value) -> Option<&str> {
        line.get("to")?.as_str()
    }

    fn told(record: &Value) -> Option<&str> {
        record["error"].as_str()
    }
}
