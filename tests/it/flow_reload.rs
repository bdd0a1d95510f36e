//! Keys and trusted certificates of APNs exchanged while a worker runs: nothing lost, nothing made to fail, and what was held
//! for the old ones goes on at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pusher::generate::apns::Apns;
use pusher::generate::{Generator, Mix, Settings};
use pusher::handlers::breaker::Position;
use pusher::simulator::apns::{self as simulated, Key, Simulator, faults::Faults};

use crate::support::world::{LONG, Running, World};
use crate::support::{Statsd, eventually, wait_for};

const MANY: u64 = 600;
/// No probe comes by itself.
const NO_PROBES: [(&str, &str); 2] = [("breaker.probeInterval", "10m"), ("breaker.maxProbeInterval", "10m")];

/// Both ends of a worker with the app `one`; the provider trusts two keys, of which the app has the first.
struct Ends {
    world: World,
    simulator: Simulator,
    keys: [Key; 2],
    folder: tempfile::TempDir,
    next_serial: u64,
}

fn key(number: u8) -> Key {
    let pair = rcgen::KeyPair::generate().expect("a key");
    Key { key_id: format!("KEYNUMBER{number}"), team_id: "TEAMNUMBR1".into(), pem: pair.serialize_pem() }
}

/// As every careful tool does it: in one stroke.
pub(crate) fn put(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).expect("written");
    std::fs::rename(&beside, path).expect("renamed");
}

impl Ends {
    fn start(faults: Faults, more: &[(&str, &str)]) -> Ends {
        let keys = [key(1), key(2)];
        let settings = simulated::Settings { keys: keys.to_vec(), faults, ..Default::default() };
        let simulator = wait_for(Simulator::start(settings)).expect("a simulator");
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("ca.pem"), simulator.ca_pem()).expect("the CA");
        std::fs::write(path("one.p8"), &keys[0].pem).expect("the key");
        let pairs = [
            ("apns.apps", "one".to_owned()),
            ("apns.endpoint", format!("https://{}", simulator.address())),
            ("apns.caFile", path("ca.pem")),
            ("apns.maxConnections", "4".to_owned()),
            ("apns.certs.one.authKeyPath", path("one.p8")),
            ("apns.certs.one.keyID", keys[0].key_id.clone()),
            ("apns.certs.one.teamID", keys[0].team_id.clone()),
            ("apns.certs.one.topic", "com.example.game".to_owned()),
        ];
        let pairs = pairs.into_iter().chain(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let world = World::new("apns", &["one"], pairs.map(|(key, value)| (key.to_owned(), value)));
        Ends { world, simulator, keys, folder, next_serial: 0 }
    }

    fn key_file(&self) -> PathBuf {
        self.folder.path().join("one.p8")
    }

    /// The other key, with its id, takes the place of the first; nobody is told.
    fn put_other_key(&self) {
        put(&self.key_file(), &format!("keyID: {}\n{}", self.keys[1].key_id, self.keys[1].pem));
    }

    /// The same, and the worker is asked to look.
    fn exchange_key(&self, running: &Running) {
        self.put_other_key();
        running.reload();
    }

    fn revoke_first_key(&self) {
        let first = self.keys[0].key_id.clone();
        self.simulator.handle().change(|faults| faults.rejected_keys = vec![first]).expect("valid faults");
    }

    fn calm(&mut self, count: u64) {
        let settings = Settings { count, first_serial: self.next_serial, mix: Mix::CALM, ..Settings::default() };
        self.next_serial += count;
        let lines: Vec<_> = Generator::new(Apns { app: "one".into() }, settings).map(|push| push.line).collect();
        self.world.produce("one", lines);
    }

    fn until_accepted(&self, n: u64) {
        eventually(&format!("{n} accepted"), LONG, || {
            (self.simulator.handle().ledger().sums().accepted >= n).then_some(())
        });
    }
}

/// All that was produced is delivered, and nothing else was recorded of it.
#[track_caller]
fn assert_all_well(ends: &Ends, running: Running) {
    let totals = running.stop();
    assert_eq!(totals.delivered, ends.next_serial, "{totals:?}");
    assert_eq!((totals.failed, totals.rejected, totals.expired, totals.dead_letters), (0, 0, 0, 0), "{totals:?}");
    assert!(ends.world.feedback("one").is_empty() && ends.world.dead_letters("one").is_empty());
}

#[test]
fn a_key_is_exchanged_under_load_and_the_old_one_revoked() {
    let faults = Faults { processing_ms: 20, streams: 20, ..Faults::default() };
    let mut ends = Ends::start(faults, &[]);
    let running = ends.world.start();
    ends.calm(6_000);
    ends.until_accepted(500);
    ends.exchange_key(&running);
    eventually("a token of the new key", LONG, || (ends.simulator.stats().provider_tokens == 2).then_some(()));
    ends.revoke_first_key();
    ends.calm(1_000);
    ends.world.settle("one");
    let totals = running.totals_of("one");
    assert_eq!((totals.holds, totals.retries), (0, 0), "no push has waited for it: {totals:?}");
    assert_eq!((running.circuit("one").round(), running.circuit("one").position()), (0, Position::Closed));
    let seen = ends.simulator.stats();
    assert_eq!((seen.messages.accepted, seen.messages.repeated, seen.messages.identity_changes), (7_000, 0, 0));
    assert_eq!((seen.counts.protocol_errors, seen.provider_tokens), (0, 2));
    assert_all_well(&ends, running);
}

