//! The wall clock, read in one place; everything that is decided by it takes a time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, ms since the epoch; 0 on a host whose clock stands before it.
pub(in crate::handlers) fn epoch_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// When `instant` was, seconds since the epoch.
pub(in crate::handlers) fn epoch_s_of(instant: Instant) -> i64 {
    (epoch_ms() - instant.elapsed().as_millis() as i64) / 1000
}
