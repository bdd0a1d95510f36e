//! Where an app stands as an attempt begins, and what happened to it since then.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Circuit;
use crate::handlers::breaker::Signal;
use crate::outcome::Refusal;

/// What the app's attempts had come to when one of them began.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When it began.
    pub began: Instant,
    good: u64,
    bad: u64,
    round: u64,
    mended: u64,
}

impl Circuit {
    /// Where the app stands as an attempt begins.
    pub fn mark(&self) -> Mark {
        let (good, bad) = (self.good.load(Relaxed), self.bad.load(Relaxed));
        Mark { began: Instant::now(), good, bad, round: self.round(), mended: self.mended.load(Relaxed) }
    }

    /// Whether others of the app succeeded, more than failed, since an attempt began that ended in `refusal`: then, and only
    /// then, the failure is its message's own affair. Who was refused for his device alone is neither.
    pub fn others_succeeded(&self, since: &Mark, refusal: &Refusal) -> bool {
        if self.is_open() || self.round() != since.round {
            return false;
        }
        let good = self.good.load(Relaxed).saturating_sub(since.good);
        let own = u64::from(Signal::of_refusal(refusal).is_fault());
        let others_bad = self.bad.load(Relaxed).saturating_sub(since.bad + own);
        good > 0 && good >= others_bad
    }

    /// Whether the app is paused, and was not yet when an attempt began.
    pub fn is_paused_since(&self, mark: &Mark) -> bool {
        self.is_open() && mark.round < self.round()
    }

    /// Whether what failed everything was mended since an attempt began: who failed with all need not wait.
    pub fn is_mended_since(&self, mark: &Mark) -> bool {
        mark.mended < self.mended.load(Relaxed)
    }
}
