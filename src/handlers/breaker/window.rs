//! What succeeded and failed in the last while, in slices of time.

use std::time::{Duration, Instant};

const SLICES: usize = 10;

/// Attempts by what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) good: u64,
    pub(super) fault: u64,
    /// Those of the failures that speak of overload.
    pub(super) overload: u64,
}

impl Counts {
    /// Which share `n` is of all; 0 of none.
    pub(super) fn share(self, n: u64) -> f64 {
        n as f64 / (self.good + self.fault).max(1) as f64
    }
}

/// The last `SLICES` slices.
#[derive(Debug)]
pub(super) struct Window {
    slice: Duration,
    origin: Instant,
    newest: u64,
    slices: [Counts; SLICES],
}

impl Window {
    /// An empty one, `length` long.
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        let slice = (length / SLICES as u32).max(Duration::from_millis(1));
        Window { slice, origin: now, newest: 0, slices: [Counts::default(); SLICES] }
    }

    /// How long a slice is.
    pub(super) fn slice(&self) -> Duration {
        self.slice
    }

    /// The slice that `now` lies in.
    pub(super) fn at(&mut self, now: Instant) -> &mut Counts {
        let number = (now.saturating_duration_since(self.origin).as_nanos() / self.slice.as_nanos()) as u64;
        let passed = number.saturating_sub(self.newest).min(SLICES as u64);
        for _ in 0..passed {
            self.newest += 1;
            self.slices[self.newest as usize % SLICES] = Counts::default();
        }
        self.newest = self.newest.max(number);
        &mut self.slices[self.newest as usize % SLICES]
    }

    /// All that is not too old, and in how many slices something failed.
    pub(super) fn sum(&mut self, now: Instant) -> (Counts, usize) {
        self.at(now);
        let spread = self.slices.iter().filter(|slice| slice.fault > 0).count();
        let sum = self.slices.iter().fold(Counts::default(), |sum, slice| Counts {
            good: sum.good + slice.good,
            fault: sum.fault + slice.fault,
            overload: sum.overload + slice.overload,
        });
        (sum, spread)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_is_younger_than_its_length_and_nothing_much_older(
            gaps in proptest::collection::vec(0u64..3_000, 1..200), look in 0u64..15_000,
        ) {
            let begin = Instant::now();
            let mut window = Window::new(Duration::from_secs(10), begin);
            let (mut now, mut times) = (begin, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                window.at(now).fault += 1;
                times.push(now);
            }
            let end = now + Duration::from_millis(look);
            let (sum, spread) = window.sum(end);
            let younger = |age: u64| times.iter().filter(|time| **time + Duration::from_secs(age) > end).count() as u64;
            prop_assert!(younger(9) <= sum.fault && sum.fault <= younger(10));
            prop_assert!(spread as u64 <= sum.fault && (spread > 0) == (sum.fault > 0));
        }
    }
}
