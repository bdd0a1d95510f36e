//! What an earlier owner of a partition resolved beyond what is read.

use std::ops::Range;

use super::{Claim, map};

/// Ranges that an earlier owner resolved and that are not read yet.
#[derive(Debug)]
pub(super) struct Claims {
    /// Ascending, not touching.
    ranges: Vec<Range<i64>>,
    /// The first that is not read past.
    first: usize,
    /// For each range what it and those behind it cost in the map.
    costs: Vec<usize>,
}

impl Claims {
    /// Of these in any order, from `start` on.
    pub(super) fn new(start: i64, mut claimed: Claim) -> Self {
        claimed.sort_unstable_by_key(|range| range.start);
        let clipped = claimed.into_iter().map(|range| range.start.max(start)..range.end);
        let ranges: Vec<_> = Joined::of(clipped.filter(|range| range.start < range.end)).collect();
        let costs = map::costs_from_each(&ranges);
        Claims { ranges, first: 0, costs }
    }

    /// Reads up to `offset`; whether it is claimed.
    pub(super) fn read(&mut self, offset: i64) -> bool {
        while self.ranges.get(self.first).is_some_and(|range| range.end <= offset) {
            self.first += 1;
        }
        self.ranges.get(self.first).is_some_and(|range| range.contains(&offset))
    }

    /// The first offset from `next` on that is not claimed.
    pub(super) fn past(&self, next: i64) -> i64 {
        self.ranges.get(self.first).filter(|range| range.contains(&next)).map_or(next, |range| range.end)
    }

    /// Those that are not read past, from `next` on.
    pub(super) fn ahead(&self, next: i64) -> impl Iterator<Item = Range<i64>> {
        self.ranges[self.first..].iter().map(move |range| range.start.max(next)..range.end)
    }

    /// Bytes that they take in the map, with a part for what lies between the last offset that was read and the first claim.
    pub(super) fn bytes_ahead(&self) -> usize {
        match self.costs.get(self.first) {
            None | Some(0) => 0,
            Some(cost) => cost + 10,
        }
    }
}

/// Ascending ranges, those that touch or overlap made one.
pub(super) struct Joined<I> {
    ranges: I,
    held: Option<Range<i64>>,
}

impl<I> Joined<I> {
    pub(super) fn of(ranges: I) -> Self {
        Joined { ranges, held: None }
    }
}

impl<I: Iterator<Item = Range<i64>>> Iterator for Joined<I> {
    type Item = Range<i64>;

    fn next(&mut self) -> Option<Range<i64>> {
        for range in self.ranges.by_ref() {
            match &mut self.held {
                Some(held) if range.start <= held.end => held.end = held.end.max(range.end),
                held => {
                    if let Some(whole) = held.replace(range) {
                        return Some(whole);
                    }
                }
            }
        }
        self.held.take()
    }
}
