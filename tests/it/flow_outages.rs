//! APNs, the way to it or a key failing everything, in short: nothing lost, no message made to fail, the backlog left to
//! Kafka, the other app untouched, all of it delivered when the cause is gone.

use std::time::{Duration, Instant};

use pusher::generate::apns::Apns;
use pusher::generate::{Generator, Mix, Settings};
use pusher::handlers::breaker::Position;
use pusher::simulator::apns::faults::{AnswerFault, BodyKind, Faults};
use pusher::simulator::apns::{self as simulated, Handle, Key, Simulator};
use serde_json::Value;

use crate::support::world::{LONG, Running, World};
use crate::support::{Statsd, eventually, wait_for};

/// Messages that may be in memory while the app is paused: its probes that failed, and one that is being handed back.
const FEW: usize = 40;
/// More than it takes to open a breaker, also when each refusal is of a single device.
const MANY: u64 = 600;

/// Both ends of a worker with the apps `one` and `two`, each with a key of its own.
struct Ends {
    world: World,
    simulator: Simulator,
    _folder: tempfile::TempDir,
    next_serial: u64,
}

fn key(number: u8) -> Key {
    let pair = rcgen::KeyPair::generate().expect("a key");
    Key { key_id: format!("KEYNUMBER{number}"), team_id: format!("TEAMNUMBR{number}"), pem: pair.serialize_pem() }
}

impl Ends {
    fn start(more: &[(&str, &str)]) -> Ends {
        let keys = vec![key(1), key(2)];
        let settings = simulated::Settings { keys: keys.clone(), ..Default::default() };
        let simulator = wait_for(Simulator::start(settings)).expect("a simulator");
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("ca.pem"), simulator.ca_pem()).expect("the CA");
        let mut pairs = vec![
            ("apns.apps".to_owned(), "one,two".to_owned()),
            ("apns.endpoint".to_owned(), format!("https://{}", simulator.address())),
            ("apns.caFile".to_owned(), path("ca.pem")),
        ];
        for (app, key) in ["one", "two"].into_iter().zip(&keys) {
            std::fs::write(path(app), &key.pem).expect("the key");
            let of_app = [
                ("authKeyPath", path(app)),
                ("keyID", key.key_id.clone()),
                ("teamID", key.team_id.clone()),
                ("topic", "com.example.game".to_owned()),
            ];
            pairs.extend(of_app.map(|(name, value)| (format!("apns.certs.{app}.{name}"), value)));
        }
        pairs.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let world = World::new("apns", &["one", "two"], pairs);
        Ends { world, simulator, _folder: folder, next_serial: 0 }
    }

    fn handle(&self) -> &Handle {
        self.simulator.handle()
    }

    /// Messages that are delivered unless something is wrong.
    fn calm(&mut self, app: &str, count: u64) {
        let settings = Settings { count, first_serial: self.next_serial, mix: Mix::CALM, ..Settings::default() };
        self.next_serial += count;
        let lines: Vec<_> = Generator::new(Apns { app: app.into() }, settings).map(|push| push.line).collect();
        self.world.produce(app, lines);
    }

    /// A message to a token that steers its answer.
    fn steered(&mut self, app: &str, steering: &str) -> String {
        let serial = self.next_serial;
        self.next_serial += 1;
        let token = format!("{steering}{serial:054}");
        let line = format!(r#"{{"DeviceToken":"{token}","Payload":{{"aps":{{"alert":"x"}},"serial":{serial}}}}}"#);
        self.world.produce(app, [line.as_str()]);
        line
    }

    fn accepted(&self) -> u64 {
        self.handle().ledger().sums().accepted
    }

    fn until_accepted(&self, n: u64) {
        eventually(&format!("{n} accepted"), LONG, || (self.accepted() >= n).then_some(()));
    }
}

/// `MANY` pushes meet an outage that refuses all of them, and are delivered when it is over.
#[track_caller]
fn comes_through(ends: &mut Ends, running: &Running, what: &str, begin: impl Fn(&Handle), end: impl Fn(&Handle)) {
    let (before, rounds) = (ends.accepted(), running.circuit("one").round());
    begin(ends.handle());
    ends.calm("one", MANY);
    eventually(&format!("{what}: the breaker opens"), LONG, || running.circuit("one").is_open().then_some(()));
    eventually(&format!("{what}: memory is given back"), LONG, || (running.usage("one").messages <= FEW).then_some(()));
    let failed = |running: &Running| running.totals_of("one").retries + running.totals_of("one").holds;
    let at_rest = failed(running);
    eventually(&format!("{what}: probes"), LONG, || (failed(running) >= at_rest + 3).then_some(()));
    assert!(running.usage("one").messages <= FEW, "{what}: the backlog stays in Kafka: {:?}", running.usage("one"));
    assert_eq!(ends.accepted(), before, "{what}: nothing comes through");
    assert_eq!(running.circuit("one").round(), rounds + 1, "{what}: one outage");
    end(ends.handle());
    ends.world.settle("one");
    assert_eq!(ends.accepted(), before + MANY, "{what}");
    eventually(&format!("{what}: full speed"), LONG, || {
        (running.circuit("one").position() == Position::Closed).then_some(())
    });
}

