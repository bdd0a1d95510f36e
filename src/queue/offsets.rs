//! The ledger of one partition: which offsets are lent, which are resolved, what may be committed. Pure: no clock, no lock.
//!
//! An offset is unresolved from the moment it is lent until it is resolved; everything else below [`Ledger::next`] is
//! resolved, also offsets that the log does not have (compaction, transaction marks). So only the unresolved ones are kept:
//! a million offsets resolved beyond a stuck one cost nothing. What an earlier owner's map claims as resolved is believed
//! until it is read past.

use std::ops::Range;
use std::time::Instant;

use super::map;

mod claims;
mod unresolved;
use claims::{Claims, Joined};
use unresolved::{Entry, State, Unresolved};

/// Most bytes that one more in flight adds to a map: what ends the run before it, and what begins the one behind.
const ONE_MORE: usize = 8;

/// Ranges believed resolved, in any order.
pub type Claim = Vec<Range<i64>>;

/// What [`Ledger::lend`] says to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lend {
    /// It is in flight from now on.
    New,
    /// It must not be sent.
    Skip(Skipped),
}

/// Why a record is not lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// It is in flight: the partition was read again from before it.
    InFlight,
    /// It is resolved: read again, or claimed by the map of an earlier owner.
    Resolved,
}

/// The time of the record at a ledger's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionTime {
    /// That record has not been read.
    Unread,
    /// It was read and has none.
    Without,
    /// Its timestamp, ms since the epoch.
    At(i64),
}

impl PositionTime {
    /// As it is compared: -1 without one, `None` when unread.
    pub fn known(self) -> Option<i64> {
        match self {
            PositionTime::Unread => None,
            PositionTime::Without => Some(-1),
            PositionTime::At(timestamp_ms) => Some(timestamp_ms),
        }
    }

    /// As a moment, ms since the epoch: `None` when unread or without one.
    pub fn ms(self) -> Option<i64> {
        if let PositionTime::At(timestamp_ms) = self { Some(timestamp_ms) } else { None }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    start: i64,
    next: i64,
    unresolved: Unresolved,
    in_flight: usize,
    /// Not read yet, all at or above `next`, but for the first, which may begin below.
    claims: Claims,
}

impl Ledger {
    /// Begins at `start`, the first offset to be read: everything below it is resolved. `claimed` may be empty.
    pub fn new(start: i64, claimed: Claim) -> Self {
        let claims = Claims::new(start, claimed);
        Ledger { start, next: start, unresolved: Unresolved::default(), in_flight: 0, claims }
    }

    /// Whether the record that was read at `offset` is to be sent; then it is in flight. `timestamp_ms` is -1 for a record
    /// without one. An offset beyond [`Ledger::next`] says that the log has none between.
    pub fn lend(&mut self, offset: i64, timestamp_ms: i64, now: Instant) -> Lend {
        if offset < self.next {
            return self.lend_again(offset, now);
        }
        self.next = offset.saturating_add(1);
        if self.claims.read(offset) {
            return Lend::Skip(Skipped::Resolved);
        }
        self.unresolved.push(Entry { offset, timestamp_ms, lent_at: now, state: State::InFlight });
        self.in_flight += 1;
        Lend::New
    }

    fn lend_again(&mut self, offset: i64, now: Instant) -> Lend {
        match self.unresolved.get_mut(offset) {
            Some(known) if known.state == State::GivenBack => {
                (known.state, known.lent_at) = (State::InFlight, now);
                self.in_flight += 1;
                Lend::New
            }
            Some(_) => Lend::Skip(Skipped::InFlight),
            None => Lend::Skip(Skipped::Resolved),
        }
    }

    /// The record's outcome is final. False, and nothing changes, when it is not in flight.
    pub fn resolve(&mut self, offset: i64) -> bool {
        let resolved = self.unresolved.resolve(offset);
        self.in_flight -= usize::from(resolved);
        resolved
    }

    /// Whether the outcome of what came at `offset` is final; what was never read here counts as such only below the start.
    pub fn is_resolved(&self, offset: i64) -> bool {
        offset < self.next && self.unresolved.get(offset).is_none()
    }

