//! Attempts per target, for targets that misbehave a number of times and then no more.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use parking_lot::Mutex;

/// Targets remembered, by their hashes.
const REMEMBERED: usize = 1 << 20;

/// How often each target was tried, as far as it matters.
#[derive(Debug, Default)]
pub struct Attempts {
    so_far: Mutex<HashMap<u64, u8>>,
    hasher: RandomState,
}

impl Attempts {
    /// Whether this attempt is among the first `attempts` to a target (0: it always is).
    pub fn still(&self, target: &str, attempts: u8) -> bool {
        if attempts == 0 {
            return true;
        }
        let key = self.hasher.hash_one(target.as_bytes());
        let mut so_far = self.so_far.lock();
        if so_far.len() >= REMEMBERED && !so_far.contains_key(&key) {
            return false;
        }
        let count = so_far.entry(key).or_default();
        let still = *count < attempts;
        *count += u8::from(still);
        still
    }

    /// Begins anew.
    pub fn forget(&self) {
        self.so_far.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_times_and_then_no_more() {
        let attempts = Attempts::default();
        let tries = |target: &str| (0..3).map(|_| attempts.still(target, 2)).collect::<Vec<_>>();
        assert_eq!((tries("a"), tries("b")), (vec![true, true, false], vec![true, true, false]));
        attempts.forget();
        assert!(attempts.still("a", 2));
        assert!((0..300).all(|_| attempts.still("c", 0)), "for ever");
    }
}
