//! A fixed rate while the worker is killed (SIGKILL) at random: at any moment, before its first commit, during a rebalance, with
//! retries waiting.

use std::time::{Duration, Instant};

use fastrand::Rng;
use pusher::generate::Mix;

use super::{RATE, broken, stage, until};
use crate::episode::{PATIENCE, Stage};
use crate::faults::workers;
use crate::options::{Kills, Options};
use crate::plan;
use crate::side::Side;
use crate::world::World;

/// A way to kill, and its name.
type Way = (&'static str, fn(&mut Stage<'_>));

const WAYS: [Way; 4] = [
    ("at any moment", workers::kill_now),
    ("before the first commit", workers::kill_at_start),
    ("during a rebalance", workers::kill_in_rebalance),
    ("with retries waiting", workers::kill_with_retries),
];

pub(crate) fn run(row: Kills, options: &Options) -> Vec<String> {
    let mut rng = Rng::with_seed(options.seed);
    let rate = options.rate.unwrap_or(RATE);
    let mut world = World::start(&[row.platform.name()], &plan(options, 4));
    let start = Instant::now();
    let side = &mut world.sides[0];
    // The bound of the promise, over all kills together.
    side.uncommitted = Duration::from_secs(1);
    side.start();
    side.flow(Some(rate), row.count, Mix::CALM);
    let mut ways = Vec::new();
    for kill in 0..row.times {
        // Spread over the whole, each at a random place of its part.
        let goal = (row.count as f64 * (f64::from(kill) + rng.f64()) / f64::from(row.times + 1)) as u64;
        until(&mut world.sides[0], "to the next kill", goal, Side::accepted);
        let (way, act) = WAYS[rng.usize(..WAYS.len())];
        let (counted, promised) = (world.sides[0].may_repeat, world.sides[0].promised);
        act(&mut stage(&mut world, &mut rng, options));
        let side = &world.sides[0];
        let (counted, promised) = (side.may_repeat - counted, side.promised - promised);
        eprintln!("killed {way} at {}: {counted} may come again, {promised} are promised", side.accepted());
        ways.push(way);
    }
    let side = &mut world.sides[0];
    until(side, "to the end", row.count, Side::accepted);
    side.ebb();
    let settled = side.settle(PATIENCE);
    let (may_repeat, findings) = (side.may_repeat, side.audit());
    println!(
        "{} pushes over {} at {rate}/s, {} SIGKILLs ({}): lost {}, wrong records {}, repeated {} (counted at the kills {may_repeat}, \
         promised {}), told again {}; {:.0?}; seed {}",
        findings.pushes,
        row.platform.name(),
        row.times,
        summary(&ways),
        findings.lost,
        findings.wrong,
        findings.repeated,
        side.promised,
        findings.told_again,
        start.elapsed(),
        options.seed,
    );
    let mut all = broken(&findings, may_repeat);
    if findings.repeated > side.promised {
        all.push(format!("{} repeated, at most {} are promised", findings.repeated, side.promised));
    }
    if !settled {
        all.push(format!("not settled: {:?}", side.committed()));
    }
    all
}

fn summary(ways: &[&str]) -> String {
    let count = |way: &str| ways.iter().filter(|one| **one == way).count();
    WAYS.map(|(way, _)| format!("{} {way}", count(way))).join(", ")
}
