//! Adding up, between two flushes or for good: one [`Series`] per metric and set of tags, found without allocating. Pure: no
//! clock, no socket.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::told::Reading as Told;
use super::{Kind, Metric};
use crate::histogram::Histogram;
use crate::reporters::quick_hash::{Quick, QuickHash};

/// More series than this are not made: tags come from topics and from closed sets, so this bounds a mistake.
const MOST_SERIES: usize = 10_000;

/// Values of one timer kept between two flushes. Beyond it each value is kept with the same probability and the sample
/// rate says so, so that the daemon's counts stay right and a flush stays a few datagrams at any load.
pub(super) const MOST_SAMPLES: usize = 100;

/// Borrowed tags, as callers have them.
pub(super) type Tags<'a> = &'a [(&'static str, &'a str)];

/// A uniform sample of bounded size (Vitter's algorithm R).
#[derive(Debug, Default)]
pub(super) struct Sample {
    seen: u64,
    kept: Vec<u64>,
}

impl Sample {
    fn add(&mut self, value: u64) {
        self.seen += 1;
        if self.kept.len() < MOST_SAMPLES {
            self.kept.push(value);
            return;
        }
        let place = fastrand::u64(..self.seen);
        if let Some(kept) = self.kept.get_mut(place as usize) {
            *kept = value;
        }
    }

    /// The kept values and the share of all values that they are.
    pub(super) fn take(&mut self) -> (Vec<u64>, f64) {
        let sample = std::mem::take(self);
        let rate = if sample.seen == 0 { 1.0 } else { sample.kept.len() as f64 / sample.seen as f64 };
        (sample.kept, rate)
    }
}

#[derive(Debug)]
enum Cell {
    Counter(AtomicU64),
    Gauge { bits: AtomicU64, set: AtomicBool },
    Timer(Mutex<Sample>),
    Times(Mutex<Histogram>),
}

/// What was added up since the last flush.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    /// The sum.
    Count(u64),
    /// The last value.
    Gauge(f64),
    /// A sample in milliseconds and the share of all values that it is.
    Millis(Vec<u64>, f64),
}

/// What came together since the start.
#[derive(Clone, Debug, PartialEq)]
pub enum Total {
    /// The sum.
    Count(u64),
    /// The last value.
    Gauge(f64),
    /// All values of a timer.
    Times(Histogram),
}

