//! The apps of a process beside each other. While its threads are the bottleneck, what one app has more another has less, and no
//! delay says whose turn it is: then each goes towards its part of the answers per second, by weight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::runtime::RuntimeMetrics;

use super::busy::Busy;

/// Who has wanted more within this time is one of those who share.
const RECENT: Duration = Duration::from_secs(1);
/// Who has so much can use so many times as much, as far as is known: what keeps it from more may be its own provider.
const MOST: f64 = 1.5;

/// All apps of a process, and its sender threads.
#[derive(Debug)]
pub struct Rivals {
    start: Instant,
    all: RwLock<Vec<Arc<Wish>>>,
    busy: Busy,
}

/// What an app has and is to have.
#[derive(Debug)]
struct Wish {
    weight: f64,
    /// Answers per second, as bits, when it wanted more for the last time.
    rate: AtomicU64,
    /// Until when that counts, ms since the start.
    until_ms: AtomicU64,
}

impl Default for Rivals {
    fn default() -> Self {
        Rivals { start: Instant::now(), all: RwLock::default(), busy: Busy::default() }
    }
}

impl Rivals {
    /// One more app.
    pub fn enter(self: &Arc<Self>, weight: u32) -> Rival {
        let wish = Arc::new(Wish { weight: weight.into(), rate: 0.into(), until_ms: 0.into() });
        self.all.write().push(wish.clone());
        Rival { wish, rivals: self.clone() }
    }

    /// One more thread that sends.
    pub fn watch(&self, thread: RuntimeMetrics) {
        self.busy.watch(thread);
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64
    }

    /// Those that want more: weight, and answers per second.
    fn wishes(&self, now: Instant) -> Vec<(f64, f64)> {
        let now = self.ms(now);
        let wish = |wish: &Arc<Wish>| (wish.weight, f64::from_bits(wish.rate.load(Relaxed)));
        self.all.read().iter().filter(|wish| wish.until_ms.load(Relaxed) > now).map(wish).collect()
    }
}

/// How many answers per second are one weight's part when what all have together is shared anew, and nobody gets more than it can use.
fn level(mut wishes: Vec<(f64, f64)>) -> f64 {
    let most = |(weight, rate): &(f64, f64)| MOST * rate / weight;
    wishes.sort_by(|a, b| most(a).total_cmp(&most(b)));
    let mut left: f64 = wishes.iter().map(|(_, rate)| rate).sum();
    let mut weights: f64 = wishes.iter().map(|(weight, _)| weight).sum();
    for wish in &wishes {
        if most(wish) >= left / weights {
            break;
        }
        left -= MOST * wish.1;
        weights -= wish.0;
    }
    left / weights
}

/// One of them.
#[derive(Debug)]
pub struct Rival {
    wish: Arc<Wish>,
    rivals: Arc<Rivals>,
}

