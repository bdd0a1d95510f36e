//! The last seconds of the books, from which rates and latencies are taken, and the last 15 minutes, for charts. Pure: time is
//! an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::document::{Latency, Sample};
use crate::histogram::Histogram;
use crate::tally::{End, LaneKey, Sheet};

/// Over how long rates and latencies are taken.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Between two samples of the history.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// How many samples are kept: 15 minutes.
pub const SAMPLES: usize = 180;

/// What of a lane's books is remembered for the window.
#[derive(Clone, Debug, Default)]
struct Mark {
    consumed: u64,
    delivered: u64,
    not_delivered: u64,
    accepted: Histogram,
    round_trip: Histogram,
}

impl Mark {
    fn of(sheet: &Sheet) -> Mark {
        let delivered = |end: &&End| matches!(end, End::Delivered | End::Handled);
        let sum = |yes: bool| End::ALL.iter().filter(|end| delivered(end) == yes).map(|end| sheet.of(*end)).sum();
        Mark {
            consumed: sheet.consumed(),
            delivered: sum(true),
            not_delivered: sum(false),
            accepted: sheet.lent_to_accepted.clone(),
            round_trip: sheet.round_trip.clone(),
        }
    }
}

/// What happened in the window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// Messages read, per second.
    pub consumed_per_s: f64,
    /// Messages delivered, or handled.
    pub delivered_per_s: f64,
    /// Messages that ended otherwise.
    pub not_delivered_per_s: f64,
    /// From read to accepted.
    pub accepted: Latency,
    /// One request.
    pub round_trip: Latency,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Recent {
    marks: VecDeque<(Instant, Vec<(LaneKey, Mark)>)>,
    samples: VecDeque<Sample>,
    sampled: Option<Instant>,
}

impl Recent {
    /// Takes note of the books at `now`.
    pub fn note(&mut self, sheets: &[(LaneKey, Sheet)], now: Instant) {
        // The oldest is kept until the next is as old as the window, so that the window is always full.
        while self.marks.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.marks.pop_front();
        }
        let marks = sheets.iter().map(|(key, sheet)| (key.clone(), Mark::of(sheet))).collect();
        self.marks.push_back((now, marks));
    }

    /// How long the window before `now` is.
    pub fn window(&self, now: Instant) -> Duration {
        self.marks.front().map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
    }

    /// What happened in a lane in the window before `now`, when `sheet` are its books.
    pub fn flow(&self, key: &LaneKey, sheet: &Sheet, now: Instant) -> Flow {
        let Some((at, marks)) = self.marks.front() else { return Flow::default() };
        let seconds = now.saturating_duration_since(*at).as_secs_f64();
        if seconds <= 0.0 {
            return Flow::default();
        }
        // A lane that was not there then had nothing.
        let before = marks.iter().find(|(of, _)| of == key).map(|(_, mark)| mark.clone()).unwrap_or_default();
        let after = Mark::of(sheet);
        let per_s = |after: u64, before: u64| after.saturating_sub(before) as f64 / seconds;
        Flow {
            consumed_per_s: per_s(after.consumed, before.consumed),
            delivered_per_s: per_s(after.delivered, before.delivered),
            not_delivered_per_s: per_s(after.not_delivered, before.not_delivered),
            accepted: latency(&after.accepted.since(&before.accepted)),
            round_trip: latency(&after.round_trip.since(&before.round_trip)),
        }
    }

    /// Whether a sample is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.sampled.is_none_or(|at| now.saturating_duration_since(at) >= INTERVAL)
    }

    /// Adds one.
    pub fn sample(&mut self, sample: Sample, now: Instant) {
        self.sampled = Some(now);
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The samples, the newest last.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }
}

fn latency(times: &Histogram) -> Latency {
    let ms = |q| times.quantile(q).map(|seconds| (seconds * 10_000.0).round() / 10.0);
    Latency { p50_ms: ms(0.5), p99_ms: ms(0.99) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Lane, Origin, Platform};
    use crate::tally::Tally;

    fn origin() -> Origin {
        Origin { topic: "t".into(), partition: 0, app: "game".into(), platform: Platform("apns"), lane: Lane::Single }
    }

    #[test]
    fn rates_are_those_of_the_window_and_not_of_all_time() {
        let (tally, start, mut recent) = (Tally::default(), Instant::now(), Recent::default());
        let lane = tally.lane(&origin());
        recent.note(&[], start);
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 1..=20 {
            for _ in 0..(if second <= 10 { 100 } else { 10 }) {
                lane.lent(None);
                lane.ended(if second <= 10 { End::Delivered } else { End::Rejected }, None);
            }
            recent.note(&tally.sheets(), at(second));
        }
        let (key, sheet) = tally.sheets().remove(0);
        let flow = recent.flow(&key, &sheet, at(20));
        assert_eq!(recent.window(at(20)), WINDOW);
        assert_eq!((flow.consumed_per_s, flow.delivered_per_s, flow.not_delivered_per_s), (10.0, 0.0, 10.0));
        assert_eq!(flow.accepted, Latency::default(), "none was accepted");
        assert!(recent.marks.len() <= 12, "{}", recent.marks.len());
    }

    #[test]
    fn the_history_is_bounded_and_has_a_rhythm() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        for second in 0..2_000 {
            let now = start + Duration::from_secs(second);
            if recent.is_due(now) {
                recent.sample(Sample { at_ms: second as i64 * 1000, ..Sample::default() }, now);
            }
        }
        let times: Vec<_> = recent.samples().map(|sample| sample.at_ms).collect();
        assert_eq!((times.len(), times[0], times[SAMPLES - 1]), (SAMPLES, 1_100_000, 1_995_000));
    }
}
