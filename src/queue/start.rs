//! Where a partition begins. The decision is ours and pure; librdkafka only answers what is committed and what the log holds.

use super::config::Reset;
use super::map::{self, OffsetMap};

/// What is known about a partition before its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts<'a> {
    /// The group's committed offset; `None`: none.
    pub(super) committed: Option<i64>,
    /// The metadata that came with it.
    pub(super) metadata: &'a str,
    /// First offset of the log, and the one after its last; `None`: not asked, because nothing depends on it.
    pub(super) log: Option<(i64, i64)>,
    /// The partition appeared while this process ran: nothing in it is from before our time.
    pub(super) appeared: bool,
    /// crc32 of the cluster's id.
    pub(super) cluster: Option<u32>,
}

/// Where a partition begins and what must happen first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The first offset to read.
    pub(super) offset: i64,
    /// Whether it must be committed before the first record is lent.
    pub(super) commit_first: bool,
    /// What is resolved beyond it, if the first record agrees.
    pub(super) map: Option<OffsetMap>,
    /// Why a map that was there is not used.
    pub(super) dropped: Option<&'static str>,
    /// Offsets that the log lost before they were read.
    pub(super) skipped: i64,
}

/// Whether [`Facts::log`] must be asked for before [`decide`].
pub(super) fn needs_log(committed: Option<i64>, metadata: &str) -> bool {
    committed.is_none() || !metadata.is_empty()
}

/// Decides; see the rules at each branch.
pub(super) fn decide(facts: &Facts<'_>, reset: Reset) -> Start {
    let (low, high) = facts.log.unwrap_or((0, i64::MAX));
    let Some(committed) = facts.committed else {
        let offset = if facts.appeared || reset == Reset::Earliest { low } else { high };
        return Start { offset, commit_first: true, map: None, dropped: None, skipped: 0 };
    };
    if facts.log.is_some() && !(low..=high).contains(&committed) {
        return out_of_range(committed, low, high, !facts.metadata.is_empty());
    }
    let (map, dropped) = match believe(facts, committed, high) {
        Ok(map) => (map, None),
        Err(why) => (None, Some(why)),
    };
    Start { offset: committed, commit_first: false, map, dropped, skipped: 0 }
}

/// A committed offset that the log does not have: the nearest end that exists.
pub(super) fn out_of_range(committed: i64, low: i64, high: i64, had_map: bool) -> Start {
    let offset = committed.clamp(low, high);
    Start {
        offset,
        commit_first: true,
        map: None,
        dropped: had_map.then_some("out of range"),
        skipped: (offset - committed).max(0),
    }
}

/// A map is believed only when it was made for this very offset of this very cluster and claims nothing that the log does
/// not hold. The last check, against the first record itself, is made when that record has been read.
fn believe(facts: &Facts<'_>, committed: i64, high: i64) -> Result<Option<OffsetMap>, &'static str> {
    let Some(mut map) = map::decode(facts.metadata).map_err(|_| "not readable")? else { return Ok(None) };
    if map.base != committed {
        return Err("of another offset");
    }
    if facts.cluster != Some(map.cluster) {
        return Err("of another cluster");
    }
    if map.resolved.last().is_some_and(|last| last.end > high) {
        return Err("beyond the log");
    }
    map.resolved.retain(|range| range.start > committed);
    Ok(Some(map))
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "ranges are the data here")]
mod tests {
    use super::*;

    const CLUSTER: u32 = 7;

    fn text(base: i64, cluster: u32, end: i64) -> String {
        let map = OffsetMap { base, base_timestamp_ms: 5, cluster, resolved: vec![base + 2..end] };
        map::encode(&map).expect("one range fits")
    }

    fn facts(committed: Option<i64>, metadata: &str) -> Facts<'_> {
        Facts { committed, metadata, log: Some((10, 100)), appeared: false, cluster: Some(CLUSTER) }
    }

    #[test]
    fn without_a_committed_offset_the_strategy_is_resolved_and_committed_first() {
        let begin = |reset, appeared| decide(&Facts { appeared, ..facts(None, "") }, reset);
        assert_eq!((begin(Reset::Latest, false).offset, begin(Reset::Earliest, false).offset), (100, 10));
        assert_eq!(begin(Reset::Latest, true).offset, 10, "what appears while we run is read from its beginning");
        assert!(begin(Reset::Latest, false).commit_first && begin(Reset::Earliest, true).commit_first);
    }

    #[test]
    fn a_committed_offset_out_of_range_goes_to_the_nearest_end() {
        let lost = decide(&facts(Some(4), ""), Reset::Latest);
        assert_eq!((lost.offset, lost.skipped, lost.commit_first), (10, 6, true));
        let ahead = decide(&facts(Some(400), ""), Reset::Latest);
        assert_eq!((ahead.offset, ahead.skipped, ahead.commit_first), (100, 0, true));
    }

    #[test]
    fn a_map_is_believed_only_when_everything_agrees() {
        let good = text(50, CLUSTER, 60);
        let start = decide(&facts(Some(50), &good), Reset::Latest);
        assert_eq!((start.offset, start.commit_first, start.dropped), (50, false, None));
        assert_eq!(start.map.map(|map| map.resolved), Some(vec![52..60]));
        let dropped = |committed, metadata: &str, cluster| {
            let start = decide(&Facts { cluster, ..facts(Some(committed), metadata) }, Reset::Latest);
            assert_eq!((start.offset, start.map), (committed, None));
            start.dropped
        };
        assert_eq!(dropped(51, &good, Some(CLUSTER)), Some("of another offset"));
        assert_eq!(dropped(50, &good, Some(8)), Some("of another cluster"));
        assert_eq!(dropped(50, &good, None), Some("of another cluster"));
        assert_eq!(dropped(50, &text(50, CLUSTER, 101), Some(CLUSTER)), Some("beyond the log"));
        assert_eq!(dropped(50, "somebody else's note", Some(CLUSTER)), Some("not readable"));
        assert_eq!(dropped(50, "", Some(CLUSTER)), None);
    }

    #[test]
    fn the_log_is_asked_only_when_something_depends_on_it() {
        assert!(needs_log(None, "") && needs_log(Some(3), "x"));
        assert!(!needs_log(Some(3), ""));
    }
}