impl Rival {
    /// It has so many answers per second, and wants more: how many it should have. `None`: as many as it can.
    pub(super) fn part(&self, rate: f64, now: Instant) -> Option<f64> {
        self.wish.rate.store(rate.to_bits(), Relaxed);
        self.wish.until_ms.store(self.rivals.ms(now + RECENT), Relaxed);
        if !self.rivals.busy.is_everything(now) {
            return None;
        }
        let wishes = self.rivals.wishes(now);
        let has_rivals = wishes.len() > 1;
        has_rivals.then(|| (level(wishes) * self.wish.weight).min(MOST * rate))
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::super::learned::{Learned, REFERENCE};
    use super::*;

    struct App {
        learned: Learned,
        rival: Rival,
        under_way: usize,
        answered: u64,
    }

    /// Apps with backlogs without end before a process that works at so many requests per second; answers take `base`.
    struct World {
        now: Instant,
        base: Duration,
        per_second: f64,
        apps: Vec<App>,
        free: Instant,
        /// When each request is answered, when it was sent, and by which app.
        under_way: BinaryHeap<Reverse<(Instant, Instant, usize)>>,
    }

    impl World {
        fn new(base_ms: u64, per_second: f64) -> World {
            let (now, base) = (Instant::now(), Duration::from_millis(base_ms));
            World { now, base, per_second, apps: Vec::new(), free: now, under_way: BinaryHeap::new() }
        }

        fn enter(&mut self, rival: Rival) {
            let learned = Learned::new(self.now, REFERENCE);
            self.apps.push(App { learned, rival, under_way: 0, answered: 0 });
        }

        /// Answers per second of each app, over so long.
        fn run(&mut self, seconds: u64) -> Vec<f64> {
            let end = self.now + Duration::from_secs(seconds);
            self.apps.iter_mut().for_each(|app| app.answered = 0);
            while self.now < end {
                for (index, app) in self.apps.iter_mut().enumerate() {
                    while app.under_way < app.learned.limit() {
                        self.free = self.free.max(self.now) + Duration::from_secs_f64(1.0 / self.per_second);
                        self.under_way.push(Reverse((self.free + self.base, self.now, index)));
                        app.under_way += 1;
                    }
                    app.learned.press(self.now);
                }
                let Reverse((answer, sent, index)) = self.under_way.pop().expect("limits of nothing");
                self.now = self.now.max(answer);
                let App { learned, rival, under_way, answered } = &mut self.apps[index];
                learned.answered(self.now - sent, self.now, |rate| rival.part(rate, self.now));
                (*under_way, *answered) = (*under_way - 1, *answered + 1);
            }
            self.apps.iter().map(|app| app.answered as f64 / seconds as f64).collect()
        }
    }

    /// What part of what can be done is done, and how many times its part each app has, from the 10th to the 30th second.
    fn shared(weights: &[u32], base_ms: u64, per_second: f64) -> (f64, Vec<f64>) {
        let (mut world, rivals) = (World::new(base_ms, per_second), Arc::new(Rivals::default()));
        rivals.busy.pretend();
        for weight in weights {
            world.enter(rivals.enter(*weight));
        }
        world.run(10);
        let rates = world.run(20);
        let (sum, all) = (rates.iter().sum::<f64>(), f64::from(weights.iter().sum::<u32>()));
        let share = |(rate, weight): (&f64, &u32)| rate / (sum * f64::from(*weight) / all);
        (sum / per_second, rates.iter().zip(weights).map(share).collect())
    }

    #[test]
    fn whoever_comes_last_has_its_part_soon() {
        let (mut world, rivals) = (World::new(20, 20_000.0), Arc::new(Rivals::default()));
        rivals.busy.pretend();
        world.enter(rivals.enter(1));
        assert!(world.run(20)[0] > 18_000.0);
        world.enter(rivals.enter(1));
        world.run(3);
        let rates = world.run(5);
        assert!(rates.iter().all(|rate| (8_500.0..11_500.0).contains(rate)), "{rates:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn shares_follow_the_weights_and_nobody_starves(
            weights in prop::collection::vec(1u32..=5, 2..5),
            base_ms in 1u64..100,
            per_second in 4_000.0..10_000.0,
        ) {
            let (used, shares) = shared(&weights, base_ms, per_second);
            prop_assert!(used > 0.85, "{used}");
            prop_assert!(shares.iter().all(|share| (0.75..1.33).contains(share)), "{weights:?}: {shares:?}");
        }
    }

    #[test]
    fn bursts_of_answers_and_the_least_give_nobody_more_than_its_part() {
        for (weights, base_ms, per_second) in [([1, 1, 3, 5], 37, 4_178.0), ([4, 5, 5, 1], 1, 4_181.0)] {
            let (used, shares) = shared(&weights, base_ms, per_second);
            assert!(used > 0.85, "{used}");
            assert!(shares.iter().all(|share| (0.75..1.33).contains(share)), "{weights:?}: {shares:?}");
        }
    }

    #[test]
    fn an_app_with_few_answers_is_one_of_those_who_share() {
        let (_, shares) = shared(&[1, 100], 20, 4_500.0);
        assert!((0.5..2.5).contains(&shares[0]), "{shares:?}");
    }

    #[test]
    fn those_who_want_more_share_by_weight_while_there_is_not_enough() {
        let rivals = Arc::new(Rivals::default());
        let (heavy, light, idle) = (rivals.enter(3), rivals.enter(1), rivals.enter(10));
        let now = Instant::now();
        assert_eq!((heavy.part(100.0, now), light.part(500.0, now)), (None, None), "there is enough");
        rivals.busy.pretend();
        assert_eq!(heavy.part(400.0, now), Some(600.0));
        assert_eq!(light.part(400.0, now), Some(200.0));
        let later = now + RECENT;
        assert_eq!(light.part(500.0, later), None, "the other wants no more");
        assert_eq!(idle.part(500.0, later), Some(750.0), "more than it can use is nobody's part");
    }

    #[test]
    fn what_one_cannot_use_is_left_to_the_others() {
        assert!((level(vec![(1.0, 300.0), (2.0, 300.0)]) - 200.0).abs() < 1e-9);
        assert!((level(vec![(10.0, 500.0), (1.0, 15_000.0), (1.0, 10_000.0)]) - 12_375.0).abs() < 1e-6);
        assert!((level(vec![(1.0, 100.0); 3]) - 100.0).abs() < 1e-9);
    }
}
