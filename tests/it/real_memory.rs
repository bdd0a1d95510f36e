//! What a worker under a backlog holds in memory, on real Kafka.

use std::time::{Duration, Instant};

use pusher::generate::{Mix, Settings};

use crate::support::far::Far as _;
use crate::support::rig::{PATIENCE, Rig};
use crate::support::scrape::Scrape;

/// How long the provider takes: with it a backlog fills all places.
const PROCESSING_MS: u64 = 600;
const PUSHES: u64 = 300_000;
const PLACES: u64 = 10_000;
/// `maxInFlight`, of which a campaign may fill three quarters.
const ALL_PLACES: &str = "13400";
const LOOK: Duration = Duration::from_millis(100);
/// What they may take, MiB.
const MOST: u64 = 64;

/// `make bench-memory`: resident memory with 10,000 pushes in flight, above that of a worker that has sent a few and rests.
#[test]
#[ignore = "a measurement: make bench-memory"]
fn ten_thousand_pushes_in_flight_take_little_memory() {
    let mut rig = Rig::new("memory", 8);
    rig.simulator.levers().change(|faults| faults.processing_ms = PROCESSING_MS).expect("a lever");
    let mut worker = rig.worker(&[("ADMIN_LISTEN", "127.0.0.1:0"), ("MAXINFLIGHT", ALL_PLACES)]);
    let few = rig.generate(Settings { count: 200, mix: Mix::CALM, ..Settings::default() });
    rig.produce(&few, None);
    rig.settle(&mut worker, PATIENCE);
    let (idle, admin) = (worker.resident(), worker.admin().expect("an admin server"));
    let many = rig.generate(Settings { count: PUSHES, mix: Mix::CALM, ..Settings::default() });
    let begun = Instant::now();
    rig.produce(&many, None);
    let (mut most, mut in_flight) = (idle, 0);
    while rig.accepted() < rig.deliveries() {
        worker.assert_alive();
        assert!(begun.elapsed() < 3 * PATIENCE, "{} of {} are sent", rig.accepted(), rig.deliveries());
        in_flight = in_flight.max(Scrape::of(admin).sum("pusher_in_flight_messages", &[]));
        most = most.max(worker.resident());
        std::thread::park_timeout(LOOK);
    }
    let took = begun.elapsed();
    let mib = |bytes: u64| bytes >> 20;
    println!("| resident, MiB | idle | at most | above idle |\n|---|---|---|---|");
    println!(
        "| {in_flight} pushes in flight, answers after {PROCESSING_MS} ms | {} | {} | {} |",
        mib(idle),
        mib(most),
        mib(most - idle)
    );
    println!("{:.0} pushes/s, produced meanwhile", PUSHES as f64 / took.as_secs_f64());
    assert!(in_flight > PLACES / 10 * 9, "{in_flight} in flight: the backlog did not fill all places");
    assert!(mib(most - idle) <= MOST, "{} MiB above idle, {MOST} are meant", mib(most - idle));
}
