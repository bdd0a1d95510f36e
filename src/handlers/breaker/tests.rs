//! The breaker's rules, one by one, and what holds whatever happens.

use proptest::prelude::*;

use super::probing::MOST_PROBES;
use super::*;

const MS: Duration = Duration::from_millis(1);
const FULL: usize = 1_000;

const FAULT: Signal = Signal::Fault { overload: false, wait: Duration::ZERO };
const BUSY: Signal = Signal::Fault { overload: true, wait: Duration::ZERO };

fn settings() -> Settings {
    Settings {
        min_failures: 20,
        patience: 1_000 * MS,
        failure_share: 0.5,
        window: 10_000 * MS,
        probe_interval: 1_000 * MS,
        max_probe_interval: 3_000 * MS,
        ramp: 3_000 * MS,
    }
}

/// A breaker and its clock.
struct Played {
    breaker: Breaker,
    now: Instant,
    changes: Vec<Change>,
}

impl Played {
    fn new() -> Self {
        let now = Instant::now();
        Played { breaker: Breaker::new(settings(), FULL, now), now, changes: Vec::new() }
    }

    fn attempt(&mut self, signal: Signal, times: usize) {
        for _ in 0..times {
            let change = self.breaker.attempted(signal, 100, self.now);
            self.changes.extend(change);
        }
    }

    /// Lets time pass, looking every 50 ms.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + 50 * MS).min(end);
            let change = self.breaker.tick(0, self.now);
            self.changes.extend(change);
        }
    }

    fn probe(&mut self, signal: Signal) -> bool {
        let taken = self.breaker.take_probe();
        if taken {
            let change = self.breaker.probed(signal, 1, self.now);
            self.changes.extend(change);
        }
        taken
    }

    fn opened() -> Self {
        let mut played = Played::new();
        played.attempt(FAULT, 20);
        played.pass(1_000 * MS);
        assert_eq!(played.changes, [Change::Opened]);
        played.changes.clear();
        played
    }
}

#[test]
fn opens_when_nothing_has_succeeded_for_a_while_and_enough_was_tried() {
    let mut few = Played::new();
    few.attempt(FAULT, 19);
    few.pass(60_000 * MS);
    assert_eq!(few.breaker.position(), Position::Closed, "too few");
    let mut short = Played::new();
    short.attempt(FAULT, 500);
    short.pass(950 * MS);
    short.attempt(Signal::Good, 1);
    short.pass(60_000 * MS);
    assert_eq!(short.breaker.position(), Position::Closed, "one lost connection, then all is well");
    let open = Played::opened();
    assert_eq!((open.breaker.position(), open.breaker.allowance(7)), (Position::Open, 0));
}

#[test]
fn opens_when_most_fails_for_some_time_although_some_succeeds() {
    let mut played = Played::new();
    for _ in 0..40 {
        played.attempt(FAULT, 6);
        played.attempt(Signal::Good, 4);
        played.pass(100 * MS);
    }
    assert_eq!(played.changes, [Change::Opened]);
    let mut less = Played::new();
    for _ in 0..400 {
        less.attempt(FAULT, 4);
        less.attempt(Signal::Good, 6);
        less.pass(100 * MS);
    }
    assert_eq!(less.changes, []);
}

#[test]
fn refusals_of_single_devices_open_it_only_when_nothing_else_is_heard_for_long() {
    let mut played = Played::new();
    for _ in 0..600 {
        played.attempt(Signal::Device, 9);
        played.attempt(Signal::Good, 1);
        played.pass(50 * MS);
    }
    assert_eq!(played.changes, []);
    played.attempt(Signal::Device, 199);
    played.pass(2_000 * MS);
    assert_eq!(played.changes, []);
    played.attempt(Signal::Device, 1);
    played.pass(50 * MS);
    assert_eq!(played.changes, [Change::Opened]);
}

