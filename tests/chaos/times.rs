//! How long pushes took from their producer to the record of their end, and how many ended in a second.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pusher::message::identity;
use uuid::Uuid;

use crate::audit::pusher_id;
use crate::log::Log;
use crate::side::{FEEDBACK_PARTITIONS, Side};

/// When each push of an app was produced and when its end was told, Unix ms, in the order of production.
pub(crate) struct Times(Vec<(i64, i64)>);

/// How an app fared in some time.
pub(crate) struct Fared {
    pub(crate) per_second: f64,
    /// From produced to told, ms.
    pub(crate) p50: i64,
    pub(crate) p99: i64,
}

impl Times {
    pub(crate) fn read(brokers: &str, side: &Side) -> Times {
        let mut produced: HashMap<Uuid, i64> = HashMap::new();
        let partitions = side.committed().len();
        Log::open(brokers, &side.topic, vec![0; partitions]).read(|record| {
            produced.insert(identity(&side.topic, record.partition, record.offset), record.at_ms);
        });
        let mut times = Vec::new();
        Log::open(brokers, &side.feedback, vec![0; FEEDBACK_PARTITIONS as usize]).read(|record| {
            let id = serde_json::from_slice(record.value).ok().and_then(|value| pusher_id(&value));
            // A second record about the same push says nothing new.
            times.extend(id.and_then(|id| produced.remove(&id)).map(|at_ms| (at_ms, record.at_ms)));
        });
        times.sort_unstable();
        Times(times)
    }

    /// How the pushes produced in these times fared; the speed is that of the ends told in them.
    pub(crate) fn fared(&self, times: &[Range<i64>]) -> Fared {
        let within = |at: i64| times.iter().any(|time| time.contains(&at));
        let mut took: Vec<i64> =
            self.0.iter().filter(|(produced, _)| within(*produced)).map(|(produced, told)| told - produced).collect();
        took.sort_unstable();
        let told = self.0.iter().filter(|(_, told)| within(*told)).count();
        let ms: i64 = times.iter().map(|time| time.end - time.start).sum();
        Fared { per_second: told as f64 * 1e3 / ms as f64, p50: quantile(&took, 0.5), p99: quantile(&took, 0.99) }
    }

    /// The p99 of each whole window of these times, ms, in their order.
    pub(crate) fn p99s(&self, times: &[Range<i64>], window: Duration) -> Vec<i64> {
        let step = window.as_millis() as i64;
        let windows = times.iter().flat_map(|time| {
            let count = (time.end - time.start) / step;
            (0..count).map(|nth| time.start + nth * step..time.start + (nth + 1) * step)
        });
        windows.map(|window| self.fared(&[window]).p99).collect()
    }

    /// When so many ends of pushes produced before a moment had been told, Unix ms.
    pub(crate) fn when_told(&self, produced_before: i64, count: usize) -> Option<i64> {
        let mut told: Vec<i64> =
            self.0.iter().filter(|(produced, _)| *produced < produced_before).map(|(_, told)| *told).collect();
        told.sort_unstable();
        told.get(count.checked_sub(1)?).copied()
    }
}

/// Of sorted values.
pub(crate) fn quantile(sorted: &[i64], share: f64) -> i64 {
    sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or(i64::MAX)
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
