//! Memory during an outage: the backlog stays in Kafka.

use std::time::{Duration, Instant};

use pusher::generate::Mix;

use super::until;
use crate::episode::pause;
use crate::options::{Memory, Options};
use crate::plan;
use crate::provider::Ill;
use crate::side::Side;
use crate::world::World;

/// Deliveries before and after the outage.
const SOME: u64 = 10_000;
/// How often memory is read.
const LOOK: Duration = Duration::from_secs(1);
/// How much the last minute may differ from the first.
const FLAT: f64 = 0.1;

pub(crate) fn run(row: Memory, options: &Options) -> Vec<String> {
    let minutes = row.minutes.max(2);
    let mut world = World::start(&["apns"], &plan(options, 4));
    let side = &mut world.sides[0];
    side.flow(None, row.backlog, Mix::CALM);
    until(side, "produced", row.backlog, Side::produced);
    side.ebb();
    side.start();
    until(side, "before the outage", SOME, Side::accepted);
    side.provider().set(Some(Ill::Unavailable));
    let samples = watch(side, Duration::from_mins(minutes.into()));
    let waiting = row.backlog - side.accepted();
    side.provider().set(None);
    let goal = row.backlog.min(side.accepted() + SOME);
    until(side, "after the outage", goal, Side::accepted);
    let ledger = side.stop(0);
    let minute = Duration::from_mins(1).as_secs() as usize;
    let (first, last) = (mean(&samples[..minute]), mean(&samples[samples.len() - minute..]));
    let most = samples.iter().copied().max().unwrap_or(0);
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    println!(
        "{minutes} minutes of 503 with {waiting} of {} messages waiting: resident memory {:.1} MiB in the first minute, {:.1} MiB in \
         the last, {:.1} MiB at most; {} failed; seed {}",
        row.backlog,
        mib(first),
        mib(last),
        mib(most as f64),
        ledger.failed,
        options.seed,
    );
    let mut broken = Vec::new();
    if (last / first - 1.0).abs() > FLAT {
        broken.push(format!("memory went from {:.1} to {:.1} MiB", mib(first), mib(last)));
    }
    if ledger.failed + ledger.expired + ledger.rejected > 0 {
        broken.push(format!("an outage ended messages: {ledger:?}"));
    }
    broken
}

fn watch(side: &mut Side, time: Duration) -> Vec<u64> {
    let (begin, mut samples) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        side.assert_alive();
        samples.push(side.worker(0).resident());
        if samples.len() % 30 == 0 {
            eprintln!("{:.0?} of {time:.0?}: {} MiB", begin.elapsed(), samples[samples.len() - 1] >> 20);
        }
        pause(LOOK);
    }
    samples
}

fn mean(samples: &[u64]) -> f64 {
    samples.iter().sum::<u64>() as f64 / samples.len().max(1) as f64
}
