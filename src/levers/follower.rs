//! Obeys the orders in one process.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::orders::{Given, Orders, Paused, job_key};
use crate::control::{Control, NotRead, State};
use crate::jobs::Jobs;
use crate::queue::InFlight;

/// Puts the orders that concern a process into force, at its start and whenever they change.
pub struct Follower {
    /// The process's platform, or [`super::orders::LISTENER`].
    platform: &'static str,
    control: Control,
    in_flight: Arc<InFlight>,
    jobs: Arc<Jobs>,
    obeyed: Mutex<Orders>,
}

impl Follower {
    /// For a process that lends from `in_flight` and asks `jobs` before it sends.
    pub fn new(platform: &'static str, control: Control, in_flight: Arc<InFlight>, jobs: Arc<Jobs>) -> Arc<Self> {
        Arc::new(Follower { platform, control, in_flight, jobs, obeyed: Mutex::default() })
    }

    /// To be called before the first message is lent: waits, at most `limit`, until the orders are known, and obeys them.
    pub async fn begin(&self, limit: Duration) {
        match self.control.read(limit).await {
            Ok(()) => self.obey(),
            // Without a topic there can be no orders; that there is none has been told.
            Err(NotRead::Missing(_)) => {}
            Err(error) => {
                tracing::warn!(%error, "pauses and stopped jobs are not known and not obeyed until it can be read");
            }
        }
    }

    /// Obeys whatever is ordered, until the end.
    pub async fn follow(self: Arc<Self>, end: CancellationToken) {
        let mut view = self.control.watch();
        while let Some(Ok(())) = end.run_until_cancelled(view.changed()).await {
            view.borrow_and_update();
            self.obey();
        }
    }

    fn obey(&self) {
        let state = self.control.state();
        let mut orders = Orders::of(&state);
        orders.pauses.retain(|(paused, _)| paused.platform == self.platform);
        let before = std::mem::replace(&mut *self.obeyed.lock(), orders.clone());
        if orders == before {
            return;
        }
        self.in_flight.hold_back(orders.pauses.iter().map(|(paused, _)| (paused.app.clone(), paused.lane)).collect());
        self.jobs.set_stopped(orders.jobs.iter().map(|(id, _)| id.as_str().into()));
        self.tell(&before, &orders, &state);
    }

    fn tell(&self, before: &Orders, now: &Orders, state: &State) {
        let platform = self.platform;
        for (Paused { app, lane, .. }, given) in new(&before.pauses, &now.pauses) {
            let (lane, Given { by, why, .. }) = (lane.as_str(), given);
            tracing::warn!(
                app,
                platform,
                lane,
                by,
                why,
                "paused by order: nothing more is lent, the backlog stays in Kafka"
            );
        }
        for (paused, _) in new(&now.pauses, &before.pauses) {
            let (Paused { app, lane, .. }, by) = (paused, state.ended_by(&paused.key()));
            tracing::warn!(app, platform, lane = lane.as_str(), by, "resumed by order");
        }
        for (job, Given { by, why, .. }) in new(&before.jobs, &now.jobs) {
            tracing::warn!(job, by, why, "the job is stopped by order: its messages are cancelled, not sent");
        }
        for (job, _) in new(&now.jobs, &before.jobs) {
            let by = state.ended_by(&job_key(job));
            tracing::warn!(job, by, "the job goes on by order: its messages are sent again");
        }
    }
}

/// What is ordered in the second and not in the first.
fn new<'a, T: PartialEq>(before: &[(T, Given)], now: &'a [(T, Given)]) -> impl Iterator<Item = &'a (T, Given)> {
    now.iter().filter(|(what, _)| !before.iter().any(|(known, _)| known == what))
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("platform", &self.platform)
            .field("obeyed", &self.obeyed.lock())
            .finish_non_exhaustive()
    }
}
