//! The levers of the person on call on real Kafka, with two workers at full speed.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

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

/// Runs `pusher job …` beside the workers.
fn job(control: &str, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pusher"));
    command.env_clear().env("PUSHER_QUEUE_BROKERS", &kafka().brokers).env("PUSHER_CONTROL_TOPIC", control);
    let output = command.arg("job").args(arguments).output().expect("pusher job");
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
    let is_full = count >= 1_000_000;
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
        job(&control, &["stop", names[0], "--why", "wrong text"]);
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
    job(&control, &["start", names[0]]);
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