#[test]
fn probes_come_one_at_a_time_at_growing_pauses() {
    let mut played = Played::opened();
    let (begin, mut times) = (played.now, Vec::new());
    while times.len() < 5 {
        played.pass(50 * MS);
        if played.breaker.allowance(3) > 0 {
            assert_eq!(played.breaker.allowance(3), 4, "one beside what is still on its way");
            assert!(played.probe(FAULT) && !played.breaker.take_probe());
            times.push((played.now - begin).as_millis());
        }
    }
    assert_eq!(times, [1_000, 3_000, 6_000, 9_000, 12_000]);
    assert_eq!(played.changes, []);
}

#[test]
fn a_probe_waits_as_long_as_the_provider_asks() {
    let mut played = Played::opened();
    played.pass(1_000 * MS);
    assert!(played.probe(Signal::Fault { overload: true, wait: 30_000 * MS }));
    played.pass(29_950 * MS);
    assert!(!played.breaker.take_probe());
    played.pass(50 * MS);
    assert!(played.breaker.take_probe());
}

#[test]
fn who_hears_nothing_of_the_providers_wish_does_not_shorten_it() {
    let refused = Signal::Fault { overload: true, wait: 30_000 * MS };
    for late in [FAULT, Signal::Nothing, Signal::Device] {
        let mut played = Played::opened();
        played.pass(1_000 * MS);
        assert!(played.breaker.take_probe());
        played.pass(3_000 * MS);
        assert!(played.breaker.take_probe(), "the first one hangs");
        played.pass(5_000 * MS);
        assert_eq!(played.breaker.allowance(0), 1, "and the second: nobody has taken the third");
        played.breaker.probed(refused, 1, played.now);
        assert!(!played.breaker.take_probe(), "it was not told to wait");
        played.breaker.probed(late, 1, played.now);
        played.pass(29_950 * MS);
        assert!(!played.breaker.take_probe(), "{late:?}");
        played.pass(50 * MS);
        assert!(played.breaker.take_probe(), "{late:?}");
    }
}

#[test]
fn a_probe_without_an_answer_does_not_keep_the_next_one_waiting_but_they_are_few() {
    let mut played = Played::opened();
    let mut taken = 0;
    for _ in 0..2_000 {
        played.pass(50 * MS);
        taken += usize::from(played.breaker.take_probe());
    }
    assert_eq!(taken, MOST_PROBES);
    let change = played.breaker.probed(Signal::Good, 8, played.now);
    assert_eq!(change, Some(Change::Recovering));
    for _ in 1..MOST_PROBES {
        played.breaker.probed(FAULT, 1, played.now); // what hung before has ended
    }
    assert_eq!(played.breaker.position(), Position::Limited);
}

#[test]
fn a_probe_that_asked_nobody_makes_room_for_another_at_once() {
    let mut played = Played::opened();
    played.pass(1_000 * MS);
    for _ in 0..100 {
        assert!(played.probe(Signal::Nothing));
    }
    assert!(played.probe(Signal::Good));
    assert_eq!(played.changes, [Change::Recovering]);
}

#[test]
fn what_is_said_to_be_mended_is_probed_at_once() {
    let mut played = Played::opened();
    played.pass(1_000 * MS);
    assert!(played.probe(FAULT) && !played.breaker.take_probe());
    played.breaker.retry_now(played.now);
    assert!(played.probe(FAULT), "without a pause");
    assert!(!played.breaker.take_probe(), "and once");
    played.breaker.retry_now(played.now);
    assert!(played.probe(Signal::Good));
    assert_eq!(played.changes, [Change::Recovering]);
    let mut closed = Played::new();
    closed.breaker.retry_now(closed.now);
    assert_eq!(closed.breaker.position(), Position::Closed);
}

