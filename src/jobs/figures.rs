//! One job's numbers, counted as its messages end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::tally::End;

/// Seconds that a rate looks back.
const MINUTE: u32 = 60;

/// A job in sight. Shared by its messages.
#[derive(Debug)]
pub struct Job {
    id: Arc<str>,
    begun: Instant,
    /// When a message of it was seen last, ms since `begun`.
    seen_ms: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    delivered: u64,
    others: BTreeMap<(End, &'static str), u64>,
    /// Messages that ended in each of the last seconds: the second, and how many.
    seconds: [(u32, u32); MINUTE as usize],
}

/// What a job has come to, in this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Its name.
    pub id: String,
    /// Whether its messages are cancelled now.
    pub stopped: bool,
    /// Accepted by the provider.
    pub delivered: u64,
    /// Resolved unsent because the job was stopped.
    pub cancelled: u64,
    /// Those that were not delivered, by the reason's key in feedback records; the cancelled among them.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Messages of it that came to an end in the last minute, for each second.
    pub per_second: f64,
    /// Seconds since a message of it was seen or came to its end.
    pub idle_s: f64,
}

impl Job {
    pub(super) fn new(id: Arc<str>, now: Instant) -> Self {
        let counts = Counts { delivered: 0, others: BTreeMap::new(), seconds: [(0, 0); MINUTE as usize] };
        Job { id, begun: now, seen_ms: AtomicU64::new(0), counts: Mutex::new(counts) }
    }

    /// Its name.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// A message of it came to its end.
    pub fn ended(&self, end: End, reason: Option<&'static str>, now: Instant) {
        self.seen(now);
        let second = self.since(now).as_secs() as u32;
        let mut counts = self.counts.lock();
        match reason {
            None => counts.delivered += 1,
            Some(reason) => *counts.others.entry((end, reason)).or_default() += 1,
        }
        let slot = &mut counts.seconds[(second % MINUTE) as usize];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += 1;
    }

    pub(super) fn seen(&self, now: Instant) {
        self.seen_ms.fetch_max(self.since(now).as_millis() as u64, Relaxed);
    }

    pub(super) fn last_seen(&self) -> Instant {
        self.begun + Duration::from_millis(self.seen_ms.load(Relaxed))
    }

    pub(super) fn figures(&self, stopped: bool, now: Instant) -> Figures {
        let age = self.since(now);
        let second = age.as_secs() as u32;
        let counts = self.counts.lock();
        let recent = counts.seconds.iter().filter(|(at, _)| at + MINUTE > second).map(|(_, n)| n).sum::<u32>();
        let mut reasons: BTreeMap<&'static str, u64> = BTreeMap::new();
        for ((_, reason), n) in &counts.others {
            *reasons.entry(reason).or_default() += n;
        }
        let cancelled = counts.others.iter().filter(|((end, _), _)| *end == End::Cancelled).map(|(_, n)| n).sum();
        Figures {
            id: self.id.to_string(),
            stopped,
            delivered: counts.delivered,
            cancelled,
            reasons,
            per_second: f64::from(recent) / age.as_secs_f64().clamp(1.0, f64::from(MINUTE)),
            idle_s: now.saturating_duration_since(self.last_seen()).as_secs_f64(),
        }
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_reason_and_the_rate_forgets_after_a_minute() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let job = Job::new("j".into(), start);
        for second in 0..30 {
            job.ended(End::Delivered, None, at(second));
            job.ended(End::Delivered, None, at(second));
        }
        job.ended(End::Rejected, Some("unregistered"), at(30));
        job.ended(End::Cancelled, Some("cancelled"), at(30));
        let figures = job.figures(true, at(30));
        assert_eq!((figures.delivered, figures.cancelled, figures.idle_s), (60, 1, 0.0));
        assert_eq!(figures.reasons, [("cancelled", 1), ("unregistered", 1)].into());
        assert!((figures.per_second - 62.0 / 30.0).abs() < 0.01, "{figures:?}");
        let later = job.figures(true, at(75));
        assert!((later.per_second - 30.0 / 60.0).abs() < 0.01, "seconds 16 to 30: {later:?}");
        let latest = job.figures(false, at(500));
        assert_eq!((latest.per_second, latest.idle_s, latest.delivered), (0.0, 470.0, 60));
    }
}
