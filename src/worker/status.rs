//! What a worker says of itself when its admin server is asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::document::Breaker;
use crate::admin::view::{AppView, valve};
use crate::admin::{self, Page, Reason, Site, View};
use crate::circuit::Circuit;
use crate::handlers::Provider;
use crate::handlers::breaker::Position;
use crate::http2::Stats;
use crate::jobs::Jobs;
use crate::levers::Levers;
use crate::message::Platform;
use crate::observer::QueueObserver;
use crate::pulse::Silence;
use crate::queue::InFlight;
use crate::reporters::Reporters;
use crate::reporters::stats::told::Reading;
use crate::shutdown::Shutdown;
use crate::tally::{LaneKey, Sheet};

/// Those whom it asks.
pub(super) struct Status {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) reporters: Arc<Reporters>,
    /// With the books.
    pub(super) in_flight: Arc<InFlight>,
    pub(super) circuits: HashMap<Arc<str>, Arc<Circuit>>,
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
            format!(
                "feedback is not acknowledged for {seconds:.0} s, at all or of one topic, {} records wait",
                backlog.waiting
            )
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

    /// The pools of each credential, by its first app.
    fn pools(&self) -> Vec<(Platform, Arc<str>, Vec<Stats>)> {
        let (pools, mut keys, mut named) = (self.provider.pools(), Vec::new(), Vec::new());
        for app in self.provider.apps() {
            let key = self.provider.pool_key(&app);
            if keys.contains(&key) {
                continue;
            }
            let of_key = pools.iter().filter(|(of, _)| *of == key).map(|(_, stats)| *stats).collect();
            named.push((self.provider.platform(), app, of_key));
            keys.push(key);
        }
        named
    }

    fn app(&self, app: Arc<str>, told: &[Reading]) -> AppView {
        let platform = self.provider.platform();
        let breaker = self.circuits.get(&app).map(|circuit| match circuit.position() {
            Position::Closed => Breaker::Closed,
            Position::Limited => Breaker::Limited,
            Position::Open => Breaker::Open,
        });
        let (valve, usage) = (valve(told, platform, &app), Some(self.in_flight.usage(&app)));
        AppView { app, platform, breaker, valve, usage }
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
        for (platform, app, stats) in self.pools() {
            admin::pools::write(page, platform.0, &app, &stats);
        }
        admin::standing::write(page, &self.observer.last_standing());
        admin::told::write(page, &self.reporters.stats().told().readings());
        admin::write_itself(page, self.not_ready().is_empty());
    }

    fn view(&self) -> View {
        let told = self.reporters.stats().told().readings();
        View {
            program: "worker",
            platforms: vec![self.provider.platform()],
            sheets: self.sheets(),
            standing: self.observer.last_standing(),
            apps: self.provider.apps().into_iter().map(|app| self.app(app, &told)).collect(),
            pools: self.pools(),
        }
    }

    fn sheets(&self) -> Vec<(LaneKey, Sheet)> {
        self.in_flight.tally().sheets()
    }

    fn levers(&self) -> Option<&Levers> {
        Some(&self.levers)
    }

    fn jobs(&self) -> Option<&Jobs> {
        Some(&self.jobs)
    }
}
