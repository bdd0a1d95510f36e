//! Which ends of connections are worth a line. Pure: a moment is an argument.
//!
//! A peer may end every connection after so many requests; the totals count each, the log has one line a minute for a reason, and
//! not many in all.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// A reason that was told is news again after so long.
const AGAIN: Duration = Duration::from_mins(1);
/// Most lines in that time: a reason may hold a figure that is another one each time.
const MOST: usize = 8;

/// What was told in the last minute.
#[derive(Debug, Default)]
pub(super) struct News {
    told: Vec<(Instant, Arc<str>)>,
    untold: u64,
}

impl News {
    /// Notes one more; how many were not told since the last that was, if this one is to be told.
    pub(super) fn note(&mut self, reason: &str, now: Instant) -> Option<u64> {
        self.told.retain(|(at, _)| now.duration_since(*at) < AGAIN);
        if self.told.len() >= MOST || self.told.iter().any(|(_, known)| &**known == reason) {
            self.untold += 1;
            return None;
        }
        self.told.push((now, reason.into()));
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_one_reason_is_a_line_a_minute() {
        let (mut news, start) = (News::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(news.note("Shutdown", at(0)), Some(0));
        assert!((1..60).all(|second| news.note("Shutdown", at(second)).is_none()));
        assert_eq!(news.note("Shutdown", at(60)), Some(59));
        assert_eq!(news.note("Shutdown", at(61)), None);
        assert_eq!(news.note("BadCertificate", at(61)), Some(1), "another reason is news at once");
        assert_eq!(news.note("Shutdown", at(62)), None, "and makes no news of the first");
    }

    #[test]
    fn reasons_that_are_never_the_same_are_few_lines() {
        let (mut news, start) = (News::default(), Instant::now());
        let told = (0..100).filter_map(|number| news.note(&number.to_string(), start)).count();
        assert_eq!(told, MOST);
        assert_eq!(news.note("more", start + AGAIN), Some(100 - MOST as u64));
    }
}
