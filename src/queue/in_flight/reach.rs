//! How much of an app is worth lending: what its senders may have under way at present, and as much again, so that none of
//! them waits. What is lent beyond that comes no sooner to the provider, and is in memory meanwhile instead of in Kafka.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::message::Lane;

/// Watermarks of each lane over what may be under way.
#[derive(Debug, Default)]
pub(super) struct Reach {
    attempts: AtomicUsize,
    full: [AtomicBool; 2],
}

impl Reach {
    /// So many may be under way now.
    pub(super) fn set(&self, attempts: usize) {
        self.attempts.store(attempts, Relaxed);
    }

    /// What all senders may have under way.
    pub(super) fn attempts(&self) -> usize {
        self.attempts.load(Relaxed)
    }

    /// Whether one more message of this lane is worth lending while so many are on their way, and so many of this lane. Not from when
    /// there are twice as many as may be under way (urgent ones: three times) until a quarter of them has ended: lent in bursts,
    /// not one by one. A few of each lane always are, so that neither waits for the end of the other's backlog.
    pub(super) fn has_room(&self, lane: Lane, on_way: usize, of_lane: usize) -> bool {
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
        has_room || of_lane < attempts / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_no_sooner_stays_where_it_is_and_what_is_urgent_does_not_wait_for_a_campaign() {
        let reach = Reach::default();
        assert!(reach.has_room(Lane::Massive, usize::MAX, usize::MAX), "without senders there is no bound");
        reach.set(400);
        assert!(reach.has_room(Lane::Massive, 799, 799));
        assert!(!reach.has_room(Lane::Massive, 800, 800) && !reach.has_room(Lane::Massive, 600, 600));
        assert!(reach.has_room(Lane::Single, 1_199, 399));
        assert!(reach.has_room(Lane::Massive, 599, 599) && reach.has_room(Lane::Massive, 700, 700));
    }

    #[test]
    fn a_campaign_is_not_kept_out_by_a_backlog_of_urgent_ones() {
        let reach = Reach::default();
        reach.set(400);
        assert!(reach.has_room(Lane::Massive, 1_200, 99));
        assert!(!reach.has_room(Lane::Massive, 1_200, 100));
        assert!(reach.has_room(Lane::Single, 5_000, 99), "nor the other way");
    }
}