/// No outage has made a message fail, and nothing was accepted but what was produced.
#[track_caller]
fn assert_all_well(ends: &Ends, running: Running, delivered: u64) {
    let totals = running.stop();
    assert_eq!(totals.delivered, delivered, "{totals:?}");
    assert_eq!((totals.failed, totals.rejected, totals.expired, totals.dead_letters), (0, 0, 0, 0), "{totals:?}");
    let seen = ends.simulator.stats();
    assert_eq!((seen.messages.accepted, seen.messages.identity_changes), (delivered, 0));
    assert_eq!(seen.counts.protocol_errors, 0);
    assert!(ends.world.feedback("one").is_empty() && ends.world.dead_letters("one").is_empty());
}

fn all_well(handle: &Handle) {
    handle.set_faults(Faults::default()).expect("valid faults");
}

fn answers(answer: AnswerFault) -> impl Fn(&Handle) {
    move |handle| {
        handle.set_faults(Faults { answers: vec![answer.clone()], ..Faults::default() }).expect("valid faults");
    }
}

fn fault(edit: impl Fn(&mut Faults)) -> impl Fn(&Handle) {
    move |handle| handle.change(&edit).expect("valid faults")
}

#[test]
fn a_provider_that_refuses_everything_is_waited_for() {
    let mut ends = Ends::start(&[]);
    let running = ends.world.start();
    let with_wish = AnswerFault { retry_after: Some(1), ..AnswerFault::all(429, "TooManyRequests") };
    let page = AnswerFault { body: BodyKind::Html, ..AnswerFault::all(502, "") };
    let outages: [(&str, AnswerFault); 5] = [
        ("503", AnswerFault::all(503, "ServiceUnavailable")),
        ("500", AnswerFault::all(500, "InternalServerError")),
        ("a proxy's 502", page),
        ("429 for every device", AnswerFault::all(429, "TooManyRequests")),
        ("the same with Retry-After", with_wish),
    ];
    for (what, answer) in outages.clone() {
        comes_through(&mut ends, &running, what, answers(answer), all_well);
    }
    assert_all_well(&ends, running, outages.len() as u64 * MANY);
}

#[test]
fn a_provider_that_cannot_be_reached_is_waited_for() {
    let mut ends = Ends::start(&[("apns.timeout", "1s"), ("apns.connectTimeout", "1s")]);
    let running = ends.world.start();
    let cut = |edit: fn(&mut Faults)| {
        move |handle: &Handle| {
            handle.change(edit).expect("valid faults");
            handle.close_connections();
        }
    };
    comes_through(&mut ends, &running, "refused", cut(|faults| faults.connection.refuse_connections = true), all_well);
    comes_through(&mut ends, &running, "TLS failing", cut(|faults| faults.connection.fail_tls = true), all_well);
    comes_through(&mut ends, &running, "no answers", fault(|faults| faults.silent_share = 1.0), all_well);
    let silence = |handle: &Handle| {
        handle.change(|faults| faults.connection.mute = true).expect("valid faults");
        handle.mute_connections();
    };
    // What is silent stays so: the network forgot these connections.
    let end = |handle: &Handle| {
        all_well(handle);
        handle.close_connections();
    };
    comes_through(&mut ends, &running, "accepted but silent", silence, end);
    comes_through(&mut ends, &running, "resets", fault(|faults| faults.reset_share = 1.0), all_well);
    comes_through(&mut ends, &running, "refused streams", fault(|faults| faults.refuse_share = 1.0), all_well);
    assert_all_well(&ends, running, 6 * MANY);
}

/// The name is asked for anew for each connection: what is refused here is so for as long as the name is unknown.
#[test]
fn a_provider_whose_name_is_not_known_is_waited_for() {
    let statsd = Statsd::start();
    let address = statsd.address.to_string();
    let mut ends = Ends::start(&[("stats.reporters", "statsd"), ("stats.statsd.host", &address)]);
    ends.calm("one", MANY);
    // No name ends so (RFC 6761, 6.4).
    let away = ends.world.start_with(&[("apns.endpoint", "https://apns.invalid")]);
    let tags = [("platform", "apns"), ("game", "one"), ("reason", "connect")];
    statsd.await_sum("pushbreaker_opened", &tags, 1.0, LONG);
    eventually("memory is given back", LONG, || (away.usage("one").messages <= FEW).then_some(()));
    let (totals, seen) = (away.stop(), ends.simulator.stats());
    assert_eq!((totals.delivered, totals.failed, totals.expired, totals.requests), (0, 0, 0, 0), "{totals:?}");
    assert_eq!(seen.messages.serials, 0);
    let running = ends.world.start();
    ends.world.settle("one");
    assert_all_well(&ends, running, MANY);
}

