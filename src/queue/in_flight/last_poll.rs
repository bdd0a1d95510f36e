//! Whether we may still believe that what we hold is ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// No doubt: see [`LastPoll::doubt_ms`].
const NONE: u64 = u64::MAX;

/// When the queue was polled last, and how long that lets us believe that what we hold is ours. When a member has not
/// been heard of for the session timeout, its partitions have a new owner, who sends what we hold.
///
/// A process that was stopped and goes on polls again before it hears that it was expelled. So a poll after so long a
/// silence proves nothing: it raises a doubt, which ends when the group has accepted a commit that was asked for since.
#[derive(Debug)]
pub struct LastPoll {
    origin: Instant,
    session_timeout_ms: u64,
    /// Milliseconds from `origin`; never goes back.
    at_ms: AtomicU64,
    /// When the doubt was raised, in the same; [`NONE`] when there is none.
    doubt_ms: AtomicU64,
}

impl LastPoll {
    /// Polled now.
    pub fn new(session_timeout: Duration, now: Instant) -> Arc<Self> {
        let session_timeout_ms = u64::try_from(session_timeout.as_millis()).unwrap_or(u64::MAX);
        Arc::new(LastPoll { origin: now, session_timeout_ms, at_ms: AtomicU64::new(0), doubt_ms: AtomicU64::new(NONE) })
    }

    /// Notes a poll; the silence before it when that was too long.
    pub fn touch(&self, now: Instant) -> Option<Duration> {
        let now_ms = self.since_origin(now);
        let silence_ms = now_ms.saturating_sub(self.at_ms.load(Ordering::Acquire));
        let is_long = silence_ms >= self.session_timeout_ms;
        if is_long {
            // Before the poll is noted: whoever sees the one sees the other.
            self.doubt_ms.store(now_ms, Ordering::Release);
        }
        self.at_ms.fetch_max(now_ms, Ordering::AcqRel);
        is_long.then(|| Duration::from_millis(silence_ms))
    }

    /// The group has accepted a commit that was asked for at this moment; whether that ends a doubt.
    pub fn vouch(&self, asked_at: Instant) -> bool {
        let (doubt, asked_ms) = (self.doubt_ms.load(Ordering::Acquire), self.since_origin(asked_at));
        let ends = doubt != NONE && asked_ms >= doubt;
        ends && self.doubt_ms.compare_exchange(doubt, NONE, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether there was too long a silence and no proof of membership since.
    pub fn is_in_doubt(&self) -> bool {
        self.doubt_ms.load(Ordering::Acquire) != NONE
    }

    /// Whether what we hold is ours: the last poll is younger than the session timeout, and there is no doubt.
    pub fn is_recent(&self, now: Instant) -> bool {
        let at_ms = self.at_ms.load(Ordering::Acquire);
        self.since_origin(now).saturating_sub(at_ms) < self.session_timeout_ms && !self.is_in_doubt()
    }

    fn since_origin(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(10);

    #[test]
    fn nothing_is_ours_when_the_last_poll_is_older_than_the_session() {
        let start = Instant::now();
        let last_poll = LastPoll::new(SESSION, start);
        assert!(last_poll.is_recent(start + SESSION / 2) && !last_poll.is_recent(start + SESSION));
        assert_eq!((last_poll.touch(start + SESSION / 2), last_poll.touch(start)), (None, None));
        assert!(last_poll.is_recent(start + SESSION) && !last_poll.is_recent(start + SESSION * 2));
    }

    #[test]
    fn a_poll_after_too_long_a_silence_proves_nothing() {
        let start = Instant::now();
        let last_poll = LastPoll::new(SESSION, start);
        let resumed = start + SESSION;
        assert_eq!(last_poll.touch(resumed), Some(SESSION));
        assert!(last_poll.is_in_doubt() && !last_poll.is_recent(resumed));
        assert_eq!(last_poll.touch(resumed + SESSION / 2), None);
        assert!(!last_poll.is_recent(resumed + SESSION / 2), "more polls are no proof either");
        assert!(!last_poll.vouch(start + SESSION / 2), "a commit from before the silence ended");
        assert!(last_poll.is_in_doubt());
        assert!(last_poll.vouch(resumed + SESSION / 2));
        assert!(last_poll.is_recent(resumed + SESSION / 2) && !last_poll.is_in_doubt());
        assert!(!last_poll.vouch(resumed + SESSION / 2), "there is nothing to vouch for");
    }

    #[test]
    fn a_second_silence_needs_a_proof_of_its_own() {
        let start = Instant::now();
        let last_poll = LastPoll::new(SESSION, start);
        last_poll.touch(start + SESSION);
        last_poll.touch(start + SESSION * 3);
        assert!(!last_poll.vouch(start + SESSION * 2), "asked for between the two");
        assert!(last_poll.vouch(start + SESSION * 3));
    }
}