#[test]
fn the_ramp_doubles_to_full_speed_within_its_time() {
    let mut played = Played::opened();
    played.pass(1_000 * MS);
    played.probe(Signal::Good);
    let begin = played.now;
    let mut allowances = vec![played.breaker.allowance(0)];
    while played.breaker.position() == Position::Limited {
        played.attempt(Signal::Good, 1);
        played.pass(50 * MS);
        if allowances.last() != Some(&played.breaker.allowance(0)) {
            allowances.push(played.breaker.allowance(0));
        }
    }
    assert_eq!(allowances, [2, 4, 8, 16, 32, 64, 128, 256, 512, usize::MAX]);
    assert!(played.now - begin <= 3_500 * MS, "{:?}", played.now - begin);
    assert_eq!(played.changes, [Change::Recovering, Change::Closed]);
}

#[test]
fn a_ramp_without_traffic_ends_all_the_same() {
    let mut played = Played::opened();
    played.pass(1_000 * MS);
    played.probe(Signal::Good);
    played.pass(3_500 * MS);
    assert_eq!(played.breaker.position(), Position::Closed);
}

#[test]
fn a_ramp_whose_allowance_fails_opens_again() {
    let mut played = Played::opened();
    played.pass(1_000 * MS);
    played.probe(Signal::Good);
    played.attempt(FAULT, 2);
    played.pass(400 * MS);
    assert_eq!(played.changes, [Change::Recovering, Change::Opened]);
}

#[test]
fn overload_slows_an_app_down_and_not_to_a_halt() {
    let mut played = Played::new();
    for _ in 0..40 {
        played.attempt(BUSY, 3);
        played.attempt(Signal::Good, 7);
        let change = played.breaker.tick(400, played.now);
        played.changes.extend(change);
        played.now += 100 * MS;
    }
    assert_eq!(played.changes, [Change::Slowed]);
    for _ in 0..200 {
        played.attempt(BUSY, 3);
        played.attempt(Signal::Good, 7);
        played.pass(100 * MS);
    }
    // It tries an eighth more again and again.
    assert!((SLOWEST..=SLOWEST + 2).contains(&played.breaker.allowance(0)), "{}", played.breaker.allowance(0));
    for _ in 0..150 {
        played.attempt(Signal::Good, 10);
        played.pass(100 * MS);
    }
    assert_eq!(played.changes, [Change::Slowed, Change::Closed]);
}

/// A provider that takes so many at once and refuses the rest: most of what it takes is used, and little is refused.
#[test]
fn an_overloaded_providers_capacity_is_found_and_kept_to() {
    const TAKES: usize = 200;
    let mut played = Played::new();
    let (mut taken, mut refused) = (0, 0);
    for round in 0..3_000 {
        played.probe(Signal::Good);
        let at_once =
            if played.breaker.position() == Position::Open { 0 } else { played.breaker.allowance(0).min(FULL) };
        let good = at_once.min(TAKES);
        played.attempt(Signal::Good, good);
        played.attempt(BUSY, at_once - good);
        let change = played.breaker.tick(at_once, played.now);
        played.changes.extend(change);
        played.now += 100 * MS;
        if round >= 300 {
            (taken, refused) = (taken + good, refused + at_once - good);
        }
    }
    let (goodput, share) = (taken as f64 / (2_700 * TAKES) as f64, refused as f64 / (taken + refused) as f64);
    assert!(goodput > 0.8 && share < 0.15, "{goodput} {share}");
    assert_eq!(played.changes, [Change::Opened, Change::Recovering], "found once, and not again and again");
}

#[test]
fn a_quota_that_is_used_up_stops_the_app_at_once_and_it_goes_on_at_half_of_what_it_was() {
    let mut played = Played::new();
    played.attempt(Signal::Good, 1_000);
    played.attempt(Signal::Quota { wait: 5_000 * MS }, 3);
    assert_eq!(played.changes, [Change::Opened], "what follows from streams under way is not news");
    played.pass(4_950 * MS);
    assert!(!played.breaker.take_probe());
    played.pass(50 * MS);
    assert!(played.probe(Signal::Good));
    assert_eq!(played.breaker.allowance(0), 50);
}

