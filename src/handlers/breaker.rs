//! When an app stops sending because its provider, the way to it or its credentials fail everything, and how it begins
//! again: a pure state machine. Time is an argument; who is told and what is paused is the business of `circuit`.
//!
//! ```text
//!            nothing succeeds any more, or most fails; the project's quota is used up
//!   closed ────────────────────────────────────────────────────────────────────────→ open
//!     ↑  └─ a quarter refused as overload ─→ limited ←── a probe is answered in order ──┘  single probes, at growing pauses
//!     └────── the allowance has grown to all ──┘  └─ all of the allowance fails ─→ open
//! ```
//!
//! - *Open*: nothing is sent but single probes, which are real pushes. Each pause is twice the one before, and never shorter
//!   than what the provider asked for. A probe without an answer does not keep the next one waiting; one that failed is tried
//!   again when there is no other push.
//! - *Limited*: so many may be on their way at once, twice as many after each step that went well; half as many after one that
//!   overloaded the provider, and an eighth more at a time from there on, as where something fails that a closed breaker bears.
//! - What is refused for one device alone says nothing about the others, unless nothing else is heard for long.

use std::time::{Duration, Instant};

use super::retry::LONGEST_WISH;

mod allowance;
mod probing;
mod settings;
mod signal;
mod window;

use allowance::{Allowance, FIRST, SLOW_SHARE, SLOWEST};
use probing::Probing;
pub use settings::{KEYS, Settings};
pub use signal::Signal;
use window::{Counts, Window};

/// Refusals of single devices in a row weigh this much less than failures.
const DEVICE_WEIGHT: u64 = 10;
/// Failures must lie in so many slices of the window: one lost connection is one event, however many pushes it carried.
const SPREAD: usize = 3;

/// How often it is to look at the clock while it has something to decide.
pub const LOOK: Duration = Duration::from_millis(50);

/// The breaker's position, as gauges and people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// All is sent.
    Closed,
    /// So many are sent at once.
    Limited,
    /// Only probes are sent.
    Open,
}

/// A change of position that is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Closed or limited before, open now.
    Opened,
    /// Closed before, limited now: the provider is overloaded.
    Slowed,
    /// Open before, limited now: the provider answers again.
    Recovering,
    /// Limited before, closed now.
    Closed,
}

#[derive(Debug)]
enum State {
    Closed,
    Limited { allowance: Allowance, step: Counts, until: Instant },
    Open(Probing),
}

/// What has failed since anything succeeded.
#[derive(Debug, Default)]
struct Row {
    since: Option<Instant>,
    faults: u64,
    devices: u64,
}

/// One app's breaker.
#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    /// What the app may have in flight at most: an allowance of that is none.
    full: usize,
    state: State,
    row: Row,
    window: Window,
}

impl Breaker {
    /// A closed one, for an app that may have `full` messages in flight.
    pub fn new(settings: Settings, full: usize, now: Instant) -> Self {
        let window = Window::new(settings.window, now);
        Breaker { settings, full: full.max(1), state: State::Closed, row: Row::default(), window }
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        match self.state {
            State::Closed => Position::Closed,
            State::Limited { .. } => Position::Limited,
            State::Open(_) => Position::Open,
        }
    }

    /// When it is to look at the clock again, unless something fails before. While it is closed and nothing has failed since something
    /// succeeded, there is nothing to decide: successes alone are told to its window.
    pub fn look_again(&self) -> Duration {
        let is_calm = matches!(self.state, State::Closed) && self.row.since.is_none();
        if is_calm { self.window.slice().max(LOOK) } else { LOOK }
    }

    /// Most messages of the app that may be on their way, given that `level` are; `usize::MAX`: no limit.
    pub fn allowance(&self, level: usize) -> usize {
        match self.state {
            State::Closed => usize::MAX,
            State::Limited { ref allowance, .. } => allowance.at_once(),
            // What is still on its way from before is not to keep a probe waiting.
            State::Open(ref probing) if probing.may_probe() => level + 1,
            State::Open(_) => 0,
        }
    }

    /// `n` attempts were answered in order.
    pub fn succeeded(&mut self, n: u64, now: Instant) {
        if n == 0 || self.position() == Position::Open {
            return; // what was on its way when it opened proves nothing about now
        }
        self.row = Row::default();
        self.count(now, |counts| counts.good += n);
    }

    /// An attempt came to this, with `level` of the app's messages on their way.
    pub fn attempted(&mut self, signal: Signal, level: usize, now: Instant) -> Option<Change> {
        if self.position() == Position::Open {
            return None;
        }
        match signal {
            Signal::Nothing => {}
            Signal::Good => self.succeeded(1, now),
            Signal::Device => {
                self.row.since.get_or_insert(now);
                self.row.devices += 1;
            }
            Signal::Fault { overload, .. } => {
                self.row.since.get_or_insert(now);
                self.row.faults += 1;
                self.count(now, |counts| {
                    counts.fault += 1;
                    counts.overload += u64::from(overload);
                });
            }
            Signal::Quota { wait } => return Some(self.open(wait, (level / 2).min(self.full), now)),
        }
        None
    }

