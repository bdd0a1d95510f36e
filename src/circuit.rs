//! One app's way to its provider, shared by all sender threads: whether its messages may be attempted now, and what the
//! others' attempts say about one that failed.
//!
//! Joins three pure policies to the world: the breaker (its clock, its allowance for the queue, its log lines), the share of
//! retries, and who is charged for a failure. While all is well an attempt costs two additions here and no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::concurrency::{Concurrency, Rival};
use crate::handlers::breaker::{Breaker, Change, Position, Settings, Signal};
use crate::handlers::pace::Pace;
use crate::handlers::retry::{RetryShare, ShareSettings};
use crate::message::Platform;
use crate::outcome::{Attempt, Refusal, Verdict};
use crate::queue::in_flight::Share;
use crate::reporters::StatsReporter as _;
use crate::reporters::stats::{Metric, Stats};

mod mark;
mod told;
mod under_way;

pub use mark::Mark;
pub use under_way::Pass;
use under_way::UnderWay;

/// See the module.
#[derive(Debug)]
pub struct Circuit {
    app: Arc<str>,
    platform: Platform,
    share: Arc<Share>,
    /// How fast its requests may leave, with those who share its limit.
    pace: Option<Arc<Pace>>,
    /// How many of its attempts may be under way.
    concurrency: Arc<Concurrency>,
    stats: Stats,
    first_attempts: AtomicU64,
    under_way: UnderWay,
    good: AtomicU64,
    bad: AtomicU64,
    open: AtomicBool,
    /// How often the breaker has opened.
    round: AtomicU64,
    /// How often what failed everything was mended: credentials were replaced, or the provider answers again.
    mended: AtomicU64,
    /// Told of failures: the breaker is to look at the clock.
    failed: Arc<Notify>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    breaker: Breaker,
    retries: RetryShare,
    /// Successes that the breaker knows of.
    told: u64,
    /// Why the last attempt failed: key, and words for people.
    cause: Option<(&'static str, String)>,
    recovered: bool,
}

impl Circuit {
    /// A closed one for `app`, which holds `share` of what is in flight.
    pub fn new(
        app: Arc<str>,
        platform: Platform,
        share: Arc<Share>,
        breaker: Settings,
        retries: ShareSettings,
        stats: Stats,
    ) -> Self {
        let now = Instant::now();
        let inner = Inner {
            breaker: Breaker::new(breaker, share.capacity(), now),
            retries: RetryShare::new(retries, now),
            told: 0,
            cause: None,
            recovered: false,
        };
        let under_way = UnderWay::new(share.clone());
        let concurrency = Arc::new(Concurrency::new(Some(share.clone()), None));
        Circuit {
            app,
            platform,
            share,
            pace: None,
            concurrency,
            stats,
            first_attempts: AtomicU64::new(0),
            under_way,
            good: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            open: AtomicBool::new(false),
            round: AtomicU64::new(0),
            mended: AtomicU64::new(0),
            failed: Arc::default(),
            inner: Mutex::new(inner),
        }
    }

    /// The same beside others, with the pace of its requests. `failed` is told of failures.
    #[must_use]
    pub fn beside(self, rival: Rival, pace: Option<Arc<Pace>>, failed: Arc<Notify>) -> Self {
        let concurrency = Arc::new(Concurrency::new(Some(self.share.clone()), Some(rival)));
        Circuit { pace, concurrency, failed, ..self }
    }

    /// How fast its requests may leave, with those who share its limit; `None`: as fast as they can.
    pub fn pace(&self) -> Option<&Arc<Pace>> {
        self.pace.as_ref()
    }

    /// How many of its attempts may be under way.
    pub fn concurrency(&self) -> &Arc<Concurrency> {
        &self.concurrency
    }

    /// Leave for a message's first attempt; `None` while the app is paused: the queue keeps the message.
    pub fn admit(&self) -> Option<Pass> {
        let pass = if self.is_open() { self.probe()? } else { self.ordinary() };
        self.first_attempts.fetch_add(1, Relaxed);
        Some(pass)
    }

    /// Leave for a later attempt of a message; `None` while the app is paused, as many as it may have on their way are, its pace
    /// is far exceeded, or its share of retries is used up: the message waits on, and nothing is charged.
    pub fn admit_again(&self, now: Instant) -> Option<Pass> {
        if self.is_open() {
            return self.probe();
        }
        if self.share.is_allowed() && self.pace.as_ref().is_none_or(|pace| pace.has_credit(now)) {
            let is_free = || self.pace.as_ref().is_none_or(|pace| pace.is_ready(now));
            if self.inner.lock().retries.take(self.first_attempts.load(Relaxed), now, is_free) {
                return Some(self.ordinary());
            }
        }
        self.stats.count(Metric::RetriesDelayed, &self.tags(), 1);
        None
    }

    fn ordinary(&self) -> Pass {
        self.under_way.enter();
        Pass::Ordinary(self.round())
    }

    fn probe(&self) -> Option<Pass> {
        let mut inner = self.inner.lock();
        let taken = inner.breaker.take_probe();
        // At once, or the queue would lend, and get back, what the next look at the clock forbids.
        self.share.set_allowance(inner.breaker.allowance(self.share.level()));
        drop(inner);
        taken.then(|| {
            self.under_way.enter();
            self.stats.count(Metric::BreakerProbes, &self.tags(), 1);
            Pass::Probe(self.round())
        })
    }

