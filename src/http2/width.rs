//! How many connections to open, and when. Pure: time and chance are arguments.
//!
//! Apple may take opening and closing again and again for an attack, and a peer that refuses us must not be hammered:
//! connections are opened for those who wait, a batch only when the batch before has proven itself, twice as many only
//! when that was not enough, and after a failure not before a growing pause is over.

use std::time::Duration;

use tokio::time::Instant;

/// Most connections opened at once.
const LARGEST_BATCH: usize = 8;

/// What the decision looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Connections that take new streams.
    pub(super) living: usize,
    /// Whether one of them is still to be proven.
    pub(super) unproven: bool,
    /// Whether somebody waits for a place.
    pub(super) waiting: bool,
    /// Connections to keep open without load.
    pub(super) min_idle: usize,
    /// Most connections.
    pub(super) max: usize,
}

/// The pool's progress in opening connections.
#[derive(Debug)]
pub(super) struct Width {
    backoff: (Duration, Duration),
    connecting: usize,
    batch: usize,
    failures: u32,
    rest_until: Option<Instant>,
    missed: bool,
}

impl Width {
    pub(super) fn new(backoff: (Duration, Duration)) -> Self {
        Width { backoff, connecting: 0, batch: 1, failures: 0, rest_until: None, missed: false }
    }

    /// How many connects to begin now; they count as begun.
    pub(super) fn begin(&mut self, view: View, now: Instant) -> usize {
        if self.connecting > 0 || self.is_resting(now) {
            return 0;
        }
        let room = view.max.saturating_sub(view.living);
        let missing = view.min_idle.saturating_sub(view.living).min(room);
        let pressed = (view.waiting || (self.missed && view.living == 0)) && !view.unproven;
        let wanted = if pressed { missing.max(self.batch.min(room)) } else { missing };
        if wanted > 0 {
            self.missed = false;
            // While a peer has just refused us, one try at a time.
            let wanted = if self.failures > 0 { 1 } else { wanted };
            self.batch = if pressed { (self.batch * 2).min(LARGEST_BATCH) } else { 1 };
            self.connecting = wanted;
            return wanted;
        }
        0
    }

    /// Nobody waits any more: the next widening starts small.
    pub(super) fn relax(&mut self) {
        self.batch = 1;
    }

    /// A connect came to its end, well or not.
    pub(super) fn ended(&mut self) {
        self.connecting -= 1;
    }

    /// A connection works: it gave an answer. Forgets the failures; says whether there were any.
    pub(super) fn works(&mut self) -> bool {
        let failed = self.failures > 0;
        self.failures = 0;
        self.rest_until = None;
        failed
    }

    /// A connect failed, or a connection ended before it gave a single answer: rests. `chance` is in 0..1. Returns the pause.
    ///
    /// What fails during a pause began before it: the same trouble, not one more.
    pub(super) fn failed(&mut self, now: Instant, chance: f64) -> Duration {
        if let Some(until) = self.rest_until.filter(|until| now < *until) {
            return until - now;
        }
        let pause = pause(self.backoff, self.failures, chance);
        self.failures = self.failures.saturating_add(1);
        self.batch = 1;
        self.rest_until = Some(now + pause);
        pause
    }

    /// Whether the pause after a failure is not over.
    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.rest_until.is_some_and(|until| now < until)
    }

    /// The peer is known to be back: the pause after a failure is over. Its failures are not forgotten before it answers.
    pub(super) fn end_rest(&mut self) {
        self.rest_until = None;
    }

    /// Somebody was turned away during the pause: connect when it is over, although nobody waits.
    pub(super) fn miss(&mut self) {
        self.missed = true;
    }

    pub(super) fn connecting(&self) -> usize {
        self.connecting
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

/// Exponential with full jitter: anything up to `first * 2^failures`, at most `longest`.
fn pause((first, longest): (Duration, Duration), failures: u32, chance: f64) -> Duration {
    let ceiling = first.saturating_mul(1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX)).min(longest);
    ceiling.mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

    fn view(living: usize, waiting: bool) -> View {
        View { living, unproven: false, waiting, min_idle: 0, max: 10 }
    }

    fn finish(width: &mut Width) {
        while width.connecting() > 0 {
            width.ended();
        }
    }

    #[test]
    fn widens_by_one_then_doubles_while_somebody_waits() {
        let now = Instant::now();
        let mut width = Width::new(BACKOFF);
        assert_eq!(width.begin(view(0, false), now), 0);
        assert_eq!(width.begin(view(0, true), now), 1);
        assert_eq!(width.begin(view(0, true), now), 0, "one batch at a time");
        let mut living = 1;
        for batch in [2, 4, 3] {
            finish(&mut width);
            assert_eq!(width.begin(view(living, true), now), batch);
            living += batch;
        }
        finish(&mut width);
        assert_eq!(width.begin(view(living, true), now), 0, "never above the maximum");
        width.relax();
        assert_eq!(width.begin(view(2, true), now), 1, "without pressure it starts small again");
    }

    #[test]
    fn waits_for_the_unproven() {
        let now = Instant::now();
        let mut width = Width::new(BACKOFF);
        assert_eq!(width.begin(View { unproven: true, ..view(1, true) }, now), 0);
        assert_eq!(width.begin(view(1, true), now), 1);
    }

    #[test]
    fn keeps_the_idle_minimum() {
        let now = Instant::now();
        let mut width = Width::new(BACKOFF);
        assert_eq!(width.begin(View { min_idle: 2, ..view(0, false) }, now), 2);
        finish(&mut width);
        assert_eq!(width.begin(View { min_idle: 2, ..view(2, false) }, now), 0);
    }

    #[test]
    fn rests_after_a_failure_and_remembers_who_was_turned_away() {
        let now = Instant::now();
        let mut width = Width::new(BACKOFF);
        width.begin(view(0, true), now);
        width.ended();
        let pause = width.failed(now, 1.0);
        assert_eq!(pause, BACKOFF.0);
        assert!(width.is_resting(now));
        assert_eq!(width.begin(view(0, true), now), 0);
        assert_eq!(width.begin(view(0, false), now + pause), 0);
        width.miss();
        assert_eq!(width.begin(view(0, false), now + pause), 1);
        assert!(width.works());
        assert!(!width.works());
    }

    #[test]
    fn a_rest_ends_when_the_peer_is_known_to_be_back() {
        let now = Instant::now();
        let mut width = Width::new(BACKOFF);
        width.begin(view(0, true), now);
        width.ended();
        width.failed(now, 1.0);
        width.miss();
        width.end_rest();
        assert_eq!(width.begin(view(0, false), now), 1);
        width.ended();
        assert_eq!(width.failed(now, 1.0), BACKOFF.0 * 2, "and begins anew, longer, when that was wrong");
    }

    #[test]
    fn connections_that_fail_together_are_one_failure() {
        let now = Instant::now();
        let mut width = Width::new(BACKOFF);
        let pause = width.failed(now, 1.0);
        for _ in 0..7 {
            assert_eq!(width.failed(now + pause / 2, 1.0), pause / 2);
        }
        assert_eq!(width.failures(), 1);
        assert_eq!(width.failed(now + pause, 1.0), 2 * pause);
    }

    proptest! {
        #[test]
        fn a_pause_stays_within_its_bounds(failures in 0u32..1000, chance in 0.0f64..1.0) {
            let ceiling = pause(BACKOFF, failures, 1.0);
            prop_assert!(ceiling >= BACKOFF.0 && ceiling <= BACKOFF.1);
            prop_assert!(pause(BACKOFF, failures, chance) <= ceiling);
        }
    }
}
