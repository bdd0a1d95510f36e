//! The listener's safety valve: no more of a table goes in a window than a share of its rows. Pure: time is an argument.
//!
//! One valve per table. It counts the rows that went in the last `window`; when they have reached `max_share` of the table's
//! rows it must be closed, and stays closed until somebody opens it. [`Limits::min_rows`] of a window are always allowed, so
//! that a small table, or one whose rows nobody has counted, loses its dead tokens too.
//!
//! Statements run side by side, so tokens are *granted* before their statement and settled after it, and what is granted
//! counts as if it had gone. When that alone is in the way, the next waits for it: tokens without a row close nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A window is kept in this many pieces, so that old deletions leave it little by little.
const PIECES: u32 = 60;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Share of a table's rows; 1: whatever comes.
    pub max_share: f64,
    /// In which time.
    pub window: Duration,
    /// Rows that are always allowed in it.
    pub min_rows: u64,
}

impl Limits {
    /// Whether any deletion is allowed.
    pub fn are_off(&self) -> bool {
        self.max_share >= 1.0
    }
}

/// What a valve says to tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// So many may be deleted now.
    Tokens(usize),
    /// Ask again when a statement under way is settled.
    Wait,
    /// The allowance is used up: the valve must be closed.
    UsedUp,
    /// It is closed.
    Closed,
}

/// The valve of one table.
#[derive(Debug)]
pub struct Valve {
    limits: Limits,
    /// Rows of the table, if they are known.
    rows: Option<u64>,
    pieces: VecDeque<(Instant, u64)>,
    gone: u64,
    granted: u64,
    closed: bool,
}

impl Valve {
    /// An open valve.
    pub fn new(limits: Limits) -> Self {
        Valve { limits, rows: None, pieces: VecDeque::new(), gone: 0, granted: 0, closed: false }
    }

    /// The table has so many rows, about; `None`: nobody has counted them.
    pub fn set_rows(&mut self, rows: Option<u64>) {
        self.rows = rows;
    }

    /// Its rows, if they are known.
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// Rows that went in the window.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// How many of so many tokens may be deleted now. What is granted must be settled.
    pub fn grant(&mut self, tokens: usize, now: Instant) -> Grant {
        if self.closed {
            return Grant::Closed;
        }
        self.forget(now);
        let room = self.allowance().saturating_sub(self.gone);
        let free = room.saturating_sub(self.granted);
        if room == 0 {
            return Grant::UsedUp;
        }
        if free == 0 {
            return Grant::Wait;
        }
        let granted = (tokens as u64).min(free);
        self.granted += granted;
        Grant::Tokens(granted as usize)
    }

