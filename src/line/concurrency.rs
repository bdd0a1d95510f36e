//! How many attempts of an app may be under way on a sender, learned from how long answers take. The policy is pure, time is an
//! argument.
//!
//! More requests under way than the provider and this machine work at do not get answered sooner: they stand in a queue
//! somewhere, where an urgent push stands behind them, and their memory falls out of the caches. So the limit grows while
//! answers come as soon as they do with few requests under way, and shrinks when they take much longer (a delay-based limit,
//! as in TCP Vegas and BBR; the reference is measured anew from time to time, with a quarter of the requests). An app that gets no
//! answers at all stays at the least, and leaves the connections to those that it shares them with.

use std::time::{Duration, Instant};

/// Attempts that may always be under way: they keep a connection busy at latencies at which nobody needs more.
pub(super) const LEAST: usize = 64;
/// Attempts are judged together: so many answers at least …
const ANSWERS: u32 = 128;
/// … and so long at least.
const PERIOD: Duration = Duration::from_millis(20);
/// Growth in a period that needed more, while answers take no longer than so many times the reference, and this much longer; until
/// they did for the first time, and after that.
const FIRST_GROWTH: f64 = 2.0;
const GROWTH: f64 = 1.25;
const NEAR: (f64, Duration) = (1.25, Duration::from_millis(2));
/// Answers that take longer than this say that requests stand in a queue.
const FAR: (f64, Duration) = (1.75, Duration::from_millis(6));
/// What remains of the limit at least, when it shrinks.
const FALL: f64 = 0.5;
/// The reference is measured anew after so long.
const REFERENCE: Duration = Duration::from_secs(15);
/// The part of the limit that it is measured with.
const PROBE: f64 = 0.25;

/// The limit of one app on one sender, and what it is learned from.
#[derive(Debug)]
pub(super) struct Concurrency {
    limit: f64,
    period: Period,
    /// Mean time to an answer, seconds, with no queue as far as is known.
    reference: Option<f64>,
    measured: Instant,
    /// The limit to return to when the reference has been measured.
    probe: Option<f64>,
    growth: f64,
}

/// What was seen since the last change.
#[derive(Debug)]
struct Period {
    begun: Instant,
    answers: u32,
    seconds: f64,
    /// Whether more would have begun, had the limit been higher.
    pressed: bool,
}

impl Period {
    fn new(now: Instant) -> Self {
        Period { begun: now, answers: 0, seconds: 0.0, pressed: false }
    }
}

impl Concurrency {
    pub(super) fn new(now: Instant) -> Self {
        Concurrency {
            limit: LEAST as f64,
            period: Period::new(now),
            reference: None,
            measured: now,
            probe: None,
            growth: FIRST_GROWTH,
        }
    }

    /// Most attempts that may be under way.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// An attempt did not begin because of the limit.
    pub(super) fn press(&mut self) {
        self.period.pressed = true;
    }