    /// The record came back without an outcome: it is not in flight, holds the position, and may be lent again. False,
    /// and nothing changes, when it was not in flight.
    pub fn forget(&mut self, offset: i64) -> bool {
        match self.unresolved.get_mut(offset) {
            Some(known) if known.state == State::InFlight => {
                known.state = State::GivenBack;
                self.in_flight -= 1;
                true
            }
            _ => false,
        }
    }

    /// The log lost everything below `low`: reading goes on there, and what was given back below is never read again and
    /// holds the position no longer. How many of those there were.
    pub fn abandon(&mut self, low: i64) -> i64 {
        let gone: Vec<_> = self.given_back().take_while(|offset| *offset < low).collect();
        for offset in &gone {
            self.give_up(*offset);
        }
        if self.next < low {
            self.next = low;
            self.claims.read(low - 1);
        }
        gone.len() as i64
    }

    /// Where reading must go on so that nothing is missed: at the first offset that was given back, else at
    /// [`Ledger::next`].
    pub fn read_from(&self) -> i64 {
        self.given_back().next().unwrap_or(self.next)
    }

    fn given_back(&self) -> impl Iterator<Item = i64> {
        self.unresolved.iter().filter(|entry| entry.state == State::GivenBack).map(|entry| entry.offset)
    }

    /// The offset to commit: the first that is not resolved. When all that was read is, that is [`Ledger::next`], or the
    /// end of the claim that begins there.
    pub fn position(&self) -> i64 {
        self.unresolved.first().map_or_else(|| self.claims.past(self.next), |first| first.offset)
    }

    /// The time of the record at the position.
    pub fn position_time(&self) -> PositionTime {
        match self.unresolved.first().map(|first| first.timestamp_ms) {
            None => PositionTime::Unread,
            Some(..0) => PositionTime::Without,
            Some(timestamp_ms) => PositionTime::At(timestamp_ms),
        }
    }

    /// Somebody else resolved these; in any order. What is in flight here stays so, the rest is not lent again.
    pub fn claim(&mut self, claimed: Claim) {
        for offset in
            self.given_back().filter(|offset| claimed.iter().any(|range| range.contains(offset))).collect::<Vec<_>>()
        {
            self.give_up(offset);
        }
        let known = self.claims.ahead(self.next);
        self.claims = Claims::new(self.next, known.chain(claimed).collect());
    }

    /// What was given back is as good as resolved.
    fn give_up(&mut self, offset: i64) {
        if let Some(entry) = self.unresolved.get_mut(offset) {
            entry.state = State::InFlight;
        }
        self.unresolved.resolve(offset);
    }

    /// What is resolved beyond the position, for the map: ascending, disjoint and not touching.
    pub fn resolved_beyond(&self) -> impl Iterator<Item = Range<i64>> {
        let offsets = || self.unresolved.iter().map(|entry| entry.offset);
        let ends = offsets().skip(1).chain([self.next]);
        let read = offsets().zip(ends).map(|(unresolved, end)| unresolved + 1..end);
        let unread = self.claims.ahead(self.next.max(self.position()));
        Joined::of(read.chain(unread).filter(|range| range.start < range.end))
    }

    /// How many offsets that were read lie beyond the position and are resolved.
    pub fn resolved_beyond_position(&self) -> u64 {
        let read = (self.next - self.position()).max(0) as u64;
        read.saturating_sub(self.unresolved.len() as u64)
    }

    /// How many are lent and not resolved.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The lowest offset in flight, which is what holds the position back, and since when.
    pub fn oldest(&self) -> Option<(i64, Instant)> {
        self.unresolved.iter().find(|known| known.state == State::InFlight).map(|known| (known.offset, known.lent_at))
    }

    /// The offset that the log is expected to give next.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The first offset that this ledger was to read; what lies below is no business of it.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// Whether the map may have no room for one more: then nothing is lent until it falls. With nothing in flight it cannot
    /// fall, and lending does no harm, unless reading `goes_back` to what was given back before it goes on.
    pub fn map_is_full(&self, goes_back: bool) -> bool {
        (self.in_flight > 0 || goes_back) && self.map_cost() + ONE_MORE > map::CAPACITY
    }

