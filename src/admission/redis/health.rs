//! Whether a server answers: when to try again (pure), and one line in the log when it goes and when it is back.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// First pause before a server is tried again: a moment's stall of Redis costs no more than this.
const SHORTEST: Duration = Duration::from_millis(100);
/// Longest pause: how late its return is noticed.
const LONGEST: Duration = Duration::from_secs(3);

/// The pauses between attempts to reach a server that is away.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    failures: u32,
}

impl Pauses {
    /// The next pause: twice the last one.
    pub(super) fn next(&mut self) -> Duration {
        let pause = SHORTEST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        pause
    }

    /// It has answered a push: the next pause is the first one again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// How many links to a server are without it.
#[derive(Debug)]
pub(super) struct Health {
    address: String,
    away: AtomicUsize,
}

impl Health {
    /// Of the server at this address, believed to be there.
    pub(super) fn new(address: String) -> Self {
        Health { address, away: AtomicUsize::new(0) }
    }

    /// One more link is without it. The first one says so.
    pub(super) fn lost(&self, why: &str) {
        if self.away.fetch_add(1, SeqCst) == 0 {
            tracing::warn!(server = %self.address, error = why, "Redis is away: pushes go on without its rate limit and dedup");
        }
    }

    /// One link less is without it. The last one says so.
    pub(super) fn found(&self) {
        if self.away.fetch_sub(1, SeqCst) == 1 {
            tracing::info!(server = %self.address, "Redis answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_an_answer() {
        let mut pauses = Pauses::default();
        let millis: Vec<_> = (0..7).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1600, 3000, 3000]);
        pauses.failures = u32::MAX - 1;
        assert_eq!(pauses.next(), LONGEST);
        pauses.reset();
        assert_eq!(pauses.next(), SHORTEST);
    }
}