fn signals() -> impl Strategy<Value = Signal> {
    prop_oneof![
        3 => Just(Signal::Good),
        1 => Just(Signal::Nothing),
        1 => Just(Signal::Device),
        3 => Just(FAULT),
        2 => Just(BUSY),
        1 => (0u32..3_000).prop_map(|ms| Signal::Fault { overload: true, wait: ms * MS }),
        1 => (0u32..3_000).prop_map(|ms| Signal::Quota { wait: ms * MS }),
    ]
}

proptest! {
    #[test]
    fn good_answers_alone_never_move_it(gaps in proptest::collection::vec((0u32..3_000, 0u64..50), 1..100)) {
        let mut played = Played::new();
        for (gap, n) in gaps {
            played.breaker.succeeded(n, played.now);
            played.pass(gap * MS);
        }
        prop_assert_eq!(played.breaker.position(), Position::Closed);
        prop_assert_eq!(played.changes, []);
    }

    #[test]
    fn whatever_happened_it_is_closed_soon_after_all_is_well(
        history in proptest::collection::vec((signals(), 0usize..60, 0u32..2_000), 0..60),
    ) {
        let mut played = Played::new();
        let mut before = played.breaker.position();
        for (signal, times, gap) in history {
            played.attempt(signal, times);
            played.probe(signal);
            played.pass(gap * MS);
            let now = played.breaker.position();
            prop_assert_eq!(played.breaker.allowance(0) == usize::MAX, now == Position::Closed);
            prop_assert!(now != Position::Open || played.breaker.allowance(0) <= 1, "only probes");
            prop_assert!(now == before || !played.changes.is_empty(), "every move is told");
            played.changes.clear();
            before = now;
        }
        // Three seconds are the longest wish above, and the longest pause; then the ramp, and steps that began badly; with care
        // where it was overloaded, 35 steps of a third of a second.
        for _ in 0..400 {
            played.attempt(Signal::Good, 3);
            played.probe(Signal::Good);
            played.pass(50 * MS);
        }
        prop_assert_eq!(played.breaker.position(), Position::Closed);
    }

    /// A closed breaker bears it, and so the way there must not end below.
    #[test]
    fn what_always_fails_a_little_keeps_no_app_limited(
        seed in any::<u64>(), (bad, share) in prop_oneof![(Just(FAULT), 0.0..0.45), (Just(BUSY), 0.0..0.2)],
    ) {
        let (mut played, mut dice) = (Played::opened(), fastrand::Rng::with_seed(seed));
        let end = played.now + Duration::from_mins(10);
        while played.breaker.position() != Position::Closed && played.now < end {
            let at_once = if played.breaker.position() == Position::Open { 0 } else { played.breaker.allowance(0) };
            for _ in 0..at_once {
                played.attempt(if dice.f64() < share { bad } else { Signal::Good }, 1);
            }
            played.probe(Signal::Good);
            played.pass(100 * MS);
        }
        prop_assert_eq!(played.breaker.position(), Position::Closed);
    }

    #[test]
    fn while_all_fails_probes_are_as_rare_as_the_pauses_say(
        bad in prop_oneof![Just(FAULT), Just(BUSY), Just(Signal::Device)], seconds in 10u64..600,
    ) {
        let mut played = Played::opened();
        let mut probes = 0;
        for _ in 0..seconds * 20 {
            played.pass(50 * MS);
            probes += u64::from(played.probe(bad));
        }
        prop_assert_eq!(played.changes, []);
        prop_assert!((seconds / 3 - 1..=seconds / 3 + 2).contains(&probes), "{} in {} s", probes, seconds);
    }
}

#[test]
fn what_has_failed_is_watched_closely_and_a_calm_breaker_seldom() {
    let mut played = Played::new();
    assert_eq!(played.breaker.look_again(), 1_000 * MS, "a slice of its window");
    played.attempt(FAULT, 1);
    assert_eq!(played.breaker.look_again(), LOOK);
    played.attempt(Signal::Good, 1);
    assert_eq!(played.breaker.look_again(), 1_000 * MS);
    played.attempt(Signal::Quota { wait: Duration::ZERO }, 1);
    assert_eq!((played.breaker.position(), played.breaker.look_again()), (Position::Open, LOOK));
}
