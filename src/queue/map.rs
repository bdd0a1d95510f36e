//! The map of what is resolved beyond the committed offset, as text for Kafka's offset metadata. Pure.
//!
//! Pushes end out of order and Kafka's committed offset is one number. So a commit carries this map, and a restart repeats
//! only what really was unresolved. A broker takes 4096 bytes of metadata (`offset.metadata.max.bytes`), which is 3072
//! bytes behind base64; what is written here never exceeds that.
//!
//! Layout behind base64: mark (3), version (1), CRC-32 of the rest, and of the version since 2 (4), base (8), base timestamp (8), cluster (4), all
//! big-endian; then parts, each a varint whose lowest bits say what it is, counting offsets on from base + 1 in version 1,
//! from base in version 2:
//! - `n·0`: n resolved, then one that is not. Stragglers far behind cost two or three bytes each.
//! - `n·11`: n that are not.
//! - `n·01`: n offsets as bits, lowest bit first, in whole bytes. Dense random resolution costs a bit per offset.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

mod parts;
pub(super) use parts::costs_from_each;
use parts::{Atom, Plan};

/// Most characters of a text: the default of Kafka's `offset.metadata.max.bytes`.
const LONGEST: usize = 4096;

/// Four characters that all our texts begin with; as base64 they stand for the first three bytes.
const MARK: &str = "pmap";

/// The base is not resolved, the parts begin behind it.
const BEHIND_BASE: u8 = 1;

/// The parts begin at the base, which is resolved too.
const FROM_BASE: u8 = 2;

/// Version, checksum, base, timestamp, cluster.
const HEADER: usize = 1 + 4 + 8 + 8 + 4;

/// Most raw bytes of the parts that say what is resolved, with a small margin below what Kafka takes.
pub const CAPACITY: usize = 3040;

const _: () = assert!((CAPACITY + HEADER).div_ceil(3) * 4 + MARK.len() <= LONGEST);

/// What is resolved beyond a committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetMap {
    /// The committed offset: the first that is not resolved, unless the ranges begin with it.
    pub base: i64,
    /// Timestamp of the record at `base`, ms since the epoch, -1 when unknown: tells a topic that was deleted and created
    /// again from the one that the map is about.
    pub base_timestamp_ms: i64,
    /// CRC-32 of the cluster's id: offsets mean nothing in another cluster.
    pub cluster: u32,
    /// Resolved offsets, ascending and disjoint, from `base` on.
    pub resolved: Vec<Range<i64>>,
}

impl OffsetMap {
    fn version(&self) -> u8 {
        let is_base_resolved = self.resolved.first().is_some_and(|first| first.start == self.base);
        if is_base_resolved { FROM_BASE } else { BEHIND_BASE }
    }
}

/// The offset that the parts of this version begin at; `None` for a base that no log has, or an unknown version.
fn first_part(version: u8, base: i64) -> Option<i64> {
    match version {
        FROM_BASE => Some(base),
        BEHIND_BASE => base.checked_add(1),
        _ => None,
    }
    .filter(|_| base >= 0)
}

/// Since version 2 the version is under it too: one damaged letter can make a 2 of a 1, and the rest would be right.
fn checksum(version: u8, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    if version != BEHIND_BASE {
        crc.update(&[version]);
    }
    crc.update(body);
    crc.finalize()
}

/// Why a text is no map. None of these is dangerous: without a map, what it names is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Written by something else that commits in this group.
    #[error("not written by this program")]
    NotOurs,
    /// Written by another version of this program.
    #[error("written by another version of this program")]
    Version,
    /// Shorter than its header.
    #[error("cut short")]
    Truncated,
    /// Changed on its way.
    #[error("its checksum is wrong")]
    Checksum,
    /// Not base64, or parts that make no sense.
    #[error("malformed")]
    Malformed,
}

