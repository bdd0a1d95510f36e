//! Urgent pushes beside a campaign, on real Kafka.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pusher::generate::produce::LineProducer;
use pusher::generate::{Mix, Settings};

use crate::support::kafka;
use crate::support::rig::{PATIENCE, Rig};
use crate::support::scrape::Scrape;
use crate::support::worker::Worker;

/// Urgent pushes per second, and in one measurement.
const RATE: u32 = 400;
const URGENT: u64 = 2_000;

/// An app with a topic for each lane.
struct World {
    rig: Rig,
    single: String,
    worker: Worker,
    admin: SocketAddr,
}

/// How long urgent pushes took from their producer to the provider, seconds.
#[derive(Debug)]
struct Took {
    p50: f64,
    p99: f64,
}

impl World {
    fn start(more: &[(&str, &str)]) -> World {
        let rig = Rig::new("lanes", 8);
        let single = rig.topic.replace("-massive", "-single");
        kafka().create_topic(&single, 4);
        let more: Vec<_> = more.iter().copied().chain([("ADMIN_LISTEN", "127.0.0.1:0")]).collect();
        let mut worker = rig.worker(&more);
        let (mut admin, deadline) = (worker.admin(), Instant::now() + PATIENCE);
        while admin.is_none() && Instant::now() < deadline {
            worker.assert_alive();
            admin = worker.admin();
            std::thread::park_timeout(Duration::from_millis(20));
        }
        World { rig, single, worker, admin: admin.expect("an admin server") }
    }

    /// So many urgent pushes, produced at this rate by a producer that is connected.
    fn urgent(&mut self, count: u64, rate: Option<u32>) {
        let mut producer = LineProducer::new(&kafka().brokers, &self.single, rate).expect("a producer");
        self.produce(&mut producer, count);
    }

    fn produce(&mut self, producer: &mut LineProducer, count: u64) {
        let pushes = self.rig.generate(Settings { count, mix: Mix::CALM, ..Settings::default() });
        for push in &pushes {
            producer.send(push.line.as_bytes()).expect("produced");
        }
        producer.flush().expect("the broker has everything");
    }

    /// Urgent pushes that were accepted, by the upper end of the range that their time lies in, s; what is below it included.
    fn below(&self) -> BTreeMap<u64, f64> {
        let page = Scrape::of(self.admin);
        let all = page.buckets("pusher_produced_to_accepted_seconds", &[("lane", "single")]);
        all.into_iter().map(|(end, count)| (end.to_bits(), count)).collect()
    }

    fn accepted(&self) -> f64 {
        self.below().into_values().fold(0.0, f64::max)
    }

    /// Waits until so many urgent pushes are accepted.
    fn until_accepted(&mut self, wanted: f64) {
        let deadline = Instant::now() + PATIENCE;
        while self.accepted() < wanted {
            self.worker.assert_alive();
            assert!(Instant::now() < deadline, "{} of {wanted} urgent pushes", self.accepted());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn measure(&mut self) -> Took {
        // Its first message waits for its connection.
        let mut producer = LineProducer::new(&kafka().brokers, &self.single, Some(RATE)).expect("a producer");
        let begun = self.accepted() + 1.0;
        self.produce(&mut producer, 1);
        self.until_accepted(begun);
        let before = self.below();
        self.produce(&mut producer, URGENT);
        self.until_accepted(begun + URGENT as f64);
        let since = |(end, count): (u64, f64)| (f64::from_bits(end), count - before.get(&end).copied().unwrap_or(0.0));
        let mut below: Vec<_> = self.below().into_iter().map(since).collect();
        below.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Took { p50: quantile(&below, 0.5), p99: quantile(&below, 0.99) }
    }
}

/// As if all lay evenly within their range.
fn quantile(below: &[(f64, f64)], q: f64) -> f64 {
    let wanted = q * below.last().map_or(0.0, |(_, all)| *all);
    let mut start = (0.0, 0.0);
    for &(end, count) in below {
        if count >= wanted {
            let end = if end.is_finite() { end } else { start.0 };
            return start.0 + (end - start.0) * (wanted - start.1) / (count - start.1).max(1.0);
        }
        start = (end, count);
    }
    start.0
}

#[test]
fn urgent_pushes_pass_a_campaign() {
    let mut world = World::start(&[("MAXINFLIGHT", "1000")]);
    world.urgent(1, None);
    world.until_accepted(1.0);
    let campaign = 40_000;
    let pushes = world.rig.generate(Settings { count: campaign, mix: Mix::CALM, ..Settings::default() });
    world.rig.produce(&pushes, None);
    world.urgent(500, None);
    world.until_accepted(501.0);
    let left = campaign + 501 - world.rig.accepted();
    assert!(left > campaign / 4, "{left} of {campaign} were left when the urgent ones had all passed");
    let World { rig, mut worker, .. } = world;
    worker.until("the campaign is over", PATIENCE, || (rig.accepted() == campaign + 501).then_some(()));
    assert_eq!(worker.stop().delivered, campaign + 501);
}

/// `make bench-lanes`: with a campaign of a million at full speed p99 is at most twice that of an idle worker and 5 ms.
#[test]
#[ignore = "a measurement: make bench-lanes"]
fn a_campaign_of_a_million_delays_urgent_pushes_little() {
    let mut world = World::start(&[]);
    world.urgent(400, Some(RATE));
    world.until_accepted(400.0);
    let idle = world.measure();
    let campaign = 1_000_000;
    let pushes = world.rig.generate(Settings { count: campaign, mix: Mix::CALM, ..Settings::default() });
    world.rig.produce(&pushes, None);
    let (since, begun) = (Instant::now(), world.rig.accepted());
    let beside = world.measure();
    let accepted = world.rig.accepted();
    let rate = (accepted - begun) as f64 / since.elapsed().as_secs_f64();
    let left = 402 + 2 * URGENT + campaign - accepted;
    assert!(left > 0, "the campaign was over before the urgent pushes were: nothing was measured");
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    println!("| {URGENT} urgent pushes at {RATE}/s, produced→accepted | p50 | p99 |\n|---|---|---|");
    for (what, took) in [("idle", &idle), ("beside the campaign", &beside)] {
        println!("| {what} | {} | {} |", ms(took.p50), ms(took.p99));
    }
    println!("{rate:.0} pushes/s beside; {left} of {campaign} were left at the end");
    let most = 2.0 * idle.p99 + 0.005;
    assert!(beside.p99 <= most, "p99 {} is above {}, twice the idle one and 5 ms", ms(beside.p99), ms(most));
}
