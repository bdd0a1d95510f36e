//! Whether a project's quota is used up although no answer says so: the share of 429 among its last answers. Pure.
//!
//! One 429 without a word about the project is one device's or one topic's, and others go on. When most pushes are answered
//! so, it is the project's: no campaign goes to one device.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// All of them, in fixed point.
const WHOLE: u32 = 1 << 16;
/// How many answers the share is taken of, about: each one weighs so much less than all before it.
const ANSWERS: u32 = 32;

/// The share of a project's answers that were 429, fading. Threads may lose each other's additions: it is a share.
#[derive(Debug, Default)]
pub(super) struct LimitedShare(AtomicU32);

impl LimitedShare {
    /// Takes note of an answer. Returns whether most of the last ones were 429.
    pub(super) fn note(&self, limited: bool) -> bool {
        let before = self.0.load(Relaxed);
        let after = before - before.div_ceil(ANSWERS) + if limited { WHOLE / ANSWERS } else { 0 };
        // Most projects are never limited: nothing is written then.
        if after != before {
            self.0.store(after, Relaxed);
        }
        after > WHOLE / 2
    }

    /// The project sends again after a pause: what was answered before it says nothing about now.
    pub(super) fn forget(&self) {
        self.0.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(share: &LimitedShare, limited: impl IntoIterator<Item = bool>) -> bool {
        limited.into_iter().fold(false, |_, one| share.note(one))
    }

    #[test]
    fn a_few_are_the_devices_and_most_are_the_projects() {
        let share = LimitedShare::default();
        assert!(!noted(&share, [true; 20]), "twenty in a row can be one device's");
        assert!(noted(&share, [true; 20]));
        assert!(!noted(&share, [false; 40]), "it is over when answers are good again");
        assert!(!noted(&share, (0..10_000).map(|n| n % 3 == 0)));
        assert!(noted(&share, (0..10_001).map(|n| n % 5 != 4)));
        assert!(!noted(&share, [false; 10_000]));
        assert!(noted(&share, [true; 1000]));
        share.forget();
        assert!(!noted(&share, [false, false, true]), "one device's after a pause");
    }

    proptest::proptest! {
        #[test]
        fn the_share_stays_one(answers in proptest::collection::vec(proptest::prelude::any::<bool>(), 0..500)) {
            let share = LimitedShare::default();
            noted(&share, answers);
            proptest::prop_assert!(share.0.load(Relaxed) <= WHOLE);
        }
    }
}
