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
    let begin = moment.checked_sub(before).unwrap_or(moment);
    let base = samples.iter().take_while(|sample| sample.at <= begin).last().map_or(0, |sample| sample.acceptances);
    let accepted = samples.last().map_or(0, |sample| sample.acceptances).saturating_sub(base);
    accepted + most_streams(samples, begin)
}

/// The most streams that were open at once since `moment`.
pub(crate) fn most_streams(samples: &[Sample], moment: Instant) -> u64 {
    samples.iter().filter(|sample| sample.at >= moment).map(|sample| sample.streams).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples 100 ms apart.
    fn samples(start: Instant, offered_accepted: &[(u64, u64)]) -> Vec<Sample> {
        let sample = |(n, (offered, accepted)): (usize, &(u64, u64))| Sample {
            at: start + Duration::from_millis(100 * n as u64),
            offered: *offered,
            accepted: *accepted,
            acceptances: *accepted,
            streams: n as u64,
        };
        offered_accepted.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn a_stall_counts_only_while_something_waits() {
        let start = Instant::now();
        let busy = [(10, 10), (20, 10), (30, 10), (40, 11), (50, 50), (50, 50), (50, 50), (50, 50), (50, 50), (60, 50)];
        assert_eq!(stalled(&samples(start, &busy)), Duration::from_millis(300));
        assert_eq!(stalled(&samples(start, &[(0, 0); 20])), Duration::from_millis(100), "one look apart");
        assert_eq!(stalled(&[]), Duration::ZERO);
    }

    #[test]
    fn speed_is_back_when_a_whole_second_had_nine_tenths() {
        let start = Instant::now();
        // 10 offered per sample; nothing accepted in the first ten samples, then all.
        let line: Vec<_> = (0..40_u64).map(|n| (10 * n, 10 * n.saturating_sub(10))).collect();
        let line = samples(start, &line);
        assert_eq!(recovered(&line, start), Some(Duration::from_millis(900)), "nine of ten samples are in it");
        assert_eq!(recovered(&line[..15], start), None, "the second is not over");
        let half: Vec<_> = (0..40_u64).map(|n| (10 * n, 5 * n)).collect();
        assert_eq!(recovered(&samples(start, &half), start), None);
    }

    #[test]
    fn at_stake_is_what_was_open_and_what_was_just_accepted() {
        let start = Instant::now();
        let line: Vec<_> = (0..31_u64).map(|n| (10 * n, 10 * n)).collect();
        let line = samples(start, &line);
        let end = start + Duration::from_secs(3);
        assert_eq!(at_stake(&line, end, Duration::from_secs(1)), 100 + 30);
        assert_eq!(at_stake(&line, end, Duration::from_secs(60)), 300 + 30);
        assert_eq!(at_stake(&[], end, Duration::from_secs(1)), 0);
    }
}