    /// Bytes that the map takes at most, out of [`map::CAPACITY`]; in constant time.
    pub fn map_cost(&self) -> usize {
        let position = self.position();
        let read = self.unresolved.map_bytes((self.next - position).max(0) as u64);
        read + self.claims.bytes_ahead()
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "ranges are the data here")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::map::OffsetMap;
    use super::*;

    fn lend(ledger: &mut Ledger, offset: i64) -> Lend {
        ledger.lend(offset, offset * 10, Instant::now())
    }

    fn beyond(ledger: &Ledger) -> Vec<Range<i64>> {
        ledger.resolved_beyond().collect()
    }

    #[test]
    fn the_position_waits_for_the_first_unresolved() {
        let mut ledger = Ledger::new(5, vec![]);
        assert_eq!((ledger.position(), ledger.next(), ledger.oldest()), (5, 5, None));
        for offset in 5..9 {
            assert_eq!(lend(&mut ledger, offset), Lend::New);
        }
        assert!(ledger.resolve(6) && ledger.resolve(8));
        assert_eq!((ledger.position(), ledger.position_time()), (5, PositionTime::At(50)));
        assert_eq!((beyond(&ledger), ledger.resolved_beyond_position()), (vec![6..7, 8..9], 2));
        assert!(ledger.resolve(5));
        assert_eq!((ledger.position(), ledger.in_flight()), (7, 1));
        assert!(ledger.resolve(7));
        assert_eq!((ledger.position(), ledger.position_time()), (9, PositionTime::Unread));
        assert!(beyond(&ledger).is_empty());
    }

    #[test]
    fn resolved_is_what_was_read_and_is_not_open() {
        let mut ledger = Ledger::new(5, vec![7..8]);
        assert_eq!([5, 6, 7].map(|offset| lend(&mut ledger, offset) == Lend::New), [true, true, false]);
        assert!(ledger.resolve(5) && ledger.forget(6));
        let resolved: Vec<_> = (3..10).filter(|offset| ledger.is_resolved(*offset)).collect();
        assert_eq!(resolved, [3, 4, 5, 7]);
    }

    #[test]
    fn what_the_log_does_not_have_is_resolved() {
        let mut ledger = Ledger::new(0, vec![]);
        lend(&mut ledger, 3);
        assert_eq!(ledger.position(), 3);
        lend(&mut ledger, 1_000_000_000_000);
        assert_eq!(beyond(&ledger), [4..1_000_000_000_000]);
        ledger.resolve(3);
        assert_eq!(ledger.position(), 1_000_000_000_000);
    }

    #[test]
    fn a_stale_or_repeated_resolution_changes_nothing() {
        let mut ledger = Ledger::new(10, vec![]);
        assert!(!ledger.resolve(10) && !ledger.resolve(3) && !ledger.forget(10));
        lend(&mut ledger, 10);
        assert_eq!(lend(&mut ledger, 10), Lend::Skip(Skipped::InFlight));
        assert!(ledger.resolve(10) && !ledger.resolve(10) && !ledger.forget(10));
        assert_eq!(lend(&mut ledger, 10), Lend::Skip(Skipped::Resolved));
        assert_eq!(lend(&mut ledger, 2), Lend::Skip(Skipped::Resolved), "below the start is committed");
    }

    #[test]
    fn a_forgotten_offset_holds_the_position_and_is_lent_again() {
        let mut ledger = Ledger::new(0, vec![]);
        lend(&mut ledger, 0);
        lend(&mut ledger, 1);
        assert!(ledger.resolve(1) && ledger.forget(0) && !ledger.forget(0) && !ledger.resolve(0));
        assert_eq!((ledger.position(), ledger.in_flight(), ledger.oldest()), (0, 0, None));
        assert_eq!(lend(&mut ledger, 0), Lend::New);
        assert_eq!(lend(&mut ledger, 1), Lend::Skip(Skipped::Resolved));
        assert_eq!(ledger.oldest().map(|(offset, _)| offset), Some(0));
        assert!(ledger.resolve(0));
        assert_eq!(ledger.position(), 2);
    }

