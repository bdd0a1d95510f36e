//! What is committed of a partition, so that a restart repeats least and loses nothing. Pure.

use super::anchors::{Anchor, Anchors};
use super::map::{self, OffsetMap};
use super::offsets::{Ledger, PositionTime};

/// A commit of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The offset, and the time of the record at it.
    pub(super) anchor: Anchor,
    /// The map, as text; empty when nothing is resolved beyond the offset.
    pub(super) metadata: String,
    /// Whether a better commit will be possible when the next record has been read.
    pub(super) is_provisional: bool,
}

/// Plans the commit. `unread`: the map that the partition began with, when its first record has not been read yet.
/// `cluster`: crc32 of its id; `None`: the broker takes no map. `None` when the commit must wait.
///
/// A map is of use only with the time of the record at its base. There is none when the position has not been read: between
/// two stragglers of an earlier owner, what it resolved in between is passed over first. A commit without the map would
/// make a crash repeat all that lies beyond, and one at the next straggler cannot carry it. So the commit is put on the last
/// record that was read and says that it is resolved, with everything behind it: that repeats nothing. This holds on the
/// clock as at the end.
pub(super) fn plan(
    ledger: &Ledger,
    anchors: &Anchors,
    unread: Option<&OffsetMap>,
    cluster: Option<u32>,
) -> Option<Plan> {
    let (position, time) = (ledger.position(), ledger.position_time());
    let plain = |timestamp| Plan {
        anchor: Anchor { offset: position, timestamp },
        metadata: String::new(),
        is_provisional: false,
    };
    let Some(cluster) = cluster else { return Some(plain(time.known())) };
    if let Some(map) = unread {
        let anchor = Anchor { offset: map.base, timestamp: None };
        return Some(Plan { anchor, metadata: map::encode(map)?, is_provisional: false });
    }
    let resolved: Vec<_> = ledger.resolved_beyond().collect();
    if resolved.is_empty() || time == PositionTime::Without {
        return Some(plain(time.known()));
    }
    if let PositionTime::At(base_timestamp_ms) = time {
        let map = OffsetMap { base: position, base_timestamp_ms, cluster, resolved };
        // It fits: no more is lent than does. If it did not, the offset would be worth more than the map.
        return Some(Plan { metadata: map::encode(&map).unwrap_or_default(), ..plain(Some(base_timestamp_ms)) });
    }
    let anchor = anchors.farthest();
    let base_timestamp_ms = anchor.timestamp.filter(|timestamp| *timestamp >= 0 && anchor.offset < position)?;
    let resolved = std::iter::once(anchor.offset..position).chain(resolved).collect();
    let map = OffsetMap { base: anchor.offset, base_timestamp_ms, cluster, resolved };
    Some(Plan { anchor, metadata: map::encode(&map)?, is_provisional: true })
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "ranges are the data here")]
mod tests {
    use std::ops::Range;
    use std::time::Instant;

    use super::super::offsets::Lend;
    use super::*;

    const CLUSTER: Option<u32> = Some(7);

    /// A partition read by the rules: what is lent is told to the anchors too.
    struct Case {
        ledger: Ledger,
        anchors: Anchors,
    }

    impl Case {
        fn new(start: i64, claims: Vec<Range<i64>>) -> Self {
            Case { ledger: Ledger::new(start, claims), anchors: Anchors::new(start) }
        }

        fn read(&mut self, offset: i64, timestamp: i64) -> Lend {
            self.anchors.read(offset, timestamp);
            self.ledger.lend(offset, timestamp, Instant::now())
        }

        fn plan(&self) -> Option<Plan> {
            plan(&self.ledger, &self.anchors, None, CLUSTER)
        }

        fn commit(&mut self) -> (i64, Vec<Range<i64>>) {
            let plan = self.plan().expect("a commit");
            self.anchors.ask(plan.anchor);
            self.anchors.answered(true);
            let map = map::decode(&plan.metadata).expect("our own map");
            if let Some(map) = &map {
                assert_eq!((map.base, map.cluster), (plan.anchor.offset, 7));
                assert_eq!(Some(map.base_timestamp_ms), plan.anchor.timestamp);
            }
            (plan.anchor.offset, map.map(|map| map.resolved).unwrap_or_default())
        }
    }

    #[test]
    fn stragglers_are_told_apart_by_the_map_at_the_first_of_them() {
        let mut case = Case::new(0, vec![]);
        (0..5).for_each(|offset| assert_eq!(case.read(offset, offset * 10), Lend::New));
        assert!([1, 2, 4].into_iter().all(|offset| case.ledger.resolve(offset)));
        assert_eq!(case.commit(), (0, vec![1..3, 4..5]));
        assert!(case.ledger.resolve(0));
        assert_eq!((case.commit(), case.anchors.first_at(3)), ((3, vec![4..5]), Some((3, 30))));
        assert!(case.ledger.resolve(3));
        assert_eq!(case.commit(), (5, vec![]));
    }

    #[test]
    fn between_two_stragglers_the_commit_is_put_on_the_last_that_was_read() {
        let mut case = Case::new(3, vec![4..57, 58..100]);
        case.read(3, 30);
        assert!(case.ledger.resolve(3));
        assert_eq!(case.ledger.position(), 57);
        assert!(case.plan().is_some_and(|plan| plan.is_provisional));
        assert_eq!(case.commit(), (3, vec![3..57, 58..100]), "nothing is repeated");
        (4..20).for_each(|offset| assert_ne!(case.read(offset, offset), Lend::New));
        assert_eq!(case.commit(), (19, vec![19..57, 58..100]), "the log may lose what lies before");
        let read: Vec<_> = (20..=57).filter(|offset| case.read(*offset, *offset) == Lend::New).collect();
        assert_eq!(read, [57]);
        assert!(case.plan().is_some_and(|plan| !plan.is_provisional));
        assert_eq!(case.commit(), (57, vec![58..100]));
    }

    #[test]
    fn without_an_anchor_it_waits() {
        let mut case = Case::new(3, vec![5..9, 20..30]);
        // The record at the start is gone from the log, and the next one has no time.
        case.read(4, -1);
        assert!(case.ledger.resolve(4));
        assert_eq!((case.ledger.position(), case.plan()), (9, None));
        let mut case = Case::new(3, vec![5..9, 20..30]);
        case.read(4, 40);
        assert!(case.ledger.resolve(4));
        assert_eq!(case.commit(), (4, vec![4..9, 20..30]), "that one is an anchor too");
    }

    #[test]
    fn an_unread_map_is_committed_as_it_was() {
        let map = OffsetMap { base: 3, base_timestamp_ms: 30, cluster: 7, resolved: vec![5..9] };
        let case = Case::new(3, vec![]);
        let again = plan(&case.ledger, &case.anchors, Some(&map), CLUSTER).expect("a commit");
        assert_eq!((again.anchor.offset, map::decode(&again.metadata)), (3, Ok(Some(map))));
    }

    #[test]
    fn records_without_a_time_and_brokers_without_metadata_have_no_map() {
        let mut case = Case::new(0, vec![]);
        case.read(0, -1);
        case.read(1, -1);
        assert!(case.ledger.resolve(1));
        assert_eq!(case.commit(), (0, vec![]));
        let mut case = Case::new(3, vec![4..57, 58..100]);
        case.read(3, 30);
        assert!(case.ledger.resolve(3));
        let plain = plan(&case.ledger, &case.anchors, None, None).expect("a commit");
        assert_eq!((plain.anchor.offset, &*plain.metadata, plain.is_provisional), (57, "", false));
    }
}
