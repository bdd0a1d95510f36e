//! Durations counted in fixed ranges: cheap to add to, small to copy, and added up across threads, lanes and processes.

use std::time::Duration;

/// The upper ends of the ranges, seconds: a provider answers in milliseconds, a retry waits for minutes, a backlog for hours.
pub const BOUNDS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0,
    43200.0,
];

/// How many durations fell into each range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// By range; the last is what lies beyond all bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.counts[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }

    /// Each range's upper end, seconds, with what fell into it alone; the last end is infinite.
    pub fn ranges(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.counts)
    }

    /// What was counted since it was `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut since = self.clone();
        for (count, before) in since.counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        since.sum = (since.sum - earlier.sum).max(0.0);
        since
    }

    /// The duration, seconds, that a share `q` of what was counted does not exceed, as if they lay evenly within their range;
    /// of what lies beyond all bounds the last bound. `None` when there is nothing.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (count, mut below, mut start) = (self.count(), 0.0, 0.0);
        let wanted = q * count as f64;
        for (end, within) in self.ranges().filter(|_| count > 0) {
            if within > 0 && below + within as f64 >= wanted {
                let share = ((wanted - below) / within as f64).clamp(0.0, 1.0);
                return Some(if end.is_finite() { start + (end - start) * share } else { start });
            }
            below += within as f64;
            start = end;
        }
        None
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum, seconds.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_range_that_reaches_it() {
        let mut histogram = Histogram::default();
        for ms in [0, 1, 2, 1_000, 1_001, 90_000_000] {
            histogram.record(Duration::from_millis(ms));
        }
        let filled: Vec<_> = histogram.ranges().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.001, 2), (0.0025, 1), (1.0, 1), (2.5, 1), (f64::INFINITY, 1)]);
        assert_eq!(histogram.count(), 6);
        assert!((histogram.sum() - 90_002.004).abs() < 1e-6);
    }

    #[test]
    fn quantiles_lie_within_the_range_that_holds_them() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (0..98).for_each(|_| histogram.record(Duration::from_millis(4)));
        let earlier = histogram.clone();
        (0..2).for_each(|_| histogram.record(Duration::from_millis(400)));
        let median = histogram.quantile(0.5).unwrap();
        assert!((0.0025..0.005).contains(&median), "{median}");
        assert!((0.25..=0.5).contains(&histogram.quantile(0.99).unwrap()));
        let since = histogram.since(&earlier);
        assert_eq!(since.count(), 2);
        assert!(since.quantile(0.01).unwrap() >= 0.25);
        histogram.record(Duration::from_hours(100));
        assert_eq!(histogram.quantile(1.0), Some(43_200.0));
    }
}
