//! A fixed rate while the worker is killed (SIGKILL) at random: at any moment, before its first commit, during a rebalance, with
//! retries waiting.

use std::time::Instant;

use fastrand::Rng;
use pusher::generate::Mix;

use super::{RATE, broken, stage, until};
use crate::episode::{PATIENCE, Stage};
use crate::faults::workers;
use crate::options::{Kills, Options};
use crate::plan;
use crate::side::Side;
use crate::world::World;

/// One kill, and what was repeated from there to the next one. A kill that comes before all that the last one repeats has come is
/// counted with it: which of them brought a repeat cannot be told.
struct Kill {
    ways: Vec<&'static str>,
    promised: u64,
    /// Repeats before it, then those that it brought.
    repeated: u64,
}

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
    side.start();
    side.flow(Some(rate), row.count, Mix::CALM);
    let mut kills: Vec<Kill> = Vec::new();
    for kill in 0..row.times {
        // Spread over the whole, each at a random place of its part.
        let goal = (row.count as f64 * (f64::from(kill) + rng.f64()) / f64::from(row.times + 1)) as u64;
        until(&mut world.sides[0], "to the next kill", goal, Side::accepted);
        keep_flowing(&mut world.sides[0], rate);
        let (way, act) = WAYS[rng.usize(..WAYS.len())];
        let before = world.sides[0].repeated();
        let (counted, promised) = (world.sides[0].may_repeat, world.sides[0].promised);
        act(&mut stage(&mut world, &mut rng, options));
        let side = &world.sides[0];
        let (counted, promised) = (side.may_repeat - counted, side.promised - promised);
        eprintln!("killed {way} at {}: {counted} may come again, {promised} are promised", side.accepted());
        match kills.last_mut() {
            Some(last) if side.was_still_at_stake => {
                last.ways.push(way);
                last.promised += promised;
            }
            last => {
                if let Some(last) = last {
                    last.repeated = before - last.repeated;
                }
                kills.push(Kill { ways: vec![way], promised, repeated: before });
            }
        }
    }
    let side = &mut world.sides[0];
    until(side, "to the end", row.count, Side::accepted);
    side.ebb();
    let settled = side.settle(PATIENCE);
    if let Some(last) = kills.last_mut() {
        last.repeated = side.repeated() - last.repeated;
    }
    let over: Vec<_> = kills.iter().filter(|kill| kill.repeated > kill.promised).collect();
    for Kill { ways, promised, repeated, .. } in &over {
        eprintln!("a kill {} repeated {repeated}, and {promised} are promised", ways.join(", then "));
    }
    let (may_repeat, findings) = (side.may_repeat, side.audit());
    println!(
        "{} pushes over {} at {rate}/s, {} SIGKILLs ({}): lost {}, wrong records {}, repeated {} (counted at the kills {may_repeat}, \
         promised {}, exceeded by {} of the kills), told again {}; {:.0?}; seed {}",
        findings.pushes,
        row.platform.name(),
        row.times,
        summary(&kills),
        findings.lost,
        findings.wrong,
        findings.repeated,
        side.promised,
        over.len(),
        findings.told_again,
        start.elapsed(),
        options.seed,
    );
    let mut all = broken(&findings, may_repeat);
    all.extend(
        over.iter().map(|kill| format!("{} repeated by one kill, {} are promised", kill.repeated, kill.promised)),
    );
    if !settled {
        all.push(format!("not settled: {:?}", side.committed()));
    }
    all
}

/// There is something on the way at each kill, also when an earlier one took so long that all was through.
fn keep_flowing(side: &mut Side, rate: u32) {
    let seconds = |seconds: u64| seconds * u64::from(rate);
    if side.left() < seconds(10) {
        side.ebb();
        side.flow(Some(rate), seconds(20), Mix::CALM);
    }
}

fn summary(kills: &[Kill]) -> String {
    let count = |way: &str| kills.iter().flat_map(|kill| &kill.ways).filter(|one| **one == way).count();
    WAYS.map(|(way, _)| format!("{} {way}", count(way))).join(", ")
}