/// One metric with one set of tags.
#[derive(Debug)]
pub(super) struct Series {
    metric: Metric,
    /// The tags as given, to be compared with.
    given: Box<[(&'static str, Box<str>)]>,
    /// The tags' values as they go on the wire.
    wire: Box<[(&'static str, Box<str>)]>,
    cell: Cell,
}

impl Series {
    fn new(metric: Metric, tags: Tags<'_>, for_good: bool) -> Self {
        let cell = match metric.kind() {
            Kind::Counter => Cell::Counter(AtomicU64::new(0)),
            Kind::Gauge => Cell::Gauge { bits: AtomicU64::new(0), set: AtomicBool::new(false) },
            Kind::Timer if for_good => Cell::Times(Mutex::default()),
            Kind::Timer => Cell::Timer(Mutex::default()),
        };
        let given = tags.iter().map(|(key, value)| (*key, Box::from(*value))).collect();
        let wire = tags.iter().map(|(key, value)| (*key, sanitised(value))).collect();
        Series { metric, given, wire, cell }
    }

    fn is(&self, metric: Metric, tags: Tags<'_>) -> bool {
        self.metric == metric
            && self.given.len() == tags.len()
            && self.given.iter().zip(tags).all(|(have, want)| have.0 == want.0 && &*have.1 == want.1)
    }

    /// The metric.
    pub(super) fn metric(&self) -> Metric {
        self.metric
    }

    /// Tags as they go on the wire.
    pub(super) fn tags(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.wire.iter().map(|(key, value)| (*key, &**value))
    }

    /// Adds to a counter.
    pub(super) fn add(&self, n: u64) {
        if let Cell::Counter(sum) = &self.cell {
            sum.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Sets a gauge.
    pub(super) fn set(&self, value: f64) {
        if let Cell::Gauge { bits, set } = &self.cell {
            bits.store(value.to_bits(), Ordering::Relaxed);
            set.store(true, Ordering::Release);
        }
    }

    /// Adds a value to a timer that keeps its values for good.
    pub(super) fn record(&self, took: Duration) {
        if let Cell::Times(histogram) = &self.cell {
            histogram.lock().record(took);
        }
    }

    /// What came together since the start, when nobody takes it; `None` for a gauge that was never set.
    pub(super) fn reading(&self) -> Option<Told> {
        let total = match &self.cell {
            Cell::Counter(sum) => Total::Count(sum.load(Ordering::Relaxed)),
            Cell::Gauge { bits, set } if set.load(Ordering::Acquire) => {
                Total::Gauge(f64::from_bits(bits.load(Ordering::Relaxed)))
            }
            Cell::Times(histogram) => Total::Times(histogram.lock().clone()),
            Cell::Gauge { .. } | Cell::Timer(_) => return None,
        };
        let tags = self.given.iter().map(|(key, value)| (*key, value.to_string())).collect();
        Some(Told { metric: self.metric, tags, total })
    }

    /// Adds a value in milliseconds to a timer.
    pub(super) fn time(&self, millis: u64) {
        if let Cell::Timer(sample) = &self.cell {
            sample.lock().add(millis);
        }
    }

    /// Takes what was added up; `None` when that is nothing.
    pub(super) fn take(&self) -> Option<Reading> {
        match &self.cell {
            Cell::Counter(sum) => match sum.swap(0, Ordering::Relaxed) {
                0 => None,
                n => Some(Reading::Count(n)),
            },
            Cell::Gauge { bits, set } => {
                set.swap(false, Ordering::Acquire).then(|| Reading::Gauge(f64::from_bits(bits.load(Ordering::Relaxed))))
            }
            Cell::Timer(sample) => {
                let (kept, rate) = sample.lock().take();
                (!kept.is_empty()).then_some(Reading::Millis(kept, rate))
            }
            Cell::Times(_) => None,
        }
    }
}

/// All series of one reporter.
#[derive(Debug, Default)]
pub(super) struct Store {
    series: RwLock<HashMap<u64, Vec<Arc<Series>>, QuickHash>>,
    made: AtomicU64,
    dropped: AtomicU64,
    /// Whether values are kept for good, not until they are taken.
    for_good: bool,
}

impl Store {
    /// A store that nobody takes from.
    pub(super) fn for_good() -> Self {
        Store { for_good: true, ..Store::default() }
    }

    /// Calls `act` with the series of `metric` and `tags`, made if it is new; not at all when there are too many.
    pub(super) fn with(&self, metric: Metric, tags: Tags<'_>, act: impl FnOnce(&Series)) {
        let hash = hash(metric, tags);
        {
            let series = self.series.read();
            if let Some(found) = series.get(&hash).and_then(|same| same.iter().find(|s| s.is(metric, tags))) {
                return act(found);
            }
        }
        if let Some(series) = self.make(hash, metric, tags) {
            act(&series);
        }
    }

    /// The series itself, to be kept by a caller that will come often.
    pub(super) fn handle(&self, metric: Metric, tags: Tags<'_>) -> Option<Arc<Series>> {
        self.make(hash(metric, tags), metric, tags)
    }

    /// Every series there is, and how many values were dropped since the last call because there were too many.
    pub(super) fn all(&self) -> (Vec<Arc<Series>>, u64) {
        let all = self.series.read().values().flatten().cloned().collect();
        (all, self.dropped.swap(0, Ordering::Relaxed))
    }

    fn make(&self, hash: u64, metric: Metric, tags: Tags<'_>) -> Option<Arc<Series>> {
        let mut series = self.series.write();
        let same = series.entry(hash).or_default();
        if let Some(found) = same.iter().find(|s| s.is(metric, tags)) {
            return Some(found.clone());
        }
        if self.made.load(Ordering::Relaxed) as usize >= MOST_SERIES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        let new = Arc::new(Series::new(metric, tags, self.for_good));
        same.push(new.clone());
        Some(new)
    }
}

fn hash(metric: Metric, tags: Tags<'_>) -> u64 {
    let mut hasher = Quick::default();
    hasher.write_u8(metric as u8);
    for (key, value) in tags {
        key.hash(&mut hasher);
        value.hash(&mut hasher);
    }
    hasher.finish()
}

/// The text with every character that has a meaning in `StatsD`'s or `DogStatsD`'s lines replaced by `_`: the protocol has
/// no escapes and the client library checks nothing.
pub(super) fn sanitised(text: &str) -> Box<str> {
    text.chars().map(|c| if c.is_control() || "|:#,@".contains(c) { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_add_up_per_set_of_tags_and_are_taken_once() {
        let store = Store::default();
        store.with(Metric::Ack, &[("game", "a")], |s| s.add(2));
        store.with(Metric::Ack, &[("game", "a")], |s| s.add(3));
        store.with(Metric::Ack, &[("game", "b")], |s| s.add(1));
        let (all, _) = store.all();
        let mut taken: Vec<_> = all.iter().filter_map(|s| Some((s.tags().next()?.1.to_owned(), s.take()?))).collect();
        taken.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(taken, [("a".into(), Reading::Count(5)), ("b".into(), Reading::Count(1))]);
        assert!(all.iter().all(|s| s.take().is_none()));
    }

    #[test]
    fn a_gauge_keeps_its_last_value() {
        let store = Store::default();
        let gauge = store.handle(Metric::InFlight, &[]).unwrap();
        gauge.set(1.0);
        gauge.set(2.5);
        assert_eq!(gauge.take(), Some(Reading::Gauge(2.5)));
        assert_eq!(gauge.take(), None);
    }

    #[test]
    fn too_many_series_are_dropped_and_counted() {
        let store = Store::default();
        for n in 0..MOST_SERIES + 5 {
            store.with(Metric::Ack, &[("game", &n.to_string())], |s| s.add(1));
        }
        let (all, dropped) = store.all();
        assert_eq!((all.len(), dropped), (MOST_SERIES, 5));
    }

    #[test]
    fn a_sample_is_spread_over_all_values() {
        let mut sample = Sample::default();
        (0..100_000).for_each(|value| sample.add(value));
        let (kept, _) = sample.take();
        let mean = kept.iter().sum::<u64>() as f64 / kept.len() as f64;
        assert!((30_000.0..70_000.0).contains(&mean), "mean of a uniform sample: {mean}");
    }

    proptest! {
        #[test]
        fn sanitised_text_has_no_separator(text in ".{0,40}") {
            let clean = sanitised(&text);
            prop_assert!(!clean.chars().any(|c| c.is_control() || "|:#,@".contains(c)));
            prop_assert_eq!(clean.chars().count(), text.chars().count());
        }

        #[test]
        fn the_sample_rate_restores_the_number_of_values(n in 1u64..2_000) {
            let mut sample = Sample::default();
            (0..n).for_each(|value| sample.add(value));
            let (kept, rate) = sample.take();
            prop_assert!(kept.len() <= MOST_SAMPLES && kept.len() as u64 <= n);
            prop_assert_eq!((kept.len() as f64 / rate).round() as u64, n);
        }
    }
}
