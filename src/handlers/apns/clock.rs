//! The two clocks of this room, read in one place; everything that is decided by them takes a time as an argument.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::token::Now;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, ms since the epoch; 0 on a host whose clock stands before it.
pub(super) fn epoch_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Now, on both clocks.
pub(super) fn now() -> Now {
    Now { epoch_s: epoch_ms() / 1000, monotonic: START.elapsed() }
}

/// When `instant` was, seconds since the epoch.
pub(super) fn epoch_s_of(instant: Instant) -> i64 {
    (epoch_ms() - instant.elapsed().as_millis() as i64) / 1000
}
