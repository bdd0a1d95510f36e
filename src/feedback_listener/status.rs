//! What a listener says of itself when its admin server is asked.

use std::sync::Arc;

use crate::admin::view::{AppView, valve};
use crate::admin::{self, Page, Reason, Site, View};
use crate::levers::Levers;
use crate::message::Platform;
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

    fn view(&self) -> View {
        let told = self.stats.told().readings();
        let sheets = self.in_flight.tally().sheets();
        let mut known: Vec<_> = sheets.iter().map(|(key, _)| (key.app.clone(), key.platform)).collect();
        known.dedup();
        let of = |(app, platform): (Arc<str>, Platform)| {
            let valve = valve(&told, platform, &app);
            AppView { app, platform, breaker: None, valve, usage: None }
        };
        let apps: Vec<_> = known.into_iter().map(of).collect();
        let mut platforms: Vec<_> = apps.iter().map(|app| app.platform).collect();
        platforms.sort_unstable();
        platforms.dedup();
        let standing = self.observer.last_standing();
        View { program: "listener", platforms, sheets, standing, apps, pools: Vec::new() }
    }

    fn levers(&self) -> Option<&Levers> {
        Some(&self.levers)
    }
}
