//! How many attempts of an app may be under way, learned from how long answers take. The policy is pure, time is an argument;
//! [`Concurrency`] is its one lock, and shares the limit among the senders.
//!
//! More requests under way than the provider and this machine work at do not get answered sooner: they stand in a queue
//! somewhere, where an urgent push stands behind them, and their memory falls out of the caches. So the limit grows while
//! answers come as soon as they do with few requests under way, and shrinks when they take much longer: a delay-based limit, as in TCP
//! Vegas and BBR. What "as soon" means, the reference, is measured anew from time to time, with a quarter of the requests; all
//! that wait for one provider do so at the same moments by the clock on the wall, or each would measure the others' queue. An app
//! whose requests are not answered falls back to the least, and leaves the connections to those that it shares them with.
//! What delays cannot tell, how apps share what they all wait for, is decided by weight (`rivals`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use self::learned::{Learned, REFERENCE};
pub use self::rivals::{Rival, Rivals};
use crate::queue::Share;

mod busy;
mod learned;
mod rivals;
pub mod settings;

/// The limit of an app, shared by its senders.
#[derive(Debug)]
pub struct Concurrency {
    learned: Mutex<Learned>,
    limit: AtomicUsize,
    /// Senders that have messages of the app.
    senders: AtomicUsize,
    lifted: AtomicBool,
    /// How often the app was paused.
    pauses: AtomicU64,
    share: Option<Arc<Share>>,
    rival: Option<Rival>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Concurrency::new(None, None)
    }
}

impl Concurrency {
    /// The least, for an app with this share of what is lent, which follows the limit; `None`: lent whatever may be under way.
    /// `rival`: what it is beside the other apps of the process, if there are any.
    pub fn new(share: Option<Arc<Share>>, rival: Option<Rival>) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let into_slot = Duration::from_millis((since_epoch.as_millis() % REFERENCE.as_millis()) as u64);
        let learned = Learned::new(Instant::now(), REFERENCE.saturating_sub(into_slot));
        let limit = learned.limit();
        if let Some(share) = &share {
            share.set_reach(limit);
        }
        Concurrency {
            learned: Mutex::new(learned),
            limit: limit.into(),
            senders: AtomicUsize::new(0),
            lifted: AtomicBool::new(false),
            pauses: AtomicU64::new(0),
            share,
            rival,
        }
    }

    /// A sender has messages of the app.
    pub fn join(&self) {
        self.senders.fetch_add(1, Relaxed);
    }

    /// It has none any more.
    pub fn leave(&self) {
        self.senders.fetch_sub(1, Relaxed);
    }

    /// Whether the app is paused. Then what begins goes back at once, or is a probe, and neither is to stand behind requests that nobody
    /// answers; nor is what comes after the pause.
    pub fn lift(&self, is_paused: bool) {
        if self.lifted.swap(is_paused, Relaxed) && !is_paused {
            self.pauses.fetch_add(1, Relaxed);
        }
    }

    /// How often the app was paused and goes on. What began before that counts no more.
    pub fn pauses(&self) -> u64 {
        self.pauses.load(Relaxed)
    }

    /// Whether the app is paused now.
    pub fn is_lifted(&self) -> bool {
        self.lifted.load(Relaxed)
    }

    /// Most attempts that may be under way on one sender: its part.
    pub fn part(&self) -> usize {
        if self.is_lifted() {
            return usize::MAX / 2;
        }
        (self.limit.load(Relaxed) / self.senders.load(Relaxed).max(1)).max(1)
    }

    /// An attempt did not begin because of the limit.
    pub fn press(&self, now: Instant) {
        self.change(|learned| learned.press(now));
    }

    /// An answer came, so long after its request.
    pub fn answered(&self, round_trip: Duration, now: Instant) {
        let part = |rate| self.rival.as_ref()?.part(rate, now);
        self.change(|learned| learned.answered(round_trip, now, part));
    }

    /// Lets something happen that says whether the limit is another then.
    fn change(&self, what: impl FnOnce(&mut Learned) -> bool) {
        let mut learned = self.learned.lock();
        if what(&mut learned) {
            self.limit.store(learned.limit(), Relaxed);
            if let Some(share) = &self.share {
                share.set_reach(learned.limit());
            }
        }
    }

    /// Another limit than was learned.
    #[cfg(test)]
    pub(crate) fn set(&self, limit: usize) {
        self.limit.store(limit, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::learned::LEAST;
    use super::*;

    #[test]
    fn senders_share_the_limit() {
        let concurrency = Concurrency::default();
        assert_eq!(concurrency.part(), LEAST);
        (0..3).for_each(|_| concurrency.join());
        assert_eq!(concurrency.part(), LEAST / 3);
        (0..2).for_each(|_| concurrency.leave());
        assert_eq!(concurrency.part(), LEAST);
    }

    #[test]
    fn while_the_app_is_paused_nothing_stands_behind_what_is_not_answered() {
        let concurrency = Concurrency::default();
        concurrency.lift(true);
        assert!(concurrency.part() > 1_000_000);
        concurrency.lift(false);
        assert_eq!(concurrency.part(), LEAST);
    }
}
