//! How many requests fit one connection now. Pure.
//!
//! Two things fill a connection: streams (the peer's `MAX_CONCURRENT_STREAMS`, and fewer until it has shown that it accepts
//! us) and bytes (the peer's flow-control window for the whole connection, 65,535 bytes unless it grants more: RFC 9113
//! 6.9.2; APNs grants no more). What was sent can be held against that window, what is about to be sent cannot: places are
//! given out in bursts, before the bytes leave. So a budget of unanswered bytes is kept as TCP keeps one for a path: it
//! starts at what every peer must grant, grows with the answers while the window lasts, and when it did not, falls to what it
//! is good for ([`super::flow`]).

use tokio::time::Instant;

use super::flow::Flow;
use super::wire::FIRST_WINDOW;

/// Never believe in less: a peer that grants less than this per connection is not one to widen for.
const LEAST_BUDGET: usize = 16_384;
/// Enough for thousands of the largest bodies; beyond it the stream limit is what counts.
const MOST_BUDGET: usize = 64 << 20;

/// The places of one connection.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    unproven: Option<usize>,
    in_flight: usize,
    bytes: usize,
    budget: usize,
    flow: Flow,
    /// Whether the window is known to be the bound.
    is_bound: bool,
    /// Whether the window was used up, and no answer has come since.
    was_used_up: bool,
    stalled: bool,
    requests_left: u64,
    draining: bool,
}

impl Places {
    /// Places on a connection whose peer allows `limit` streams, but `unproven` of them until it is proven.
    pub(super) fn new(limit: usize, unproven: Option<usize>, max_requests: u64) -> Self {
        Places {
            limit,
            unproven: unproven.map(|streams| streams.max(1)),
            in_flight: 0,
            bytes: 0,
            budget: FIRST_WINDOW,
            flow: Flow::default(),
            is_bound: false,
            was_used_up: false,
            stalled: false,
            requests_left: max_requests.max(1),
            draining: false,
        }
    }

