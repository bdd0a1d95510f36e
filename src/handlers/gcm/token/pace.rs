//! When an access token is fetched, and again after a failure. Pure: randomness is an argument.

use std::time::Duration;

use super::FetchError;
use crate::outcome::Class;

/// How long before its end a token is replaced, at most.
pub(super) const AHEAD: Duration = Duration::from_mins(5);

/// First and longest pause after a failed fetch, when the endpoint is to blame. One request in ten seconds is nothing to it,
/// and its apps wait for the token with all that they have.
pub(super) const ENDPOINT_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// The same when the credentials are refused.
pub(super) const CREDENTIAL_PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));

/// An endpoint's wish above this is cut to it.
pub(super) const LONGEST_WISH: Duration = Duration::from_mins(5);

/// When a token is replaced, from when it was asked for: a little sooner by chance, so that a fleet does not ask at once.
pub(super) fn replace_after(lifetime: Duration, random: u64) -> Duration {
    let ahead = AHEAD.min(lifetime / 4);
    lifetime.saturating_sub(ahead).saturating_sub(share(ahead / 4, random))
}

/// How long a failed fetch, the last of `failures + 1` in a row, is followed by none.
pub(super) fn pause_after(error: &FetchError, failures: u32, random: u64) -> Duration {
    let (first, most) = if error.class == Class::Configuration { CREDENTIAL_PAUSES } else { ENDPOINT_PAUSES };
    let ceiling = first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(most);
    let pause = ceiling / 2 + share(ceiling / 2, random);
    pause.max(error.retry_after.unwrap_or_default().min(LONGEST_WISH))
}

/// `random / 2^64` of `whole`.
fn share(whole: Duration, random: u64) -> Duration {
    whole.mul_f64(random as f64 / u64::MAX as f64)
}