/// As a mounted secret changes: nobody asks the worker to look.
#[test]
fn the_change_of_the_file_is_enough() {
    let statsd = Statsd::start();
    let address = statsd.address.to_string();
    let more = [("stats.reporters", "statsd"), ("stats.statsd.host", address.as_str())];
    let mut ends = Ends::start(Faults::default(), &more);
    let running = ends.world.start();
    ends.calm(20);
    ends.world.settle("one");
    ends.put_other_key();
    let tags = [("platform", "apns"), ("key", "apns.certs.one.authKeyPath")];
    statsd.await_sum("pushcredentials_reloaded", &tags, 1.0, LONG);
    ends.revoke_first_key();
    ends.calm(MANY);
    ends.world.settle("one");
    let totals = running.totals_of("one");
    assert_eq!((totals.holds, totals.retries, ends.simulator.stats().provider_tokens), (0, 0, 2), "{totals:?}");
    assert_all_well(&ends, running);
}

#[test]
fn an_app_that_is_paused_for_its_key_goes_on_at_once_with_another() {
    let mut ends = Ends::start(Faults::default(), &NO_PROBES);
    let running = ends.world.start();
    ends.calm(20);
    ends.world.settle("one");
    ends.revoke_first_key();
    ends.calm(MANY);
    eventually("the breaker opens", LONG, || running.circuit("one").is_open().then_some(()));
    ends.exchange_key(&running);
    ends.world.settle("one");
    assert_eq!(running.circuit("one").round(), 1);
    assert_all_well(&ends, running);
}

/// Too few to open a breaker: each waits by itself, for up to half a minute.
#[test]
fn pushes_that_are_held_for_the_key_go_on_at_once_with_another() {
    let mut ends = Ends::start(Faults::default(), &[("breaker.minFailures", "100000")]);
    let running = ends.world.start();
    ends.revoke_first_key();
    ends.calm(40);
    eventually("all are held", LONG, || (running.totals_of("one").holds >= 40).then_some(()));
    ends.exchange_key(&running);
    // Half of them would wait for longer than this, had they to.
    eventually("all accepted", Duration::from_secs(15), || {
        (ends.simulator.handle().ledger().sums().accepted == 40).then_some(())
    });
    ends.world.settle("one");
    assert_all_well(&ends, running);
}

#[test]
fn a_broken_key_is_refused_with_an_alarm_and_a_good_one_heals() {
    let statsd = Statsd::start();
    let address = statsd.address.to_string();
    let more = [("stats.reporters", "statsd"), ("stats.statsd.host", address.as_str())];
    let mut ends = Ends::start(Faults::default(), &more);
    let running = ends.world.start();
    ends.calm(20);
    ends.until_accepted(20);
    let tags = [("platform", "apns"), ("key", "apns.certs.one.authKeyPath")];
    let half = &ends.keys[1].pem[..80];
    put(&ends.key_file(), half);
    running.reload();
    statsd.await_sum("pushcredentials_reload_failed", &tags, 1.0, LONG);
    ends.calm(MANY);
    ends.world.settle("one");
    assert_eq!(ends.simulator.stats().provider_tokens, 1, "the old one goes on");
    ends.exchange_key(&running);
    statsd.await_sum("pushcredentials_reloaded", &tags, 1.0, LONG);
    ends.revoke_first_key();
    ends.calm(MANY);
    ends.world.settle("one");
    let totals = running.totals_of("one");
    assert_eq!((totals.holds, totals.retries, ends.simulator.stats().provider_tokens), (0, 0, 2), "{totals:?}");
    assert_all_well(&ends, running);
}

/// The provider comes back with a certificate of another CA before the file says so.
#[test]
fn another_ca_is_trusted_for_new_connections() {
    let statsd = Statsd::start();
    let address = statsd.address.to_string();
    let more = [("stats.reporters", "statsd"), ("stats.statsd.host", address.as_str())];
    let mut ends = Ends::start(Faults::default(), &more);
    let running = ends.world.start();
    ends.calm(20);
    ends.world.settle("one");
    let settings =
        simulated::Settings { keys: ends.keys.to_vec(), listen: ends.simulator.address(), ..Default::default() };
    let successor = wait_for(async {
        std::mem::replace(&mut ends.simulator, Simulator::start(simulated::Settings::default()).await.expect("one"))
            .shutdown()
            .await;
        Simulator::start(settings).await.expect("another on the same port")
    });
    ends.simulator = successor;
    ends.calm(MANY);
    eventually("the breaker opens", LONG, || running.circuit("one").is_open().then_some(()));
    let ca = ends.folder.path().join("ca.pem");
    put(&ca, "no certificate");
    running.reload();
    // Counted with the alarm; the log's line is looked at in `flow_reload_signal`.
    let tags = [("platform", "apns"), ("key", "apns.caFile")];
    statsd.await_sum("pushcredentials_reload_failed", &tags, 1.0, LONG);
    assert_eq!(ends.simulator.stats().messages.accepted, 0, "it is still no one to be trusted");
    put(&ca, ends.simulator.ca_pem());
    running.reload();
    ends.world.settle("one");
    statsd.await_sum("pushcredentials_reloaded", &tags, 1.0, LONG);
    assert_eq!(ends.simulator.stats().messages.accepted, MANY);
    assert_all_well(&ends, running);
}