/// The text of a map; empty when nothing is resolved from its base on. `None` when it does not fit, or when the ranges are
/// not ascending or begin before the base.
pub fn encode(map: &OffsetMap) -> Option<String> {
    let version = map.version();
    let atoms = Atom::all(first_part(version, map.base)?, &map.resolved)?;
    if atoms.is_empty() {
        return Some(String::new());
    }
    let plan = Plan::of(&atoms);
    if plan.bytes() > CAPACITY as u64 {
        return None;
    }
    let mut body = Vec::with_capacity(HEADER + CAPACITY);
    body.extend(map.base.to_be_bytes());
    body.extend(map.base_timestamp_ms.to_be_bytes());
    body.extend(map.cluster.to_be_bytes());
    plan.write(&atoms, &mut body);
    let mut raw = Vec::with_capacity(body.len() + 5);
    raw.push(version);
    raw.extend(checksum(version, &body).to_be_bytes());
    raw.extend(body);
    let mut text = String::with_capacity(LONGEST);
    text.push_str(MARK);
    BASE64.encode_string(raw, &mut text);
    (text.len() <= LONGEST).then_some(text)
}

/// Reads what [`encode`] wrote; an empty text is no map.
///
/// # Errors
/// Why the text is no map; never a panic, and never more memory than a full map takes.
pub fn decode(text: &str) -> Result<Option<OffsetMap>, Refused> {
    if text.is_empty() {
        return Ok(None);
    }
    let text = text.strip_prefix(MARK).ok_or(Refused::NotOurs)?;
    if text.len() > LONGEST - MARK.len() {
        return Err(Refused::Malformed);
    }
    let raw = BASE64.decode(text).map_err(|_| Refused::Malformed)?;
    let (&version, raw) = raw.split_first().ok_or(Refused::Truncated)?;
    if !matches!(version, BEHIND_BASE | FROM_BASE) {
        return Err(Refused::Version);
    }
    let (checksum, body) = raw.split_first_chunk().ok_or(Refused::Truncated)?;
    if u32::from_be_bytes(*checksum) != self::checksum(version, body) {
        return Err(Refused::Checksum);
    }
    let (base, rest) = body.split_first_chunk().ok_or(Refused::Truncated)?;
    let (timestamp, rest) = rest.split_first_chunk().ok_or(Refused::Truncated)?;
    let (cluster, parts) = rest.split_first_chunk().ok_or(Refused::Truncated)?;
    let base = i64::from_be_bytes(*base);
    Ok(Some(OffsetMap {
        base,
        base_timestamp_ms: i64::from_be_bytes(*timestamp),
        cluster: u32::from_be_bytes(*cluster),
        resolved: first_part(version, base).and_then(|from| parts::read(from, parts)).ok_or(Refused::Malformed)?,
    }))
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, clippy::reversed_empty_ranges, reason = "ranges are the data here")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(base: i64, resolved: Vec<Range<i64>>) -> OffsetMap {
        OffsetMap { base, base_timestamp_ms: 1_700_000_000_123, cluster: 0xDEAD_BEEF, resolved }
    }

    fn ranges(offsets: impl IntoIterator<Item = i64>) -> Vec<Range<i64>> {
        let mut ranges: Vec<Range<i64>> = Vec::new();
        for offset in offsets {
            match ranges.last_mut() {
                Some(last) if last.end == offset => last.end += 1,
                _ => ranges.push(offset..offset + 1),
            }
        }
        ranges
    }

    fn round_trip(map: &OffsetMap) -> usize {
        let text = encode(map).expect("it fits");
        assert!(text.len() <= LONGEST, "{}", text.len());
        assert_eq!(decode(&text), Ok(Some(map.clone())));
        text.len()
    }

    #[test]
    fn nothing_resolved_is_an_empty_text() {
        assert_eq!(encode(&map(7, vec![])), Some(String::new()));
        assert_eq!(decode(""), Ok(None));
    }

    #[test]
    fn a_small_map_is_a_short_text() {
        assert_eq!(round_trip(&map(41, ranges(42..1_000_042))), 42);
    }

    #[test]
    fn a_base_that_is_resolved_too_costs_nothing_more() {
        assert_eq!(round_trip(&map(41, ranges(41..1_000_042))), 42);
        assert_eq!(round_trip(&map(0, vec![0..1])), round_trip(&map(0, vec![1..2])));
    }

    #[test]
    fn a_window_of_24_000_offsets_in_any_order_fits() {
        let mut random = fastrand::Rng::with_seed(3);
        for chance in [0.05, 0.5, 0.95] {
            let offsets: Vec<i64> = (1001..25_000).filter(|_| random.f64() < chance).chain([25_000]).collect();
            round_trip(&map(1000, ranges(offsets)));
        }
        let alternating = ranges((1001..25_000).step_by(2));
        round_trip(&map(1000, alternating));
    }

    #[test]
    fn a_thousand_stragglers_a_million_offsets_back_fit_beside_a_small_window() {
        let mut random = fastrand::Rng::with_seed(4);
        let stragglers: std::collections::HashSet<i64> = (0..1000).map(|_| random.i64(1..1_000_000)).collect();
        round_trip(&map(0, ranges((1..1_000_001).filter(|offset| !stragglers.contains(offset)))));
        let few: Vec<i64> = (1..100).map(|n| n * 10_000).collect();
        let far = (1..1_000_000).filter(|offset| !few.contains(offset));
        let window: Vec<i64> = (1_000_000..1_020_000).filter(|_| random.bool()).collect();
        round_trip(&map(0, ranges(far.chain(window))));
    }

    #[test]
    fn what_does_not_fit_is_no_text() {
        let mut random = fastrand::Rng::with_seed(5);
        assert_eq!(encode(&map(0, ranges((1..60_000).filter(|_| random.bool())))), None);
        assert_eq!(encode(&map(0, ranges((1..100_000_000).step_by(1000)))), None);
        assert_eq!(encode(&map(0, ranges((1..1_000_000).step_by(2)))), None);
    }

    #[test]
    fn what_makes_no_sense_is_no_text() {
        for wrong in [
            vec![5..6],
            vec![4..7],
            vec![6..6, 5..7],
            vec![9..8],
            vec![20..30, 25..40],
            vec![20..30, 10..15],
            vec![7..i64::MAX],
        ] {
            assert_eq!(encode(&map(6, wrong.clone())), None, "{wrong:?}");
        }
        assert_eq!(encode(&map(-1, vec![5..6])), None);
    }

    #[test]
    fn neighbours_are_joined_and_empty_ranges_left_out() {
        let text = encode(&map(0, vec![2..4, 4..4, 4..6])).unwrap();
        assert_eq!(decode(&text).unwrap().unwrap().resolved, ranges(2..6));
    }

    #[test]
    fn texts_of_others_are_refused() {
        assert_eq!(decode("some metadata of somebody"), Err(Refused::NotOurs));
        assert_eq!(decode("pmap"), Err(Refused::Truncated));
        assert_eq!(decode("pmap!"), Err(Refused::Malformed));
        assert_eq!(decode("pmapAw"), Err(Refused::Version));
        assert_eq!(decode(&format!("pmap{}", "A".repeat(1_000_000))), Err(Refused::Malformed));
    }

    /// A text that is right in form, whatever its parts are.
    fn sealed(version: u8, base: i64, parts: &[u8]) -> String {
        let body = [&base.to_be_bytes()[..], &[0; 12], parts].concat();
        let raw = [&[version][..], &checksum(version, &body).to_be_bytes(), &body].concat();
        format!("{MARK}{}", BASE64.encode(raw))
    }

    #[test]
    fn a_version_is_not_taken_for_another() {
        for resolved in [vec![12..14], vec![10..14]] {
            let text = encode(&map(10, resolved)).unwrap();
            let mut raw = BASE64.decode(text.strip_prefix(MARK).unwrap()).unwrap();
            raw[0] = BEHIND_BASE + FROM_BASE - raw[0];
            assert_eq!(decode(&format!("{MARK}{}", BASE64.encode(raw))), Err(Refused::Checksum));
        }
    }

    #[test]
    fn parts_that_run_over_the_end_are_refused() {
        let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let farthest = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        for parts in [&[0x80][..], &endless, &[37, 1], &[farthest, farthest, farthest].concat()] {
            assert_eq!(decode(&sealed(BEHIND_BASE, 1 << 59, parts)), Err(Refused::Malformed), "{parts:?}");
        }
        for version in [BEHIND_BASE, FROM_BASE] {
            assert_eq!(decode(&sealed(version, -5, &[2])), Err(Refused::Malformed));
        }
    }

    /// Runs of resolved and not resolved offsets, from one to very long ones, sometimes dense.
    fn maps() -> impl Strategy<Value = OffsetMap> {
        let length = prop_oneof![4 => 1_i64..4, 2 => 1_i64..300, 1 => 1_i64..3_000_000];
        let runs = prop::collection::vec((length.clone(), length), 1..400);
        (0_i64..1 << 50, any::<i64>(), any::<u32>(), 0_i64..4, runs).prop_map(
            |(base, base_timestamp_ms, cluster, lead, runs)| {
                let mut at = base + lead;
                let resolved = runs.into_iter().map(|(run, skip)| {
                    let range = at..at + run;
                    at = range.end + skip;
                    range
                });
                OffsetMap { base, base_timestamp_ms, cluster, resolved: resolved.collect() }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(map in maps()) {
            let text = encode(&map).expect("400 runs fit");
            prop_assert!(text.len() <= LONGEST);
            prop_assert_eq!(decode(&text), Ok(Some(map)));
        }

        #[test]
        fn costs_bound_what_is_written(map in maps(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(map.resolved.len());
            let costs = costs_from_each(&map.resolved);
            prop_assert_eq!(costs.len(), map.resolved.len() + 1);
            let resolved = map.resolved[cut..].to_vec();
            let text = encode(&OffsetMap { base: (resolved[0].start - 1).max(0), resolved, ..map }).unwrap();
            let written = (text.len() - MARK.len()) * 3 / 4 - HEADER;
            prop_assert!(written <= costs[cut], "{} > {}", written, costs[cut]);
        }

        #[test]
        fn damage_is_refused(map in maps(), at in any::<prop::sample::Index>(), bit in 0..7_u8) {
            let text = encode(&map).unwrap();
            prop_assert!(matches!(decode(&text[..at.index(text.len())]), Ok(None) | Err(_)));
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let damaged = String::from_utf8(bytes).unwrap();
            prop_assert!(decode(&damaged).is_err(), "{damaged}");
        }

        #[test]
        fn any_text_is_survived(text in ".{0,60}") {
            let _ = decode(&text);
            let _ = decode(&format!("{MARK}{text}"));
        }

        #[test]
        fn any_parts_are_survived(
            version in BEHIND_BASE..=FROM_BASE,
            base in any::<i64>(),
            parts in prop::collection::vec(any::<u8>(), 0..3000),
        ) {
            if let Ok(Some(map)) = decode(&sealed(version, base, &parts)) {
                prop_assert!(map.resolved.len() <= parts.len() * 8);
                prop_assert!(map.resolved.iter().all(|range| range.start >= base && range.start < range.end));
                prop_assert!(map.resolved.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
    }

    #[test]
    fn every_cut_and_every_bit_of_one_text() {
        let text = encode(&map(100, vec![101..103, 110..500, 501..502])).unwrap();
        for at in 0..text.len() {
            assert!(matches!(decode(&text[..at]), Ok(None) | Err(_)), "cut at {at}");
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                assert!(decode(std::str::from_utf8(&bytes).unwrap()).is_err(), "bit {bit} of {at}");
            }
        }
    }
}
