//! How many attempts of an app may be under way, learned from how long answers take. The policy is pure, time is an argument;
//! [`Concurrency`] is its one lock, and shares the limit among the senders.
//!
//! More requests under way than the provider and this machine work at do not get answered sooner: they stand in a queue
//! somewhere, where an urgent push stands behind them, and their memory falls out of the caches. So the limit grows while
//! answers come as soon as they do with few requests under way, and shrinks when they take much longer: a delay-based limit, as in TCP
//! Vegas and BBR. What "as soon" means, the reference, is measured anew from time to time, with a quarter of the requests; all
//! that wait for one provider do so at the same moments by the clock on the wall, or each would measure the others' queue. An app
//! whose requests are not answered falls back to the least, and leaves the connections to those that it shares them with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::queue::Share;

/// Attempts that may always be under way.
const LEAST: usize = 128;
/// Attempts are judged together: so many answers at least …
const ANSWERS: u32 = 128;
/// … and so long at least.
const PERIOD: Duration = Duration::from_millis(20);
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
const REFERENCE: Duration = Duration::from_secs(15);
/// The part of the limit that it is measured with.
const PROBE: f64 = 0.25;
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

/// The limit of an app, shared by its senders.
#[derive(Debug)]
pub struct Concurrency {
    learned: Mutex<Learned>,
    limit: AtomicUsize,
    /// Senders that have messages of the app.
    senders: AtomicUsize,
    lifted: AtomicBool,
    /// How often the app was paused.
    pauses: AtomicU64,
    share: Option<Arc<Share>>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Concurrency::new(None)
    }
}

impl Concurrency {
    /// The least, for an app with this share of what is lent, which follows the limit; `None`: lent whatever may be under way.
    pub fn new(share: Option<Arc<Share>>) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let into_slot = Duration::from_millis((since_epoch.as_millis() % REFERENCE.as_millis()) as u64);
        let learned = Learned::new(Instant::now(), REFERENCE.saturating_sub(into_slot));
        let limit = learned.limit();
        if let Some(share) = &share {
            share.set_reach(limit);
        }
        Concurrency {
            learned: Mutex::new(learned),
            limit: limit.into(),
            senders: AtomicUsize::new(0),
            lifted: AtomicBool::new(false),
            pauses: AtomicU64::new(0),
            share,
        }
    }

    /// A sender has messages of the app.
    pub fn join(&self) {
        self.senders.fetch_add(1, Relaxed);
    }

    /// It has none any more.
    pub fn leave(&self) {
        self.senders.fetch_sub(1, Relaxed);
    }

    /// Whether the app is paused. Then what begins goes back at once, or is a probe, and neither is to stand behind requests that nobody
    /// answers; nor is what comes after the pause.
    pub fn lift(&self, is_paused: bool) {
        if self.lifted.swap(is_paused, Relaxed) && !is_paused {
            self.pauses.fetch_add(1, Relaxed);
        }
    }

    /// How often the app was paused and goes on. What began before that counts no more.
    pub fn pauses(&self) -> u64 {
        self.pauses.load(Relaxed)
    }

    /// Most attempts that may be under way on one sender: its part.
    pub fn part(&self) -> usize {
        if self.lifted.load(Relaxed) {
            return usize::MAX / 2;
        }
        (self.limit.load(Relaxed) / self.senders.load(Relaxed).max(1)).max(1)
    }

    /// An attempt did not begin because of the limit.
    pub fn press(&self, now: Instant) {
        self.change(|learned| learned.press(now));
    }

    /// An answer came, so long after its request.
    pub fn answered(&self, round_trip: Duration, now: Instant) {
        self.change(|learned| learned.answered(round_trip, now));
    }

    /// Lets something happen that says whether the limit is another then.
    fn change(&self, what: impl FnOnce(&mut Learned) -> bool) {
        let mut learned = self.learned.lock();
        if what(&mut learned) {
            self.limit.store(learned.limit(), Relaxed);
            if let Some(share) = &self.share {
                share.set_reach(learned.limit());
            }
        }
    }

    /// Another limit than was learned.
    #[cfg(test)]
    pub(crate) fn set(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }
}

