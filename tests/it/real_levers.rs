//! The levers of the person on call on real Kafka, with two workers at full speed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use pusher::generate::produce::LineProducer;
use pusher::generate::{Generated, Generator, Mix, Settings};
use pusher::simulator::apns::Simulator;
use pusher::tally::Totals;
use serde_json::Value;

use crate::support::far::Far;
use crate::support::jobs::of_job;
use crate::support::rig::{PATIENCE, Rig};
use crate::support::worker::Worker;
use crate::support::{eventually, kafka, unique};

/// So many pushes, of two jobs; `PUSHER_TEST_STOP_PUSHES=1000000` for the full run, which is produced before it is sent.
fn count() -> u64 {
    std::env::var("PUSHER_TEST_STOP_PUSHES").ok().and_then(|text| text.parse().ok()).unwrap_or(60_000)
}

/// Pushes of two jobs in turn, those of even serials of the first.
fn pushes(rig: &Rig, count: u64, first_serial: u64, jobs: [&str; 2]) -> Vec<Generated> {
    let settings = Settings { count, first_serial, mix: Mix::CALM, ..Settings::default() };
    let made = Generator::new(Simulator::shape(&rig.app), settings);
    made.map(|push| Generated { line: of_job(&push.line, jobs[(push.serial % 2) as usize]), ..push }).collect()
}

/// Whether this is the full run, in which what two seconds mean is taken at its word.
fn is_full() -> bool {
    count() >= 1_000_000
}

/// Runs an order of `pusher` beside the workers.
fn pusher(control: &str, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
    command.env_clear().env("PUSHER_QUEUE_BROKERS", &kafka().brokers).env("PUSHER_CONTROL_TOPIC", control);
    let output = command.args(arguments).output().expect("pusher");
    assert!(output.status.success(), "{output:?}");
}

/// How many of these serials were accepted, and how often the others were.
fn accepted(rig: &Rig, serials: impl Iterator<Item = u64>) -> u64 {
    let ledger = rig.simulator.levers().ledger();
    serials.filter(|serial| ledger.accepted(*serial)).count() as u64
}

fn until(workers: &mut [Worker; 2], what: &str, mut condition: impl FnMut() -> bool) {
    let [one, two] = workers;
    one.until(what, 5 * PATIENCE, || {
        two.assert_alive();
        condition().then_some(())
    });
}

fn sum(workers: [Worker; 2]) -> Totals {
    let mut sum = Totals::default();
    for worker in workers {
        sum.add(&worker.stop());
    }
    sum
}