    /// An answer came, so long after its request. Says whether the limit is another now.
    pub(super) fn answered(&mut self, round_trip: Duration, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.period.begun);
        if round_trip > passed {
            return false; // it was sent under another limit
        }
        self.period.answers += 1;
        self.period.seconds += round_trip.as_secs_f64();
        let mean = self.period.seconds / f64::from(self.period.answers);
        if self.period.answers < ANSWERS || passed < PERIOD {
            return false;
        }
        let (before, pressed) = (self.limit(), self.period.pressed);
        self.period = Period::new(now);
        self.judge(mean, pressed, now);
        self.limit() != before
    }

    fn judge(&mut self, mean: f64, pressed: bool, now: Instant) {
        if let Some(probe) = self.probe.take() {
            (self.limit, self.reference, self.measured) = (probe, Some(mean), now);
            return;
        }
        if now.saturating_duration_since(self.measured) >= REFERENCE {
            let smaller = (self.limit * PROBE).max(LEAST as f64);
            if pressed && smaller < self.limit {
                self.probe = Some(std::mem::replace(&mut self.limit, smaller));
                return;
            }
            (self.reference, self.measured) = (Some(mean), now);
        }
        let reference = self.reference.map_or(mean, |reference| reference.min(mean));
        self.reference = Some(reference);
        let within = |(times, more): (f64, Duration)| reference * times + more.as_secs_f64();
        if mean > within(NEAR) {
            self.growth = GROWTH;
        }
        if mean > within(FAR) {
            self.limit = (self.limit * (within(FAR) / mean).max(FALL)).max(LEAST as f64);
        } else if pressed && mean <= within(NEAR) {
            self.limit *= self.growth;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    /// A provider that takes `base` and works at so many requests per second, and a backlog without end before it.
    struct World {
        concurrency: Concurrency,
        now: Instant,
        base: Duration,
        per_second: f64,
        /// So many times `base` comes on top, on the average, as chance has it.
        jitter: f64,
        random: fastrand::Rng,
        /// When it is free for the next request.
        free: Instant,
        /// When each request is answered, and when it was sent.
        under_way: BinaryHeap<Reverse<(Instant, Instant)>>,
        answered: u64,
    }

    impl World {
        fn new(base_ms: u64, per_second: f64) -> World {
            let now = Instant::now();
            let base = Duration::from_millis(base_ms);
            let (concurrency, under_way) = (Concurrency::new(now), BinaryHeap::new());
            let (jitter, random) = (0.0, fastrand::Rng::with_seed(1));
            World { concurrency, now, base, per_second, jitter, random, free: now, under_way, answered: 0 }
        }

        fn run(&mut self, seconds: u64) -> f64 {
            let (end, before) = (self.now + Duration::from_secs(seconds), self.answered);
            while self.now < end {
                while self.under_way.len() < self.concurrency.limit() {
                    self.free = self.free.max(self.now) + Duration::from_secs_f64(1.0 / self.per_second);
                    let more = self.base.mul_f64(self.jitter * -(1.0 - self.random.f64()).ln());
                    self.under_way.push(Reverse((self.free + self.base + more, self.now)));
                }
                self.concurrency.press();
                let Reverse((answer, sent)) = self.under_way.pop().expect("a limit of nothing");
                self.now = self.now.max(answer);
                self.concurrency.answered(self.now - sent, self.now);
                self.answered += 1;
            }
            (self.answered - before) as f64 / seconds as f64
        }
    }

    #[test]
    fn the_width_that_a_latency_needs_is_found_and_no_queue_built() {
        for (base_ms, per_second) in [(100, 10_000.0), (100, 4_000.0), (30, 20_000.0), (400, 5_000.0), (1, 20_000.0)] {
            let mut world = World::new(base_ms, per_second);
            world.run(20);
            let speed = world.run(100);
            assert!(speed > 0.93 * per_second, "{base_ms} ms, {per_second}/s: {speed}/s");
            let needed = per_second * base_ms as f64 / 1e3;
            let limit = world.concurrency.limit() as f64;
            let most = 2.3 * needed + per_second * 0.03 + LEAST as f64;
            assert!(limit < most, "{base_ms} ms, {per_second}/s: {limit}, needed {needed}");
        }
    }

    #[test]
    fn a_provider_that_slows_down_is_followed_and_one_that_was_only_busy_is_left_room() {
        let mut world = World::new(20, 10_000.0);
        world.run(20);
        world.base = Duration::from_millis(200);
        world.run(40);
        assert!(world.run(40) > 9_000.0, "it takes longer, and that is how it is now");
        world.per_second = 1_000.0;
        world.run(60);
        let limit = world.concurrency.limit();
        assert!(limit < 1_000, "{limit}: at 1,000/s and 200 ms more only wait");
    }

    #[test]
    fn answers_that_take_now_longer_and_now_shorter_are_no_queue() {
        let mut world = World { jitter: 3.0, ..World::new(25, 10_000.0) };
        world.run(20);
        let speed = world.run(60);
        assert!(speed > 9_000.0, "{speed}/s with {} under way, 1,000 needed", world.concurrency.limit());
    }

    #[test]
    fn without_answers_nothing_is_learned() {
        let now = Instant::now();
        let mut concurrency = Concurrency::new(now);
        concurrency.press();
        assert_eq!(concurrency.limit(), LEAST);
        for _ in 0..ANSWERS - 1 {
            assert!(!concurrency.answered(Duration::from_millis(1), now + PERIOD));
        }
        assert!(concurrency.answered(Duration::from_millis(1), now + PERIOD), "enough of them");
        assert!(concurrency.limit() > LEAST);
    }

    #[test]
    fn who_needs_no_more_gets_no_more() {
        let now = Instant::now();
        let mut concurrency = Concurrency::new(now);
        for at in 0..10_000 {
            concurrency.answered(Duration::from_millis(30), now + Duration::from_millis(at));
        }
        assert_eq!(concurrency.limit(), LEAST);
    }
}
