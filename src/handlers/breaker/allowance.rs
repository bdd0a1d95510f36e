//! How many may be on their way at once while an app is limited: twice as many at a step that went well, an eighth more where the
//! provider was overloaded before or something fails that a closed breaker bears. A share of failures that never ends must not
//! keep an app limited for ever.

use super::window::Counts;

/// Share of refusals as overload from which an app slows down.
pub(super) const SLOW_SHARE: f64 = 0.25;
/// An app is not slowed down below so many at once.
pub(super) const SLOWEST: usize = 16;
/// Share of failures up to which a step went well, and of refusals as overload up to which there is no less.
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
        } else if overload >= SLOW_SHARE || overload > CLEAN_SHARE && now > SLOWEST {
            let less = if overload >= SLOW_SHARE { now / 2 } else { now - now / CARE };
            *self = Allowance::careful(less.max(SLOWEST.min(now)));
        } else if counts.good > 0 || level == 0 {
            let went_well = fault <= CLEAN_SHARE && now < self.careful;
            self.at_once = if went_well { now.saturating_mul(2) } else { now + (now / CARE).max(1) };
        }
    }
}
