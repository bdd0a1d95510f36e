//! How many bytes one may have unanswered before a peer's flow-control window is what one waits for. Pure: time is an argument.
//!
//! A peer far away returns its window with its answers; one that is near and thinks for long returns it long before. By
//! Little's law bytes under way are their rate times how long they are: of the same bytes, those that are unanswered and
//! those that the window lacks are as the time to an answer to the time until the window is back. Their averages are compared, for a
//! burst takes up a window that is back a moment later.

use std::time::Duration;

use tokio::time::Instant;

use super::places::FIRST_WINDOW;

/// Averages are over so long, about.
const SPAN: Duration = Duration::from_secs(1);

/// Sums over time of bytes that are unanswered and of those that the window lacks, byte seconds.
#[derive(Debug, Default)]
pub(super) struct Flow {
    last: Option<(Instant, f64, f64)>,
    unanswered: f64,
    lacking: f64,
    seconds: f64,
}

impl Flow {
    /// From now on so many bytes are unanswered, and so many are `left` of the window.
    pub(super) fn look(&mut self, unanswered: usize, left: i64, now: Instant) {
        if let Some((since, unanswered, lacking)) = self.last {
            let seconds = now.saturating_duration_since(since).as_secs_f64();
            self.unanswered += unanswered * seconds;
            self.lacking += lacking * seconds;
            self.seconds += seconds;
        }
        if self.seconds > SPAN.as_secs_f64() {
            for sum in [&mut self.unanswered, &mut self.lacking, &mut self.seconds] {
                *sum /= 2.0;
            }
        }
        self.last = Some((now, unanswered as f64, (FIRST_WINDOW as i64 - left).max(0) as f64));
    }

    /// Bytes that may be unanswered when the window is used up all the time; `None`: nothing was under way yet.
    pub(super) fn most(&self) -> Option<usize> {
        (self.lacking > 0.0).then(|| (FIRST_WINDOW as f64 * self.unanswered / self.lacking) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: usize = 300;

    /// What is found of a peer that returns the window and answers after so many ms, asked once a ms.
    fn most(window_after: u64, answer_after: u64) -> usize {
        let (mut flow, begun) = (Flow::default(), Instant::now());
        for ms in 0..3_000_u64 {
            let of_last = |after: u64| (ms.min(after) * BODY as u64) as i64;
            let left = FIRST_WINDOW as i64 - of_last(window_after);
            flow.look(of_last(answer_after) as usize, left, begun + Duration::from_millis(ms));
        }
        flow.most().unwrap()
    }

    #[test]
    fn a_window_that_comes_with_the_answers_is_the_bound_and_one_that_comes_before_them_is_none() {
        for (window_after, answer_after, windows) in [(100, 100, 1.0), (50, 100, 2.0), (1, 100, 100.0), (20, 120, 6.0)]
        {
            let found = most(window_after, answer_after) as f64 / FIRST_WINDOW as f64;
            assert!((found / windows - 1.0).abs() < 0.05, "{window_after} and {answer_after} ms: {found} windows");
        }
    }

    #[test]
    fn a_peer_that_keeps_most_of_the_window_back_is_not_believed_to_have_it() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        flow.look(10_000, 0, now);
        flow.look(10_000, 0, now + SPAN);
        assert_eq!(flow.most(), Some(10_000));
        assert_eq!(Flow::default().most(), None);
    }
}