/// The limit, and what it is learned from.
#[derive(Debug)]
struct Learned {
    limit: f64,
    period: Period,
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

impl Learned {
    fn new(now: Instant, until_probe: Duration) -> Self {
        Learned {
            limit: LEAST as f64,
            period: Period::new(now),
            reference: None,
            next_probe: now + until_probe,
            probe: None,
            growth: FIRST_GROWTH,
            last_answer: now,
        }
    }

    fn limit(&self) -> usize {
        self.limit as usize
    }

    fn is_least(&self) -> bool {
        self.limit <= LEAST as f64
    }

    /// An attempt did not begin because of the limit. Says whether the limit is another now.
    fn press(&mut self, now: Instant) -> bool {
        self.period.pressed = true;
        let patience = LEAST_SILENCE.as_secs_f64().max(SILENCE * self.reference.unwrap_or(0.0));
        if self.is_least() || now.saturating_duration_since(self.last_answer).as_secs_f64() < patience {
            return false;
        }
        *self = Learned { last_answer: self.last_answer, ..Learned::new(now, self.until_probe(now)) };
        true
    }

    /// An answer came, so long after its request. Says whether the limit is another now.
    fn answered(&mut self, round_trip: Duration, now: Instant) -> bool {
        self.last_answer = now;
        let passed = now.saturating_duration_since(self.period.begun);
        if round_trip > passed {
            return false; // it was sent under another limit
        }
        self.period.answers += 1;
        self.period.seconds += round_trip.as_secs_f64();
        if self.period.answers < ANSWERS || passed < PERIOD {
            return false;
        }
        let mean = self.period.seconds / f64::from(self.period.answers);
        let (before, pressed) = (self.limit(), self.period.pressed);
        self.period = Period::new(now);
        self.judge(mean, pressed, now);
        self.limit() != before
    }

    fn judge(&mut self, mean: f64, pressed: bool, now: Instant) {
        if let Some(limit) = self.probe.take() {
            (self.limit, self.reference) = (limit, Some(mean));
            return;
        }
        if now >= self.next_probe {
            self.next_probe = now + self.until_probe(now);
            if pressed && !self.is_least() {
                let smaller = (self.limit * PROBE).max(LEAST as f64);
                self.probe = Some(std::mem::replace(&mut self.limit, smaller));
                return;
            }
            self.reference = Some(mean);
        }
        let reference = self.reference.map_or(mean, |reference| reference.min(mean));
        self.reference = Some(reference);
        if mean > FAR.over(reference) && self.is_least() {
            // Fewer cannot be under way: that is how long it takes now.
            (self.reference, self.growth) = (Some(mean), FIRST_GROWTH);
        } else if mean > NEAR.over(reference) {
            // What was doubled last was too much; later steps are small, and too far is far away.
            let is_first = std::mem::replace(&mut self.growth, GROWTH) > GROWTH;
            if is_first || mean > FAR.over(reference) {
                self.limit = (self.limit * (NEAR.over(reference) / mean).max(FALL)).max(LEAST as f64);
            }
        } else if pressed {
            self.limit *= self.growth;
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
                self.learned.answered(self.now - sent, self.now);
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
            assert!(!learned.answered(Duration::from_millis(1), now + PERIOD));
        }
        assert!(learned.answered(Duration::from_millis(1), now + PERIOD), "enough of them");
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
    fn senders_share_the_limit() {
        let concurrency = Concurrency::default();
        assert_eq!(concurrency.part(), LEAST);
        (0..3).for_each(|_| concurrency.join());
        assert_eq!(concurrency.part(), LEAST / 3);
        (0..2).for_each(|_| concurrency.leave());
        assert_eq!(concurrency.part(), LEAST);
    }

    #[test]
    fn while_the_app_is_paused_nothing_stands_behind_what_is_not_answered() {
        let concurrency = Concurrency::default();
        concurrency.lift(true);
        assert!(concurrency.part() > 1_000_000);
        concurrency.lift(false);
        assert_eq!(concurrency.part(), LEAST);
    }

    #[test]
    fn who_needs_no_more_gets_no_more() {
        let now = Instant::now();
        let mut learned = Learned::new(now, REFERENCE);
        for at in 0..10_000 {
            learned.answered(Duration::from_millis(30), now + Duration::from_millis(at));
        }
        assert_eq!(learned.limit(), LEAST);
    }
}
