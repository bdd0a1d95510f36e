//! What a worker says of itself when its admin server is asked.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::{self, Page, Reason, Site};
use crate::handlers::Provider;
use crate::jobs::Jobs;
use crate::levers::Levers;
use crate::observer::QueueObserver;
use crate::pulse::Silence;
use crate::queue::InFlight;
use crate::reporters::Reporters;
use crate::shutdown::Shutdown;

/// Those whom it asks.
pub(super) struct Status {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) reporters: Arc<Reporters>,
    /// With the books.
    pub(super) in_flight: Arc<InFlight>,
    pub(super) observer: Arc<QueueObserver>,
    pub(super) levers: Levers,
    pub(super) jobs: Arc<Jobs>,
    /// With the signs of life.
    pub(super) shutdown: Shutdown,
}

impl Status {
    fn feedback(&self) -> Option<Reason> {
        let backlog = self.reporters.backlog();
        let seconds = backlog.stalled_for.as_secs_f64();
        let detail = if backlog.stalled_for > Duration::ZERO {
            format!("the feedback broker has acknowledged nothing for {seconds:.0} s, {} records wait", backlog.waiting)
        } else if backlog.refused_topics > 0 {
            format!("{} feedback topics are missing or may not be written", backlog.refused_topics)
        } else {
            return None;
        };
        Some(Reason::new("feedback", detail))
    }

    fn credentials(&self) -> Option<Reason> {
        let lacking = self.provider.without_credentials();
        let detail = || format!("no access token for {}", lacking.join(", "));
        (!lacking.is_empty()).then(|| Reason::new("credentials", detail()))
    }

    fn pools(&self, page: &mut Page) {
        let (pools, mut named) = (self.provider.pools(), Vec::new());
        for app in self.provider.apps() {
            let key = self.provider.pool_key(&app);
            if named.contains(&key) {
                continue;
            }
            let of_key: Vec<_> = pools.iter().filter(|(of, _)| *of == key).map(|(_, stats)| *stats).collect();
            admin::pools::write(page, self.provider.platform().0, &app, &of_key);
            named.push(key);
        }
    }
}

impl Site for Status {
    fn standing_still(&self) -> Vec<Silence> {
        self.shutdown.standing_still()
    }

    fn not_ready(&self) -> Vec<Reason> {
        let draining = self.shutdown.has_begun().then(|| Reason::new("draining", "the worker is stopping"));
        [
            draining,
            self.observer.group().why_not().map(|why| Reason::new("group", why)),
            self.credentials(),
            self.feedback(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn measure(&self, page: &mut Page) {
        admin::books::write(page, &self.in_flight.tally().sheets());
        self.pools(page);
        admin::standing::write(page, &self.observer.last_standing());
        admin::told::write(page, &self.reporters.stats().told().readings());
        admin::write_itself(page, self.not_ready().is_empty());
    }

    fn levers(&self) -> Option<&Levers> {
        Some(&self.levers)
    }

    fn jobs(&self) -> Option<&Jobs> {
        Some(&self.jobs)
    }
}
