//! How many may be on their way at once while an app is limited: twice as many at a step that went well, an eighth more where the
//! provider was overloaded before or something fails that a closed breaker bears. A share of failures that never ends, and that is
//! borne, must not keep an app limited for ever: so few are judged at a step that chance must weigh the same both ways.

use super::window::Counts;

/// Share of refusals as overload from which an app slows down.
pub(super) const SLOW_SHARE: f64 = 0.25;
/// An app is not slowed down below so many at once.
pub(super) const SLOWEST: usize = 16;
/// Share of failures up to which a step went well.
const CLEAN_SHARE: f64 = 0.1;
/// What may be on its way after the first good probe.
pub(super) const FIRST: usize = 2;
/// With care it grows, or shrinks, by this part of itself at a step, and does not double.
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
        let a_little = (now / CARE).max(1);
        if fault >= failure_share {
            // Nearly all of it, or as much as a closed breaker does not bear.
            let less = if fault >= f64::midpoint(failure_share, 1.0) { now / 2 } else { now - a_little };
            self.at_once = less.max(FIRST);
        } else if overload >= SLOW_SHARE && now > SLOWEST {
            *self = Allowance::careful((now / 2).max(SLOWEST));
        } else if counts.good > 0 || level == 0 {
            let went_well = fault <= CLEAN_SHARE && now < self.careful;
            self.at_once = if went_well { now.saturating_mul(2) } else { now + a_little };
        }
    }
}