    /// Whether the app is paused, and no push has taken the probe that may be sent for a while.
    pub fn wants_probe(&self, now: Instant) -> bool {
        self.is_open() && self.inner.lock().breaker.wants_probe(now)
    }

    /// Whether an attempt that has leave may still send its request: the app was not paused meanwhile.
    pub fn still(&self, pass: Pass) -> bool {
        matches!(pass, Pass::Probe(_)) || !self.is_open()
    }

    /// Whether the app is paused.
    pub fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// In which of its pauses the app is, or was last.
    pub fn round(&self) -> u64 {
        self.round.load(Relaxed)
    }

    /// Its credentials, or what it trusts, were replaced: if the app is paused, a probe finds out at once whether it must be.
    pub fn renewed(&self, now: Instant) {
        self.mended.fetch_add(1, Relaxed);
        let (level, mut inner) = (self.share.level(), self.inner.lock());
        inner.breaker.retry_now(now);
        self.settle(inner, None, level);
    }

    /// An attempt came to its end.
    pub fn ended(&self, pass: Pass, attempt: &Attempt) {
        self.under_way.leave(pass != Pass::Ordinary(self.round()));
        let signal = Signal::of(attempt);
        if signal == Signal::Good {
            self.good.fetch_add(1, Relaxed);
        } else if signal.is_fault() {
            self.bad.fetch_add(1, Relaxed);
        }
        if matches!(pass, Pass::Ordinary(_)) && !signal.is_bad() || self.is_of_the_past(pass, signal) {
            return;
        }
        self.failed.notify_one();
        let (now, level) = (Instant::now(), self.share.level());
        let mut inner = self.inner.lock();
        self.tell_successes(&mut inner, now);
        if let Verdict::Retry(refusal) | Verdict::Hold(refusal) = &attempt.verdict {
            inner.note(refusal);
        }
        let change = match pass {
            Pass::Probe(round) if round == self.round() => inner.breaker.probed(signal, level, now),
            _ => inner.breaker.attempted(signal, level, now),
        };
        self.settle(inner, change, level);
        // Once for all that were under way when the limit was found used up.
        if let (Signal::Quota { wait }, Some(Change::Opened), Some(pace)) = (signal, change, &self.pace) {
            pace.exceeded(wait, now);
        }
    }

    /// Whether it is a failure of an attempt that began before the app went on: what failed it is over. A quota is not.
    fn is_of_the_past(&self, pass: Pass, signal: Signal) -> bool {
        let is_old = match pass {
            Pass::Ordinary(round) => round < self.round(),
            Pass::Probe(_) => true,
        };
        is_old && !self.is_open() && matches!(signal, Signal::Fault { .. } | Signal::Device)
    }

    /// Looks at the clock. Whether the provider was found to answer again since the last look.
    pub fn tick(&self, now: Instant) -> bool {
        let level = self.share.level();
        let mut inner = self.inner.lock();
        self.tell_successes(&mut inner, now);
        let change = inner.breaker.tick(level, now);
        let recovered = std::mem::take(&mut inner.recovered);
        self.settle(inner, change, level);
        recovered
    }

    /// Where the breaker stands.
    pub fn position(&self) -> Position {
        self.inner.lock().breaker.position()
    }

    /// When to look at the clock again, unless something fails before.
    pub fn look_again(&self) -> Duration {
        self.inner.lock().breaker.look_again()
    }

    fn tell_successes(&self, inner: &mut Inner, now: Instant) {
        let good = self.good.load(Relaxed);
        let new = good.saturating_sub(inner.told);
        inner.told = good;
        inner.breaker.succeeded(new, now);
    }

    /// Puts into force what the breaker says, and tells of a change when the lock is free again.
    fn settle(&self, mut inner: MutexGuard<'_, Inner>, change: Option<Change>, level: usize) {
        match change {
            Some(Change::Opened) => {
                self.round.fetch_add(1, Relaxed);
                self.under_way.count_all();
            }
            Some(Change::Recovering) => {
                self.mended.fetch_add(1, Relaxed);
                self.under_way.grow_stale();
            }
            _ => {}
        }
        let is_open = inner.breaker.position() == Position::Open;
        self.open.store(is_open, Relaxed);
        self.concurrency.lift(is_open);
        self.share.set_allowance(inner.breaker.allowance(level));
        if let Some(change) = change {
            inner.recovered |= change == Change::Recovering;
            let cause = inner.cause.clone();
            drop(inner);
            told::tell(&self.stats, self.tags(), change, cause.as_ref());
        }
    }

    fn tags(&self) -> [(&'static str, &str); 2] {
        [("platform", self.platform.0), ("game", &self.app)]
    }
}

impl Inner {
    /// Remembers why an attempt failed. In an outage the words repeat: they are copied when the key is another one.
    fn note(&mut self, refusal: &Refusal) {
        if self.cause.as_ref().is_none_or(|(key, _)| *key != refusal.key) {
            self.cause = Some((refusal.key, refusal.description.to_string()));
        }
    }
}

#[cfg(test)]
mod tests;
