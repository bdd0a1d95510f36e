//! What a limit is learned from. Pure: time is an argument.

use std::time::{Duration, Instant};

/// Attempts that may always be under way.
pub(super) const LEAST: usize = 128;
/// Attempts are judged together: so many answers at least …
const ANSWERS: u32 = 128;
/// … and so long at least.
const PERIOD: Duration = Duration::from_millis(20);
/// While there is not enough for all apps, one with a small part has few answers: after so long these are enough. It would
/// otherwise be judged too seldom to be one of those who share.
const FEW_ANSWERS: u32 = 16;
const LONG: Duration = Duration::from_millis(500);
/// A period of more than this is not one of now.
const LONGEST: Duration = Duration::from_secs(1);
/// Growth in a period that needed more, while answers take no longer than so many times the reference, and this much longer; until
/// they did for the first time, and after that.
const FIRST_GROWTH: f64 = 2.0;
const GROWTH: f64 = 1.25;
const NEAR: Bound = Bound(1.25, Duration::from_millis(2));
/// Answers that take longer than this say that requests stand in a queue.
const FAR: Bound = Bound(1.75, Duration::from_millis(6));
/// What remains of the limit at least, when it shrinks.
const FALL: f64 = 0.5;
/// The reference is measured anew after so long.
pub(super) const REFERENCE: Duration = Duration::from_secs(15);
/// The part of the limit that it is measured with.
const PROBE: f64 = 0.25;
/// Attempts that may be under way of one that has more than its part. Where requests wait for 30 ms before a process that works at
/// 4,000 per second, a sixteenth of it are no more.
const FEWEST: f64 = 8.0;
/// So much of the way to its part is gone in a period.
const STEP: f64 = 0.25;
/// What came in the periods before counts for so much, when the rate is taken. Answers come in bursts, as their requests were sent,
/// and a period begins and ends within one: by itself it shows too much or too little.
const MEMORY: f64 = 0.7;
/// Without an answer for so many times the reference, and no less than this, nothing is known any more.
const SILENCE: f64 = 8.0;
const LEAST_SILENCE: Duration = Duration::from_secs(1);

/// So many times a reference, and this much.
#[derive(Clone, Copy)]
struct Bound(f64, Duration);

impl Bound {
    fn over(self, reference: f64) -> f64 {
        reference * self.0 + self.1.as_secs_f64()
    }
}

/// The limit, and what it is learned from.
#[derive(Debug)]
pub(super) struct Learned {
    limit: f64,
    /// It falls no lower: [`LEAST`], or [`FEWEST`] while there is not enough for all apps.
    least: f64,
    period: Period,
    rate: Rate,
    /// Mean time to an answer, seconds, with no queue as far as is known.
    reference: Option<f64>,
    next_probe: Instant,
    /// The limit to return to when the reference has been measured.
    probe: Option<f64>,
    growth: f64,
    last_answer: Instant,
}

/// What was seen since the last change.
#[derive(Debug)]
struct Period {
    begun: Instant,
    /// Answers to what was sent in it, and how long they took.
    answers: u32,
    seconds: f64,
    /// All answers.
    all: u32,
    /// Whether more would have begun, had the limit been higher.
    pressed: bool,
}

/// Answers per second, over the last periods.
#[derive(Debug, Default)]
struct Rate {
    answers: f64,
    seconds: f64,
}

impl Rate {
    /// One more period.
    fn with(&mut self, answers: u32, passed: Duration) -> f64 {
        // What was over a longer time says nothing of now.
        let memory = if passed <= LONGEST { MEMORY } else { 0.0 };
        self.answers = memory * self.answers + f64::from(answers);
        self.seconds = memory * self.seconds + passed.as_secs_f64();
        self.answers / self.seconds
    }
}

impl Period {
    fn new(now: Instant) -> Self {
        Period { begun: now, answers: 0, seconds: 0.0, all: 0, pressed: false }
    }
}

