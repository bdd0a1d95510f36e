//! How many of an app's attempts may be retries: a token bucket, filled by first attempts. Pure: time is an argument.
//!
//! Without a bound, what a provider refuses comes back on top of what is new, and a provider in trouble gets more to do the
//! less it can. So retries take what first attempts have put in, and wait when there is none: they are delayed, not failed.
//! When nothing is attempted for the first time although it could be there is nobody to be crowded out, and retries are free;
//! what then holds them back is each message's own pause, the breaker, and the app's pace if it has one.

use std::time::{Duration, Instant};

use crate::config::{Config, ConfigError, Key};

const MAX_SHARE: Key = Key::new(
    "retry.maxShare",
    "0.33",
    "most of an app's attempts that may be retries while first attempts go on, 0.01 to 0.9; above it retries wait",
);

/// The keys of this room.
pub const KEYS: &[Key] = &[MAX_SHARE];

/// Retries that are always allowed, per second: a trickle of new messages must not keep a full waiting room waiting.
const FLOOR: f64 = 20.0;
/// Most retries that can be saved up.
const BURST: f64 = 1_000.0;
/// Without a first attempt for this long retries are free.
const ALONE: Duration = Duration::from_secs(1);

/// What the configuration says about retries of all apps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareSettings {
    /// Most of the attempts that may be retries.
    pub max_share: f64,
}

impl Default for ShareSettings {
    fn default() -> Self {
        ShareSettings { max_share: 0.33 }
    }
}

impl ShareSettings {
    /// Reads [`KEYS`].
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let max_share: f64 = config.require(&MAX_SHARE)?;
        if !(0.01..=0.9).contains(&max_share) {
            return Err(config.error(&MAX_SHARE, "must be from 0.01 to 0.9"));
        }
        Ok(ShareSettings { max_share })
    }
}

/// One app's bucket.
#[derive(Debug)]
pub struct RetryShare {
    /// What one first attempt puts in.
    deposit: f64,
    tokens: f64,
    seen_first_attempts: u64,
    last_first_attempt: Option<Instant>,
    filled: Instant,
}

impl RetryShare {
    /// A full bucket.
    pub fn new(settings: ShareSettings, now: Instant) -> Self {
        let deposit = settings.max_share / (1.0 - settings.max_share);
        RetryShare { deposit, tokens: BURST, seen_first_attempts: 0, last_first_attempt: None, filled: now }
    }

    /// Whether one retry may go now; then it is taken. `first_attempts`: how many the app has made so far. `is_free` is asked whether
    /// a first attempt could be made as well: where none can, there being none does not mean that none is wanted.
    pub fn take(&mut self, first_attempts: u64, now: Instant, is_free: impl FnOnce() -> bool) -> bool {
        let new = first_attempts.saturating_sub(self.seen_first_attempts);
        self.seen_first_attempts = self.seen_first_attempts.max(first_attempts);
        if new > 0 {
            self.last_first_attempt = Some(now);
        }
        let idle = now.saturating_duration_since(self.filled);
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + self.deposit * new as f64 + FLOOR * idle.as_secs_f64()).min(BURST);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return true;
        }
        self.last_first_attempt.is_none_or(|last| now.saturating_duration_since(last) >= ALONE) && is_free()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_is_read_within_its_bounds() {
        let read = |text| ShareSettings::from_config(&Config::from_pairs([("retry.maxShare", text)]));
        assert_eq!(ShareSettings::from_config(&Config::default()), Ok(ShareSettings::default()));
        assert_eq!(read("0.5"), Ok(ShareSettings { max_share: 0.5 }));
        for wrong in ["0", "0.95", "-1", "NaN", "much"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn retries_are_free_when_nothing_new_is_attempted() {
        let begin = Instant::now();
        let mut share = RetryShare::new(ShareSettings::default(), begin);
        let late = begin + Duration::from_secs(2);
        assert!((0..5_000).all(|_| share.take(0, begin, || true)), "nothing was attempted for the first time yet");
        assert!(!share.take(1, begin, || true), "one is not enough for a retry");
        assert!((0..5_000).all(|_| share.take(1, late, || true)));
    }

    #[test]
    fn a_fifth_of_refused_attempts_finds_room_for_its_retries() {
        let begin = Instant::now();
        let mut share = RetryShare::new(ShareSettings::default(), begin);
        let (mut first, mut refused) = (0_u64, 0);
        for ms in 0..60_000 {
            first += 5;
            // Of five first attempts one is refused, of five retries one again: a quarter of the first attempts.
            let retries = if ms % 4 == 0 { 5 } else { 0 };
            refused += (0..retries).filter(|_| !share.take(first, begin + Duration::from_millis(ms), || true)).count();
        }
        assert_eq!(refused, 0);
    }

    proptest! {
        #[test]
        fn retries_never_exceed_their_share_of_the_attempts_while_first_attempts_go_on(
            max_share in 0.01f64..0.9,
            steps in proptest::collection::vec((1u64..50, 0usize..200, 0u64..900), 1..200),
        ) {
            let begin = Instant::now();
            let mut share = RetryShare::new(ShareSettings { max_share }, begin);
            let (mut now, mut first, mut retries) = (begin, 0, 0_u64);
            for (new, wanted, ms) in steps {
                now += Duration::from_millis(ms);
                first += new;
                retries += (0..wanted).filter(|_| share.take(first, now, || true)).count() as u64;
                let allowed = BURST + FLOOR * (now - begin).as_secs_f64() + first as f64 * max_share / (1.0 - max_share);
                prop_assert!(retries as f64 <= allowed + 1.0, "{} retries, {} allowed", retries, allowed);
            }
        }
    }
}
