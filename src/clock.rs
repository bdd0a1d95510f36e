//! The time: the wall clock's, for as long as it goes on as a clock does that nobody can set.
//!
//! A wall clock that is set by more than [`JUMP`] would end a backlog as expired, or send what has expired, sign tokens that no
//! provider takes, and date records so that no broker does. So the time goes on from where it was, an alarm says so, and what the
//! clock says now is believed when it has stood by it for as long as it had gone evenly before, [`STEADY`] at most: long enough for
//! somebody to set it right, short enough for a clock that was wrong before and is right now. One that is set right soon after the
//! start, as on a machine that has just booted, is thus believed soon ([`LEAST`]). A machine that was suspended looks the same, for
//! its monotonic clock stood still.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// By so much the wall clock may go ahead of the other, or fall behind, between two looks.
pub const JUMP: Duration = Duration::from_mins(1);
/// For so long, at most and at least, it must go on evenly after a jump until it is believed.
pub const STEADY: Duration = Duration::from_mins(10);
/// See [`STEADY`].
pub const LEAST: Duration = Duration::from_mins(1);

/// What both clocks say at one moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// Ms since the epoch.
    wall_ms: i64,
    /// Ms since some fixed moment, by a clock that nobody can set.
    steady_ms: i64,
}

/// The wall clock is not believed.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// By how much it is ahead of the time that goes on.
    ahead_ms: i64,
    /// When it is believed, by the other clock, if it stands by that.
    believed_at_ms: i64,
}

/// What is new about the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It is ahead by so much, or behind.
    Jumped { ahead_ms: i64, patience_ms: i64 },
    /// It says again what is expected.
    Agrees,
    /// It has been steady since the jump: its time is the time now.
    Believed { ahead_ms: i64 },
}

/// Compares the clocks.
#[derive(Debug)]
struct Watch {
    /// Since when it has gone evenly, by the other clock.
    even_since_ms: i64,
    last: Moment,
    doubt: Option<Doubt>,
}

impl Watch {
    fn new(now: Moment) -> Self {
        Watch { even_since_ms: now.steady_ms, last: now, doubt: None }
    }

    /// The time, ms since the epoch, and what is new.
    fn look(&mut self, now: Moment) -> (i64, Option<Change>) {
        let expected = self.last.wall_ms + (now.steady_ms - self.last.steady_ms);
        let ahead_ms = now.wall_ms - expected;
        if is_small(ahead_ms) {
            self.last = now;
            return (now.wall_ms, self.doubt.take().map(|_| Change::Agrees));
        }
        match self.doubt {
            Some(doubt) if !is_small(ahead_ms - doubt.ahead_ms) => {}
            Some(doubt) if now.steady_ms < doubt.believed_at_ms => return (expected, None),
            Some(_) => {
                *self = Watch::new(now);
                return (now.wall_ms, Some(Change::Believed { ahead_ms }));
            }
            None => {}
        }
        let patience_ms = self.patience_ms(now);
        self.doubt = Some(Doubt { ahead_ms, believed_at_ms: now.steady_ms + patience_ms });
        (expected, Some(Change::Jumped { ahead_ms, patience_ms }))
    }

    fn patience_ms(&self, now: Moment) -> i64 {
        (now.steady_ms - self.even_since_ms).clamp(LEAST.as_millis() as i64, STEADY.as_millis() as i64)
    }
}

fn is_small(ahead_ms: i64) -> bool {
    ahead_ms.unsigned_abs() <= JUMP.as_millis() as u64
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static WATCH: LazyLock<Mutex<Watch>> = LazyLock::new(|| Mutex::new(Watch::new(moment())));

fn moment() -> Moment {
    let steady_ms = START.elapsed().as_millis() as i64;
    Moment { wall_ms: wall_ms(), steady_ms }
}

/// 0 on a host whose clock stands before the epoch.
fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// When `instant` was, seconds since the epoch.
pub fn epoch_s_of(instant: Instant) -> i64 {
    (now_ms() - instant.elapsed().as_millis() as i64) / 1000
}

/// Now, ms since the epoch.
pub fn now_ms() -> i64 {
    let (now_ms, change) = WATCH.lock().look(moment());
    if let Some(change) = change {
        tell(change);
    }
    now_ms
}

/// The same as a moment.
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(now_ms().max(0) as u64)
}

/// By how many seconds the wall clock is ahead of the time (behind: less than zero); zero while it is believed.
pub fn ahead_s() -> f64 {
    now_ms();
    WATCH.lock().doubt.map_or(0.0, |doubt| doubt.ahead_ms as f64 / 1000.0)
}