impl Learned {
    pub(super) fn new(now: Instant, until_probe: Duration) -> Self {
        Learned {
            limit: LEAST as f64,
            least: LEAST as f64,
            period: Period::new(now),
            rate: Rate::default(),
            reference: None,
            next_probe: now + until_probe,
            probe: None,
            growth: FIRST_GROWTH,
            last_answer: now,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    fn is_least(&self) -> bool {
        self.limit <= self.least
    }

    /// An attempt did not begin because of the limit. Says whether the limit is another now.
    pub(super) fn press(&mut self, now: Instant) -> bool {
        self.period.pressed = true;
        let patience = LEAST_SILENCE.as_secs_f64().max(SILENCE * self.reference.unwrap_or(0.0));
        if self.limit() == LEAST || now.saturating_duration_since(self.last_answer).as_secs_f64() < patience {
            return false;
        }
        *self = Learned { last_answer: self.last_answer, ..Learned::new(now, self.until_probe(now)) };
        true
    }

    /// An answer came, so long after its request. Says whether the limit is another now. `part`: how many answers per second
    /// an app should have that has so many and wants more; `None`: as many as it can.
    pub(super) fn answered(
        &mut self,
        round_trip: Duration,
        now: Instant,
        part: impl FnOnce(f64) -> Option<f64>,
    ) -> bool {
        self.last_answer = now;
        self.period.all += 1;
        let passed = now.saturating_duration_since(self.period.begun);
        if round_trip > passed {
            return false; // it was sent under another limit
        }
        self.period.answers += 1;
        self.period.seconds += round_trip.as_secs_f64();
        let is_small = self.least < LEAST as f64 && passed >= LONG;
        if self.period.answers < if is_small { FEW_ANSWERS } else { ANSWERS } || passed < PERIOD {
            return false;
        }
        let mean = self.period.seconds / f64::from(self.period.answers);
        let (before, pressed, all) = (self.limit(), self.period.pressed, self.period.all);
        self.period = Period::new(now);
        if !self.measure(mean, pressed, now) {
            let rate = self.rate.with(all, passed);
            let part = if pressed && passed <= LONGEST { part(rate).map(|part| part / rate) } else { None };
            // Whoever has less than its part makes room for nobody, and whoever has more takes none.
            let (has_less, has_more) = (part.is_some_and(|part| part > 1.0), part.is_some_and(|part| part < 1.0));
            self.judge(mean, pressed && !has_more, !has_less);
            self.share(part);
        }
        self.limit() != before
    }

    /// Whether a period was, or the next one is, there to measure the reference.
    fn measure(&mut self, mean: f64, pressed: bool, now: Instant) -> bool {
        if let Some(limit) = self.probe.take() {
            (self.limit, self.reference) = (limit, Some(mean));
            return true;
        }
        if now >= self.next_probe {
            self.next_probe = now + self.until_probe(now);
            if pressed && !self.is_least() {
                let smaller = (self.limit * PROBE).max(self.least);
                self.probe = Some(std::mem::replace(&mut self.limit, smaller));
                return true;
            }
            self.reference = Some(mean);
        }
        false
    }

    /// By how long answers took. `may_grow`: it wants more.
    fn judge(&mut self, mean: f64, may_grow: bool, may_fall: bool) {
        let reference = self.reference.map_or(mean, |reference| reference.min(mean));
        self.reference = Some(reference);
        if mean > FAR.over(reference) && self.is_least() {
            // Fewer cannot be under way: that is how long it takes now.
            (self.reference, self.growth) = (Some(mean), FIRST_GROWTH);
        } else if mean > NEAR.over(reference) {
            // What was doubled last was too much; later steps are small, and too far is far away.
            let is_first = std::mem::replace(&mut self.growth, GROWTH) > GROWTH;
            if may_fall && (is_first || mean > FAR.over(reference)) {
                self.limit = (self.limit * (NEAR.over(reference) / mean).max(FALL)).max(self.least);
            }
        } else if may_grow {
            self.limit *= self.growth;
        }
    }

    /// Goes towards its part of what there is, which is so many times what it has, when there is not enough for all.
    fn share(&mut self, part: Option<f64>) {
        if let Some(part) = part {
            self.least = FEWEST;
            self.limit = (self.limit * (1.0 + STEP * (part - 1.0).clamp(-1.0, 1.0))).max(FEWEST);
        } else {
            self.least = (self.limit * GROWTH).min(LEAST as f64);
            self.limit = self.limit.max(self.least);
        }
    }

    /// From now to the next moment at which all measure their references.
    fn until_probe(&self, now: Instant) -> Duration {
        let late = now.saturating_duration_since(self.next_probe).as_millis() % REFERENCE.as_millis();
        let early = self.next_probe.saturating_duration_since(now);
        if early.is_zero() { REFERENCE.saturating_sub(Duration::from_millis(late as u64)) } else { early }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    fn alone(_: f64) -> Option<f64> {
        None
    }

    /// A provider that takes `base` and works at so many requests per second, and a backlog without end before it.
    struct World {
        learned: Learned,
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
            let (learned, under_way) = (Learned::new(now, REFERENCE), BinaryHeap::new());
            let (jitter, random) = (0.0, fastrand::Rng::with_seed(1));
            World { learned, now, base, per_second, jitter, random, free: now, under_way, answered: 0 }
        }

        fn run(&mut self, seconds: u64) -> f64 {
            let (end, before) = (self.now + Duration::from_secs(seconds), self.answered);
            while self.now < end {
                while self.under_way.len() < self.learned.limit() {
                    self.free = self.free.max(self.now) + Duration::from_secs_f64(1.0 / self.per_second);
                    let more = self.base.mul_f64(self.jitter * -(1.0 - self.random.f64()).ln());
                    self.under_way.push(Reverse((self.free + self.base + more, self.now)));
                }
                self.learned.press(self.now);
                let Reverse((answer, sent)) = self.under_way.pop().expect("a limit of nothing");
                self.now = self.now.max(answer);
                self.learned.answered(self.now - sent, self.now, alone);
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
            let limit = world.learned.limit() as f64;
            let most = 2.3 * needed + per_second * 0.03 + LEAST as f64;
            assert!(limit < most, "{base_ms} ms, {per_second}/s: {limit}, needed {needed}");
        }
    }

    #[test]
    fn a_provider_that_slows_down_is_followed_and_one_that_was_only_busy_is_left_room() {
        let mut world = World::new(20, 10_000.0);
        world.run(20);
        world.base = Duration::from_millis(200);
        let speed = world.run(10);
        assert!(speed > 7_000.0, "{speed}/s: it takes longer, and that is how it is now");
        assert!(world.run(40) > 9_000.0);
        world.per_second = 1_000.0;
        world.run(60);
        let limit = world.learned.limit();
        assert!(limit < 1_000, "{limit}: at 1,000/s and 200 ms more only wait");
    }

    #[test]
    fn answers_that_take_now_longer_and_now_shorter_are_no_queue() {
        let mut world = World { jitter: 3.0, ..World::new(25, 10_000.0) };
        world.run(20);
        let speed = world.run(60);
        let limit = world.learned.limit();
        assert!(speed > 9_000.0 && limit < 3_000, "{speed}/s with {limit} under way, 1,000 needed");
    }

    #[test]
    fn without_answers_nothing_is_learned() {
        let now = Instant::now();
        let mut learned = Learned::new(now, REFERENCE);
        learned.press(now);
        assert_eq!(learned.limit(), LEAST);
        for _ in 0..ANSWERS - 1 {
            assert!(!learned.answered(Duration::from_millis(1), now + PERIOD, alone));
        }
        assert!(learned.answered(Duration::from_millis(1), now + PERIOD, alone), "enough of them");
        assert!(learned.limit() > LEAST);
    }

    #[test]
    fn an_app_whose_requests_are_not_answered_any_more_falls_back() {
        let mut world = World::new(100, 10_000.0);
        world.run(30);
        let (limit, silent_since) = (world.learned.limit(), world.now);
        assert!(limit > 900, "{limit}");
        assert!(!world.learned.press(silent_since + Duration::from_millis(700)));
        assert!(world.learned.press(silent_since + Duration::from_millis(1_100)));
        assert_eq!(world.learned.limit(), LEAST);
        world.now = silent_since + Duration::from_secs(20);
        world.under_way.clear();
        let speed = world.run(20);
        assert!(speed > 8_000.0, "{speed}/s: it is found again");
    }

    #[test]
    fn who_needs_no_more_gets_no_more() {
        let now = Instant::now();
        let mut learned = Learned::new(now, REFERENCE);
        for at in 0..10_000 {
            learned.answered(Duration::from_millis(30), now + Duration::from_millis(at), alone);
        }
        assert_eq!(learned.limit(), LEAST);
    }
}