    /// The statement for so many granted tokens came to its end; so many rows went.
    pub fn settle(&mut self, tokens: usize, rows: u64, now: Instant) {
        self.granted = self.granted.saturating_sub(tokens as u64);
        if rows == 0 {
            return;
        }
        self.gone += rows;
        match self.pieces.back_mut() {
            Some((began, gone)) if now.saturating_duration_since(*began) < self.limits.window / PIECES => *gone += rows,
            _ => self.pieces.push_back((now, rows)),
        }
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Closes it.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Opens it; what went before does not count any more.
    pub fn open(&mut self) {
        self.closed = false;
        self.pieces.clear();
        self.gone = 0;
    }

    /// Rows that may go in a window.
    pub fn allowance(&self) -> u64 {
        if self.limits.are_off() {
            return u64::MAX;
        }
        let share = self.rows.map_or(0, |rows| (rows as f64 * self.limits.max_share) as u64);
        share.max(self.limits.min_rows)
    }

    /// A piece leaves when the last of it is old enough.
    fn forget(&mut self, now: Instant) {
        let window = self.limits.window + self.limits.window / PIECES;
        while let Some((began, gone)) = self.pieces.front()
            && now.saturating_duration_since(*began) >= window
        {
            self.gone -= gone;
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn valve(rows: Option<u64>) -> Valve {
        let mut valve = Valve::new(Limits { max_share: 0.1, window: HOUR, min_rows: 100 });
        valve.set_rows(rows);
        valve
    }

    /// One statement after the other, each token with a row; how many went until it must be closed.
    fn drain(valve: &mut Valve, now: Instant) -> u64 {
        let before = valve.gone();
        while let Grant::Tokens(n) = valve.grant(1000, now) {
            valve.settle(n, n as u64, now);
        }
        assert_eq!(valve.grant(1, now), Grant::UsedUp);
        valve.gone() - before
    }

    #[test]
    fn a_share_of_the_table_goes_and_no_more() {
        let now = Instant::now();
        assert_eq!(drain(&mut valve(Some(100_000)), now), 10_000);
        assert_eq!(drain(&mut valve(Some(20)), now), 100, "a small table has its minimum");
        assert_eq!(drain(&mut valve(None), now), 100, "so has one that nobody has counted");
    }

    #[test]
    fn what_went_leaves_the_window() {
        let (mut valve, mut now) = (valve(Some(100_000)), Instant::now());
        for _ in 0..48 {
            let Grant::Tokens(n) = valve.grant(5_000, now) else { panic!("half of the allowance an hour") };
            valve.settle(n, n as u64, now);
            now += HOUR;
        }
        assert!(valve.pieces.len() <= 2);
    }

    #[test]
    fn what_is_under_way_is_waited_for_and_tokens_without_a_row_cost_nothing() {
        let (mut valve, now) = (valve(Some(100_000)), Instant::now());
        for _ in 0..1_000 {
            let Grant::Tokens(first) = valve.grant(10_000, now) else { panic!("nothing has gone") };
            assert_eq!((first, valve.grant(1, now)), (10_000, Grant::Wait));
            valve.settle(first, 0, now);
        }
        assert_eq!(valve.gone(), 0);
    }

    #[test]
    fn closed_it_stays_until_it_is_opened_and_then_begins_anew() {
        let (mut valve, now) = (valve(Some(100_000)), Instant::now());
        drain(&mut valve, now);
        valve.close();
        assert_eq!(valve.grant(1, now + HOUR * 48), Grant::Closed);
        valve.open();
        assert_eq!(drain(&mut valve, now), 10_000);
    }

    #[test]
    fn it_can_be_switched_off() {
        let mut valve = Valve::new(Limits { max_share: 1.0, window: HOUR, min_rows: 1 });
        let now = Instant::now();
        for _ in 0..100 {
            assert_eq!(valve.grant(1_000_000, now), Grant::Tokens(1_000_000));
            valve.settle(1_000_000, 1_000_000, now);
        }
    }

    proptest! {
        /// Whatever is under way side by side: never more goes in a window than is allowed.
        #[test]
        fn no_more_goes_than_is_allowed(
            steps in prop::collection::vec((1usize..2_000, any::<bool>(), 0u64..120), 1..300), rows in 0u64..50_000,
        ) {
            let mut valve = valve(Some(rows));
            let mut now = Instant::now();
            let (mut under_way, mut log): (Vec<usize>, Vec<(Instant, u64)>) = (Vec::new(), Vec::new());
            for (tokens, ends, seconds) in steps {
                now += Duration::from_secs(seconds);
                match valve.grant(tokens, now) {
                    Grant::Tokens(n) => under_way.push(n),
                    Grant::Wait => prop_assert!(!under_way.is_empty()),
                    Grant::UsedUp => valve.open(),
                    Grant::Closed => unreachable!("nobody closes it"),
                }
                if valve.gone() == 0 {
                    log.clear();
                }
                if ends && !under_way.is_empty() {
                    let n = under_way.remove(0);
                    valve.settle(n, n as u64, now);
                    log.push((now, n as u64));
                }
                let in_window: u64 = log.iter().filter(|(at, _)| now - *at < HOUR).map(|(_, n)| n).sum();
                prop_assert!(in_window <= valve.allowance(), "{in_window} of {}", valve.allowance());
            }
        }
    }
}
