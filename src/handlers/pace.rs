//! How fast requests may leave for all who share one limit, such as a project's quota: a bucket whose rate is learned. The
//! policy is pure, time is an argument; [`Pace`] is its one lock.
//!
//! Two things bound the rate. The *ceiling* is at most what is configured; it falls when the provider says that the limit is used
//! up and rises again little by little (additive increase, multiplicative decrease), so that a limit lower than the
//! configured one, or shared with others, is found. The *warmth* follows the demand: after a silence it begins low and takes the
//! ramp's time to the full rate, for providers are to be spared sudden bursts (Google: Scale FCM).

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::retry::LONGEST_WISH;

/// What remains of the ceiling when the limit was found used up.
const FALL: f64 = 0.85;
/// Share of the configured rate by which the ceiling rises each second: all that one fall took in about a minute.
const RISE: f64 = 0.0025;
/// The ceiling does not fall below this share of the configured rate.
const LOWEST: f64 = 0.01;
/// Share of the configured rate that a cold process begins with.
const COLD: f64 = 1.0 / 60.0;
/// Who sends less than this share of the configured rate has not used up the limit: somebody else did.
const INNOCENT: f64 = 0.1;
/// So many seconds' worth are kept for a burst …
const BURST: f64 = 0.5;
/// … and no less than so many requests.
const LEAST_BURST: f64 = 50.0;
/// For so long at least a refusal is the same news as the one before, whatever wait it names.
const LEAST_NEWS: Duration = Duration::from_secs(1);
/// For so long it is believed that a request waits that was told to.
const HUNGER: f64 = 1.0;
/// For so long that a backlog waits behind a limit that is used up: the longest wish of a provider that is heeded, and a little.
const LONG_HUNGER: f64 = 120.0;
/// Who waits is to get this many seconds' worth at once, not one request at a time.
const HELPING: f64 = 0.005;

/// What one process may send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Requests per second.
    pub per_second: f64,
    /// From silence to that rate; zero: at once.
    pub ramp: Duration,
}

/// Requests that may leave, shared by the senders.
#[derive(Debug)]
pub struct Pace(Mutex<Bucket>);

impl Pace {
    /// A cold one.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Pace(Mutex::new(Bucket::new(settings, now)))
    }

    /// Whether a request may leave now. Who makes one says so with [`Pace::spend`].
    pub fn is_ready(&self, now: Instant) -> bool {
        self.0.lock().is_ready(now)
    }

    /// When it is worth asking again.
    pub fn next(&self) -> Instant {
        self.0.lock().next()
    }

    /// Requests leave, whether they may or not: what leaves too much is waited for by the next.
    pub fn spend(&self, requests: u32) {
        self.0.lock().tokens -= f64::from(requests);
    }

    /// A request did not leave after all.
    pub fn give_back(&self) {
        self.0.lock().tokens += 1.0;
    }

    /// Whether a request that has waited for its turn elsewhere may leave now: it may be a burst ahead of what may leave.
    pub fn has_credit(&self, now: Instant) -> bool {
        self.0.lock().has_credit(now)
    }

    /// The provider says that the limit is used up, and for how long. What others that share it hear until then is the same news.
    pub fn exceeded(&self, wait: Duration, now: Instant) {
        self.0.lock().exceeded(wait, now);
    }

    /// Requests per second that may leave at present.
    pub fn rate(&self) -> f64 {
        self.0.lock().rate()
    }
}

#[derive(Debug)]
struct Bucket {
    settings: Settings,
    /// Requests that may leave now; below zero when some have left anyway.
    tokens: f64,
    ceiling: f64,
    warmth: f64,
    /// When it was filled last.
    at: Instant,
    /// For how many seconds from then on more is wanted than may leave.
    hunger: f64,
    /// Until when the limit is known to be used up.
    exceeded_until: Option<Instant>,
}

impl Bucket {
    fn new(settings: Settings, now: Instant) -> Self {
        let warmth = if settings.ramp.is_zero() { settings.per_second } else { settings.per_second * COLD };
        let (ceiling, hunger, exceeded_until) = (settings.per_second, 0.0, None);
        let bucket = Bucket { settings, tokens: 0.0, ceiling, warmth, at: now, hunger, exceeded_until };
        Bucket { tokens: bucket.capacity(), ..bucket }
    }

    fn rate(&self) -> f64 {
        self.ceiling.min(self.warmth)
    }

    fn capacity(&self) -> f64 {
        (self.rate() * BURST).max(LEAST_BURST)
    }

    fn is_ready(&mut self, now: Instant) -> bool {
        self.fill(now);
        let is_ready = self.tokens >= 1.0;
        self.hunger = if is_ready { 0.0 } else { HUNGER };
        is_ready
    }