/// The requests of the time before take their places until they time out; a probe is not to wait for that.
#[test]
fn a_provider_that_answered_nothing_is_probed_while_requests_still_wait_for_it() {
    let timeout = Duration::from_secs(10);
    let mut ends = Ends::start(&[("apns.timeout", "10s")]);
    let running = ends.world.start();
    // A new connection has one stream until its first answer.
    ends.calm("one", 10);
    ends.until_accepted(10);
    fault(|faults| faults.silent_share = 1.0)(ends.handle());
    ends.calm("one", MANY);
    eventually("the breaker opens", LONG, || running.circuit("one").is_open().then_some(()));
    all_well(ends.handle());
    let well_since = Instant::now();
    ends.until_accepted(11);
    assert!(well_since.elapsed() < timeout.mul_f64(0.8), "{:?}", well_since.elapsed());
    ends.world.settle("one");
    assert_all_well(&ends, running, 10 + MANY);
}

#[test]
fn a_revoked_key_pauses_its_app_and_the_other_goes_on_untouched() {
    let statsd = Statsd::start();
    let address = statsd.address.to_string();
    let mut ends = Ends::start(&[("stats.reporters", "statsd"), ("stats.statsd.host", &address)]);
    let running = ends.world.start();
    ends.calm("two", 10);
    ends.until_accepted(10);
    fault(|faults| faults.rejected_keys = vec!["KEYNUMBER1".into()])(ends.handle());
    ends.calm("one", MANY);
    eventually("the breaker opens", LONG, || running.circuit("one").is_open().then_some(()));
    eventually("memory is given back", LONG, || (running.usage("one").messages <= FEW).then_some(()));
    ends.calm("two", 3_000);
    eventually("all of the other app", LONG, || (running.totals_of("two").delivered == 3_010).then_some(()));
    assert!(running.circuit("one").is_open(), "all of the other app's pushes came through meanwhile");
    let (one, two) = (running.totals_of("one"), running.totals_of("two"));
    assert_eq!((one.delivered, one.failed), (0, 0));
    assert_eq!((two.delivered, two.retries, two.holds, two.released), (3_010, 0, 0, 0), "{two:?}");
    let tags = [("platform", "apns"), ("game", "one"), ("reason", "invalid-provider-token")];
    statsd.await_sum("pushbreaker_opened", &tags, 1.0, LONG);
    let state = |app: &str| {
        let lines =
            statsd.lines().into_iter().filter(|line| line.name == "pushbreaker_state" && line.tags["game"] == app);
        lines.map(|line| line.value).fold(0.0, f64::max)
    };
    eventually("the gauge", LONG, || (state("one") >= 2.0).then_some(()));
    assert!(state("two") < 1.0);
    all_well(ends.handle());
    ends.world.settle("one");
    ends.world.settle("two");
    assert_all_well(&ends, running, 3_010 + MANY);
}

#[test]
fn goaway_every_so_many_requests_loses_nothing_and_opens_nothing() {
    let mut ends = Ends::start(&[]);
    fault(|faults| (faults.goaway_every, faults.processing_ms) = (100, 2))(ends.handle());
    let running = ends.world.start();
    ends.calm("one", 4_000);
    ends.world.settle("one");
    assert_eq!(running.circuit("one").round(), 0);
    assert!(ends.simulator.stats().counts.goaways >= 5);
    assert_eq!(ends.simulator.stats().messages.repeated, 0);
    assert_all_well(&ends, running, 4_000);
}

/// One push in five is refused again and again for its device; the others do not wait for them.
#[test]
fn a_fifth_refused_for_single_devices_does_not_hold_up_the_others() {
    let mut ends = Ends::start(&[("maxInFlight", "1000"), ("apns.retry.interval", "3s")]);
    let running = ends.world.start();
    for _ in 0..40 {
        (0..5).for_each(|_| drop(ends.steered("one", "dead042903")));
        ends.calm("one", 20);
    }
    eventually("the others", LONG, || (running.totals_of("one").delivered >= 800).then_some(()));
    let totals = running.totals_of("one");
    assert!(totals.delivered < 1_000, "the refused ones still wait: {totals:?}");
    assert_eq!((running.circuit("one").round(), running.circuit("one").position()), (0, Position::Closed));
    assert!(running.total_usage().messages <= 1_000);
    ends.world.settle("one");
    let totals = running.totals_of("one");
    assert_eq!((totals.retries, totals.requests), (600, 1_600), "each of them three times");
    assert_all_well(&ends, running, 1_000);
}

