//! Messages before their turn: what a sender was given and has not begun to send, each app's in two lanes. Pure, but for
//! the wake-up.
//!
//! An attempt that waits for a place on a connection costs kilobytes and a task; a message costs what it weighs. So only so
//! many attempts of an app are begun as will have a place soon, and no more are under way than bring answers sooner
//! ([`crate::concurrency`]); the others stay here. What is urgent then passes a campaign's backlog: behind it are only those that have
//! begun.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use self::ahead::{Ahead, Begun, Tools};
use crate::message::Lane;

mod ahead;

/// Who waits for room looks for it this often by itself: bursts are told, single places are not.
const LOOK: Duration = Duration::from_millis(10);
/// While both lanes wait, one of so many is a campaign's.
const FLOOR: u32 = 8;

/// Wakes the sender when attempts have found their streams, if it waits for that.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Wake>);

#[derive(Debug, Default)]
struct Wake {
    wanted: AtomicBool,
    notify: Notify,
}

impl Turns {
    /// Waits until a message may have its turn that had none.
    pub async fn come(&self) {
        self.0.notify.notified().await;
    }

    fn tell(&self) {
        if self.0.wanted.load(Relaxed) && self.0.wanted.swap(false, Relaxed) {
            self.0.notify.notify_one();
        }
    }
}

/// What waits for its turn, in the order in which it came, by app and lane.
#[derive(Debug)]
pub struct Line<T> {
    apps: Vec<App<T>>,
    /// The app whose turn it is.
    turn: usize,
    waiting: usize,
    /// When a message may begin that waits for its app's pace, or for room.
    look_again: Option<Instant>,
    turns: Turns,
}

#[derive(Debug)]
struct App<T> {
    name: Arc<str>,
    ahead: Ahead,
    single: VecDeque<T>,
    massive: VecDeque<T>,
    /// Urgent ones in a row while a campaign waited.
    in_a_row: u32,
}

impl<T> Line<T> {
    /// An empty one.
    pub fn new(turns: Turns) -> Self {
        Line { apps: Vec::new(), turn: 0, waiting: 0, look_again: None, turns }
    }

    /// One more message; `ahead` is asked for at the first of its app.
    pub fn push(&mut self, app: &Arc<str>, lane: Lane, message: T, ahead: impl FnOnce() -> Ahead) {
        let known = self.apps.iter().position(|one| one.name == *app);
        let index = known.unwrap_or_else(|| {
            let (single, massive) = (VecDeque::new(), VecDeque::new());
            self.apps.push(App { name: app.clone(), ahead: ahead(), single, massive, in_a_row: 0 });
            self.apps.len() - 1
        });
        let app = &mut self.apps[index];
        app.ahead.hold();
        match lane {
            Lane::Single => app.single.push_back(message),
            Lane::Massive => app.massive.push_back(message),
        }
        self.waiting += 1;
    }

    /// The next message that is to be attempted now, counted as begun. Apps have their turn one after the other.
    pub fn begin(&mut self, now: Instant) -> Option<(T, Begun)> {
        self.look_again = None;
        if self.waiting == 0 {
            return None;
        }
        for _ in 0..self.apps.len() {
            self.turn = (self.turn + 1) % self.apps.len();
            let app = &mut self.apps[self.turn];
            if app.is_empty() {
                continue;
            }
            if !app.ahead.has_room(!app.single.is_empty(), now) {
                self.look_again = Some(earlier(self.look_again, now + LOOK));
                continue;
            }
            if let Some(pause) = app.ahead.pause(now) {
                self.look_again = Some(earlier(self.look_again, pause));
                continue;
            }
            if let Some(message) = app.pop() {
                self.waiting -= 1;
                let begun = app.ahead.enter();
                app.ahead.release(1);
                return Some((message, begun));
            }
        }
        self.turns.0.wanted.store(true, Relaxed);
        None
    }

    /// When it is worth asking again although nothing has come and nobody has left, after [`Line::begin`] gave nothing.
    pub fn look_again(&self) -> Option<Instant> {
        self.look_again
    }

    /// All of them, whosever turn it is.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.waiting = 0;
        self.apps.drain(..).flat_map(|app| {
            app.ahead.release(app.single.len() + app.massive.len());
            app.single.into_iter().chain(app.massive)
        })
    }
}

fn earlier(one: Option<Instant>, other: Instant) -> Instant {
    one.map_or(other, |one| one.min(other))
}

impl<T> App<T> {
    fn is_empty(&self) -> bool {
        self.single.is_empty() && self.massive.is_empty()
    }

