//! One fault under traffic: from a steady flow through the fault back to a steady flow, then the judgement.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::faults::{Fault, Within};
use super::options::Options;
use super::pulse;
use super::report::Line;
use super::resident::Resident;
use super::side::{MIX, Side};
use super::world::{Neighbours, World};
use crate::support::eventually;
use crate::support::worker::Worker;

/// `queue.sessionTimeout`, which the run leaves at its default.
pub(crate) const SESSION: Duration = Duration::from_secs(6);
/// How long anything may take that is to come by itself.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);
/// `stats.statsd.flushInterval`, and some more.
const STATISTICS: Duration = Duration::from_millis(1_500);
/// Pushes that are delivered before the fault begins.
const STEADY: u64 = 50;

/// What a fault acts on.
pub(crate) struct Stage<'a> {
    pub(crate) neighbours: &'a Neighbours,
    /// Those that the fault is for.
    pub(crate) sides: Vec<&'a mut Side>,
    pub(crate) rng: &'a mut Rng,
    /// How long an outage lasts.
    pub(crate) outage: Duration,
    /// Pushes per second.
    pub(crate) rate: u32,
}

impl Stage<'_> {
    /// Lets time pass; no worker may end by itself meanwhile.
    pub(crate) fn hold(&mut self, time: Duration) {
        let start = Instant::now();
        self.until("time passes", |_, _| start.elapsed() >= time);
    }

    /// Something of each side.
    pub(crate) fn each<T>(&self, of: impl Fn(&Side) -> T) -> Vec<T> {
        self.sides.iter().map(|side| of(side)).collect()
    }

    /// Something of each side's first worker.
    pub(crate) fn each_worker<T>(&mut self, of: impl Fn(&mut Worker) -> T) -> Vec<T> {
        self.sides.iter_mut().map(|side| of(side.worker(0))).collect()
    }

    /// A moment of at most so long.
    pub(crate) fn moment(&mut self, longest: Duration) {
        let time = longest.mul_f64(self.rng.f64());
        self.hold(time);
    }

    /// Waits until something is so on each side.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut so: impl FnMut(usize, &mut Side) -> bool) {
        eventually(what, PATIENCE + self.outage, || {
            self.sides.iter_mut().for_each(|side| side.assert_alive());
            self.sides.iter_mut().enumerate().all(|(index, side)| so(index, side)).then_some(())
        });
    }
}

/// Plays a fault and judges it. Lines come in any case; a panic on the way is a complaint of each.
pub(crate) fn play(world: &mut World, fault: &Fault, rng: &mut Rng, options: &Options) -> Vec<Line> {
    let World { neighbours, sides, .. } = world;
    let sides: Vec<_> = sides.iter_mut().filter(|side| fault.platforms.contains(&side.platform)).collect();
    let mut stage = Stage { neighbours, sides, rng, outage: options.outage(), rate: options.rate() };
    let timed_out = stage.each(|side| side.timed_out(&neighbours.statsd));
    let (mut complaints, began) = (Vec::new(), Instant::now());
    let acted = attempt(&mut complaints, || act(&mut stage, fault, options));
    let (begun, over) = acted.unwrap_or_else(|| (began, Instant::now()));
    let judged = stage.sides.iter_mut().map(|side| judge(side, fault, options, (begun, over), complaints.clone()));
    let mut lines: Vec<_> = judged.collect();
    if lines.iter().any(Line::has_excess) {
        // The last statistics are on their way.
        pause(STATISTICS);
        for ((line, side), before) in lines.iter_mut().zip(&stage.sides).zip(timed_out) {
            let now = side.timed_out(&neighbours.statsd);
            line.allow((now.0 - before.0).saturating_sub(now.1 - before.1));
        }
    }
    lines
}

/// When the fault began and when it was over; returns when each side is back to speed or its time is up.
fn act(stage: &mut Stage<'_>, fault: &Fault, options: &Options) -> (Instant, Instant) {
    for side in &mut stage.sides {
        side.begin();
        side.flow(Some(options.rate()), u64::MAX, MIX);
    }
    let before = stage.each(Side::accepted);
    stage.until("a steady flow", |index, side| side.accepted() >= before[index] + STEADY);
    if fault.within == Within::Ramp {
        // Outages of the provider replace no worker.
        stage.sides.iter_mut().for_each(|side| side.watch_memory());
    }
    let begun = Instant::now();
    (fault.act)(stage);
    let over = Instant::now();
    let limit = fault.within.bound("gcm") + options.grace() + PATIENCE;
    // A side that does not come back is judged as such: this wait only ends.
    while over.elapsed() < limit && !stage.sides.iter().all(|side| is_back(side, over, options)) {
        stage.hold(Duration::from_millis(200));
    }
    (begun, over)
}

fn is_back(side: &Side, over: Instant, options: &Options) -> bool {
    side.produced() >= options.pushes && pulse::recovered(&side.samples(over), over).is_some()
}

/// Ends the traffic of a side, waits until it is settled, and judges.
fn judge(
    side: &mut Side,
    fault: &Fault,
    options: &Options,
    (begun, over): (Instant, Instant),
    mut complaints: Vec<String>,
) -> Line {
    let recovered = pulse::recovered(&side.samples(over), over);
    let stalled = pulse::stalled(&side.samples(begun));
    let settled = attempt(&mut complaints, || {
        side.ebb();
        side.settle(PATIENCE + options.grace())
    });
    if settled == Some(false) {
        complaints.push(format!("not settled: {:?}", attempt(&mut Vec::new(), || side.committed())));
    }
    let findings = attempt(&mut complaints, || side.audit()).unwrap_or_default();
    let bound = fault.within.bound(side.platform) + options.grace();
    Line {
        fault: fault.name,
        platform: side.platform,
        findings,
        may_repeat: side.may_repeat,
        promised: (!options.short).then_some(side.promised),
        stalled,
        may_stall: (fault.within == Within::Session).then_some(bound),
        recovered,
        may_recover_within: bound,
        grown: side.resident.map(Resident::grown),
        complaints,
    }
}

/// Does something; a panic becomes a complaint.
fn attempt<T>(complaints: &mut Vec<String>, what: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|panic| complaints.push(words(panic.as_ref()))).ok()
}

pub(crate) fn pause(time: Duration) {
    #[allow(clippy::disallowed_methods, reason = "other processes cannot be awaited, only looked at")]
    std::thread::sleep(time);
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
