//! Longer looks at one promise each, with their figures. Each gives the promises that were broken.

pub(crate) mod beside;
pub(crate) mod kills;
pub(crate) mod memory;
pub(crate) mod shares;
pub(crate) mod stragglers;
pub(crate) mod stuck;

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::audit::Findings;
use crate::episode::{PATIENCE, Stage, pause};
use crate::options::Options;
use crate::side::Side;
use crate::world::World;

/// Pushes per second of the long looks.
const RATE: u32 = 5_000;

/// The stage of a world with one side.
fn stage<'a>(world: &'a mut World, rng: &'a mut Rng, options: &Options) -> Stage<'a> {
    let World { neighbours, sides, .. } = world;
    Stage {
        neighbours,
        sides: sides.iter_mut().collect(),
        rng,
        outage: options.outage(),
        rate: options.rate.unwrap_or(RATE),
    }
}

/// Waits for something that depends on the machine's speed: as long as it comes nearer.
fn until(side: &mut Side, what: &str, goal: u64, so_far: impl Fn(&Side) -> u64) {
    let (mut at, mut told, mut best) = (Instant::now(), Instant::now(), so_far(side));
    while best < goal {
        side.assert_alive();
        let now = so_far(side);
        if now > best {
            (best, at) = (now, Instant::now());
        }
        assert!(at.elapsed() < PATIENCE, "{what}: stuck at {best} of {goal}");
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("{what}: {best} of {goal}; produced {}", side.produced());
        }
        pause(Duration::from_millis(50));
    }
}

/// What the findings break, whatever the row.
fn broken(findings: &Findings, may_repeat: u64) -> Vec<String> {
    let mut broken = Vec::new();
    if findings.lost + findings.wrong > 0 {
        broken.push(format!("{} lost, {} wrong records: {:?}", findings.lost, findings.wrong, findings.examples));
    }
    if findings.repeated > may_repeat {
        broken.push(format!("{} repeated, at most {may_repeat}", findings.repeated));
    }
    broken
}
