//! Where a partition begins. The decision is ours and pure; librdkafka only answers what is committed and what the log holds.

use super::config::Reset;
use super::map::{self, OffsetMap};
use super::topics::Age;

/// A record is in the log so long after its timestamp at most: a producer holds it back for two minutes
/// (`delivery.timeout.ms`), and clocks differ.
const LOOK_BACK_MS: i64 = 150_000;

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Log {
    /// Its first offset.
    pub(super) low: i64,
    /// The one after its last.
    pub(super) high: i64,
    /// Its first record since the moment that was asked for, [`Log::high`] when there is none; `None`: no moment was
    /// asked for.
    pub(super) newer: Option<i64>,
}

impl Log {
    /// Where reading begins in a log of which nothing was sent, as far as is known: at what is newer than the last that
    /// is known to have been there before, else at the beginning.
    pub(super) fn beginning(&self) -> i64 {
        self.newer.map_or(self.low, |newer| newer.clamp(self.low, self.high))
    }
}

/// What is known about a partition before its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts<'a> {
    /// The group's committed offset; `None`: none.
    pub(super) committed: Option<i64>,
    /// The metadata that came with it.
    pub(super) metadata: &'a str,
    /// `None`: not asked, because nothing depends on it.
    pub(super) log: Option<Log>,
    /// Whether the partition is from before our time.
    pub(super) age: Age,
    /// crc32 of the cluster's id.
    pub(super) cluster: u32,
}

/// Where a partition begins and what must happen first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// The first offset to read.
    pub(super) offset: i64,
    /// Whether it must be committed before the first record is lent.
    pub(super) commit_first: bool,
    /// What is resolved beyond it, if the first record agrees.
    pub(super) map: Option<OffsetMap>,
    /// Whether nothing of the map counts but its base.
    pub(super) only_base: bool,
    /// Why a map that was there is not used.
    pub(super) dropped: Option<&'static str>,
    /// Offsets that the log lost before they were read.
    pub(super) skipped: i64,
    /// The committed offset, when it lies beyond the end: it is of another log.
    pub(super) beyond: Option<i64>,
}

/// Whether [`Facts::log`] must be asked for before [`decide`]. When it is not, a committed offset that the log does not
/// have is found out by the first fetch.
pub(super) fn needs_log(committed: Option<i64>, metadata: &str) -> bool {
    committed.is_none() || !metadata.is_empty()
}

/// The moment, in ms since the epoch, since which [`Log::newer`] is to be asked for.
pub(super) fn look_back(committed: Option<i64>, metadata: &str, age: Age) -> Option<i64> {
    let moment = match (committed, age) {
        // What is resolved is not much younger than the first that is not.
        (Some(_), _) => map::decode(metadata).ok().flatten()?.base_timestamp_ms,
        (None, Age::Unknown { since_ms }) => since_ms,
        (None, Age::Old | Age::New) => return None,
    };
    Some(before(moment))
}

/// A moment before which everything is in the log that had its timestamp at this one or earlier.
pub(super) fn before(moment_ms: i64) -> i64 {
    moment_ms.saturating_sub(LOOK_BACK_MS).max(0)
}

/// Decides; see the rules at each branch.
pub(super) fn decide(facts: &Facts<'_>, reset: Reset) -> Start {
    let log = facts.log.unwrap_or(Log { low: 0, high: i64::MAX, newer: None });
    let Some(committed) = facts.committed else {
        let offset = match (reset, facts.age) {
            (Reset::Earliest, _) | (_, Age::New) => log.low,
            (Reset::Latest, Age::Old) => log.high,
            (Reset::Latest, Age::Unknown { .. }) => log.beginning(),
        };
        return Start { offset, commit_first: true, ..Start::default() };
    };
    let dropped = |why| (!facts.metadata.is_empty()).then_some(why);
    if committed < log.low {
        let (offset, skipped) = (log.low, log.low - committed);
        return Start { offset, commit_first: true, skipped, dropped: dropped("out of range"), ..Start::default() };
    }
    // The topic was made anew, or an unclean election has cut the log off: what it holds under lower numbers may never
    // have been sent.
    if committed > log.high {
        let (offset, beyond) = (log.beginning(), Some(committed));
        return Start { offset, commit_first: true, beyond, dropped: dropped("of another log"), ..Start::default() };
    }
    let map = believe(facts, committed);
    // The log was cut off, or is another one: what the map claims is not to be skipped, and its base will tell. It is kept as it
    // is, for until then it may have to be committed once more.
    let claims_too_much = |map: &OffsetMap| map.resolved.last().is_some_and(|last| last.end > log.high);
    let only_base = map.as_ref().is_ok_and(|map| map.as_ref().is_some_and(claims_too_much));
    let (map, dropped) = match map {
        Ok(map) => (map, only_base.then_some("beyond the log")),
        Err(why) => (None, Some(why)),
    };
    Start { offset: committed, map, only_base, dropped, ..Start::default() }
}

/// A map is believed only when it was made for this very offset of this very cluster. The last check, against the first
/// record itself, is made when that record has been read.
fn believe(facts: &Facts<'_>, committed: i64) -> Result<Option<OffsetMap>, &'static str> {
    let Some(map) = map::decode(facts.metadata).map_err(|_| "not readable")? else { return Ok(None) };
    if map.base != committed {
        return Err("of another offset");
    }
    if facts.cluster != map.cluster {
        return Err("of another cluster");
    }
    Ok(Some(map))
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "ranges are the data here")]
mod tests {
    use super::*;

