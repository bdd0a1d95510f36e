//! One rhythm for whatever is looked at now and then: clocks of the same period strike together.
//!
//! To wake a thread costs far more than what most clocks have to do, and a process that has nothing else to do pays for little but that.
//! So a runtime with five clocks of a second is to wake once a second for them, not five times.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

/// When the clocks of this process began.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Waits for the next strike of the clocks with this period, which is not zero. One that comes within half a period is left to those who are
/// in time: whoever asks again after each does not do so twice in a row for having been late.
pub async fn strike(period: Duration) {
    sleep_until(next(period)).await;
}

/// A clock that strikes with all others of this period, first as [`strike`] says. Strikes that were missed are left out.
pub fn clock(period: Duration) -> Interval {
    let mut clock = interval_at(next(period), period);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    clock
}

fn next(period: Duration) -> Instant {
    let origin = *ORIGIN;
    let now = Instant::now();
    now + left(period, now.saturating_duration_since(origin))
}

/// From half a period to one and a half.
fn left(period: Duration, since: Duration) -> Duration {
    let left = Duration::from_nanos_u128(period.as_nanos() - since.as_nanos() % period.as_nanos());
    if left < period / 2 { left + period } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clocks_of_one_period_strike_together_whenever_they_were_started() {
        const SECOND: Duration = Duration::from_secs(1);
        strike(SECOND).await;
        let mut first = clock(SECOND);
        tokio::time::advance(Duration::from_millis(300)).await;
        let mut second = clock(SECOND);
        let together = first.tick().await;
        assert_eq!(together, second.tick().await);
        // One that is late leaves out what it missed, and keeps to the rhythm.
        tokio::time::advance(SECOND * 9 / 4).await;
        first.tick().await;
        strike(SECOND).await;
        let third = together + 3 * SECOND;
        assert!(Instant::now() - third <= Duration::from_millis(1), "a timer is exact to the millisecond");
        assert_eq!(first.tick().await, third);
    }

    #[test]
    fn who_is_late_does_not_strike_twice_in_a_row() {
        let period = Duration::from_millis(500);
        let waits =
            [0, 1, 499, 500, 501, 1_250, 1_251].map(|since| left(period, Duration::from_millis(since)).as_millis());
        assert_eq!(waits, [500, 499, 501, 500, 499, 250, 749]);
    }
}
