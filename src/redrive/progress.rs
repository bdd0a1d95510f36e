//! What was redriven so far: an offset per partition, with a map of what was redriven beyond it, as the group keeps it. Pure.
//!
//! The ledger and the map are the queue's own. A letter that a filter leaves out stays open and holds the offset back; the
//! map says what lies beyond it. So runs with different filters add up, and none redrives what another did.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::queue::map::{self, OffsetMap};
use crate::queue::offsets::{Ledger, Lend};

/// The map is of one group in one cluster; there is none to tell apart.
const CLUSTER: u32 = 0;

/// What the brokers say of a partition of the letters.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub(super) partition: i32,
    /// The first offset that is there.
    pub(super) low: i64,
    /// The end, as of now: what comes later is for the next run.
    pub(super) high: i64,
    /// What the group has committed.
    pub(super) committed: Option<(i64, String)>,
}

#[derive(Debug)]
struct Partition {
    ledger: Ledger,
    start: i64,
    /// Time of the record at the start when the map was made.
    start_ms: Option<i64>,
    high: i64,
    /// Whether all below `high` was read.
    is_read: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Progress(BTreeMap<i32, Partition>);

/// What a record that was read is to this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// To be judged, and then [`Progress::done`] or [`Progress::leave`].
    New,
    /// Redriven by an earlier run.
    Known,
    /// Written after this run began.
    Later,
}

/// An offset and the metadata to commit with it.
pub(super) type Commit = (i32, i64, String);

impl Progress {
    /// Goes on where the group stands.
    pub(super) fn of(extents: &[Extent], group: &str) -> Result<Progress> {
        let all = extents.iter().map(|extent| Ok((extent.partition, Partition::of(extent, group)?)));
        Ok(Progress(all.collect::<Result<_>>()?))
    }

    /// Where reading begins.
    pub(super) fn starts(&self) -> Vec<(i32, i64)> {
        self.0.iter().filter(|(_, one)| !one.is_read).map(|(partition, one)| (*partition, one.start)).collect()
    }

    /// How many offsets there are to read.
    pub(super) fn size(&self) -> u64 {
        self.0.values().map(|one| (one.high - one.start).max(0) as u64).sum()
    }

    /// A record was read.
    pub(super) fn take(&mut self, partition: i32, offset: i64, timestamp_ms: i64) -> Result<Taken> {
        let Some(one) = self.0.get_mut(&partition) else { return Ok(Taken::Later) };
        let is_same = offset != one.start || one.start_ms.is_none_or(|known| known == timestamp_ms);
        ensure!(is_same, "what is noted of earlier runs is of another topic of this name; delete the group's offsets");
        if offset >= one.high {
            one.is_read = true;
            return Ok(Taken::Later);
        }
        one.is_read = offset + 1 == one.high;
        Ok(match one.ledger.lend(offset, timestamp_ms, Instant::now()) {
            Lend::New => Taken::New,
            Lend::Skip(_) => Taken::Known,
        })
    }

    /// Reading has come to the end of a partition.
    pub(super) fn end(&mut self, partition: i32) {
        if let Some(one) = self.0.get_mut(&partition) {
            one.is_read = true;
        }
    }

    /// Whether everything was read.
    pub(super) fn is_read(&self) -> bool {
        self.0.values().all(|one| one.is_read)
    }

    /// Need not be looked at again.
    pub(super) fn done(&mut self, partition: i32, offset: i64) {
        if let Some(one) = self.0.get_mut(&partition) {
            one.ledger.resolve(offset);
        }
    }

    /// Stays for another run.
    pub(super) fn leave(&mut self, partition: i32, offset: i64) {
        if let Some(one) = self.0.get_mut(&partition) {
            one.ledger.forget(offset);
        }
    }

    /// Whether so much was left that no more can be noted.
    pub(super) fn is_full(&self) -> bool {
        self.0.values().any(|one| one.ledger.map_cost() >= map::CAPACITY)
    }

