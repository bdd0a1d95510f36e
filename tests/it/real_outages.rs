//! APNs, the network or the operator at fault: delivered when the cause is gone, nothing lost, nothing given up.

use std::time::{Duration, Instant};

use pusher::generate::{Generated, Mix, Settings};
use pusher::simulator::apns::faults::{AnswerFault, Faults};
use pusher::simulator::apns::{Handle, Simulator};
use pusher::tally::Totals;

use crate::support::eventually;
use crate::support::rig::{self, Fate, PATIENCE, Repeats, Rig};
use crate::support::worker::Worker;

fn calm(rig: &mut Rig, count: u64) -> Vec<Generated> {
    rig.generate(Settings { count, mix: Mix::CALM, ..Settings::default() })
}

/// A world in which some pushes were delivered already.
fn warm(stem: &str, more: &[(&str, &str)]) -> (Rig, Worker) {
    let mut rig = Rig::new(stem, 2);
    let mut worker = rig.worker(more);
    let pushes = calm(&mut rig, 100);
    rig.produce(&pushes, None);
    rig.settle(&mut worker, PATIENCE);
    (rig, worker)
}

/// While `begin`'s fault lasts nothing of `count` pushes is delivered; `felt` says when the worker has met it with all of
/// them. It lasts a moment longer, and after `end` all are delivered.
fn outage(rig: &mut Rig, worker: &mut Worker, count: u64, begin: impl Fn(&Handle), felt: impl Fn(&Handle) -> bool) {
    let (pushes, before, handle) = (calm(rig, count), rig.accepted(), rig.simulator.handle().clone());
    begin(&handle);
    rig.produce(&pushes, None);
    worker.until("the fault is felt", PATIENCE, || felt(&handle).then_some(()));
    let felt = Instant::now();
    worker.until("a moment more", PATIENCE, || (felt.elapsed() > Duration::from_millis(500)).then_some(()));
    assert_eq!(rig.accepted(), before, "nothing is accepted during the outage");
    handle.set_faults(Faults::default()).expect("valid faults");
    rig.settle(worker, PATIENCE);
}

fn assert_all_delivered(rig: &Rig, ledger: &Totals) -> Repeats {
    let repeats = rig.assert_nothing_lost(&rig.placed());
    assert_eq!((ledger.delivered, ledger.lent - ledger.released), (rig.deliveries(), rig.deliveries()), "{ledger:?}");
    assert_eq!((ledger.rejected, ledger.failed, ledger.expired, ledger.feedback), (0, 0, 0, 0), "{ledger:?}");
    repeats
}

#[test]
fn refusals_that_pass_delay_and_lose_nothing() {
    // The breaker would take so many refusals for an outage where a machine is slow to send them all.
    let (mut rig, mut worker) = warm("refusals", &[("BREAKER_PATIENCE", "1m")]);
    for (status, reason) in [(429, "TooManyRequests"), (500, "InternalServerError"), (503, "ServiceUnavailable")] {
        let begin = |handle: &Handle| {
            handle
                .set_faults(Faults { answers: vec![AnswerFault::all(status, reason)], ..Faults::default() })
                .expect("valid faults");
        };
        let felt = |handle: &Handle| handle.stats().counts.answers.get(reason).is_some_and(|times| *times >= 300);
        outage(&mut rig, &mut worker, 300, begin, felt);
    }
    let ledger = worker.stop();
    assert_eq!(assert_all_delivered(&rig, &ledger), Repeats::default());
    assert!(ledger.retries >= 900 && ledger.holds == 0, "{ledger:?}");
}

#[test]
fn a_provider_that_cannot_be_reached_delays_and_loses_nothing() {
    let (mut rig, mut worker) = warm("network", &[("APNS_TIMEOUT", "1s")]);
    // Silent at first: requests are on their streams when the time is up. Of so many the breaker takes an outage for one.
    let silence =
        |handle: &Handle| handle.set_faults(Faults { silent_share: 1.0, ..Faults::default() }).expect("valid faults");
    outage(&mut rig, &mut worker, 300, silence, |handle| handle.stats().counts.unanswered >= 20);
    let levers: [fn(&mut Faults); 2] =
        [|faults| faults.connection.refuse_connections = true, |faults| faults.connection.fail_tls = true];
    for lever in levers {
        let begin = |handle: &Handle| {
            handle.change(lever).expect("valid faults");
            handle.close_connections();
        };
        let start = Instant::now();
        outage(&mut rig, &mut worker, 300, begin, |_| start.elapsed() > Duration::from_secs(2));
    }
    let ledger = worker.stop();
    assert_eq!(assert_all_delivered(&rig, &ledger), Repeats::default());
    assert!(ledger.possible_duplicates >= 20, "what was not answered was sent again: {ledger:?}");
}