    #[test]
    fn what_the_log_lost_before_it_was_read_again_is_abandoned() {
        let mut ledger = Ledger::new(0, vec![]);
        (0..6).for_each(|offset| assert_eq!(lend(&mut ledger, offset), Lend::New));
        assert!(ledger.forget(1) && ledger.forget(4) && ledger.resolve(0));
        assert_eq!((ledger.read_from(), ledger.abandon(3), ledger.read_from()), (1, 1, 4));
        assert_eq!((ledger.position(), ledger.in_flight()), (2, 3), "what is in flight is not given up");
        assert_eq!((ledger.abandon(10), ledger.read_from(), ledger.next()), (1, 10, 10));
        assert_eq!(lend(&mut ledger, 4), Lend::Skip(Skipped::Resolved));
    }

    #[test]
    fn claims_are_skipped_and_carried_on_in_the_next_map() {
        let mut ledger = Ledger::new(10, vec![20..25, 12..14, 14..15, 3..5, 9..11, 30..30]);
        assert_eq!((ledger.position(), ledger.next()), (11, 10), "a claim at the start is as good as read");
        assert_eq!(beyond(&ledger), [12..15, 20..25]);
        assert_eq!(lend(&mut ledger, 10), Lend::Skip(Skipped::Resolved));
        assert_eq!(lend(&mut ledger, 11), Lend::New);
        assert_eq!(lend(&mut ledger, 12), Lend::Skip(Skipped::Resolved));
        assert_eq!(beyond(&ledger), [12..15, 20..25]);
        assert_eq!(lend(&mut ledger, 17), Lend::New);
        assert_eq!(beyond(&ledger), [12..17, 20..25]);
        assert_eq!(lend(&mut ledger, 24), Lend::Skip(Skipped::Resolved));
        assert_eq!(lend(&mut ledger, 25), Lend::New);
        assert_eq!(beyond(&ledger), [12..17, 18..25]);
    }

    #[test]
    fn a_record_without_timestamp_has_none() {
        let mut ledger = Ledger::new(0, vec![]);
        ledger.lend(0, -1, Instant::now());
        assert_eq!((ledger.position_time(), ledger.position_time().known()), (PositionTime::Without, Some(-1)));
    }

    #[test]
    fn a_million_resolved_beyond_a_stuck_one_cost_a_few_bytes() {
        let mut ledger = Ledger::new(0, vec![]);
        lend(&mut ledger, 0);
        for offset in 1..=1_000_000 {
            lend(&mut ledger, offset);
            assert!(ledger.resolve(offset));
        }
        assert_eq!((ledger.position(), beyond(&ledger)), (0, vec![1..1_000_001]));
        assert!(ledger.unresolved.held() <= 64, "{}", ledger.unresolved.held());
        assert!(ledger.map_cost() < 16, "{}", ledger.map_cost());
    }

    #[test]
    fn the_estimate_lets_ten_thousand_be_in_flight_behind_a_stuck_one() {
        let mut ledger = Ledger::new(0, vec![]);
        let mut random = fastrand::Rng::with_seed(1);
        lend(&mut ledger, 0);
        for offset in 1_000_000..1_020_000 {
            lend(&mut ledger, offset);
            if random.bool() {
                ledger.resolve(offset);
            }
        }
        assert!(ledger.map_cost() < map::CAPACITY, "{}", ledger.map_cost());
    }

    /// Whatever share stays behind: it comes to the limit, what was lent until then fits into a commit, and it goes on.
    #[test]
    fn what_is_lent_until_the_map_is_full_fits() {
        for percent in [1, 2, 5, 12, 50, 95] {
            let (mut random, mut ledger) = (fastrand::Rng::with_seed(percent.into()), Ledger::new(0, vec![]));
            lend(&mut ledger, 0);
            while !ledger.map_is_full(false) {
                let offset = ledger.next();
                lend(&mut ledger, offset);
                if random.u8(0..100) >= percent {
                    ledger.resolve(offset);
                }
                assert!(offset < 400_000, "{percent} %: never full");
            }
            let map =
                OffsetMap { base: 0, base_timestamp_ms: 0, cluster: 0, resolved: ledger.resolved_beyond().collect() };
            assert!(map::encode(&map).is_some(), "{percent} %: {} offsets", ledger.next());
            // As docs/guarantee.md says.
            let (offsets, stragglers) = (ledger.next(), ledger.in_flight());
            let about = match percent {
                1 => 1_800,
                2 => 2_100,
                5 => 2_700,
                _ => stragglers,
            };
            assert!(stragglers.abs_diff(about) <= about / 20, "{percent} %: {stragglers} stragglers");
            assert!(percent < 12 || (23_500..25_000).contains(&offsets), "{percent} %: {offsets} offsets");
            // Where a chunk's bits are the bound, and each offset alone is nearly as cheap, it takes some more to make room.
            let few = if percent == 12 { 4 * ONE_MORE } else { ONE_MORE };
            let few: Vec<_> = ledger.unresolved.iter().map(|entry| entry.offset).take(few).collect();
            assert!(few.into_iter().all(|offset| ledger.resolve(offset)) && !ledger.map_is_full(false), "{percent} %");
        }
    }

