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

/// What this process knows of a partition before the group is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Whether it is from before our time.
    pub(super) age: Age,
    /// When it was ours before: the offset behind the last record that was read.
    pub(super) read_to: Option<i64>,
    /// And since when its log may hold what was not read, ms since the epoch, as records' times say.
    pub(super) since_ms: Option<i64>,
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
    /// What we knew before.
    pub(super) known: Known,
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
    /// Why a map that was there is not used.
    pub(super) dropped: Option<&'static str>,
    /// Offsets that the log lost before they were read.
    pub(super) skipped: i64,
    /// The committed offset, when it lies beyond the end: it is of another log.
    pub(super) beyond: Option<i64>,
    /// Whether the log is shorter than what was read of it: it was cut off, or is another one.
    pub(super) is_cut_off: bool,
}

/// Whether [`Facts::log`] must be asked for before [`decide`]. When it is not, a committed offset that the log does not
/// have is found out by the first fetch.
pub(super) fn needs_log(committed: Option<i64>, metadata: &str, known: &Known) -> bool {
    committed.is_none() || !metadata.is_empty() || known.read_to.is_some()
}

/// The moment, in ms since the epoch, since which [`Log::newer`] is to be asked for.
pub(super) fn look_back(committed: Option<i64>, metadata: &str, known: &Known) -> Option<i64> {
    let moment = match (committed, known.age) {
        // What is resolved is not much younger than the first that is not.
        (Some(_), _) => {
            let base = map::decode(metadata).ok().flatten().map(|map| map.base_timestamp_ms);
            base.into_iter().chain(known.since_ms).min()?
        }
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
    let is_cut_off = facts.known.read_to.is_some_and(|read_to| read_to > log.high);
    let Some(committed) = facts.committed else {
        let offset = match (reset, facts.known.age) {
            (Reset::Earliest, _) | (_, Age::New) => log.low,
            (Reset::Latest, Age::Old) => log.high,
            (Reset::Latest, Age::Unknown { .. }) => log.beginning(),
        };
        return Start { offset, commit_first: true, is_cut_off, ..Start::default() };
    };
    let dropped = |why| (!facts.metadata.is_empty()).then_some(why);
    if committed < log.low {
        let (offset, skipped) = (log.low, log.low - committed);
        let dropped = dropped("out of range");
        return Start { offset, commit_first: true, skipped, dropped, is_cut_off, ..Start::default() };
    }
    // The topic was made anew, or an unclean election has cut the log off: what it holds under lower numbers may never
    // have been sent.
    if committed > log.high {
        let (offset, beyond) = (log.beginning(), Some(committed));
        let dropped = dropped("of another log");
        return Start { offset, commit_first: true, beyond, dropped, is_cut_off, ..Start::default() };
    }
    let (map, dropped) = match believe(facts, committed) {
        // The log was cut off, or is another one: what the map claims is not to be skipped, and its base will tell.
        Ok(Some(map)) if is_cut_off || map.resolved.last().is_some_and(|last| last.end > log.high) => {
            (Some(OffsetMap { resolved: Vec::new(), ..map }), Some("beyond the log"))
        }
        Ok(map) => (map, None),
        Err(why) => (None, Some(why)),
    };
    Start { offset: committed, map, dropped, is_cut_off, ..Start::default() }
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

    fn of_age(age: Age) -> Known {
        Known { age, read_to: None, since_ms: None }
    }

    fn facts(committed: Option<i64>, metadata: &str) -> Facts<'_> {
        Facts { committed, metadata, log: Some(LOG), known: of_age(Age::Old), cluster: CLUSTER }
    }

    #[test]
    fn without_a_committed_offset_the_strategy_is_resolved_and_committed_first() {
        let begin = |reset, age| decide(&Facts { known: of_age(age), ..facts(None, "") }, reset);
        assert_eq!((begin(Reset::Latest, Age::Old).offset, begin(Reset::Earliest, Age::Old).offset), (100, 10));
        assert_eq!(begin(Reset::Latest, Age::New).offset, 10, "what appears while we run is read from its beginning");
        assert!(begin(Reset::Latest, Age::Old).commit_first && begin(Reset::Earliest, Age::New).commit_first);
    }

    #[test]
    fn of_a_partition_that_may_be_old_everything_since_the_first_look_is_read() {
        let begin = |reset, newer| {
            let (log, known) = (Some(Log { newer, ..LOG }), of_age(Age::Unknown { since_ms: 1 }));
            decide(&Facts { log, known, ..facts(None, "") }, reset).offset
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
            assert_eq!((start.offset, start.map.map(|map| map.resolved).unwrap_or_default()), (committed, vec![]));
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
        let start = decide(&facts(Some(50), &text(50, CLUSTER, 101)), Reset::Latest);
        assert_eq!(start.map.map(|map| (map.base, map.base_timestamp_ms)), Some((50, 500_000)));
    }

    #[test]
    fn a_log_that_is_shorter_than_what_was_read_of_it_was_cut_off_whatever_the_map_says() {
        let start = |read_to, metadata: &str| {
            let known = Known { read_to: Some(read_to), ..of_age(Age::Old) };
            decide(&Facts { known, ..facts(Some(50), metadata) }, Reset::Latest)
        };
        let map = text(50, CLUSTER, 60);
        let whole = start(100, &map);
        assert_eq!((whole.is_cut_off, whole.dropped), (false, None));
        let cut = start(101, &map);
        assert_eq!((cut.is_cut_off, cut.offset, cut.dropped), (true, 50, Some("beyond the log")));
        assert_eq!(cut.map.map(|map| map.resolved), Some(vec![]), "its base is a witness still");
        assert_eq!((start(101, "").is_cut_off, start(101, "").dropped), (true, None));
    }

    #[test]
    fn the_log_is_asked_only_when_something_depends_on_it() {
        let known = of_age(Age::Old);
        assert!(needs_log(None, "", &known) && needs_log(Some(3), "x", &known));
        assert!(!needs_log(Some(3), "", &known));
        assert!(needs_log(Some(3), "", &Known { read_to: Some(9), ..known }), "it may have been cut off");
    }

    #[test]
    fn it_is_asked_for_what_is_newer_than_what_is_known() {
        let (since, old) = (of_age(Age::Unknown { since_ms: 200_000 }), of_age(Age::Old));
        assert_eq!(look_back(None, "", &since), Some(50_000));
        assert_eq!((look_back(None, "", &old), look_back(None, "", &of_age(Age::New))), (None, None));
        assert_eq!(look_back(Some(50), &text(50, CLUSTER, 60), &since), Some(350_000));
        assert_eq!((look_back(Some(50), "", &since), look_back(Some(50), "a note", &since)), (None, None));
        let known = |since_ms| Known { since_ms: Some(since_ms), ..old };
        assert_eq!(look_back(Some(50), "", &known(400_000)), Some(250_000), "what we have read ourselves");
        let look_back_from_both = |since_ms| look_back(Some(50), &text(50, CLUSTER, 60), &known(since_ms));
        assert_eq!([400_000, 900_000].map(look_back_from_both), [Some(250_000), Some(350_000)], "the older of both");
        assert_eq!((before(5), before(i64::MIN)), (0, 0));
    }
}
