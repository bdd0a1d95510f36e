//! When to try again, and when to stop: a pure policy. Time and chance are arguments.
//!
//! Full jitter: the pause is drawn evenly from zero to a ceiling that doubles with every attempt up to the curve's cap, so
//! that messages which failed together do not come back together. A provider's wish (Retry-After) is a floor under it.
//!
//! A message has a budget of attempts and of time. Only an attempt that failed while others of its app succeeded is charged
//! to it: an outage is nobody's message's fault, however long it lasts. What is charged is decided by `circuit`, which sees
//! the others. What failed with all of its app goes sooner when that is found to be mended: `desk` sees to it. The budget, the
//! curves, and why:
//!
//! | refusal | first ceiling | cap | attempts | time | reason |
//! |---|---|---|---|---|---|
//! | network | 0.5 s | 15 s | 50 | 1 h | the connection pool has its own backoff below this one; back soon after an outage |
//! | one device (429) | 5 s | 5 min | 20 | 1 h | providers count pushes in a row to one device: only time helps |
//! | provider (500, 503) | 1 s | 60 s | 50 | 1 h | Google gives up after an hour; Apple asks for patience with a *request*, jitter spreads ours |
//! | provider token (`ExpiredProviderToken`) | 10 s | 5 min | 20 | 1 h | a new token is allowed every 20 minutes |
//! | no access token yet (FCM) | 0.5 s | 15 s | 50 | 1 h | whoever fetches it has a backoff, which is the floor; back soon after it is there |
//! | configuration (held) | 30 s | 15 min | 10 | 2 h | waits for a person; charged when others pass, so that one wrong kind of push ends |

use std::time::Duration;

use crate::outcome::{Class, Refusal, Source};

mod share;
pub use share::{KEYS, RetryShare, ShareSettings};

/// No pause is shorter: a retry never spins.
pub const SHORTEST: Duration = Duration::from_millis(20);
/// A provider's wish above this is cut to it: a wrong header must not park a message for ever.
pub const LONGEST_WISH: Duration = Duration::from_hours(1);

/// Keys of refusals about our provider token, which have a curve of their own.
const PROVIDER_TOKEN_KEYS: [&str; 1] = ["expired-provider-token"];
/// Keys of refusals because a credential is not there yet: no request was made, and nobody is spared by waiting.
const WAITING_KEYS: [&str; 1] = ["no-access-token"];

/// Ceilings of the pauses of one kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Curve {
    /// Ceiling of the first pause.
    pub first: Duration,
    /// Ceiling of the later ones, whatever their number.
    pub cap: Duration,
}

impl Curve {
    /// The ceiling of the pause after attempt number `attempt`, counted from 0: `first · 2^attempt`, at most `cap`.
    pub fn ceiling(self, attempt: u32) -> Duration {
        let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.first.checked_mul(factor).map_or(self.cap, |grown| grown.min(self.cap))
    }
}

/// What a message may be charged before it is given up; also what it has been charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Attempts that failed while others of the app succeeded.
    pub attempts: u32,
    /// From the beginning of each of them to the next attempt, but for what the provider asked to wait.
    pub time: Duration,
}

impl Budget {
    /// One more attempt, and the time that it cost.
    pub fn charge(&mut self, time: Duration) {
        self.attempts = self.attempts.saturating_add(1);
        self.time = self.time.saturating_add(time);
    }
}

/// The lines of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Network,
    Device,
    Provider,
    ProviderToken,
    Configuration,
}

impl Kind {
    fn of(class: Class, source: Source, key: &str) -> Kind {
        match (class, source) {
            (Class::Configuration, _) => Kind::Configuration,
            (_, Source::Network) => Kind::Network,
            (_, Source::Project) if WAITING_KEYS.contains(&key) => Kind::Network,
            (_, Source::Device | Source::Local) => Kind::Device,
            (_, Source::Project) if PROVIDER_TOKEN_KEYS.contains(&key) => Kind::ProviderToken,
            (_, Source::Project) => Kind::Provider,
        }
    }

