//! The safety valve: a wrong host, topic or key makes a provider call every token dead, and must not empty a table. Pure:
//! time is an argument.
//!
//! One valve per app. It looks at a sliding window of the app's last `answers` answers (1,000 by default, none older
//! than an hour) and knows three states:
//!
//! * **open**: the share of invalid answers in the window is at most `max_share`. Dead tokens are deleted.
//! * **judging**: the share is higher but there are fewer answers than it takes to be sure. Dead tokens wait a few
//!   seconds for more answers, then are left to the feedback record; but [`UNJUDGED`] of them per window are deleted
//!   at once, so that an app that sends five pushes a day loses its dead tokens too.
//! * **closed**: the share is higher in a full window. Nothing is deleted, deliveries go on, an alarm is raised once. The
//!   valve opens again when a full window's share has fallen to half of `max_share`, or when an operator says so. That it is
//!   closed outlives the process and is known to all workers ([`super::latch`]); only the one that closed it, or its
//!   successor, opens it by itself. The window lives in memory.
//!
//! So a wrong host from the first answer on costs at most [`UNJUDGED`] rows per app and process until it closes (an app
//! with fewer than 1,000 answers an hour: that many per hour), and one that begins in full flow at most `max_share` of
//! the window, 300 rows: deletions never exceed what the share allows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Deletions allowed per window while the share is high and there are too few answers to judge.
pub const UNJUDGED: u32 = 10;
/// Answers older than this say nothing about now.
pub const WINDOW: Duration = Duration::from_hours(1);
/// A window is kept in this many pieces, so that old answers leave it little by little.
const PIECES: u32 = 20;

/// Whether a dead token may be deleted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Delete it.
    Delete,
    /// Too early to say: ask again when more answers have come.
    Wait,
    /// The valve is closed: keep it.
    Withhold,
}

/// A change that people should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing changed.
    None,
    /// The share came back under `max_share`: what waits may be judged again.
    Cleared,
    /// The valve closed.
    Closed,
    /// The valve opened again.
    Opened,
}

#[derive(Debug)]
struct Piece {
    began: Instant,
    answers: u32,
    invalid: u32,
    unjudged: u32,
}

/// The valve of one app.
#[derive(Debug)]
pub struct Valve {
    max_share: f64,
    full: u32,
    pieces: VecDeque<Piece>,
    answers: u32,
    invalid: u32,
    unjudged: u32,
    high: bool,
    closed: bool,
    /// Whether it may open by itself.
    opens: bool,
}

impl Valve {
    /// A valve that closes when more than `max_share` of the last `full` answers are invalid.
    pub fn new(max_share: f64, full: u32) -> Self {
        let full = full.max(1);
        Valve {
            max_share,
            full,
            pieces: VecDeque::new(),
            answers: 0,
            invalid: 0,
            unjudged: 0,
            high: false,
            closed: false,
            opens: true,
        }
    }

    /// Closes it because somebody else has; whether it may open by itself.
    pub fn close(&mut self, opens: bool) {
        (self.closed, self.opens) = (true, opens);
    }

    /// Opens it because somebody said so: what it has seen so far does not count any more.
    pub fn open(&mut self) {
        *self = Valve::new(self.max_share, self.full);
    }

    /// Takes note of one final answer.
    pub fn observe(&mut self, invalid: bool, now: Instant) -> Change {
        self.forget(now);
        let piece = self.piece(now);
        piece.answers += 1;
        piece.invalid += u32::from(invalid);
        self.answers += 1;
        self.invalid += u32::from(invalid);
        let share = self.share();
        let full = self.answers >= self.full;
        let was_high = std::mem::replace(&mut self.high, share > self.max_share);
        match self.closed {
            false if full && self.high => {
                (self.closed, self.opens) = (true, true);
                Change::Closed
            }
            true if self.opens && full && share <= self.max_share / 2.0 => {
                self.closed = false;
                Change::Opened
            }
            false if was_high && !self.high => Change::Cleared,
            _ => Change::None,
        }
    }

    /// Whether a dead token, whose answer was observed before, may be deleted now.
    pub fn judge(&mut self, now: Instant) -> Judgement {
        self.forget(now);
        if self.closed {
            return Judgement::Withhold;
        }
        if self.share() <= self.max_share {
            return Judgement::Delete;
        }
        if self.unjudged < UNJUDGED {
            self.piece(now).unjudged += 1;
            self.unjudged += 1;
            return Judgement::Delete;
        }
        Judgement::Wait
    }

    /// Whether the valve is closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The share of invalid answers in the window, 0 when there are none.
    pub fn share(&self) -> f64 {
        f64::from(self.invalid) / f64::from(self.answers.max(1))
    }

    /// The piece that answers go to now.
    fn piece(&mut self, now: Instant) -> &mut Piece {
        let fits = self.pieces.back().is_some_and(|last| {
            last.answers < self.full.div_ceil(PIECES) && now.saturating_duration_since(last.began) < WINDOW / PIECES
        });
        if !fits {
            self.pieces.push_back(Piece { began: now, answers: 0, invalid: 0, unjudged: 0 });
        }
        let last = self.pieces.len() - 1;
        &mut self.pieces[last]
    }

