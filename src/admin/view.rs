//! What a site shows of itself: the facts of its rooms as they are, of one moment where they belong together.

use std::sync::Arc;

use super::document::{Breaker, Valve};
use crate::http2::Stats;
use crate::message::Platform;
use crate::queue::Standing;
use crate::queue::in_flight::Usage;
use crate::reporters::stats::Metric;
use crate::reporters::stats::told::{Reading, Total};
use crate::tally::{LaneKey, Sheet};

/// See the module. The default is a process that has nothing to show yet.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// `worker` or `listener`.
    pub program: &'static str,
    /// Its platforms.
    pub platforms: Vec<Platform>,
    /// The books, as [`crate::tally::Tally::sheets`] reads them.
    pub sheets: Vec<(LaneKey, Sheet)>,
    /// Its partitions.
    pub standing: Standing,
    /// What is known of an app besides its books.
    pub apps: Vec<AppView>,
    /// Connections by platform and the credential's first app.
    pub pools: Vec<(Platform, Arc<str>, Vec<Stats>)>,
}

/// What is known of an app on a platform besides its books.
#[derive(Clone, Debug)]
pub struct AppView {
    /// The app.
    pub app: Arc<str>,
    /// Its platform.
    pub platform: Platform,
    /// Where its breaker stands, if it has one.
    pub breaker: Option<Breaker>,
    /// Where its valve stands, if that was told.
    pub valve: Option<Valve>,
    /// What it holds of the bounds, where that is known.
    pub usage: Option<Usage>,
}

/// Where an app's valve stands, by what statistics were told.
pub fn valve(told: &[Reading], platform: Platform, app: &str) -> Option<Valve> {
    let is = |reading: &&Reading, name, value: &str| reading.tags.iter().any(|(tag, is)| *tag == name && is == value);
    let mut of_app = told.iter().filter(|reading| {
        reading.metric == Metric::ValveClosed && is(reading, "platform", platform.0) && is(reading, "game", app)
    });
    match of_app.next()?.total {
        Total::Gauge(value) if value > 0.0 => Some(Valve::Closed),
        _ => Some(Valve::Open),
    }
}