    /// First ceiling and cap of the pauses, ms; attempts and hours of the budget.
    const fn line(self) -> (u64, u64, u32, u64) {
        match self {
            Kind::Network => (500, 15_000, 50, 1),
            Kind::Device => (5_000, 300_000, 20, 1),
            Kind::Provider => (1_000, 60_000, 50, 1),
            Kind::ProviderToken => (10_000, 300_000, 20, 1),
            Kind::Configuration => (30_000, 900_000, 10, 2),
        }
    }

    fn curve(self) -> Curve {
        let (first, cap, ..) = self.line();
        Curve { first: Duration::from_millis(first), cap: Duration::from_millis(cap) }
    }

    fn budget(self) -> Budget {
        let (.., attempts, hours) = self.line();
        Budget { attempts, time: Duration::from_hours(hours) }
    }
}

/// How long a refused message waits, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Replaces the first ceiling of refusals by network, device and provider (`apns.retry.interval`); the caps stay, and
    /// a held message keeps its own curve.
    pub first: Option<Duration>,
    /// Replaces the attempts of every budget (`apns.retry.maxRetryAttempts`).
    pub attempts: Option<u32>,
    /// Replaces the time of every budget (`apns.retry.maxRetryTime`).
    pub time: Option<Duration>,
}

impl Policy {
    /// The curve of this kind of refusal.
    pub fn curve(&self, class: Class, source: Source, key: &str) -> Curve {
        let kind = Kind::of(class, source, key);
        let adjustable = matches!(kind, Kind::Network | Kind::Device | Kind::Provider);
        match self.first.filter(|_| adjustable) {
            Some(first) => Curve { first, cap: kind.curve().cap.max(first) },
            None => kind.curve(),
        }
    }

    /// The pause before the next attempt, after attempt number `attempt` (from 0) ended in `refusal`. `random` is any
    /// evenly drawn number. Never below the provider's wish, never above the wish plus the curve's cap.
    pub fn delay(&self, refusal: &Refusal, attempt: u32, random: u64) -> Duration {
        let ceiling = self.curve(refusal.class, refusal.source, refusal.key).ceiling(attempt);
        (wish(refusal) + share(ceiling, random)).max(SHORTEST)
    }

    /// The budget of a message whose last refusal is of this kind.
    pub fn budget(&self, class: Class, source: Source, key: &str) -> Budget {
        let Budget { attempts, time } = Kind::of(class, source, key).budget();
        Budget { attempts: self.attempts.unwrap_or(attempts), time: self.time.unwrap_or(time) }
    }

    /// Whether a message that was charged `spent` and was refused like this at last is given up.
    pub fn is_spent(&self, spent: Budget, last: &Refusal) -> bool {
        let budget = self.budget(last.class, last.source, last.key);
        spent.attempts >= budget.attempts || (spent.attempts > 0 && spent.time >= budget.time)
    }
}

/// How long the provider asked to wait, or what stands for that, at most [`LONGEST_WISH`].
pub fn wish(refusal: &Refusal) -> Duration {
    refusal.retry_after.unwrap_or_default().min(LONGEST_WISH)
}

/// `random / 2^64` of `whole`, to the nanosecond.
fn share(whole: Duration, random: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(nanos as u64) // `whole` is at most a cap: far below 2^64 ns
}