#[test]
fn a_stopped_job_is_off_within_two_seconds_and_stays_off_and_the_other_is_untouched() {
    let (count, control, jobs) = (count(), unique("control"), [unique("wrong"), unique("right")]);
    let names = [jobs[0].as_str(), jobs[1].as_str()];
    let rig = Rig::new("stop", 8);
    let is_full = is_full();
    let most = if is_full { "10000" } else { "500" };
    let start = || [(); 2].map(|()| rig.worker(&[("CONTROL_TOPIC", &control), ("MAXINFLIGHT", most)]));
    let all = pushes(&rig, count, 0, names);
    if is_full {
        rig.produce(&all, None);
    }
    let mut workers = start();
    let at_the_stop = std::thread::scope(|scope| {
        // Few would be gone before anybody could stop them.
        let producer = (!is_full).then(|| scope.spawn(|| rig.produce(&all, Some(6_000))));
        until(&mut workers, "both at work", || rig.accepted() >= count / 10);
        pusher(&control, &["job", "stop", names[0], "--why", "wrong text"]);
        let given = Instant::now();
        for worker in &workers {
            let said = || worker.has_said("the job is stopped by order").then_some(());
            eventually("it has heard of the stop", PATIENCE, said);
        }
        assert!(!is_full || given.elapsed() < Duration::from_secs(2), "obeyed after {:?}", given.elapsed());
        until(&mut workers, "two seconds", || given.elapsed() >= Duration::from_secs(2));
        let at_the_stop = accepted(&rig, (0..count).step_by(2));
        if let Some(producer) = producer {
            producer.join().expect("all is produced");
        }
        at_the_stop
    });
    let ends = kafka().end_offsets(&rig.topic);
    until(&mut workers, "everything has its outcome", || rig.has_committed(&ends));
    let stopped = accepted(&rig, (0..count).step_by(2));
    // On a machine that is busy with others the provider may come late to what had left before: no more than was in flight.
    let late = if is_full { 0 } else { 2 * 500 };
    assert!(
        stopped - at_the_stop <= late,
        "{} pushes of the stopped job are accepted after two seconds",
        stopped - at_the_stop
    );
    assert!(stopped < count / 2, "there was something left to stop");
    assert_eq!(accepted(&rig, (1..count).step_by(2)), count / 2, "the other job is untouched");
    let ledger = sum(workers);
    assert_eq!((ledger.delivered, ledger.cancelled), (stopped + count / 2, count / 2 - stopped), "{ledger:?}");
    assert_eq!((ledger.resolved(), ledger.feedback), (count, ledger.cancelled), "{ledger:?}");
    assert_eq!(rig.simulator.levers().ledger().sums().repeated, 0);

    let mut workers = start();
    rig.produce(&pushes(&rig, 4_000, count, names), None);
    let ends = kafka().end_offsets(&rig.topic);
    until(&mut workers, "everything after the restart", || rig.has_committed(&ends));
    assert_eq!(accepted(&rig, (count..count + 4_000).step_by(2)), 0, "still stopped after a restart of both");
    assert_eq!(accepted(&rig, (count + 1..count + 4_000).step_by(2)), 2_000);
    pusher(&control, &["job", "start", names[0]]);
    for worker in &workers {
        eventually("it has heard of it", PATIENCE, || worker.has_said("the job goes on by order").then_some(()));
    }
    rig.produce(&pushes(&rig, 200, count + 4_000, names), None);
    until(&mut workers, "it is sent again", || accepted(&rig, (count + 4_000..count + 4_200).step_by(2)) == 100);
    let ends = kafka().end_offsets(&rig.topic);
    until(&mut workers, "everything after the start", || rig.has_committed(&ends));
    let ledger = sum(workers);
    assert_eq!((ledger.delivered, ledger.cancelled), (2_200, 2_000), "{ledger:?}");
    assert_feedback(&rig, names[0], count / 2 - stopped + 2_000);
}

/// One record for each cancelled push, and no other.
fn assert_feedback(rig: &Rig, job: &str, wanted: u64) {
    let mut told: BTreeMap<String, Value> = BTreeMap::new();
    for record in kafka().records(&rig.feedback) {
        let record: Value = serde_json::from_slice(&record.payload).expect("JSON");
        assert_eq!((&record["Err"]["Key"], &record["metadata"]["jobId"]), (&"cancelled".into(), &job.into()));
        told.insert(record["metadata"]["pusherId"].as_str().expect("an identity").to_owned(), record);
    }
    assert_eq!(told.len() as u64, wanted);
}

/// What becomes of a lane whose topic is another than the rig's.
struct Lanes {
    rig: Rig,
    single: String,
    control: String,
}

impl Lanes {
    fn new() -> Lanes {
        let rig = Rig::new("lanes", 8);
        let single = format!("push-{}_apns-single", rig.app);
        kafka().create_topic(&single, 4);
        Lanes { rig, single, control: unique("control") }
    }

    fn workers(&self) -> [Worker; 2] {
        let most = if is_full() { "10000" } else { "500" };
        [(); 2].map(|()| self.rig.worker(&[("CONTROL_TOPIC", &self.control), ("MAXINFLIGHT", most)]))
    }

    /// Runs `pusher pause` or `pusher resume` for the rig's app.
    fn order(&self, command: &str, lane: &[&str]) -> Instant {
        let target = [&[command, self.rig.app.as_str(), "apns"], lane].concat();
        pusher(&self.control, &target);
        Instant::now()
    }

    fn accepted(&self, serials: &Range<u64>) -> u64 {
        accepted(&self.rig, serials.clone())
    }

    /// Does something while a campaign is being produced and some of it is accepted.
    fn beside_campaign(&self, serials: &Range<u64>, workers: &mut [Worker; 2], act: impl FnOnce(&mut [Worker; 2])) {
        let rate = if is_full() { None } else { Some(6_000) };
        std::thread::scope(|scope| {
            let producer = scope.spawn(move || self.send(&self.rig.topic, serials, rate));
            until(workers, "both at work", || self.accepted(serials) >= (serials.end - serials.start) / 10);
            act(workers);
            producer.join().expect("all is produced");
        });
    }