fn tell(change: Change) {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    match change {
        Change::Jumped { ahead_ms, patience_ms } => tracing::error!(
            alarm = true,
            ahead_seconds = seconds(ahead_ms),
            believed_in_seconds = seconds(patience_ms),
            "the wall clock jumped: pushes expire, and tokens are signed, by the time before until it is right again or has been steady for that long"
        ),
        Change::Agrees => tracing::info!("the wall clock is right again"),
        Change::Believed { ahead_ms } => tracing::warn!(
            ahead_seconds = seconds(ahead_ms),
            "the wall clock has been steady since it jumped: it is believed again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: i64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    const STEADY_MS: i64 = STEADY.as_millis() as i64;

    fn at(steady_ms: i64, ahead_ms: i64) -> Moment {
        Moment { wall_ms: NOON + steady_ms + ahead_ms, steady_ms }
    }

    /// At 0 it has gone evenly for long.
    fn watch() -> Watch {
        let mut watch = Watch::new(at(-STEADY_MS, 0));
        assert_eq!(watch.look(at(0, 0)), (NOON, None));
        watch
    }

    fn jumped(ahead_ms: i64) -> Change {
        Change::Jumped { ahead_ms, patience_ms: STEADY_MS }
    }

    #[test]
    fn a_clock_that_is_corrected_by_little_is_followed() {
        let mut watch = watch();
        for (step, ahead) in [0, 900, -59_000, 1_000, 60_000].into_iter().enumerate() {
            let now = at(step as i64 * 1_000, ahead);
            assert_eq!(watch.look(now), (now.wall_ms, None), "{ahead}");
        }
    }

    #[test]
    fn after_a_jump_the_time_goes_on_from_where_it_was() {
        for ahead in [HOUR, -HOUR] {
            let mut watch = watch();
            assert_eq!(watch.look(at(1_000, ahead)), (NOON + 1_000, Some(jumped(ahead))));
            assert_eq!(watch.look(at(9_000, ahead + 500)), (NOON + 9_000, None), "told once");
            assert_eq!(watch.look(at(10_000, 200)), (NOON + 10_200, Some(Change::Agrees)));
            assert_eq!(watch.look(at(11_000, 200)), (NOON + 11_200, None));
        }
    }

    #[test]
    fn a_clock_that_stands_by_its_jump_is_believed() {
        let steady = STEADY_MS;
        let mut watch = watch();
        watch.look(at(5, HOUR));
        assert_eq!(watch.look(at(4 + steady, HOUR)), (NOON + 4 + steady, None));
        let believed = Change::Believed { ahead_ms: HOUR };
        assert_eq!(watch.look(at(5 + steady, HOUR)), (NOON + 5 + steady + HOUR, Some(believed)));
        assert_eq!(watch.look(at(6 + steady, HOUR)), (NOON + 6 + steady + HOUR, None));
    }

    #[test]
    fn one_that_has_gone_evenly_for_little_is_believed_soon() {
        for (even, patience_s) in [(0, 60), (59, 60), (100, 100), (599, 599), (601, 600), (9_000, 600)] {
            let (mut watch, even) = (Watch::new(at(0, 0)), even * 1_000);
            watch.look(at(even, 0));
            let (_, change) = watch.look(at(even, -HOUR));
            let patience_ms = patience_s * 1_000;
            assert_eq!(change, Some(Change::Jumped { ahead_ms: -HOUR, patience_ms }));
            assert_eq!(watch.look(at(even + patience_ms - 1, -HOUR)), (NOON + even + patience_ms - 1, None));
            let believed = Some(Change::Believed { ahead_ms: -HOUR });
            assert_eq!(watch.look(at(even + patience_ms, -HOUR)).1, believed);
            // What was believed a moment ago is no more certain than that.
            let (_, change) = watch.look(at(even + patience_ms + 1, HOUR));
            assert_eq!(change, Some(Change::Jumped { ahead_ms: 2 * HOUR, patience_ms: 60_000 }));
        }
    }

    #[test]
    fn each_jump_begins_the_wait_anew() {
        let steady = STEADY_MS;
        let mut watch = watch();
        watch.look(at(0, HOUR));
        assert_eq!(watch.look(at(steady - 1, 2 * HOUR)), (NOON + steady - 1, Some(jumped(2 * HOUR))));
        assert_eq!(watch.look(at(steady, 2 * HOUR)), (NOON + steady, None));
    }

    proptest! {
        /// Whatever the wall clock does within the ten minutes, the time is never off by more than the small corrections came to.
        #[test]
        fn no_jump_is_followed_before_its_time(jumps in prop::collection::vec((0..2_000i64, 60_001..HOUR, any::<bool>()), 1..200)) {
            let (mut watch, mut steady) = (watch(), 0);
            for (pause, ahead, back) in jumps {
                steady += pause;
                let (now, _) = watch.look(at(steady, if back { -ahead } else { ahead }));
                prop_assert_eq!(now, NOON + steady);
            }
        }
    }

    #[test]
    fn the_machines_clock_is_believed() {
        let (before, now, after) = (wall_ms(), now_ms(), wall_ms());
        assert!((before..=after).contains(&now), "{before} {now} {after}");
        assert!(ahead_s().abs() < f64::EPSILON);
    }
}