    #[test]
    fn a_map_that_nothing_in_flight_can_shorten_is_not_full() {
        let mut ledger = Ledger::new(0, (1..2_000).map(|n| n * 20..n * 20 + 1).collect());
        assert!(ledger.map_cost() > map::CAPACITY && !ledger.map_is_full(false));
        lend(&mut ledger, 0);
        assert!(ledger.map_is_full(false));
        assert!(ledger.forget(0) && !ledger.map_is_full(false) && ledger.map_is_full(true));
    }

    /// The obvious ledger.
    #[derive(Debug, Default)]
    struct Naive {
        start: i64,
        next: i64,
        lent: BTreeSet<i64>,
        forgotten: BTreeSet<i64>,
        claimed: BTreeSet<i64>,
    }

    impl Naive {
        fn is_resolved(&self, offset: i64) -> bool {
            let open = self.lent.contains(&offset) || self.forgotten.contains(&offset);
            offset < self.start || !open && (offset < self.next || self.claimed.contains(&offset))
        }

        fn lend(&mut self, offset: i64) -> Lend {
            let seen = if self.lent.contains(&offset) {
                Lend::Skip(Skipped::InFlight)
            } else if self.is_resolved(offset) {
                Lend::Skip(Skipped::Resolved)
            } else {
                self.forgotten.remove(&offset);
                self.lent.insert(offset);
                Lend::New
            };
            self.next = self.next.max(offset + 1);
            seen
        }

        fn check(&self, ledger: &Ledger) {
            let position = (self.start..i64::MAX).find(|offset| !self.is_resolved(*offset)).unwrap();
            assert_eq!(ledger.position(), position);
            assert_eq!((ledger.next(), ledger.in_flight()), (self.next, self.lent.len()));
            assert_eq!(ledger.oldest().map(|(offset, _)| offset), self.lent.first().copied());
            let ranges: Vec<_> = ledger.resolved_beyond().collect();
            assert!(ranges.iter().all(|range| range.start > position && range.start < range.end), "{ranges:?}");
            assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges:?}");
            let named: Vec<i64> = ranges.iter().cloned().flatten().collect();
            let end = self.next.max(self.claimed.last().map_or(0, |last| last + 1));
            let expected: Vec<i64> = (position..end).filter(|offset| self.is_resolved(*offset)).collect();
            assert_eq!(named, expected);
            let map = OffsetMap { base: position, base_timestamp_ms: 0, cluster: 0, resolved: ranges };
            let text = map::encode(&map).expect("what is in flight here fits");
            assert_eq!(map::decode(&text).unwrap().map(|map| map.resolved).unwrap_or_default(), map.resolved);
            let written = (text.len() * 3 / 4).saturating_sub(28);
            assert!(written <= ledger.map_cost(), "{written} > {}", ledger.map_cost());
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Read { gap: i64 },
        ReadAgain { back: i64 },
        Resolve { which: prop::sample::Index },
        Forget { which: prop::sample::Index },
        Claim { ahead: i64, length: i64 },
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let gap = prop_oneof![12 => Just(0_i64), 2 => 1_i64..5, 1 => 0_i64..40];
        let step = prop_oneof![
            30 => gap.prop_map(|gap| Step::Read { gap }),
            3 => (1_i64..60).prop_map(|back| Step::ReadAgain { back }),
            20 => any::<prop::sample::Index>().prop_map(|which| Step::Resolve { which }),
            2 => any::<prop::sample::Index>().prop_map(|which| Step::Forget { which }),
            1 => (-40_i64..40, 0_i64..20).prop_map(|(ahead, length)| Step::Claim { ahead, length }),
            1 => Just(Step::Restart),
        ];
        prop::collection::vec(step, 1..300)
    }

