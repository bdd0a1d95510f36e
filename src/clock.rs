//! The time: the wall clock's, for as long as it goes on as a clock does that nobody can set.
//!
//! A wall clock that is set by more than [`JUMP`] would end a backlog as expired, or send what has expired, sign tokens that no provider
//! takes, and date records so that no broker does. So the time goes on from where it was, an alarm says so, and what the clock says now is believed when it has stood by it for [`STEADY`]: long enough for
//! somebody to set it right, short enough for a clock that was wrong before and is right now. A machine that was suspended looks the
//! same, for its monotonic clock stood still.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// By so much the wall clock may go ahead of the other, or fall behind, between two looks.
pub const JUMP: Duration = Duration::from_mins(1);
/// For so long it must go on evenly after a jump until it is believed.
pub const STEADY: Duration = Duration::from_mins(10);

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
    /// When it jumped there, by the other clock.
    since_ms: i64,
}

/// What is new about the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It is ahead by so much, or behind.
    Jumped { ahead_ms: i64 },
    /// It says again what is expected.
    Agrees,
    /// It has been steady since the jump: its time is the time now.
    Believed { ahead_ms: i64 },
}

/// Compares the clocks.
#[derive(Debug)]
struct Watch {
    last: Moment,
    doubt: Option<Doubt>,
}

impl Watch {
    fn new(now: Moment) -> Self {
        Watch { last: now, doubt: None }
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
            Some(doubt) if now.steady_ms - doubt.since_ms < STEADY.as_millis() as i64 => return (expected, None),
            Some(_) => {
                *self = Watch::new(now);
                return (now.wall_ms, Some(Change::Believed { ahead_ms }));
            }
            None => {}
        }
        self.doubt = Some(Doubt { ahead_ms, since_ms: now.steady_ms });
        (expected, Some(Change::Jumped { ahead_ms }))
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

/// By how many seconds the wall clock is ahead of the time (behind: less than zero); zero while it is believed.
pub fn ahead_s() -> f64 {
    now_ms();
    WATCH.lock().doubt.map_or(0.0, |doubt| doubt.ahead_ms as f64 / 1000.0)
}

fn tell(change: Change) {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    match change {
        Change::Jumped { ahead_ms } => tracing::error!(
            alarm = true,
            ahead_seconds = seconds(ahead_ms),
            believed_in_seconds = STEADY.as_secs(),
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

    fn at(steady_ms: i64, ahead_ms: i64) -> Moment {
        Moment { wall_ms: NOON + steady_ms + ahead_ms, steady_ms }
    }

    #[test]
    fn a_clock_that_is_corrected_by_little_is_followed() {
        let mut watch = Watch::new(at(0, 0));
        for (step, ahead) in [0, 900, -59_000, 1_000, 60_000].into_iter().enumerate() {
            let now = at(step as i64 * 1_000, ahead);
            assert_eq!(watch.look(now), (now.wall_ms, None), "{ahead}");
        }
    }

    #[test]
    fn after_a_jump_the_time_goes_on_from_where_it_was() {
        for ahead in [HOUR, -HOUR] {
            let mut watch = Watch::new(at(0, 0));
            assert_eq!(watch.look(at(1_000, ahead)), (NOON + 1_000, Some(Change::Jumped { ahead_ms: ahead })));
            assert_eq!(watch.look(at(9_000, ahead + 500)), (NOON + 9_000, None), "told once");
            assert_eq!(watch.look(at(10_000, 200)), (NOON + 10_200, Some(Change::Agrees)));
            assert_eq!(watch.look(at(11_000, 200)), (NOON + 11_200, None));
        }
    }

    #[test]
    fn a_clock_that_stands_by_its_jump_is_believed() {
        let steady = STEADY.as_millis() as i64;
        let mut watch = Watch::new(at(0, 0));
        watch.look(at(5, HOUR));
        assert_eq!(watch.look(at(4 + steady, HOUR)), (NOON + 4 + steady, None));
        let believed = Change::Believed { ahead_ms: HOUR };
        assert_eq!(watch.look(at(5 + steady, HOUR)), (NOON + 5 + steady + HOUR, Some(believed)));
        assert_eq!(watch.look(at(6 + steady, HOUR)), (NOON + 6 + steady + HOUR, None));
    }

    #[test]
    fn each_jump_begins_the_wait_anew() {
        let steady = STEADY.as_millis() as i64;
        let mut watch = Watch::new(at(0, 0));
        watch.look(at(0, HOUR));
        let second = Change::Jumped { ahead_ms: 2 * HOUR };
        assert_eq!(watch.look(at(steady - 1, 2 * HOUR)), (NOON + steady - 1, Some(second)));
        assert_eq!(watch.look(at(steady, 2 * HOUR)), (NOON + steady, None));
    }

    proptest! {
        /// Whatever the wall clock does within the ten minutes, the time is never off by more than the small corrections came to.
        #[test]
        fn no_jump_is_followed_before_its_time(jumps in prop::collection::vec((0..2_000i64, 60_001..HOUR, any::<bool>()), 1..200)) {
            let (mut watch, mut steady) = (Watch::new(at(0, 0)), 0);
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
