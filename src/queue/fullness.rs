//! Whether a partition's map of resolved offsets is full, told once when it fills up and once when there is room again. At the
//! limit the messages that end make room for about as many: that is no change worth a line.

use super::map;
use super::offsets::Ledger;
use crate::message::Origin;

/// With so many bytes there is room again.
const ROOM: usize = map::CAPACITY / 4 * 3;

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    is_full: bool,
}

impl Fullness {
    /// Whether the map refuses one more message. `goes_back`: as [`Ledger::map_is_full`] is told.
    pub(super) fn refuses(&mut self, origin: &Origin, ledger: &Ledger, goes_back: bool) -> bool {
        let refuses = ledger.map_is_full(goes_back);
        if refuses && !self.is_full {
            let (in_flight, position) = (ledger.in_flight(), ledger.position());
            tracing::warn!(
                topic = %origin.topic, partition = origin.partition, in_flight, position,
                "the map of resolved offsets is full: nothing more is read from this partition until stragglers have their outcome; the others go on"
            );
            self.is_full = true;
        }
        refuses
    }

    /// Whether that it is full was told last.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether it is full still, as far as that was told.
    pub(super) fn look(&mut self, origin: &Origin, ledger: &Ledger) -> bool {
        if self.is_full && ledger.map_cost() < ROOM {
            tracing::info!(topic = %origin.topic, partition = origin.partition, "the map of resolved offsets has room again");
            self.is_full = false;
        }
        self.is_full
    }
}
