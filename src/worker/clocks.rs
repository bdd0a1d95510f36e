//! A worker's house, and what it does on the clock: gauges for statistics, the breakers' time.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::{Parts, StartError};
use crate::clock;
use crate::handlers::breaker::{LOOK, Position};
use crate::message::Platform;
use crate::reporters::StatsReporter as _;
use crate::reporters::stats::Metric;
use crate::rhythm;
use crate::shutdown::Shutdown;

/// How often gauges are told.
const GAUGES: Duration = Duration::from_secs(1);

/// The runtime of everything that is not a push.
pub(super) fn house() -> Result<Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(4).thread_name("house").enable_all();
    builder.build().map_err(|error| StartError::Machine { what: "the housekeeping runtime", error })
}

/// Tells statistics what is under way, once a second.
pub(super) async fn tell_gauges(parts: Parts, shutdown: Shutdown) {
    let (platform, token) = (parts.provider.platform(), shutdown.token());
    while tokio::select! { () = rhythm::strike(GAUGES) => true, () = token.cancelled() => false } {
        parts.reporters.publish();
        parts.reporters.stats().gauge(Metric::ClockAheadSeconds, &[], clock::ahead_s());
        in_flight(&parts, platform);
    }
}

/// Lets the breakers look at the clock, and tells the provider when it was found to answer again.
pub(super) async fn keep_breakers(parts: Parts, shutdown: Shutdown) {
    let token = shutdown.token();
    let mut look_again = LOOK;
    while tokio::select! {
        () = rhythm::strike(look_again) => true,
        () = parts.failed.notified(), if look_again > LOOK => true,
        () = token.cancelled() => false,
    } {
        for (app, circuit) in &parts.circuits {
            if circuit.tick(Instant::now()) {
                parts.provider.reached(app);
            }
        }
        look_again = parts.circuits.values().map(|circuit| circuit.look_again()).min().unwrap_or(GAUGES);
    }
}

fn in_flight(parts: &Parts, platform: Platform) {
    let stats = parts.reporters.stats();
    for app in parts.provider.apps() {
        let usage = parts.in_flight.usage(&app);
        let tags = [("platform", platform.0), ("game", &*app)];
        stats.gauge(Metric::InFlight, &tags, usage.messages as f64);
        stats.gauge(Metric::RetryWaiting, &tags, usage.waiting as f64);
        stats.gauge(Metric::ConcurrencyLimit, &tags, parts.in_flight.share(&app).reach() as f64);
        if let Some(pace) = parts.circuits[&app].pace() {
            stats.gauge(Metric::QuotaRate, &tags, pace.rate());
        }
        let state = match parts.circuits[&app].position() {
            Position::Closed => 0.0,
            Position::Limited => 1.0,
            Position::Open => 2.0,
        };
        stats.gauge(Metric::BreakerState, &tags, state);
    }
}
