//! What statistics were told since the start, kept for whoever asks: counters as their sums, gauges as their last values,
//! timers as histograms. (A reporter sends values away and forgets them.)
//!
//! What the ledger counts by lane is not kept a second time: see [`Metric::is_in_ledger`].

use std::time::Duration;

pub use super::series::Total;
use super::series::{Series, Store, Tags};
use super::{Kind, Metric};
use crate::message::Platform;

/// One metric with one set of tags, and what came together since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The metric.
    pub metric: Metric,
    /// Its tags.
    pub tags: Vec<(&'static str, String)>,
    /// Its value.
    pub total: Total,
}

/// See the module.
#[derive(Debug)]
pub struct Told(Store);

impl Default for Told {
    fn default() -> Self {
        Told(Store::for_good())
    }
}

impl Told {
    /// The counters of an app begin at 0 instead of at their first value: who watches sees a counter grow only from a
    /// value that it has seen.
    pub fn begin(&self, platform: Platform, app: &str) {
        let tags = [("platform", platform.0), ("game", app)];
        for metric in Metric::ALL.iter().filter(|metric| metric.kind() == Kind::Counter) {
            let has = |tag| metric.tags().contains(&tag);
            let of_app = has("platform") && has("game") && without_machine(metric.tags(), |tag| tag).len() == 2;
            if of_app || metric.tags().is_empty() {
                self.count(*metric, if of_app { &tags } else { &[] }, 0);
            }
        }
    }

    pub(super) fn count(&self, metric: Metric, tags: Tags<'_>, n: u64) {
        self.with(metric, tags, |series| series.add(n));
    }

    pub(super) fn time(&self, metric: Metric, tags: Tags<'_>, took: Duration) {
        self.with(metric, tags, |series| series.record(took));
    }

    pub(super) fn gauge(&self, metric: Metric, tags: Tags<'_>, value: f64) {
        self.with(metric, tags, |series| series.set(value));
    }

    fn with(&self, metric: Metric, tags: Tags<'_>, act: impl FnOnce(&Series)) {
        if !metric.is_in_ledger() {
            let mut tags = without_machine(tags, |(name, _)| name);
            tags.sort_unstable();
            self.0.with(metric, &tags, act);
        }
    }

    /// Every value, in the order of the table of metrics.
    pub fn readings(&self) -> Vec<Reading> {
        let (all, _) = self.0.all();
        let mut readings: Vec<_> = all.iter().filter_map(|series| series.reading()).collect();
        readings.sort_by(|a, b| (a.metric as usize, &a.tags).cmp(&(b.metric as usize, &b.tags)));
        readings
    }
}

/// The machine's name is left out: there is but one in a process.
fn without_machine<T: Copy>(tags: &[T], name: fn(T) -> &'static str) -> Vec<T> {
    tags.iter().copied().filter(|tag| name(*tag) != "hostname").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_together_for_good_and_those_of_the_ledger_not_at_all() {
        let told = Told::default();
        let tags = [("platform", "apns"), ("game", "a")];
        for _ in 0..2 {
            told.count(Metric::FeedbackLost, &tags, 2);
            told.count(Metric::Attempts, &tags, 1);
            told.gauge(Metric::FeedbackWaiting, &[], 7.5);
            told.time(Metric::FirebaseLatency, &[("game", "a")], Duration::from_millis(3));
            told.readings();
        }
        let readings = told.readings();
        let of = |metric| readings.iter().filter(|one| one.metric == metric).map(|one| &one.total).collect::<Vec<_>>();
        assert_eq!(of(Metric::FeedbackLost), [&Total::Count(4)]);
        assert_eq!(of(Metric::FeedbackWaiting), [&Total::Gauge(7.5)]);
        assert_eq!(readings.len(), 2, "{readings:?}");
    }

    #[test]
    fn what_may_grow_is_there_from_the_beginning() {
        let told = Told::default();
        told.begin(Platform("apns"), "a");
        let machine = [("hostname", "h"), ("game", "a"), ("platform", "apns")];
        told.count(Metric::TokensDeleteError, &machine, 3);
        let readings = told.readings();
        let of = |metric| readings.iter().filter(move |one| one.metric == metric);
        assert_eq!(of(Metric::FeedbackLost).next().map(|one| &one.total), Some(&Total::Count(0)));
        assert_eq!(of(Metric::CommitFailed).count(), 1);
        assert_eq!(of(Metric::TokensDeleteError).map(|one| &one.total).collect::<Vec<_>>(), [&Total::Count(3)]);
        assert_eq!(of(Metric::MapDropped).count(), 0, "nobody knows for which topic");
    }
}
