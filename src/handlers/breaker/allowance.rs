//! How many may be on their way at once while an app is limited: an eighth more at a step where the provider was overloaded
//! before, twice as many where it was not.

use super::window::Counts;

/// Share of refusals as overload from which an app slows down.
pub(super) const SLOW_SHARE: f64 = 0.25;
/// An app is not slowed down below so many at once.
pub(super) const SLOWEST: usize = 16;
/// Share of failures up to which a limited app still grows.
const CLEAN_SHARE: f64 = 0.1;
/// What may be on its way after the first good probe.
pub(super) const FIRST: usize = 2;
/// Where the provider was overloaded before, it grows by this part of itself at a step, and does not double.
const CARE: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Allowance {
    at_once: usize,
    /// From here on it grows with care.
    careful: usize,
}

impl Allowance {
    /// So many, and twice as many after a step that went well.
    pub(super) fn doubling(at_once: usize) -> Self {
        Allowance { at_once, careful: usize::MAX }
    }

    /// So many: more were too much.
    pub(super) fn careful(at_once: usize) -> Self {
        Allowance { at_once, careful: at_once }
    }

    /// So many at once.
    pub(super) fn at_once(&self) -> usize {
        self.at_once
    }

    /// A step is over that came to `counts`, with `level` on their way; `failure_share` is too much of failures.
    pub(super) fn step(&mut self, counts: Counts, failure_share: f64, level: usize) {
        let (overload, fault) = (counts.share(counts.overload), counts.share(counts.fault));
        let now = self.at_once;
        if fault >= failure_share {
            self.at_once = (now / 2).max(FIRST);
        } else if overload > CLEAN_SHARE {
            let less = if overload >= SLOW_SHARE { now / 2 } else { now - now / CARE };
            *self = Allowance::careful(less.max(SLOWEST.min(now)));
        } else if fault <= CLEAN_SHARE && (counts.good > 0 || level == 0) {
            self.at_once = if now < self.careful { now.saturating_mul(2) } else { now + (now / CARE).max(1) };
        }
    }
}