/// Whether a message that stops being worth sending at `expires_at_ms` is past that at `now_ms` (both ms since the epoch).
pub fn expired(now_ms: i64, expires_at_ms: Option<i64>) -> bool {
    expires_at_ms.is_some_and(|end| end < now_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(class: Class, source: Source, key: &'static str, wish: Option<Duration>) -> Refusal {
        Refusal { source, retry_after: wish, ..Refusal::local(class, key, "Reason", "") }
    }

    fn kinds() -> impl Strategy<Value = (Class, Source, &'static str)> {
        prop_oneof![
            Just((Class::Provider, Source::Network, "connection-lost")),
            Just((Class::Provider, Source::Device, "too-many-requests")),
            Just((Class::Provider, Source::Project, "service-unavailable")),
            Just((Class::Provider, Source::Project, "expired-provider-token")),
            Just((Class::Provider, Source::Project, "no-access-token")),
            Just((Class::Configuration, Source::Project, "invalid-provider-token")),
        ]
    }

    proptest! {
        #[test]
        fn a_pause_lies_between_the_wish_and_the_wish_plus_the_cap(
            (class, source, key) in kinds(),
            attempt in any::<u32>(),
            random in any::<u64>(),
            wish in proptest::option::of(0u64..10_000_000),
            first in proptest::option::of(1u64..3_600_000),
        ) {
            let wish = wish.map(Duration::from_millis);
            let policy = Policy { first: first.map(Duration::from_millis), ..Policy::default() };
            let pause = policy.delay(&refusal(class, source, key, wish), attempt, random);
            let floor = wish.unwrap_or_default().min(LONGEST_WISH);
            prop_assert!(pause >= floor && pause >= SHORTEST);
            prop_assert!(pause <= SHORTEST.max(floor + policy.curve(class, source, key).cap));
        }

        #[test]
        fn ceilings_never_shrink_and_end_at_the_cap((class, source, key) in kinds(), attempt in 0u32..100) {
            let curve = Policy::default().curve(class, source, key);
            prop_assert!(curve.ceiling(attempt) <= curve.ceiling(attempt + 1));
            prop_assert_eq!(curve.ceiling(100), curve.cap);
            prop_assert_eq!(curve.ceiling(0), curve.first);
        }

        #[test]
        fn a_larger_draw_never_means_a_shorter_pause(attempt in 0u32..40, a in any::<u64>(), b in any::<u64>()) {
            let why = refusal(Class::Provider, Source::Project, "shutdown", None);
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(Policy::default().delay(&why, attempt, low) <= Policy::default().delay(&why, attempt, high));
        }
    }

    #[test]
    fn the_largest_draw_comes_near_the_ceiling() {
        let why = refusal(Class::Provider, Source::Device, "too-many-requests", None);
        let pause = Policy::default().delay(&why, 1, u64::MAX);
        assert!(pause > Duration::from_millis(9_999) && pause <= Duration::from_secs(10), "{pause:?}");
    }

    #[test]
    fn a_held_message_keeps_its_slow_curve_whatever_the_interval() {
        let policy = Policy { first: Some(Duration::from_secs(1)), ..Policy::default() };
        assert_eq!(policy.curve(Class::Configuration, Source::Project, "forbidden"), Kind::Configuration.curve());
        assert_eq!(policy.curve(Class::Provider, Source::Device, "too-many-requests").first, Duration::from_secs(1));
    }

    #[test]
    fn a_budget_ends_at_its_attempts_or_its_time_and_never_uncharged() {
        let (policy, why) = (Policy::default(), refusal(Class::Provider, Source::Network, "connection-lost", None));
        let mut spent = Budget::default();
        assert!(!policy.is_spent(spent, &why));
        (0..49).for_each(|_| spent.charge(Duration::from_secs(1)));
        assert!(!policy.is_spent(spent, &why));
        spent.charge(Duration::ZERO);
        assert!(policy.is_spent(spent, &why), "50 attempts");
        let mut slow = Budget::default();
        slow.charge(Duration::from_mins(59));
        assert!(!policy.is_spent(slow, &why));
        slow.charge(Duration::from_mins(1));
        assert!(policy.is_spent(slow, &why), "an hour");
    }

    #[test]
    fn the_operators_keys_replace_the_budgets() {
        let policy = Policy { attempts: Some(3), time: Some(Duration::from_secs(9)), ..Policy::default() };
        for (class, source, key) in [
            (Class::Provider, Source::Device, "too-many-requests"),
            (Class::Configuration, Source::Project, "forbidden"),
        ] {
            assert_eq!(policy.budget(class, source, key), Budget { attempts: 3, time: Duration::from_secs(9) });
        }
    }

    #[test]
    fn a_message_lives_until_its_expiry_has_passed() {
        assert!(!expired(1_000, None));
        assert!(!expired(1_000, Some(1_000)));
        assert!(expired(1_001, Some(1_000)));
    }
}
