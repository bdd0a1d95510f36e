//! A worker that is stopped for longer than its session and goes on: by then its partitions are somebody else's.

use std::collections::BTreeSet;
use std::time::Duration;

use pusher::generate::{Mix, Settings};
use pusher::simulator::apns::{Settings as SimulatorSettings, Simulator};

use crate::support::rig::{PATIENCE, Rig};
use crate::support::{self, eventually, wait_for};

/// What the worker holds in memory would be sent a second time. Two simulators tell the two workers' requests apart.
fn frozen_beyond_the_session(assignment: &str) {
    const PUSHES: u64 = 4_000;
    const STREAMS: u32 = 20;
    let mut rig = Rig::new("frozen", 4);
    let settings = SimulatorSettings {
        keys: vec![rig.simulator.key().clone()],
        ca_key: Some(rig.simulator.ca_key_pem().to_owned()),
        ..SimulatorSettings::default()
    };
    let of_frozen = wait_for(Simulator::start(settings)).expect("a second simulator");
    for handle in [rig.simulator.handle(), of_frozen.handle()] {
        handle.change(|faults| (faults.processing_ms, faults.streams) = (100, STREAMS)).expect("valid faults");
    }
    let endpoint = format!("https://{}", of_frozen.address());
    let common = [("APNS_MAXCONNECTIONS", "1"), ("QUEUE_ASSIGNMENT", assignment)];
    let mut frozen = rig.worker(&[common[0], common[1], ("APNS_ENDPOINT", &endpoint)]);
    let pushes = rig.generate(Settings { count: PUSHES, mix: Mix::CALM, seed: 16, ..Settings::default() });
    rig.produce(&pushes, None);
    let (first, second) = (of_frozen.handle().ledger(), rig.simulator.handle().ledger());
    frozen.until("some deliveries", PATIENCE, || (first.sums().accepted > 200).then_some(()));
    frozen.freeze();

    let mut next = rig.worker(&common);
    next.until("its deliveries", PATIENCE, || (second.sums().accepted > 100).then_some(()));
    // Whatever was on a stream is at the simulator by now.
    let serials = || (0..PUSHES).filter(|serial| first.of(*serial).0 > 0).collect::<BTreeSet<_>>();
    let before = serials();
    frozen.thaw();
    eventually("it knows what it has lost", PATIENCE, || {
        let lost = |line: &serde_json::Value| line["msg"] == "partitions revoked" && line["lost"] == true;
        frozen.log().iter().any(lost).then_some(())
    });
    let ends = support::kafka().end_offsets(&rig.topic);
    next.until("all committed", PATIENCE, || rig.has_committed(&ends).then_some(()));

    let after: Vec<u64> = serials().difference(&before).copied().collect();
    let repeated: Vec<_> = after.iter().filter(|serial| second.of(**serial).0 > 0).collect();
    eprintln!(
        "{} sent before, {} after it went on, {} by the other",
        before.len(),
        after.len(),
        second.sums().accepted
    );
    // The freeze can come between the question whether a push is still ours and the write of its frames: what had a stream by
    // then is in flight, and may be repeated.
    assert!(repeated.len() <= STREAMS as usize, "sent after it went on, and by their owner: {repeated:?}");
    let missing: Vec<_> = (0..PUSHES).filter(|serial| first.of(*serial).1 + second.of(*serial).1 == 0).collect();
    assert!(missing.is_empty(), "never accepted: {missing:?}");
    frozen.stop();
    next.stop();
}

#[test]
fn all_at_once_a_worker_that_was_frozen_sends_nothing_of_what_others_own() {
    frozen_beyond_the_session("range,roundrobin");
}

#[test]
fn one_by_one_a_worker_that_was_frozen_sends_nothing_of_what_others_own() {
    frozen_beyond_the_session("cooperative-sticky");
}

/// A freeze that is shorter than the session costs nothing.
#[test]
fn a_short_freeze_repeats_nothing() {
    let mut rig = Rig::new("shortfreeze", 2);
    let mut worker = rig.worker(&[("QUEUE_SESSIONTIMEOUT", "30000")]);
    let pushes = rig.generate(Settings { count: 1_000, mix: Mix::CALM, seed: 17, ..Settings::default() });
    rig.produce(&pushes, None);
    worker.until("a delivery", PATIENCE, || (rig.accepted() > 0).then_some(()));
    worker.freeze();
    let frozen = std::time::Instant::now();
    eventually("a moment", PATIENCE, || (frozen.elapsed() > Duration::from_secs(1)).then_some(()));
    worker.thaw();
    rig.settle(&mut worker, PATIENCE);
    let ledger = worker.stop();
    assert_eq!((ledger.delivered, ledger.released), (1_000, 0));
    assert_eq!(rig.assert_nothing_lost(&rig.placed()), support::rig::Repeats::default());
}
