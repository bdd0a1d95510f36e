//! The same for FCM: a service account's key exchanged while a worker runs.

use std::net::SocketAddr;
use std::path::PathBuf;

use pusher::generate::gcm::Gcm;
use pusher::generate::{Generator, Mix, Settings};
use pusher::simulator::fcm::account::KEY_ID;
use pusher::simulator::fcm::{self as simulated, Simulator, faults::Faults};

use crate::flow_reload::put;
use crate::support::world::{LONG, Running, World};
use crate::support::{Statsd, eventually, wait_for};

const PROJECT: &str = "project-1";

struct Ends {
    world: World,
    simulator: Simulator,
    folder: tempfile::TempDir,
    next_serial: u64,
}

impl Ends {
    fn start(faults: Faults, more: &[(&str, &str)]) -> Ends {
        let settings = simulated::Settings { projects: vec![PROJECT.into()], faults, ..Default::default() };
        let simulator = wait_for(Simulator::start(settings)).expect("a simulator");
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("ca.pem"), simulator.ca_pem()).expect("the CA");
        std::fs::write(path("one.json"), simulator.credentials(PROJECT).expect("known")).expect("the account");
        let pairs = [
            ("gcm.apps", "one".to_owned()),
            ("gcm.firebaseCredentialsFile.one", path("one.json")),
            ("gcm.endpoint", format!("https://{}", simulator.address())),
            ("gcm.caFile", path("ca.pem")),
            ("gcm.maxConnections", "2".to_owned()),
        ];
        let pairs = pairs.into_iter().chain(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let world = World::new("gcm", &["one"], pairs.map(|(key, value)| (key.to_owned(), value)));
        Ends { world, simulator, folder, next_serial: 0 }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("one.json")
    }

    fn calm(&mut self, count: u64) {
        let settings = Settings { count, first_serial: self.next_serial, mix: Mix::CALM, ..Settings::default() };
        self.next_serial += count;
        let lines: Vec<_> = Generator::new(Gcm { app: "one".into() }, settings).map(|push| push.line).collect();
        self.world.produce("one", lines);
    }

    /// The provider's place is taken by another whose certificates are of another CA.
    fn replace(&mut self) {
        let oauth = self.simulator.token_uri().strip_prefix("https://").and_then(|rest| rest.split('/').next());
        let settings = simulated::Settings {
            projects: vec![PROJECT.into()],
            listen: self.simulator.address(),
            oauth: oauth.and_then(|address| address.parse::<SocketAddr>().ok()).expect("an address"),
            ..Default::default()
        };
        let elsewhere = wait_for(Simulator::start(simulated::Settings::default())).expect("a simulator");
        let before = std::mem::replace(&mut self.simulator, elsewhere);
        self.simulator = wait_for(async {
            before.shutdown().await;
            Simulator::start(settings).await.expect("another in the same place")
        });
    }

    fn until_accepted(&self, n: u64) {
        eventually(&format!("{n} accepted"), LONG, || {
            (self.simulator.handle().ledger().sums().accepted >= n).then_some(())
        });
    }
}

#[track_caller]
fn assert_all_well(ends: &Ends, running: Running) {
    let totals = running.stop();
    assert_eq!(totals.delivered, ends.next_serial, "{totals:?}");
    assert_eq!((totals.failed, totals.rejected, totals.expired, totals.dead_letters), (0, 0, 0, 0), "{totals:?}");
    assert_eq!(ends.simulator.stats().messages.accepted, ends.next_serial);
    assert!(ends.world.feedback("one").is_empty() && ends.world.dead_letters("one").is_empty());
}

#[test]
fn an_account_is_exchanged_under_load_and_the_old_one_revoked() {
    let statsd = Statsd::start();
    let address = statsd.address.to_string();
    let more = [("stats.reporters", "statsd"), ("stats.statsd.host", address.as_str())];
    let mut ends = Ends::start(Faults { processing_ms: 20, ..Faults::default() }, &more);
    let (another, running) = (ends.simulator.another_key(PROJECT).expect("another"), ends.world.start());
    ends.calm(10_000);
    ends.until_accepted(500);
    put(&ends.file(), &another);
    running.reload();
    let tags = [("platform", "gcm"), ("key", "gcm.firebaseCredentialsFile.one")];
    statsd.await_sum("pushcredentials_reloaded", &tags, 1.0, LONG);
    // What is on its way with the old token is refused from here on, and sent again.
    ends.simulator.handle().revoke_key(KEY_ID);
    ends.calm(1_000);
    ends.world.settle("one");
    let totals = running.totals_of("one");
    assert_eq!((totals.holds, totals.retries, running.circuit("one").round()), (0, 0, 0), "{totals:?}");
    assert_eq!(ends.simulator.stats().oauth.tokens[PROJECT], 2, "one fetch for each key");
    assert_eq!(ends.simulator.stats().messages.repeated, 0);
    assert_all_well(&ends, running);
}

