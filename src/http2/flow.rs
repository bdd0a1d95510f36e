//! How many bytes one may have unanswered before a peer's flow-control window is what one waits for. Pure: time is an argument.
//!
//! A peer far away returns its window with its answers; one that is near and thinks for long returns it long before. By
//! Little's law bytes under way are their rate times how long they are: of the same bytes, those that are unanswered and
//! those that the window lacks are as the time to an answer to the time until the window is back. Their averages are compared, for a
//! burst takes up a window that is back a moment later. Peers grant bytes when they have read half a window of them: the half that may
//! be kept back is no lack.

use std::time::Duration;

use tokio::time::Instant;

use super::wire::FIRST_WINDOW;

/// What a peer may keep back of the window, though it has read it.
const KEPT_BACK: i64 = FIRST_WINDOW as i64 / 2;
/// Averages are over so long, about.
const SPAN: Duration = Duration::from_secs(1);

/// Sums over time of bytes that are unanswered and of those that the window lacks beyond [`KEPT_BACK`], byte seconds.
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
        self.last = Some((now, unanswered as f64, (FIRST_WINDOW as i64 - KEPT_BACK - left).max(0) as f64));
    }

    /// Bytes that may be unanswered when the window is used up all the time; `None`: it was not.
    pub(super) fn most(&self) -> Option<usize> {
        let usable = (FIRST_WINDOW as i64 - KEPT_BACK) as f64;
        (self.lacking > 0.0).then(|| (usable * self.unanswered / self.lacking) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of a peer that reads so much in a ms, and answers and returns the window after so many ms; asked once a ms.
    fn most(per_ms: u64, window_after: u64, answer_after: u64) -> Option<usize> {
        let (mut flow, begun) = (Flow::default(), Instant::now());
        for ms in 0..3_000_u64 {
            let of_last = |after: u64| ms.min(after) * per_ms;
            let left = FIRST_WINDOW as i64 - of_last(window_after) as i64;
            flow.look(of_last(answer_after) as usize, left, begun + Duration::from_millis(ms));
        }
        flow.most()
    }

    #[test]
    fn a_window_that_comes_with_the_answers_is_the_bound_and_one_that_comes_before_them_is_none() {
        // All of the window is under way, for so long.
        for (window_after, answer_after, windows) in [(100, 100, 1.0), (50, 100, 2.0), (1, 100, 100.0), (20, 120, 6.0)]
        {
            let most = most(FIRST_WINDOW as u64 / window_after, window_after, answer_after).unwrap();
            let found = most as f64 / FIRST_WINDOW as f64;
            assert!((found / windows - 1.0).abs() < 0.05, "{window_after} and {answer_after} ms: {found} windows");
        }
        assert_eq!(most(300, 100, 100), None, "half of it is enough");
    }

    #[test]
    fn what_a_peer_keeps_back_while_little_is_sent_says_nothing_about_a_burst() {
        let (mut flow, mut now) = (Flow::default(), Instant::now());
        for _ in 0..100 {
            flow.look(300, FIRST_WINDOW as i64 - 30_000, now);
            now += Duration::from_mins(1);
        }
        flow.look(60_000, 0, now);
        flow.look(60_000, FIRST_WINDOW as i64, now + Duration::from_millis(2));
        flow.look(60_000, FIRST_WINDOW as i64, now + Duration::from_millis(100));
        assert!(flow.most().unwrap() > 10 * FIRST_WINDOW);
    }

    #[test]
    fn a_peer_that_keeps_all_of_the_window_back_is_not_believed_to_have_it() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        flow.look(10_000, 0, now);
        flow.look(10_000, 0, now + SPAN);
        assert_eq!(flow.most(), Some(10_000));
        assert_eq!(Flow::default().most(), None);
    }
}
