//! What was offered and what was accepted over time, and what that says: how long deliveries stood still, when they were
//! back, how many fell into a last moment. Pure, but for [`Pulse`], which keeps the samples.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Speed is judged over so long.
const WINDOW: Duration = Duration::from_secs(1);
/// From this share of what is offered on, deliveries count as back.
const BACK: f64 = 0.9;

/// One look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// Pushes that can be delivered, handed to Kafka so far.
    pub(crate) offered: u64,
    /// Different pushes accepted so far.
    pub(crate) accepted: u64,
    /// Acceptances so far, repeats included.
    pub(crate) acceptances: u64,
    /// Streams open at the provider.
    pub(crate) streams: u64,
}

/// The samples of an episode, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Mutex<Vec<Sample>>);

impl Pulse {
    pub(crate) fn note(&self, sample: Sample) {
        self.0.lock().push(sample);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    pub(crate) fn since(&self, moment: Instant) -> Vec<Sample> {
        let samples = self.0.lock();
        let first = samples.partition_point(|sample| sample.at < moment).saturating_sub(1);
        samples[first..].to_vec()
    }
}

/// The longest time in which nothing new was accepted although something was offered.
pub(crate) fn stalled(samples: &[Sample]) -> Duration {
    let Some(first) = samples.first() else { return Duration::ZERO };
    let (mut since, mut longest) = (first.at, Duration::ZERO);
    for pair in samples.windows(2) {
        longest = longest.max(pair[1].at - since);
        if pair[1].accepted > pair[0].accepted || pair[1].offered <= pair[1].accepted {
            since = pair[1].at;
        }
    }
    longest
}

/// How long after `end` deliveries were back: the beginning of the first second in which 90 % of what was offered meanwhile
/// was accepted. `None`: not yet.
pub(crate) fn recovered(samples: &[Sample], end: Instant) -> Option<Duration> {
    let mut later = 0;
    for (at, from) in samples.iter().enumerate().filter(|(_, sample)| sample.at >= end) {
        later = later.max(at);
        while samples.get(later)?.at < from.at + WINDOW {
            later += 1;
        }
        let (offered, accepted) = (samples[later].offered - from.offered, samples[later].accepted - from.accepted);
        if offered > 0 && accepted as f64 >= BACK * offered as f64 {
            return Some(from.at - end);
        }
    }
    None
}

/// What an end at `moment` without a farewell may have repeated: the streams open in the time before it, and what was
/// accepted within that time.
pub(crate) fn at_stake(samples: &[Sample], moment: Instant, before: Duration) -> u64 {
    let begin = ago(moment, before);
    let before = samples.iter().take_while(|sample| sample.at <= begin).last();
    let base = before.or(samples.first()).map_or(0, |sample| sample.acceptances);
    let accepted = samples.last().map_or(0, |sample| sample.acceptances).saturating_sub(base);
    accepted + most_streams(samples, begin)
}

/// So long before a moment; the moment itself where the clock does not go back so far.
pub(crate) fn ago(moment: Instant, time: Duration) -> Instant {
    moment.checked_sub(time).unwrap_or(moment)
}

/// The most streams that were open at once since `moment`.
pub(crate) fn most_streams(samples: &[Sample], moment: Instant) -> u64 {
    samples.iter().filter(|sample| sample.at >= moment).map(|sample| sample.streams).max().unwrap_or(0)
}
