//! How much of an app is worth lending: what its senders may have under way at present, and as much again, so that none of
//! them waits. What is lent beyond that comes no sooner to the provider, and is in memory meanwhile instead of in Kafka.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::message::Lane;

/// Watermarks of each lane over a sum of what senders may have under way.
#[derive(Debug, Default)]
pub(super) struct Reach {
    attempts: AtomicUsize,
    full: [AtomicBool; 2],
}

impl Reach {
    /// What one sender may have under way is another number now; 0: it begins or ends.
    pub(super) fn change(&self, from: usize, to: usize) {
        self.attempts.fetch_add(to, Relaxed);
        self.attempts.fetch_sub(from, Relaxed);
    }

    /// What all senders may have under way.
    pub(super) fn attempts(&self) -> usize {
        self.attempts.load(Relaxed)
    }

    /// Whether one more message of this lane is worth lending while so many are on their way. Not from when there are twice as many
    /// as may be under way (urgent ones: three times) until a quarter of them has ended: lent in bursts, not one by one.
    pub(super) fn has_room(&self, lane: Lane, on_way: usize) -> bool {
        let attempts = self.attempts.load(Relaxed);
        if attempts == 0 {
            return true; // nobody has said
        }
        let (most, full) = match lane {
            Lane::Single => (3 * attempts, &self.full[0]),
            Lane::Massive => (2 * attempts, &self.full[1]),
        };
        let bound = if full.load(Relaxed) { most - most / 4 } else { most };
        let has_room = on_way < bound;
        full.store(!has_room, Relaxed);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_no_sooner_stays_where_it_is_and_what_is_urgent_does_not_wait_for_a_campaign() {
        let reach = Reach::default();
        assert!(reach.has_room(Lane::Massive, usize::MAX), "without senders there is no bound");
        reach.change(0, 100);
        reach.change(0, 100);
        reach.change(100, 300);
        assert!(reach.has_room(Lane::Massive, 799));
        assert!(!reach.has_room(Lane::Massive, 800) && !reach.has_room(Lane::Massive, 600));
        assert!(reach.has_room(Lane::Single, 1_199));
        assert!(reach.has_room(Lane::Massive, 599) && reach.has_room(Lane::Massive, 700));
    }
}