/// A key that is not granted anything yet, as Google's new ones for a while, does not drive out the one that works.
#[test]
fn an_account_that_is_refused_does_not_take_the_place_of_one_that_is_not() {
    let statsd = Statsd::start();
    let address = statsd.address.to_string();
    let more = [("stats.reporters", "statsd"), ("stats.statsd.host", address.as_str())];
    let mut ends = Ends::start(Faults::default(), &more);
    let (another, running) = (ends.simulator.another_key(PROJECT).expect("another"), ends.world.start());
    ends.calm(20);
    ends.until_accepted(20);
    let tags = [("platform", "gcm"), ("key", "gcm.firebaseCredentialsFile.one")];
    let stranger = another.replace("simulator@", "stranger@");
    for (number, wrong) in [another[..300].to_owned(), stranger].iter().enumerate() {
        put(&ends.file(), wrong);
        running.reload();
        statsd.await_sum("pushcredentials_reload_failed", &tags, number as f64 + 1.0, LONG);
        ends.calm(200);
        ends.world.settle("one");
    }
    put(&ends.file(), &another);
    running.reload();
    statsd.await_sum("pushcredentials_reloaded", &tags, 1.0, LONG);
    ends.simulator.handle().revoke_key(KEY_ID);
    ends.calm(200);
    ends.world.settle("one");
    assert_all_well(&ends, running);
}

/// As a mounted secret changes: nobody asks the worker to look.
#[test]
fn the_change_of_the_file_is_enough() {
    let statsd = Statsd::start();
    let address = statsd.address.to_string();
    let more = [("stats.reporters", "statsd"), ("stats.statsd.host", address.as_str())];
    let mut ends = Ends::start(Faults::default(), &more);
    let (another, running) = (ends.simulator.another_key(PROJECT).expect("another"), ends.world.start());
    ends.calm(20);
    ends.world.settle("one");
    put(&ends.file(), &another);
    let tags = [("platform", "gcm"), ("key", "gcm.firebaseCredentialsFile.one")];
    statsd.await_sum("pushcredentials_reloaded", &tags, 1.0, LONG);
    ends.simulator.handle().revoke_key(KEY_ID);
    ends.calm(200);
    ends.world.settle("one");
    let totals = running.totals_of("one");
    assert_eq!((totals.holds, totals.retries), (0, 0), "{totals:?}");
    assert_eq!(ends.simulator.stats().oauth.tokens[PROJECT], 2, "one fetch for each key");
    assert_all_well(&ends, running);
}

/// Both endpoints come back with certificates of another CA before the file says so.
#[test]
fn another_ca_is_trusted_for_new_connections() {
    let statsd = Statsd::start();
    let address = statsd.address.to_string();
    let more = [("stats.reporters", "statsd"), ("stats.statsd.host", address.as_str())];
    let mut ends = Ends::start(Faults::default(), &more);
    let running = ends.world.start();
    ends.calm(20);
    ends.world.settle("one");
    ends.replace();
    ends.calm(600);
    eventually("the breaker opens", LONG, || running.circuit("one").is_open().then_some(()));
    let (ca, tags) = (ends.folder.path().join("ca.pem"), [("platform", "gcm"), ("key", "gcm.caFile")]);
    put(&ca, "no certificate");
    running.reload();
    statsd.await_sum("pushcredentials_reload_failed", &tags, 1.0, LONG);
    assert_eq!(ends.simulator.stats().messages.accepted, 0, "it is still no one to be trusted");
    put(&ca, ends.simulator.ca_pem());
    running.reload();
    ends.world.settle("one");
    statsd.await_sum("pushcredentials_reloaded", &tags, 1.0, LONG);
    assert_eq!(ends.simulator.stats().messages.accepted, 600);
    let totals = running.stop();
    assert_eq!((totals.delivered, totals.failed, totals.rejected), (620, 0, 0), "{totals:?}");
    assert!(ends.world.feedback("one").is_empty() && ends.world.dead_letters("one").is_empty());
}

#[test]
fn an_app_that_is_paused_for_its_account_goes_on_at_once_with_another() {
    let no_probes = [("breaker.probeInterval", "10m"), ("breaker.maxProbeInterval", "10m")];
    let mut ends = Ends::start(Faults::default(), &no_probes);
    let (another, running) = (ends.simulator.another_key(PROJECT).expect("another"), ends.world.start());
    ends.calm(20);
    ends.world.settle("one");
    ends.simulator.handle().revoke_key(KEY_ID);
    ends.calm(600);
    eventually("the breaker opens", LONG, || running.circuit("one").is_open().then_some(()));
    put(&ends.file(), &another);
    running.reload();
    ends.world.settle("one");
    assert_all_well(&ends, running);
}