    /// Whether one more request of about `bytes` may start. A request always fits an empty connection.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let limit = self.unproven.map_or(self.limit, |unproven| unproven.min(self.limit));
        !self.draining
            && self.in_flight < limit
            && !self.stalled
            && (self.in_flight == 0 || self.bytes + bytes <= self.budget)
    }

    /// Gives one place away, for a request of about `bytes`. The last of the connection's requests makes it drain.
    pub(super) fn take(&mut self, bytes: usize) {
        self.in_flight += 1;
        self.bytes += bytes;
        self.requests_left -= 1;
        self.draining |= self.requests_left == 0;
    }

    /// The request turned out to have `actual` bytes where `guessed` were set aside.
    pub(super) fn weigh(&mut self, guessed: usize, actual: usize) {
        self.bytes = self.bytes - guessed + actual;
    }

    /// A request of `bytes` was answered while they were still counted: the budget may grow, when it is in use at all.
    pub(super) fn answered(&mut self, bytes: usize) {
        if std::mem::take(&mut self.was_used_up) {
            self.judge();
        }
        if self.bytes * 2 >= self.budget {
            self.is_bound = self.is_bound && self.most() < self.budget.saturating_mul(2);
            let step = if self.is_bound { bytes * bytes / self.budget + 1 } else { bytes };
            self.budget = (self.budget + step).min(MOST_BUDGET);
        }
    }

    /// The window was used up: for a moment, or because there is no more of it.
    fn judge(&mut self) {
        let most = self.most();
        if most < self.budget {
            self.is_bound = true;
            self.budget = most.clamp(LEAST_BUDGET, self.budget);
        }
    }

    /// What the window is good for.
    fn most(&self) -> usize {
        self.flow.most().map_or(MOST_BUDGET, |most| most / 8 * 7)
    }

    /// Takes a place back, with the bytes that it held.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.in_flight -= 1;
        self.bytes -= bytes;
    }

    /// So much of the peer's window is left.
    pub(super) fn look(&mut self, left: i64, now: Instant) {
        self.flow.look(self.bytes, left, now);
    }

    /// The peer's window is used up, or open again.
    pub(super) fn set_stalled(&mut self, stalled: bool) {
        self.stalled = stalled;
        self.was_used_up |= stalled;
    }

    /// The peer changed its stream limit.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The peer accepts us.
    pub(super) fn prove(&mut self) {
        self.unproven = None;
    }

    /// No new streams from now on.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether the peer allows no stream.
    pub(super) fn is_shut(&self) -> bool {
        self.limit == 0
    }

    pub(super) fn is_proven(&self) -> bool {
        self.unproven.is_none()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    fn fill(places: &mut Places, bytes: usize) -> usize {
        let before = places.in_flight();
        while places.has_room(bytes) {
            places.take(bytes);
        }
        places.in_flight() - before
    }

    #[test]
    fn one_stream_until_proven_then_the_peers_limit_live() {
        let mut places = Places::new(1000, Some(1), 1 << 20);
        assert_eq!(fill(&mut places, 10), 1);
        places.prove();
        assert_eq!(fill(&mut places, 10), 999);
        places.set_limit(500);
        places.give_back(10);
        assert!(!places.has_room(10));
        places.set_limit(1001);
        assert_eq!(fill(&mut places, 10), 2);
    }

    #[test]
    fn bytes_fill_a_connection_before_streams_do() {
        let mut places = Places::new(1000, None, 1 << 20);
        assert_eq!(fill(&mut places, 4096), 15);
    }

    fn answer(places: &mut Places, bytes: usize, count: usize) {
        for _ in 0..count {
            places.answered(bytes);
            places.give_back(bytes);
        }
    }

    #[test]
    fn the_budget_grows_with_answers_until_the_window_is_what_is_waited_for() {
        let (mut places, start) = (Places::new(1000, None, 1 << 20), Instant::now());
        for _ in 0..6 {
            let under_way = fill(&mut places, 1000).min(places.in_flight());
            answer(&mut places, 1000, under_way);
        }
        fill(&mut places, 1000);
        assert!(places.in_flight() > 130, "a window that is returned at once is used: {}", places.in_flight());
        let more = places.in_flight() - 60;
        answer(&mut places, 1000, more);
        assert!(places.has_room(1000));
        places.look(0, start);
        places.set_stalled(true);
        assert!(!places.has_room(1), "nothing is added to a connection that waits for its window");
        places.look(0, start + Duration::from_millis(100));
        places.set_stalled(false);
        assert!(places.has_room(1000), "it may be back in a moment each time");
        answer(&mut places, 1000, 1);
        assert!(!places.has_room(1000), "but is not");
        answer(&mut places, 1000, 10);
        assert!(places.has_room(1000));
    }

    #[test]
    fn a_burst_that_uses_the_window_up_for_a_moment_bounds_nothing() {
        let (mut places, start) = (Places::new(1000, None, 1 << 20), Instant::now());
        let first = fill(&mut places, 300);
        places.look(0, start);
        places.set_stalled(true);
        places.look(FIRST_WINDOW as i64, start + Duration::from_millis(2));
        places.set_stalled(false);
        places.look(FIRST_WINDOW as i64, start + Duration::from_millis(100));
        answer(&mut places, 300, first);
        assert!(fill(&mut places, 300) > first + first / 3, "it grows on");
    }

    #[test]
    fn a_body_larger_than_the_budget_fits_an_empty_connection() {
        let mut places = Places::new(10, None, 1 << 20);
        assert!(places.has_room(FIRST_WINDOW * 2));
        places.take(FIRST_WINDOW * 2);
        assert!(!places.has_room(1));
    }

    #[test]
    fn the_last_request_drains_the_connection() {
        let mut places = Places::new(10, None, 3);
        assert_eq!(fill(&mut places, 1), 3);
        assert!(places.is_draining());
    }

    proptest! {
        #[test]
        fn never_above_the_limit_and_nothing_leaks(steps in prop::collection::vec((0u8..6, 1usize..5000), 1..400)) {
            let mut places = Places::new(20, Some(1), 1 << 40);
            let mut held: Vec<usize> = Vec::new();
            let (mut limit, mut now) = (20, Instant::now());
            for (step, size) in steps {
                match step {
                    0 | 1 => if places.has_room(size) { places.take(size); held.push(size); prop_assert!(held.len() <= limit); },
                    2 => if let Some(bytes) = held.pop() {
                        places.answered(bytes);
                        places.give_back(bytes);
                    },
                    3 => { limit = size % 40; places.set_limit(limit); },
                    4 => {
                        places.set_stalled(size % 3 == 0);
                        now += Duration::from_millis(size as u64 % 10);
                        places.look(size as i64 * 20, now);
                    },
                    _ => places.prove(),
                }
                prop_assert_eq!(places.in_flight(), held.len());
                prop_assert_eq!(places.bytes, held.iter().sum::<usize>());
                prop_assert!((LEAST_BUDGET..=MOST_BUDGET).contains(&places.budget));
            }
        }
    }
}