#[test]
fn lost_connections_lose_nothing_and_every_repeat_is_counted() {
    let (mut rig, mut worker) = warm("lost", &[]);
    let handle = rig.simulator.handle().clone();
    handle.change(|faults| (faults.processing_ms, faults.streams) = (100, 50)).expect("valid faults");
    let pushes = calm(&mut rig, 3_000);
    rig.produce(&pushes, None);
    for _ in 0..6 {
        let before = rig.accepted();
        worker.until("requests on the streams", PATIENCE, || (rig.accepted() >= before + 60).then_some(()));
        handle.close_connections();
    }
    for _ in 0..3 {
        let before = rig.accepted();
        worker.until("requests on the streams", PATIENCE, || (rig.accepted() >= before + 60).then_some(()));
        handle.goaway("Shutdown");
    }
    rig.settle(&mut worker, PATIENCE);
    let ledger = worker.stop();
    let repeats = assert_all_delivered(&rig, &ledger);
    let repeated: u64 = repeats.deliveries.iter().map(|(_, times)| u64::from(*times) - 1).sum();
    assert!(repeated > 0, "the connections were lost with requests on them");
    assert!(repeated <= ledger.possible_duplicates, "{repeated} repeats, {} counted", ledger.possible_duplicates);
}

/// The first pause of a held push is up to 30 s: a person must mend what is wrong.
#[test]
fn a_revoked_key_holds_pushes_until_it_is_restored() {
    let (mut rig, mut worker) = warm("revoked", &[]);
    let revoke =
        |handle: &Handle| handle.change(|faults| faults.rejected_keys = vec!["*".into()]).expect("valid faults");
    let felt =
        |handle: &Handle| handle.stats().counts.answers.get("InvalidProviderToken").is_some_and(|times| *times >= 50);
    outage(&mut rig, &mut worker, 50, revoke, felt);
    let ledger = worker.stop();
    assert_eq!(assert_all_delivered(&rig, &ledger), Repeats::default());
    assert!(ledger.holds >= 50 && ledger.retries == 0, "{ledger:?}");
}

/// The backlog of an outage is Kafka's to keep: the worker's memory does not grow with it, and one line tells of it.
#[test]
fn a_backlog_behind_an_outage_leaves_memory_flat_and_is_told_once() {
    let (mut rig, mut worker) = warm("backlog", &[]);
    let refuse = Faults { answers: vec![AnswerFault::all(503, "ServiceUnavailable")], ..Faults::default() };
    rig.simulator.handle().set_faults(refuse).expect("valid faults");
    let first = calm(&mut rig, 20_000);
    rig.produce(&first, None);
    eventually("a pause", PATIENCE, || worker.has_said("the breaker is open").then_some(()));
    let most_within = |time: Duration| {
        let (begun, mut most) = (Instant::now(), 0);
        eventually("a while", PATIENCE, || {
            most = most.max(worker.resident());
            (begun.elapsed() > time).then_some(most)
        })
    };
    let at_rest = most_within(Duration::from_secs(3));
    let more = calm(&mut rig, 60_000);
    rig.produce(&more, None);
    let most = most_within(Duration::from_secs(10));
    assert!(most < at_rest + at_rest / 10, "{at_rest} bytes before, {most} with three times the backlog");
    rig.simulator.handle().set_faults(Faults::default()).expect("valid faults");
    rig.settle(&mut worker, PATIENCE);
    let opened = worker
        .log()
        .into_iter()
        .filter(|line| line["msg"].as_str().is_some_and(|said| said.starts_with("the breaker is open")));
    let opened: Vec<_> = opened.collect();
    assert_eq!(opened.len(), 1, "{opened:#?}");
    assert_eq!((&opened[0]["alarm"], &opened[0]["reason"]), (&true.into(), &"service-unavailable".into()));
    assert_all_delivered(&rig, &worker.stop());
}

#[test]
fn the_wrong_host_empties_no_table() {
    let mut rig = Rig::new("wronghost", 2);
    let pushes = calm(&mut rig, 3_000);
    let tokens: Vec<String> = pushes.iter().filter_map(rig::token::<Simulator>).collect();
    rig.database.fill(&rig.table(), tokens.iter().map(String::as_str));
    for push in &pushes {
        rig.note(push.line.clone(), Fate::Refused("bad-device-token"));
    }
    let wrong = Faults { answers: vec![AnswerFault::all(400, "BadDeviceToken")], ..Faults::default() };
    rig.simulator.handle().set_faults(wrong).expect("valid faults");

    let mut worker = rig.worker(&[]);
    rig.produce(&pushes, None);
    rig.settle(&mut worker, PATIENCE);
    let rows = rig.database.count(&rig.table());
    assert!(rows >= 2_990, "{} rows are gone", 3_000 - rows);
    let alarms = worker.log().into_iter().filter(|line| line["alarm"] == true).collect::<Vec<_>>();
    assert_eq!(alarms.len(), 1, "the alarm is raised once: {alarms:#?}");

    rig.simulator.handle().set_faults(Faults::default()).expect("valid faults");
    let pushes = calm(&mut rig, 500);
    rig.produce(&pushes, None);
    rig.settle(&mut worker, PATIENCE);
    let ledger = worker.stop();
    assert_eq!((ledger.rejected, ledger.delivered), (3_000, 500), "deliveries go on");
    assert_eq!(rig.assert_nothing_lost(&rig.placed()), Repeats::default());
    assert_eq!(rig.database.count(&rig.table()), rows);
}