/// A third of an app's devices are refused for a while: what comes back is no more than its share beside what is new.
#[test]
fn retries_of_many_devices_take_no_more_than_their_share_of_the_attempts() {
    let mut ends =
        Ends::start(&[("retry.maxShare", "0.1"), ("apns.retry.interval", "100ms"), ("breaker.patience", "10s")]);
    let running = ends.world.start();
    // A retry in nine first attempts, 20 a second and 1,000 that were saved up: docs/retries.md.
    let allowed = |first: u64, time: Duration| 1_000 + first / 9 + 20 * time.as_secs();
    answers(AnswerFault { share: 0.35, ..AnswerFault::all(429, "TooManyRequests") })(ends.handle());
    let began = Instant::now();
    let mut most = 0;
    while running.totals_of("one").requests < 8_000 && began.elapsed() < LONG {
        ends.calm("one", 300);
        let first = ends.next_serial;
        eventually("all of these are attempted", LONG, || {
            (ends.simulator.stats().messages.serials >= first).then_some(())
        });
        let requests = ends.simulator.stats().counts.requests;
        let retries = requests - first;
        most = most.max(retries);
        let told = format!("{retries} beside {first}: {:?}", running.totals_of("one"));
        assert_eq!(running.circuit("one").round(), 0, "{told}");
        assert!(retries <= allowed(first, began.elapsed() + Duration::from_secs(1)), "{told}");
    }
    assert!(most > 1_000, "what was saved up is used, {most} retries: the bound was met");
    all_well(ends.handle());
    let all = ends.next_serial;
    ends.world.settle("one");
    assert_all_well(&ends, running, all);
}

/// A message that expires in an outage is expired, not failed; the breaker finds that out a push at a time.
#[test]
fn what_expires_while_the_app_is_paused_is_expired_and_the_rest_delivered() {
    let mut ends = Ends::start(&[]);
    let running = ends.world.start();
    answers(AnswerFault::all(503, "ServiceUnavailable"))(ends.handle());
    ends.calm("one", MANY);
    eventually("the breaker opens", LONG, || running.circuit("one").is_open().then_some(()));
    let lines = (0..100).map(|n| {
        let token = format!("{n:064x}");
        format!(r#"{{"DeviceToken":"{token}","Payload":{{"aps":{{"alert":"x"}}}},"push_expiry":1500000000000}}"#)
    });
    let lines: Vec<String> = lines.collect();
    ends.world.produce("one", &lines);
    all_well(ends.handle());
    ends.world.settle("one");
    let totals = running.stop();
    assert_eq!((totals.delivered, totals.expired, totals.failed), (MANY, 100, 0), "{totals:?}");
    assert_eq!(ends.world.feedback("one").len(), 100);
}

/// A push that fails alone is charged; its budget ends it, with its payload and its origin kept.
#[test]
fn a_push_that_fails_while_others_pass_becomes_a_dead_letter() {
    let more = [("apns.retry.interval", "20ms"), ("apns.retry.maxRetryAttempts", "3")];
    let mut ends = Ends::start(&more.map(|(key, value)| (key, value)));
    let running = ends.world.start();
    ends.calm("one", 20);
    ends.until_accepted(20);
    let poison = ends.steered("one", "dead050000");
    running.until("attempts", |totals| totals.retries >= 6);
    assert_eq!(running.totals().failed, 0, "alone, it is charged nothing");
    eventually("its end", LONG, || {
        ends.calm("one", 5);
        (running.totals().failed == 1).then_some(())
    });
    ends.world.settle("one");
    let letters = ends.world.dead_letters("one");
    let [(payload, headers)] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(payload, poison.as_bytes(), "as it was consumed");
    assert_eq!((headers["reason"].as_str(), headers["status"].as_str()), ("internal-server-error", "500"));
    assert_eq!(headers["topic"], "push-one_apns-massive");
    assert_eq!((headers["partition"].as_str(), headers["offset"].as_str()), ("0", "10"));
    let number = |name: &str| headers[name].parse::<i64>().expect("a number");
    assert!(number("attempts") >= 7 && number("firstAttempt") <= number("lastAttempt"), "{headers:?}");
    let records = ends.world.feedback("one");
    let [record] = records.as_slice() else { panic!("{} records", records.len()) };
    let record: Value = serde_json::from_slice(record).expect("JSON");
    assert_eq!(
        (&record["Err"]["Key"], &record["metadata"]["pusherId"]),
        (&"internal-server-error".into(), &headers["pusherId"].as_str().into())
    );
    let totals = running.stop();
    assert_eq!((totals.failed, totals.dead_letters, totals.feedback), (1, 1, 1), "{totals:?}");
}
