//! One fault under traffic: from a steady flow through the fault back to a steady flow, then the judgement.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::faults::{Fault, Within};
use super::options::Options;
use super::pulse;
use super::report::Line;
use super::side::{MIX, Side};
use super::world::{Neighbours, World};
use crate::support::eventually;

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
    /// When the fault was over, if not when its function returns.
    pub(crate) over: Option<Instant>,
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
    let mut stage = Stage { neighbours, sides, rng, outage: options.outage(), over: None };
    let timed_out = stage.each(|side| side.timed_out(&neighbours.statsd));
    let began = Instant::now();
    let acted = catch_unwind(AssertUnwindSafe(|| act(&mut stage, fault, options)));
    let (begun, over, complaint) = match acted {
        Ok((begun, over)) => (begun, over, None),
        Err(panic) => (began, Instant::now(), Some(words(panic.as_ref()))),
    };
    let judged = stage.sides.iter_mut().map(|side| close(side, fault, options, begun, over, complaint.clone()));
    let mut lines: Vec<_> = judged.collect();
    // Their last statistics are on the way.
    pause(STATISTICS);
    for ((line, side), before) in lines.iter_mut().zip(&stage.sides).zip(timed_out) {
        let now = side.timed_out(&neighbours.statsd);
        line.may_repeat += (now.0 - before.0).saturating_sub(now.1 - before.1);
    }
    lines
}

/// When the fault began and when it was over; returns when each side is back to speed or its time is up.
fn act(stage: &mut Stage<'_>, fault: &Fault, options: &Options) -> (Instant, Instant) {
    for side in &mut stage.sides {
        side.meter.pulse.clear();
        side.ended.clear();
        (side.may_repeat, side.promised) = (0, 0);
        side.back_to_one();
        side.flow(Some(options.rate()), u64::MAX, MIX);
    }
    let before = stage.each(Side::accepted);
    stage.until("a steady flow", |index, side| side.accepted() >= before[index] + STEADY);
    let begun = Instant::now();
    (fault.act)(stage);
    let over = stage.over.unwrap_or_else(Instant::now);
    let limit = fault.within.bound("gcm") + options.grace() + PATIENCE;
    // A side that does not come back is judged as such: this wait only ends.
    while over.elapsed() < limit && !stage.sides.iter().all(|side| is_back(side, over, options)) {
        stage.hold(Duration::from_millis(200));
    }
    (begun, over)
}

fn is_back(side: &Side, over: Instant, options: &Options) -> bool {
    let enough = side.meter.produced.load(Relaxed) - side.produced_before >= options.pushes;
    enough && pulse::recovered(&side.samples(over), over).is_some()
}

/// Ends the traffic of a side, waits until it is settled, and judges.
fn close(
    side: &mut Side,
    fault: &Fault,
    options: &Options,
    begun: Instant,
    over: Instant,
    complaint: Option<String>,
) -> Line {
    let mut complaints: Vec<String> = complaint.into_iter().collect();
    let attempt = |complaints: &mut Vec<String>, what: &mut dyn FnMut() -> Result<(), String>| {
        let done = catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| Err(words(panic.as_ref())));
        complaints.extend(done.err());
    };
    let recovered = pulse::recovered(&side.samples(over), over);
    let stalled = pulse::stalled(&side.samples(begun));
    attempt(&mut complaints, &mut || {
        side.ebb();
        let settled = side.settle(PATIENCE + options.grace());
        if settled { Ok(()) } else { Err(format!("not settled: {:?}", side.committed())) }
    });
    let mut findings = super::audit::Findings::default();
    attempt(&mut complaints, &mut || {
        findings = side.audit();
        Ok(())
    });
    if options.grace().is_zero() && side.may_repeat > side.promised {
        complaints.push(format!("{} may be repeated, more than the {} of the promise", side.may_repeat, side.promised));
    }
    let may_stall = (fault.within == Within::Session).then(|| Within::Session.bound(side.platform) + options.grace());
    Line {
        fault: fault.name,
        platform: side.platform,
        findings,
        may_repeat: side.may_repeat,
        stalled,
        may_stall,
        recovered,
        may_recover_within: fault.within.bound(side.platform) + options.grace(),
        complaints,
    }
}

pub(crate) fn pause(time: Duration) {
    #[allow(clippy::disallowed_methods, reason = "other processes cannot be awaited, only looked at")]
    std::thread::sleep(time);
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