    /// Drops the oldest pieces: too old, or not needed for a full window.
    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.pieces.front() {
            let old = now.saturating_duration_since(oldest.began) >= WINDOW;
            if !old && self.answers - oldest.answers < self.full {
                return;
            }
            self.answers -= oldest.answers;
            self.invalid -= oldest.invalid;
            self.unjudged -= oldest.unjudged;
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds answers one millisecond apart; how many deletions were allowed, and the last change.
    fn feed(valve: &mut Valve, now: &mut Instant, n: u32, invalid: impl Fn(u32) -> bool) -> u32 {
        (0..n)
            .map(|i| {
                *now += Duration::from_millis(1);
                valve.observe(invalid(i), *now);
                u32::from(invalid(i) && valve.judge(*now) == Judgement::Delete)
            })
            .sum()
    }

    #[test]
    fn a_wrong_host_from_the_first_answer_on_costs_ten_rows() {
        let (mut valve, mut now) = (Valve::new(0.3, 1000), Instant::now());
        assert_eq!(feed(&mut valve, &mut now, 999, |_| true), UNJUDGED);
        assert!(!valve.is_closed());
        assert_eq!(valve.observe(true, now), Change::Closed);
        assert_eq!(feed(&mut valve, &mut now, 100_000, |_| true), 0);
    }

    #[test]
    fn a_wrong_host_in_full_flow_costs_at_most_the_share_of_a_window() {
        let (mut valve, mut now) = (Valve::new(0.3, 1000), Instant::now());
        feed(&mut valve, &mut now, 1_000_000, |i| i % 20 == 0);
        assert!(!valve.is_closed());
        let gone = feed(&mut valve, &mut now, 100_000, |_| true);
        assert!(gone <= 300, "{gone} rows");
        assert!(valve.is_closed());
    }

    #[test]
    fn an_app_of_a_few_pushes_a_day_loses_its_dead_tokens() {
        let (mut valve, mut now) = (Valve::new(0.3, 1000), Instant::now());
        for _day in 0..30 {
            now += Duration::from_hours(24);
            assert_eq!(feed(&mut valve, &mut now, 5, |_| true), 5);
        }
    }

    #[test]
    fn it_opens_again_at_half_the_share_of_a_full_window() {
        let (mut valve, mut now) = (Valve::new(0.3, 1000), Instant::now());
        feed(&mut valve, &mut now, 1000, |_| true);
        assert!(valve.is_closed());
        feed(&mut valve, &mut now, 5000, |i| i % 5 == 0);
        assert!(valve.is_closed(), "20 % is more than half of 30 %");
        feed(&mut valve, &mut now, 2000, |i| i % 10 == 0);
        assert!(!valve.is_closed());
    }

    #[test]
    fn what_another_closed_it_does_not_open_and_what_a_person_opens_begins_anew() {
        let (mut valve, mut now) = (Valve::new(0.3, 1000), Instant::now());
        valve.close(false);
        feed(&mut valve, &mut now, 5000, |_| false);
        assert!(valve.is_closed());
        valve.open();
        assert_eq!(valve.judge(now), Judgement::Delete);
        feed(&mut valve, &mut now, 1000, |_| true);
        assert!(valve.is_closed(), "it judges as before");
        valve.close(true);
        feed(&mut valve, &mut now, 5000, |_| false);
        assert!(!valve.is_closed(), "its predecessor's");
    }

    #[test]
    fn quiet_does_not_open_it() {
        let (mut valve, mut now) = (Valve::new(0.3, 1000), Instant::now());
        feed(&mut valve, &mut now, 1000, |_| true);
        now += Duration::from_hours(48);
        assert_eq!(valve.judge(now), Judgement::Withhold);
    }

    #[test]
    fn what_waits_is_told_when_the_share_is_low_enough() {
        let (mut valve, now) = (Valve::new(0.3, 1000), Instant::now());
        assert_eq!(valve.observe(true, now), Change::None);
        let changes: Vec<_> = (0..5).map(|_| valve.observe(false, now)).collect();
        assert_eq!(changes.iter().filter(|change| **change == Change::Cleared).count(), 1);
    }

    proptest! {
        /// Whatever comes: within a window no more rows go than the share allows, or than the unjudged few.
        #[test]
        fn deletions_never_exceed_the_share(
            phases in prop::collection::vec((0u32..100, 1u32..400, 0u64..30_000), 1..20), full in 50u32..500,
        ) {
            let share = 0.3;
            let mut valve = Valve::new(share, full);
            let mut now = Instant::now();
            for (percent, n, gap_ms) in phases {
                for _ in 0..n {
                    now += Duration::from_millis(gap_ms);
                    let invalid = fastrand::u32(..100) < percent;
                    valve.observe(invalid, now);
                    if invalid {
                        let before = (f64::from(valve.invalid), f64::from(valve.answers), valve.unjudged);
                        let judgement = valve.judge(now);
                        if judgement == Judgement::Delete {
                            prop_assert!(before.0 <= share * before.1 || before.2 < UNJUDGED);
                            prop_assert!(!valve.is_closed());
                        }
                    }
                    prop_assert!(valve.unjudged <= UNJUDGED);
                    prop_assert_eq!(valve.answers, valve.pieces.iter().map(|p| p.answers).sum::<u32>());
                    prop_assert_eq!(valve.invalid, valve.pieces.iter().map(|p| p.invalid).sum::<u32>());
                    prop_assert!(valve.answers < full + full.div_ceil(PIECES) + 1);
                    prop_assert!(valve.pieces.len() as u32 <= 2 * PIECES + 2);
                }
            }
        }

        /// A steady share well on one side of the limit ends open or closed accordingly.
        #[test]
        fn a_steady_share_is_judged_rightly(percent in prop_oneof![0u32..20, 40u32..=100]) {
            let (mut valve, mut now) = (Valve::new(0.3, 1000), Instant::now());
            feed(&mut valve, &mut now, 3000, |i| (i * 37) % 100 < percent);
            prop_assert_eq!(valve.is_closed(), percent >= 40);
        }
    }
}
