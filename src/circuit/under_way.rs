//! How many attempts of an app are under way, and how many of them began before the app's last pause. What has no answer from
//! before may have none for long; it is not to take the places of what comes after the pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::queue::Share;

/// Leave to make one attempt; to be handed back with [`super::Circuit::ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The app sends; after so many pauses.
    Ordinary(u64),
    /// The app is paused, and this attempt finds out whether it must be; in which of its pauses.
    Probe(u64),
}

#[derive(Debug)]
pub(super) struct UnderWay {
    all: AtomicUsize,
    stale: AtomicUsize,
    share: Arc<Share>,
}

impl UnderWay {
    pub(super) fn new(share: Arc<Share>) -> Self {
        UnderWay { all: AtomicUsize::new(0), stale: AtomicUsize::new(0), share }
    }

    pub(super) fn enter(&self) {
        self.all.fetch_add(1, Relaxed);
    }

    /// One less; whether it began before the last pause was over.
    pub(super) fn leave(&self, is_old: bool) {
        less(&self.all);
        if is_old && self.stale.load(Relaxed) > 0 {
            self.share.set_stale(less(&self.stale));
        }
    }

    /// The app goes on: those of now count no more.
    pub(super) fn grow_stale(&self) {
        self.set(self.all.load(Relaxed));
    }

    /// The app is paused: all count.
    pub(super) fn count_all(&self) {
        self.set(0);
    }

    fn set(&self, stale: usize) {
        self.stale.store(stale, Relaxed);
        self.share.set_stale(stale);
    }
}

/// Counts down, not below nothing; what is left.
fn less(counter: &AtomicUsize) -> usize {
    let before = counter.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1));
    before.map_or(0, |before| before - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::InFlight;

    #[test]
    fn what_was_under_way_before_a_pause_ended_is_let_off_until_it_ends() {
        let share = InFlight::new(100, 1_000).share("game");
        let under_way = UnderWay::new(share.clone());
        (0..3).for_each(|_| under_way.enter());
        under_way.leave(false);
        under_way.grow_stale();
        under_way.enter();
        under_way.leave(false);
        assert_eq!(share.stale(), 2, "a new one's end changes nothing");
        under_way.leave(true);
        assert_eq!(share.stale(), 1);
        (0..3).for_each(|_| under_way.leave(true));
        assert_eq!(share.stale(), 0);
        under_way.enter();
        under_way.grow_stale();
        under_way.count_all();
        assert_eq!(share.stale(), 0);
    }
}