    fn run(start: i64, claims: Vec<Range<i64>>, steps: Vec<Step>) {
        let mut ledger = Ledger::new(start, claims.clone());
        let claimed = claims.into_iter().flatten().collect();
        let mut naive = Naive { start, next: start, claimed, ..Naive::default() };
        for step in steps {
            match step {
                Step::Read { gap } => {
                    let offset = naive.next + gap;
                    assert_eq!(lend(&mut ledger, offset), naive.lend(offset));
                }
                Step::ReadAgain { back } => {
                    let offset = naive.next - back;
                    assert_eq!(lend(&mut ledger, offset), naive.lend(offset));
                }
                Step::Resolve { which } | Step::Forget { which } if naive.lent.is_empty() => {
                    let stale = naive.next - which.index(50) as i64;
                    assert!(!ledger.resolve(stale) && !ledger.forget(stale));
                }
                Step::Resolve { which } => {
                    let offset = *naive.lent.iter().nth(which.index(naive.lent.len())).unwrap();
                    naive.lent.remove(&offset);
                    assert!(ledger.resolve(offset) && !ledger.resolve(offset));
                }
                Step::Forget { which } => {
                    let offset = *naive.lent.iter().nth(which.index(naive.lent.len())).unwrap();
                    naive.lent.remove(&offset);
                    naive.forgotten.insert(offset);
                    assert!(ledger.forget(offset));
                }
                Step::Claim { ahead, length } => {
                    let range = naive.next + ahead..naive.next + ahead + length;
                    ledger.claim(vec![range.clone()]);
                    naive.forgotten.retain(|offset| !range.contains(offset));
                    naive.claimed.extend(range.filter(|offset| *offset >= naive.next));
                }
                Step::Restart => {
                    let position = ledger.position();
                    let claims: Vec<_> = ledger.resolved_beyond().collect();
                    ledger = Ledger::new(position, claims.clone());
                    let claimed = claims.into_iter().flatten().collect();
                    naive = Naive { start: position, next: position, claimed, ..Naive::default() };
                }
            }
            naive.check(&ledger);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn agrees_with_the_obvious_ledger(
            start in 0_i64..2000,
            claims in prop::collection::vec((0_i64..60, 0_i64..20), 0..5),
            steps in steps(),
        ) {
            let claims = claims.into_iter().map(|(at, length)| start + at - 5..start + at - 5 + length).collect();
            run(start, claims, steps);
        }

        /// The estimate bounds the map whatever the pattern: windows dense and sparse, stragglers, runs in flight.
        #[test]
        fn the_estimate_bounds_the_map(
            parts in prop::collection::vec((0_i64..5000, 1_i64..3000, 0..=100_u8, any::<bool>()), 1..8),
            seed in any::<u64>(),
            restart in any::<bool>(),
            read in 0_i64..5000,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut ledger = Ledger::new(1, vec![]);
            for (lead, length, percent, in_runs) in parts {
                for _ in 0..lead {
                    let offset = ledger.next();
                    lend(&mut ledger, offset);
                    ledger.resolve(offset);
                }
                let mut keep = 0;
                for offset in ledger.next()..ledger.next() + length {
                    lend(&mut ledger, offset);
                    if keep == 0 && random.u8(0..100) < percent {
                        keep = if in_runs { random.i32(1..40) } else { 1 };
                    }
                    keep = if keep > 0 { keep - 1 } else { ledger.resolve(offset); 0 };
                }
            }
            if restart {
                let claims = ledger.resolved_beyond().collect();
                ledger = Ledger::new(ledger.position(), claims);
                for _ in 0..read {
                    let offset = ledger.next();
                    lend(&mut ledger, offset);
                }
            }
            let resolved: Vec<_> = ledger.resolved_beyond().collect();
            let costs = map::costs_from_each(&resolved);
            prop_assert!(costs[0] <= ledger.map_cost(), "{} > {}", costs[0], ledger.map_cost());
        }
    }
}