    const CLUSTER: u32 = 7;
    const LOG: Log = Log { low: 10, high: 100, newer: None };

    fn text(base: i64, cluster: u32, end: i64) -> String {
        let map = OffsetMap { base, base_timestamp_ms: 500_000, cluster, resolved: vec![base + 2..end] };
        map::encode(&map).expect("one range fits")
    }

    fn facts(committed: Option<i64>, metadata: &str) -> Facts<'_> {
        Facts { committed, metadata, log: Some(LOG), age: Age::Old, cluster: CLUSTER }
    }

    #[test]
    fn without_a_committed_offset_the_strategy_is_resolved_and_committed_first() {
        let begin = |reset, age| decide(&Facts { age, ..facts(None, "") }, reset);
        assert_eq!((begin(Reset::Latest, Age::Old).offset, begin(Reset::Earliest, Age::Old).offset), (100, 10));
        assert_eq!(begin(Reset::Latest, Age::New).offset, 10, "what appears while we run is read from its beginning");
        assert!(begin(Reset::Latest, Age::Old).commit_first && begin(Reset::Earliest, Age::New).commit_first);
    }

    #[test]
    fn of_a_partition_that_may_be_old_everything_since_the_first_look_is_read() {
        let begin = |reset, newer| {
            let (log, age) = (Some(Log { newer, ..LOG }), Age::Unknown { since_ms: 1 });
            decide(&Facts { log, age, ..facts(None, "") }, reset).offset
        };
        assert_eq!(begin(Reset::Latest, Some(70)), 70);
        assert_eq!(begin(Reset::Latest, Some(100)), 100, "there is nothing since");
        assert_eq!((begin(Reset::Earliest, Some(70)), begin(Reset::Latest, Some(3))), (10, 10));
    }

    #[test]
    fn a_committed_offset_before_the_log_goes_to_its_first() {
        let lost = decide(&facts(Some(4), "x"), Reset::Latest);
        assert_eq!((lost.offset, lost.skipped, lost.commit_first), (10, 6, true));
        assert_eq!((lost.dropped, lost.beyond), (Some("out of range"), None));
    }

    #[test]
    fn behind_a_committed_offset_beyond_the_end_nothing_is_skipped() {
        let start = decide(&facts(Some(400), ""), Reset::Latest);
        assert_eq!((start.offset, start.skipped, start.commit_first, start.beyond), (10, 0, true, Some(400)));
        let log = Some(Log { newer: Some(60), ..LOG });
        let start = decide(&Facts { log, ..facts(Some(400), &text(400, CLUSTER, 500)) }, Reset::Latest);
        assert_eq!((start.offset, start.map, start.dropped), (60, None, Some("of another log")));
        assert_eq!(decide(&facts(Some(100), ""), Reset::Latest).beyond, None, "the end itself is in order");
    }

    #[test]
    fn a_map_is_believed_only_when_everything_agrees() {
        let good = text(50, CLUSTER, 60);
        let start = decide(&facts(Some(50), &good), Reset::Latest);
        assert_eq!((start.offset, start.commit_first, start.dropped), (50, false, None));
        assert_eq!(start.map.map(|map| map.resolved), Some(vec![52..60]));
        let dropped = |committed, metadata: &str, cluster| {
            let start = decide(&Facts { cluster, ..facts(Some(committed), metadata) }, Reset::Latest);
            assert!(start.offset == committed && (start.only_base || start.map.is_none()));
            start.dropped
        };
        assert_eq!(dropped(51, &good, CLUSTER), Some("of another offset"));
        assert_eq!(dropped(50, &good, 8), Some("of another cluster"));
        assert_eq!(dropped(50, &text(50, CLUSTER, 101), CLUSTER), Some("beyond the log"));
        assert_eq!(dropped(50, "somebody else's note", CLUSTER), Some("not readable"));
        assert_eq!(dropped(50, "\u{fffd}\u{fffd}", CLUSTER), Some("not readable"));
        assert_eq!(dropped(50, "", CLUSTER), None);
    }

    #[test]
    fn a_map_that_claims_too_much_still_tells_one_log_from_another() {
        let committed = text(50, CLUSTER, 101);
        let start = decide(&facts(Some(50), &committed), Reset::Latest);
        let map = start.map.expect("a witness");
        assert_eq!((map.base, map.base_timestamp_ms, start.only_base), (50, 500_000, true));
        assert_eq!(map::encode(&map), Some(committed), "a commit before the first record does not erase it");
    }

    #[test]
    fn the_log_is_asked_only_when_something_depends_on_it() {
        assert!(needs_log(None, "") && needs_log(Some(3), "x"));
        assert!(!needs_log(Some(3), ""));
    }

    #[test]
    fn it_is_asked_for_what_is_newer_than_what_is_known() {
        let since = Age::Unknown { since_ms: 200_000 };
        assert_eq!(look_back(None, "", since), Some(50_000));
        assert_eq!((look_back(None, "", Age::Old), look_back(None, "", Age::New)), (None, None));
        assert_eq!(look_back(Some(50), &text(50, CLUSTER, 60), since), Some(350_000));
        assert_eq!((look_back(Some(50), "", since), look_back(Some(50), "a note", since)), (None, None));
        assert_eq!((before(5), before(i64::MIN)), (0, 0));
    }
}
