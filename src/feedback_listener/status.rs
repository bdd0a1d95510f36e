//! What a listener says of itself when its admin server is asked.

use std::sync::Arc;

use crate::admin::{self, Page, Reason, Site};
use crate::levers::Levers;
use crate::observer::QueueObserver;
use crate::pulse::Silence;
use crate::queue::InFlight;
use crate::reporters::stats::Stats;
use crate::shutdown::Shutdown;

/// Those whom it asks.
pub(super) struct Status {
    pub(super) stats: Stats,
    /// With the books.
    pub(super) in_flight: Arc<InFlight>,
    pub(super) observer: Arc<QueueObserver>,
    pub(super) levers: Levers,
    /// With the signs of life.
    pub(super) shutdown: Shutdown,
}

impl Site for Status {
    fn standing_still(&self) -> Vec<Silence> {
        self.shutdown.standing_still()
    }

    fn not_ready(&self) -> Vec<Reason> {
        let draining = self.shutdown.has_begun().then(|| Reason::new("draining", "the listener is stopping"));
        [draining, self.observer.group().why_not().map(|why| Reason::new("group", why))].into_iter().flatten().collect()
    }

    fn measure(&self, page: &mut Page) {
        admin::books::write(page, &self.in_flight.tally().sheets());
        admin::standing::write(page, &self.observer.last_standing());
        admin::told::write(page, &self.stats.told().readings());
        admin::write_itself(page, self.not_ready().is_empty());
    }

    fn levers(&self) -> Option<&Levers> {
        Some(&self.levers)
    }
}