    /// Takes the probe that may be sent now, if one may.
    pub fn take_probe(&mut self) -> bool {
        let State::Open(probing) = &mut self.state else { return false };
        probing.take()
    }

    /// Whether a probe may be sent that no push has taken for a while: then one that was a probe before is welcome.
    pub fn wants_probe(&self, now: Instant) -> bool {
        matches!(&self.state, State::Open(probing) if probing.is_wanted(now))
    }

    /// A probe came to this.
    pub fn probed(&mut self, signal: Signal, level: usize, now: Instant) -> Option<Change> {
        let State::Open(probing) = &mut self.state else {
            return self.attempted(signal, level, now); // another probe was faster
        };
        probing.ended();
        match signal {
            Signal::Nothing => probing.asked_nobody(now),
            Signal::Good => {
                let allowance = Allowance::doubling(probing.resume);
                return Some(self.limit(allowance, Change::Recovering, now));
            }
            Signal::Device | Signal::Fault { .. } | Signal::Quota { .. } => {
                probing.failed(signal.wait(), &self.settings, now);
            }
        }
        None
    }

    /// What may have failed everything is mended, says somebody: a probe finds out now, and what failed before is forgotten.
    pub fn retry_now(&mut self, now: Instant) {
        self.row = Row::default();
        if let State::Open(probing) = &mut self.state {
            probing.retry_now(&self.settings, now);
        }
    }

    /// Looks at the clock, with `level` of the app's messages on their way. To be called as [`Breaker::look_again`] says.
    pub fn tick(&mut self, level: usize, now: Instant) -> Option<Change> {
        if let State::Open(probing) = &mut self.state {
            probing.tick(&self.settings, now);
            return None;
        }
        if self.fails_everything(now) {
            return Some(self.open(Duration::ZERO, FIRST, now));
        }
        match self.state {
            State::Limited { until, .. } if now >= until => self.step(level, now),
            State::Closed => self.look_at_window(level, now),
            _ => None,
        }
    }

    /// Nothing has succeeded for a while, and enough has been tried.
    fn fails_everything(&self, now: Instant) -> bool {
        let Row { since, faults, devices } = &self.row;
        let long = since.is_some_and(|since| now.saturating_duration_since(since) >= self.settings.patience);
        long && *faults + *devices / DEVICE_WEIGHT >= self.settings.min_failures
    }

    fn look_at_window(&mut self, level: usize, now: Instant) -> Option<Change> {
        let (sum, spread) = self.window.sum(now);
        if spread < SPREAD {
            return None;
        }
        let least = self.settings.min_failures;
        if sum.fault >= least && sum.share(sum.fault) >= self.settings.failure_share {
            return Some(self.open(Duration::ZERO, FIRST, now));
        }
        if sum.overload >= least && sum.share(sum.overload) >= SLOW_SHARE {
            return Some(self.limit(Allowance::careful((level / 2).max(SLOWEST)), Change::Slowed, now));
        }
        None
    }

    /// A step of the ramp is over.
    fn step(&mut self, level: usize, now: Instant) -> Option<Change> {
        let pace = self.settings.step(self.full);
        let State::Limited { allowance, step, until } = &mut self.state else { return None };
        let counts = std::mem::take(step);
        *until = now + pace;
        if counts.good == 0 && counts.fault >= self.settings.min_failures.min(allowance.at_once() as u64).max(1) {
            return Some(self.open(Duration::ZERO, FIRST, now));
        }
        allowance.step(counts, self.settings.failure_share, level);
        if allowance.at_once() < self.full {
            return None;
        }
        self.forget(now);
        self.state = State::Closed;
        Some(Change::Closed)
    }

    fn open(&mut self, wait: Duration, resume: usize, now: Instant) -> Change {
        self.forget(now);
        self.state = State::Open(Probing::new(wait, resume.max(FIRST), &self.settings, now));
        Change::Opened
    }

    fn limit(&mut self, allowance: Allowance, change: Change, now: Instant) -> Change {
        self.forget(now);
        self.state = State::Limited { allowance, step: Counts::default(), until: now + self.settings.step(self.full) };
        change
    }

    fn count(&mut self, now: Instant, add: impl Fn(&mut Counts)) {
        match &mut self.state {
            State::Closed => add(self.window.at(now)),
            State::Limited { step, .. } => add(step),
            State::Open(_) => {}
        }
    }

    /// What was seen in one position says nothing about the next.
    fn forget(&mut self, now: Instant) {
        self.row = Row::default();
        self.window = Window::new(self.settings.window, now);
    }
}

#[cfg(test)]
mod tests;
