//! How much memory a worker has in hand while something lasts.

use std::time::{Duration, Instant};

use super::side::Side;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Resident memory of a side's first worker since a moment, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    before: u64,
    most: u64,
    looked: Instant,
}

impl Resident {
    /// From now on; the worker must live on.
    pub(crate) fn since_now(side: &mut Side) -> Resident {
        let before = side.worker(0).resident();
        Resident { before, most: before, looked: Instant::now() }
    }

    pub(crate) fn look(&mut self, side: &mut Side) {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            self.most = self.most.max(side.worker(0).resident());
        }
    }

    /// By how much it grew at most.
    pub(crate) fn grown(self) -> u64 {
        self.most - self.before
    }
}
