//! The two clocks that provider tokens age by, read in one place.

use std::sync::LazyLock;
use std::time::Instant;

use super::token::Now;
use crate::clock::now_ms;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, on both clocks.
pub(super) fn now() -> Now {
    Now { epoch_s: now_ms() / 1000, monotonic: START.elapsed() }
}