    /// Pushes of the app to a topic.
    fn send(&self, topic: &str, serials: &Range<u64>, rate: Option<u32>) {
        let (count, first_serial) = (serials.end - serials.start, serials.start);
        let settings = Settings { count, first_serial, mix: Mix::CALM, ..Settings::default() };
        let mut producer = LineProducer::new(&kafka().brokers, topic, rate).expect("a producer");
        for push in Generator::new(Simulator::shape(&self.rig.app), settings) {
            producer.send(push.line.as_bytes()).expect("produced");
        }
        producer.flush().expect("the broker has everything");
    }

    /// Waits until both have heard of a pause, so many lanes in their lives, and two seconds are over since it was given; what
    /// was accepted of these then.
    fn after_two_seconds(&self, workers: &mut [Worker; 2], said: usize, given: Instant, of: &Range<u64>) -> u64 {
        for worker in &*workers {
            let has_heard = || (worker.times_said("paused by order") >= said).then_some(());
            eventually("it has heard of the order", PATIENCE, has_heard);
        }
        assert!(!is_full() || given.elapsed() < Duration::from_secs(2), "obeyed after {:?}", given.elapsed());
        until(workers, "two seconds", || given.elapsed() >= Duration::from_secs(2));
        self.accepted(of)
    }

    /// No more came than may have been on its way on a machine that is busy with others.
    fn assert_still(&self, of: &Range<u64>, before: u64) {
        let (now, late) = (self.accepted(of), if is_full() { 0 } else { 2 * 500 });
        assert!(now - before <= late, "{} pushes are accepted two seconds after the order", now - before);
        assert!(now < of.end - of.start, "there was something left to hold");
    }
}

#[test]
fn a_paused_lane_and_a_paused_app_are_off_within_two_seconds_over_a_restart_until_resumed() {
    let (lanes, few) = (Lanes::new(), 2_000);
    let count = if is_full() { count() } else { count() / 2 };
    let mut serials = 0..0;
    let mut next = |count: u64| {
        serials = serials.end..serials.end + count;
        serials.clone()
    };
    let mut workers = lanes.workers();

    let (campaign, urgent) = (next(count), next(few));
    lanes.beside_campaign(&campaign, &mut workers, |workers| {
        let given = lanes.order("pause", &["--lane", "massive"]);
        let before = lanes.after_two_seconds(workers, 1, given, &campaign);
        lanes.send(&lanes.single, &urgent, Some(1_000));
        until(workers, "all of the other lane", || lanes.accepted(&urgent) == few);
        lanes.assert_still(&campaign, before);
    });
    drop(sum(workers));

    let mut workers = lanes.workers();
    let (before, urgent) = (lanes.accepted(&campaign), next(few));
    lanes.send(&lanes.single, &urgent, None);
    until(&mut workers, "the other lane after a restart", || lanes.accepted(&urgent) == few);
    assert_eq!(lanes.accepted(&campaign), before, "still paused after a restart of both");
    lanes.order("resume", &["--lane", "massive"]);
    until(&mut workers, "the campaign goes on to its end", || lanes.accepted(&campaign) == count);

    let (campaign, urgent) = (next(count), next(few));
    lanes.beside_campaign(&campaign, &mut workers, |workers| {
        let given = lanes.order("pause", &[]);
        let before = lanes.after_two_seconds(workers, 3, given, &campaign);
        lanes.send(&lanes.single, &urgent, Some(1_000));
        lanes.assert_still(&campaign, before);
        assert_eq!(lanes.accepted(&urgent), 0, "both lanes of the app are paused");
        lanes.order("resume", &[]);
    });
    for topic in [&lanes.rig.topic, &lanes.single] {
        let ends = kafka().end_offsets(topic);
        until(&mut workers, "all committed", || lanes.rig.has_committed_of(topic, &ends));
    }
    let ledger = sum(workers);
    assert_eq!((ledger.rejected, ledger.cancelled, ledger.failed), (0, 0, 0), "{ledger:?}");
    let sums = lanes.rig.simulator.levers().ledger().sums();
    assert_eq!((sums.accepted, sums.repeated), (2 * count + 3 * few, 0));
}