    fn next(&self) -> Instant {
        let wanted = (self.rate() * HELPING).max(1.0) - self.tokens;
        self.at + Duration::from_secs_f64((wanted / self.rate()).max(0.0))
    }

    fn has_credit(&mut self, now: Instant) -> bool {
        self.fill(now);
        if self.tokens < 1.0 {
            self.hunger = self.hunger.max(HUNGER);
        }
        self.tokens > -self.capacity()
    }

    fn exceeded(&mut self, wait: Duration, now: Instant) {
        if self.exceeded_until.is_some_and(|until| now < until) {
            return;
        }
        self.exceeded_until = Some(now + wait.clamp(LEAST_NEWS, LONGEST_WISH));
        self.fill(now);
        self.tokens = self.tokens.min(0.0);
        let Settings { per_second, .. } = self.settings;
        if self.rate() < per_second * INNOCENT && self.warmth < self.ceiling {
            return;
        }
        self.ceiling = (self.rate() * FALL).max(per_second * LOWEST);
        self.hunger = LONG_HUNGER;
    }

    /// Lets the time until `now` pass.
    fn fill(&mut self, now: Instant) {
        let Settings { per_second, ramp } = self.settings;
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        if !ramp.is_zero() {
            let slope = per_second / ramp.as_secs_f64();
            let hungry = passed.min(self.hunger);
            let filling = (self.capacity() - self.tokens) / self.rate();
            let idle = passed - hungry.max(filling);
            self.warmth = (self.warmth + slope * hungry).min(per_second);
            if idle > 0.0 {
                self.warmth = (self.warmth - slope * idle).max(per_second * COLD);
            }
        }
        self.hunger = (self.hunger - passed).max(0.0);
        self.ceiling = (self.ceiling + per_second * RISE * passed).min(per_second);
        self.tokens = (self.tokens + self.rate() * passed).min(self.capacity());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn bucket(per_second: f64, ramp_s: u64) -> (Bucket, Instant) {
        let now = Instant::now();
        (Bucket::new(Settings { per_second, ramp: Duration::from_secs(ramp_s) }, now), now)
    }

    /// Sends all that may leave for so long; how many.
    fn drain(bucket: &mut Bucket, now: &mut Instant, length: Duration) -> u64 {
        let (end, mut sent) = (*now + length, 0);
        while *now < end {
            while bucket.is_ready(*now) {
                bucket.tokens -= 1.0;
                sent += 1;
            }
            *now = bucket.next().max(*now + MS);
        }
        sent
    }

    #[test]
    fn from_silence_to_the_full_rate_takes_the_ramp_and_silence_cools() {
        let (mut bucket, mut now) = bucket(10_000.0, 60);
        let second = Duration::from_secs(1);
        let first = drain(&mut bucket, &mut now, second);
        assert!((100..700).contains(&first), "{first}");
        let thirtieth = (0..30).map(|_| drain(&mut bucket, &mut now, second)).last().unwrap();
        assert!((4_500..6_000).contains(&thirtieth), "{thirtieth}");
        let sixtieth = (0..32).map(|_| drain(&mut bucket, &mut now, second)).last().unwrap();
        assert!((9_900..=10_100).contains(&sixtieth), "{sixtieth}");
        now += Duration::from_secs(30);
        assert!(bucket.is_ready(now) && (4_500.0..6_000.0).contains(&bucket.rate()), "{}", bucket.rate());
        now += Duration::from_mins(1);
        assert!(bucket.is_ready(now) && bucket.rate() < 200.0, "{}", bucket.rate());
    }

    #[test]
    fn few_requests_never_wait() {
        let (mut bucket, mut now) = bucket(10_000.0, 60);
        for _ in 0..10_000 {
            now += 10 * MS;
            assert!(bucket.is_ready(now));
            bucket.tokens -= 1.0;
        }
    }

    #[test]
    fn what_left_too_much_is_waited_for() {
        let (mut bucket, mut now) = bucket(1_000.0, 0);
        drain(&mut bucket, &mut now, 100 * MS);
        bucket.tokens = -100.0;
        assert!(!bucket.is_ready(now) && bucket.next() >= now + 100 * MS);
        assert!(bucket.is_ready(now + 105 * MS));
    }

    /// Google's rule: so many a minute, refilled wholly a minute after the first was taken; what comes after that is refused.
    struct Quota {
        per_minute: u64,
        left: u64,
        until: Option<Instant>,
    }

    impl Quota {
        /// `Err`: how long it is used up.
        fn take(&mut self, now: Instant) -> Result<(), Duration> {
            if self.until.is_none_or(|until| now >= until) {
                (self.left, self.until) = (self.per_minute, Some(now + Duration::from_mins(1)));
            }
            self.left = self.left.checked_sub(1).ok_or_else(|| self.until.unwrap() - now)?;
            Ok(())
        }
    }

    /// A campaign without end against a quota, for so many minutes after ten to learn; accepted per minute, and refused of all.
    /// `flying` requests leave before the first refusal is heard of.
    fn campaign(configured: f64, quota: u64, flying: u64, minutes: u64) -> (f64, f64) {
        let (mut bucket, start) = bucket(configured, 60);
        let mut quota = Quota { per_minute: quota, left: 0, until: None };
        let learned = start + Duration::from_mins(10);
        let end = learned + Duration::from_mins(minutes);
        let (mut now, mut accepted, mut refused) = (start, 0_u64, 0_u64);
        while now < end {
            let mut closed = None;
            while closed.is_none() && bucket.is_ready(now) {
                bucket.tokens -= 1.0;
                match quota.take(now) {
                    Ok(()) => accepted += u64::from(now >= learned),
                    Err(wait) => closed = Some(wait),
                }
            }
            if let Some(wait) = closed {
                refused += if now >= learned { flying } else { 0 };
                bucket.exceeded(wait, now);
                now += wait; // the gate is closed until then
            }
            now = bucket.next().max(now + MS);
        }
        (accepted as f64 / minutes as f64, refused as f64 / (accepted + refused) as f64)
    }

    #[test]
    fn a_limit_is_used_to_nine_tenths_and_hardly_ever_exceeded() {
        for (configured, quota) in [(1_000.0, 60_000), (1_000.0, 30_000), (500.0, 30_000), (1_000.0, 6_000)] {
            let (per_minute, refused) = campaign(configured, quota, 50, 30);
            assert!(per_minute >= 0.9 * quota as f64, "{configured} of {quota}: {per_minute} a minute");
            assert!(refused < 0.02, "{configured} of {quota}: {refused} refused");
        }
    }

    #[test]
    fn the_news_of_one_pause_counts_once_however_many_bring_it() {
        let (mut bucket, now) = bucket(1_000.0, 0);
        let wait = Duration::from_secs(30);
        for ms in 0..20 {
            bucket.exceeded(wait, now + ms * MS);
        }
        assert!((849.0..851.0).contains(&bucket.rate()), "{}", bucket.rate());
        bucket.exceeded(Duration::ZERO, now + wait);
        bucket.exceeded(Duration::ZERO, now + wait + MS);
        assert!((780.0..790.0).contains(&bucket.rate()), "another one: {}", bucket.rate());
        bucket.exceeded(Duration::MAX, now + 2 * wait);
        assert!(bucket.rate() < 750.0, "and another one: {}", bucket.rate());
    }

    /// As after a restart in the middle of a campaign: the one before has used up the minute.
    #[test]
    fn who_has_sent_next_to_nothing_has_used_up_no_limit() {
        let (mut bucket, mut now) = bucket(10_000.0, 60);
        drain(&mut bucket, &mut now, Duration::from_secs(1));
        bucket.exceeded(Duration::from_mins(1), now);
        now += Duration::from_mins(1);
        let sent: Vec<_> = (0..60).map(|_| drain(&mut bucket, &mut now, Duration::from_secs(1))).collect();
        assert!(sent[0] < 700, "it begins as low as before: {}", sent[0]);
        assert!(sent[59] > 9_000, "and takes the ramp: {}", sent[59]);
    }

    #[test]
    fn retries_alone_warm_it_too() {
        let (mut bucket, mut now) = bucket(10_000.0, 60);
        for _ in 0..60_000 {
            while bucket.has_credit(now) {
                bucket.tokens -= 1.0;
            }
            now += MS;
        }
        assert!(bucket.rate() > 9_000.0, "{}", bucket.rate());
    }

    #[test]
    fn what_waited_elsewhere_is_a_burst_ahead_at_most() {
        let (mut bucket, now) = bucket(1_000.0, 0);
        drain(&mut bucket, &mut now.clone(), MS);
        let retries = (0..10_000).take_while(|_| {
            let leaves = bucket.has_credit(now + MS);
            bucket.tokens -= if leaves { 1.0 } else { 0.0 };
            leaves
        });
        assert!((500..=502).contains(&retries.count()));
        assert!(!bucket.is_ready(now + 400 * MS) && bucket.is_ready(now + 510 * MS));
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_the_rate_and_one_burst(
            per_second in 1.0_f64..20_000.0, gaps in proptest::collection::vec(0_u64..2_000, 1..60),
        ) {
            let (mut bucket, start) = bucket(per_second, 0);
            let (mut now, mut sent) = (start, 0_u64);
            for gap in gaps {
                now += Duration::from_millis(gap);
                while bucket.is_ready(now) {
                    bucket.tokens -= 1.0;
                    sent += 1;
                }
                let allowed = per_second * (now - start).as_secs_f64() + bucket.capacity() + 1.0;
                prop_assert!((sent as f64) <= allowed, "{} of {}", sent, allowed);
            }
        }
    }
}