    /// What to commit. `None`: it cannot be written down, which [`Progress::is_full`] keeps from happening.
    pub(super) fn commit(&self) -> Option<Vec<Commit>> {
        let of = |(partition, one): (&i32, &Partition)| {
            let base = one.ledger.position();
            let base_timestamp_ms = one.ledger.position_time().known().unwrap_or(-1);
            let map = OffsetMap {
                base,
                base_timestamp_ms,
                cluster: CLUSTER,
                resolved: one.ledger.resolved_beyond().collect(),
            };
            Some((*partition, base, map::encode(&map)?))
        };
        self.0.iter().map(of).collect()
    }
}

impl Partition {
    fn of(extent: &Extent, group: &str) -> Result<Partition> {
        let Extent { partition, low, high, ref committed } = *extent;
        let committed = committed.as_ref();
        let start = committed.map_or(low, |(offset, _)| (*offset).max(low));
        ensure!(
            start <= high.max(low),
            "group {group} has committed {start} of partition {partition}, which ends at {high}: the topic was made anew; \
             to begin anew too: kafka-consumer-groups.sh --delete --group {group}"
        );
        let map = committed.and_then(|(_, text)| map::decode(text).ok().flatten());
        let at_start = map.as_ref().filter(|map| map.base == start);
        let start_ms = at_start.map(|map| map.base_timestamp_ms).filter(|ms| *ms >= 0);
        let ledger = Ledger::new(start, map.map(|map| map.resolved).unwrap_or_default());
        Ok(Partition { ledger, start, start_ms, high, is_read: start >= high })
    }
}

#[cfg(test)]
mod tests {
    use super::Taken::{Known, Later, New};
    use super::*;

    fn extent(high: i64, committed: Option<(i64, String)>) -> Extent {
        Extent { partition: 0, low: 0, high, committed }
    }

    fn read(progress: &mut Progress, offsets: std::ops::Range<i64>) -> Vec<Taken> {
        offsets.map(|offset| progress.take(0, offset, offset * 10).expect("the same topic")).collect()
    }

    fn committed(progress: &Progress) -> Option<(i64, String)> {
        let (_, offset, text) = progress.commit()?.remove(0);
        Some((offset, text))
    }

    #[test]
    fn what_one_run_leaves_another_finds() {
        let mut first = Progress::of(&[extent(6, None)], "g").expect("a beginning");
        assert_eq!((first.starts(), first.size()), (vec![(0, 0)], 6));
        assert_eq!(read(&mut first, 0..6), [New; 6]);
        assert!(first.is_read());
        for offset in [1, 4] {
            first.leave(0, offset);
        }
        for offset in [0, 2, 3, 5] {
            first.done(0, offset);
        }
        let noted = committed(&first).expect("it fits");
        assert_eq!(noted.0, 1);

        let mut second = Progress::of(&[extent(7, Some(noted))], "g").expect("a beginning");
        assert_eq!(second.starts(), [(0, 1)]);
        assert_eq!(read(&mut second, 1..8), [New, Known, Known, New, Known, New, Later]);
        for offset in [1, 4, 6] {
            second.done(0, offset);
        }
        assert_eq!(committed(&second), Some((7, String::new())));
        let third = Progress::of(&[extent(7, Some((7, String::new())))], "g").expect("a beginning");
        assert!(third.is_read() && third.starts().is_empty());
    }

    #[test]
    fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() {
        let error = Progress::of(&[extent(3, Some((9, String::new())))], "g").expect_err("beyond the end").to_string();
        assert!(error.contains("--delete --group g"), "{error}");
        let mut first = Progress::of(&[extent(3, None)], "g").expect("a beginning");
        read(&mut first, 0..3);
        first.leave(0, 0);
        first.done(0, 1);
        let mut other = Progress::of(&[extent(3, committed(&first))], "g").expect("a beginning");
        assert!(other.take(0, 0, 99).is_err(), "another record at the same offset");
    }

    #[test]
    fn what_cannot_be_noted_is_told_before_it_is_done() {
        let mut progress = Progress::of(&[extent(1 << 20, None)], "g").expect("a beginning");
        let mut random = fastrand::Rng::with_seed(1);
        let mut offset = 0;
        while !progress.is_full() {
            assert_eq!(progress.take(0, offset, 1).ok(), Some(New));
            if random.bool() {
                progress.done(0, offset);
            } else {
                progress.leave(0, offset);
            }
            offset += 1;
        }
        assert!(progress.commit().is_some() && offset > 20_000, "{offset}");
    }
}