    fn pop(&mut self) -> Option<T> {
        let is_due = self.in_a_row + 1 >= FLOOR || self.single.is_empty();
        if is_due && let Some(message) = self.massive.pop_front() {
            self.in_a_row = 0;
            return Some(message);
        }
        self.in_a_row = if self.massive.is_empty() { 0 } else { self.in_a_row + 1 };
        self.single.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ahead::{AHEAD, LOW};
    use super::*;
    use crate::concurrency::Concurrency;
    use crate::handlers::pace::{Pace, Settings};

    fn line() -> Line<u32> {
        Line::new(Turns::default())
    }

    fn push(line: &mut Line<u32>, app: &str, lane: Lane, message: u32) {
        let turns = line.turns.clone();
        line.push(&app.into(), lane, message, || ahead(&turns, None));
    }

    /// Of an app that may have any number under way.
    fn ahead(turns: &Turns, pace: Option<Arc<Pace>>) -> Ahead {
        let tools = Tools { pace, ..Tools::default() };
        tools.concurrency.set(1_000_000);
        Ahead::new(turns, tools)
    }

    #[test]
    fn an_app_begins_no_more_than_will_have_a_place_soon() {
        let mut line = line();
        (0..AHEAD as u32 + 2).for_each(|number| push(&mut line, "a", Lane::Single, number));
        push(&mut line, "b", Lane::Single, 7);
        let begun: Vec<_> = std::iter::from_fn(|| line.begin(Instant::now())).collect();
        assert_eq!(begun.len(), AHEAD + 1, "the other app does not wait for it");
        let (_, first) = begun.iter().find(|(message, _)| *message == 0).unwrap();
        first.leave();
        first.leave();
        assert_eq!(line.begin(Instant::now()).map(|(message, _)| message), Some(AHEAD as u32), "one place, one turn");
        drop(begun);
        assert_eq!(line.begin(Instant::now()).map(|(message, _)| message), Some(AHEAD as u32 + 1));
        assert!(line.begin(Instant::now()).is_none());
    }

    #[test]
    fn what_began_before_a_pause_takes_no_place_after_it() {
        let mut line = line();
        let turns = line.turns.clone();
        let concurrency = Arc::new(Concurrency::default());
        let of_least = Ahead::new(&turns, Tools { concurrency: concurrency.clone(), ..Tools::default() });
        (0..1_000).for_each(|number| line.push(&"a".into(), Lane::Massive, number, || of_least.clone()));
        let take = |line: &mut Line<u32>| -> Vec<Begun> {
            let begun: Vec<_> = std::iter::from_fn(|| line.begin(Instant::now()).map(|(_, begun)| begun)).collect();
            begun.iter().for_each(Begun::leave);
            begun
        };
        let before = take(&mut line);
        assert!(!before.is_empty() && take(&mut line).is_empty());
        concurrency.lift(true);
        concurrency.lift(false);
        let after = take(&mut line);
        assert_eq!(after.len(), before.len());
        drop(before);
        assert_eq!(take(&mut line).len(), 0, "its end frees no place of others");
        drop(after);
        assert!(!take(&mut line).is_empty());
    }

    #[test]
    fn a_single_place_that_comes_free_is_found_though_nobody_is_woken_for_it() {
        let (mut line, now) = (line(), Instant::now());
        (0..=AHEAD as u32).for_each(|number| push(&mut line, "a", Lane::Massive, number));
        let mut begun: Vec<_> = std::iter::from_fn(|| line.begin(now)).collect();
        let again = line.look_again().expect("it looks again by itself");
        assert!(again > now && again <= now + LOOK, "{:?}", again - now);
        begun.truncate(AHEAD - 1);
        assert!(line.begin(again).is_some());
    }

    #[test]
    fn an_app_whose_pace_allows_no_more_waits_alone_and_what_made_no_request_costs_nothing() {
        let (start, turns) = (Instant::now(), Turns::default());
        let pace = Arc::new(Pace::new(Settings { per_second: 1_000.0, ramp: Duration::ZERO }, start));
        let mut line = Line::new(turns.clone());
        for number in 0..2_000 {
            line.push(&"slow".into(), Lane::Single, number, || ahead(&turns, Some(pace.clone())));
        }
        let take = |line: &mut Line<u32>, now| -> Vec<Begun> {
            let begun: Vec<_> = std::iter::from_fn(|| line.begin(now).map(|(_, begun)| begun)).collect();
            begun.iter().for_each(Begun::leave);
            begun
        };
        let mut begun = take(&mut line, start);
        let first = begun.len();
        while let Some(more) = Some(take(&mut line, start)).filter(|more| !more.is_empty()) {
            begun.extend(more);
        }
        assert_eq!(begun.len(), 500, "half a second's worth; {first} of them ahead");
        let until = line.look_again().expect("it waits for its pace");
        assert!(until > start && until <= start + Duration::from_millis(6), "{:?}", until - start);
        line.push(&"other".into(), Lane::Single, 7, || ahead(&turns, None));
        assert_eq!(take(&mut line, start).len(), 1, "it holds up no other");
        for one in &begun {
            one.asked(1);
        }
        begun.truncate(400);
        assert_eq!(take(&mut line, start).len(), 0, "they have asked");
        assert_eq!(take(&mut line, until).len(), 5);
        assert_eq!(take(&mut line, until).len(), 5, "the five before ended without a request");
        begun[0].asked(3);
        drop(begun);
        assert_eq!(take(&mut line, until).len(), 5, "asked once, told once");
    }

    #[test]
    fn all_that_a_paused_app_has_in_line_is_begun_and_only_its_probe_is_paid_for() {
        let (start, turns) = (Instant::now(), Turns::default());
        let pace = Arc::new(Pace::new(Settings { per_second: 1_000.0, ramp: Duration::ZERO }, start));
        let tools = Tools { pace: Some(pace.clone()), ..Tools::default() };
        tools.concurrency.lift(true);
        let (mut line, ahead) = (Line::new(turns.clone()), Ahead::new(&turns, tools));
        for number in 0..2_000 {
            line.push(&"paused".into(), Lane::Single, number, || ahead.clone());
        }
        let begun: Vec<_> = std::iter::from_fn(|| line.begin(start).map(|(_, begun)| begun)).collect();
        assert_eq!(begun.len(), 2_000, "it waits for no connection and no pace");
        begun[0].asked(1);
        drop(begun);
        let mut left = 0;
        while pace.is_ready(start) {
            pace.spend(1);
            left += 1;
        }
        assert_eq!(left, 499, "of half a second's worth, for those who share the pace");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_turn_is_woken() {
        let mut line = line();
        (0..=AHEAD as u32).for_each(|number| push(&mut line, "a", Lane::Massive, number));
        let mut begun: Vec<_> = std::iter::from_fn(|| line.begin(Instant::now())).collect();
        let turns = line.turns.clone();
        begun.truncate(LOW);
        turns.come().await;
        assert!(line.begin(Instant::now()).is_some());
    }

    #[test]
    fn what_is_urgent_passes_a_campaign_which_is_not_starved() {
        let mut line = line();
        (0..40).for_each(|number| push(&mut line, "a", Lane::Massive, number));
        (100..140).for_each(|number| push(&mut line, "a", Lane::Single, number));
        let order: Vec<_> = std::iter::from_fn(|| line.begin(Instant::now()).map(|(message, _)| message)).collect();
        assert!(order[..7].iter().all(|message| *message >= 100), "{order:?}");
        assert_eq!(order[7], 0);
        assert_eq!(order[..40].iter().filter(|message| **message < 100).count(), 5);
        assert_eq!(order.len(), 80);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_each_lane_keeps_its_order_and_none_starves(
            steps in prop::collection::vec((0usize..3, any::<bool>(), 0usize..4), 1..300),
        ) {
            let (mut line, mut pushed, mut number) = (line(), 0, 0);
            let mut last = [[None; 2]; 3];
            let mut urgent_in_a_row = [0; 3];
            let names = ["a", "b", "c"];
            let mut taken = 0;
            for (app, is_massive, pops) in steps {
                number += 1;
                pushed += 1;
                let code = number * 10 + app as u32 * 2 + u32::from(is_massive);
                push(&mut line, names[app], if is_massive { Lane::Massive } else { Lane::Single }, code);
                for _ in 0..pops {
                    let waits: Vec<_> = line.apps.iter().map(|one| (one.name.clone(), !one.massive.is_empty())).collect();
                    let Some((code, _)) = line.begin(Instant::now()) else { break };
                    taken += 1;
                    let (of, lane) = ((code % 10 / 2) as usize, (code % 2) as usize);
                    prop_assert!(last[of][lane] < Some(code));
                    last[of][lane] = Some(code);
                    let waited = waits.iter().any(|(name, waits)| **name == *names[of] && *waits);
                    urgent_in_a_row[of] = if lane == 0 && waited { urgent_in_a_row[of] + 1 } else { 0 };
                    prop_assert!(urgent_in_a_row[of] < FLOOR);
                }
            }
            prop_assert_eq!(taken + line.drain().count(), pushed);
        }
    }
}
