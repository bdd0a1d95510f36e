//! Which messages arrived, by a **serial** in the payload: the ledger that another program's promises are checked against.
//!
//! A serial is the number of the first JSON member named `serial`, wherever it stands (`{"m":{"serial":7}}`), found by a scan
//! for the text, also inside a payload that was sent as a JSON string, and also as a string of digits. It belongs to the message and not to the
//! request: a message that is sent twice under two identities is found out all the same, and a changed identity too.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::ops::Range;
use std::sync::LazyLock;

use parking_lot::Mutex;
use regex::bytes::Regex;
use serde::Serialize;

/// Serials of one page.
const PAGE: u64 = 1024;
/// Pages kept (16 KiB each); serials beyond are counted as untracked.
const PAGES: usize = 16_384;
/// Serials or ranges that one query names.
pub const NAMED: usize = 1_000;

static SERIAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#""serial\\?"\s*:\s*(?:\\?"(\d{1,19})\\?"|(\d{1,19}))"#)
        .unwrap_or_else(|error| unreachable!("a constant pattern: {error}"))
});

/// The serial in a payload.
pub fn serial_of(body: &[u8]) -> Option<u64> {
    let found = SERIAL.captures(body)?;
    let digits = found.get(1).or(found.get(2))?;
    std::str::from_utf8(digits.as_bytes()).ok()?.parse().ok()
}

#[derive(Clone, Copy, Default)]
struct Entry {
    /// Of the identity under which it came first; 0: never came.
    identity: u64,
    requests: u32,
    accepted: u32,
}

type Page = Box<[Entry; PAGE as usize]>;

/// Serials seen and accepted. Sparse serials cost a page of 16 KiB each.
#[derive(Default)]
pub struct Ledger {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pages: HashMap<u64, Page>,
    sums: Sums,
}

/// The ledger in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Different serials that came at least once, accepted or not.
    pub serials: u64,
    /// Different serials accepted.
    pub accepted: u64,
    /// Acceptances beyond a serial's first.
    pub repeated: u64,
    /// Requests with a serial that came before under another identity (`apns-id`; FCM has none).
    pub identity_changes: u64,
    /// Requests without a serial.
    pub without_serial: u64,
    /// Requests whose serial is too far from all others to be kept.
    pub untracked: u64,
}

impl Ledger {
    /// Notes a request under `identity`, and whether it was accepted.
    pub fn note(&self, serial: Option<u64>, identity: &[u8], accepted: bool) {
        let mut state = self.state.lock();
        let State { pages, sums } = &mut *state;
        let Some(serial) = serial else {
            sums.without_serial += 1;
            return;
        };
        if pages.len() >= PAGES && !pages.contains_key(&(serial / PAGE)) {
            sums.untracked += 1;
            return;
        }
        let page = pages.entry(serial / PAGE).or_insert_with(|| Box::new([Entry::default(); PAGE as usize]));
        let entry = &mut page[(serial % PAGE) as usize];
        let identity = BuildHasherDefault::<DefaultHasher>::default().hash_one(identity) | 1;
        if entry.identity == 0 {
            entry.identity = identity;
            sums.serials += 1;
        } else if entry.identity != identity {
            sums.identity_changes += 1;
        }
        entry.requests = entry.requests.saturating_add(1);
        if accepted {
            if entry.accepted == 0 {
                sums.accepted += 1;
            } else {
                sums.repeated += 1;
            }
            entry.accepted = entry.accepted.saturating_add(1);
        }
    }

    /// An acceptance that was noted was none after all.
    pub fn take_back(&self, serial: u64) {
        let mut state = self.state.lock();
        let State { pages, sums } = &mut *state;
        let Some(entry) = pages.get_mut(&(serial / PAGE)).map(|page| &mut page[(serial % PAGE) as usize]) else {
            return;
        };
        match entry.accepted {
            0 => return,
            1 => sums.accepted -= 1,
            _ => sums.repeated -= 1,
        }
        entry.accepted -= 1;
    }

    /// The ledger in numbers.
    pub fn sums(&self) -> Sums {
        self.state.lock().sums
    }

    /// How often a serial came and how often it was accepted.
    pub fn of(&self, serial: u64) -> (u32, u32) {
        let state = self.state.lock();
        state.pages.get(&(serial / PAGE)).map_or((0, 0), |page| {
            let entry = page[(serial % PAGE) as usize];
            (entry.requests, entry.accepted)
        })
    }

    /// Whether a serial was accepted.
    pub fn accepted(&self, serial: u64) -> bool {
        self.of(serial).1 > 0
    }

    /// The ranges of `within` that were never accepted, the first [`NAMED`] of them.
    pub fn missing(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let state = self.state.lock();
        let mut missing: Vec<Range<u64>> = Vec::new();
        let mut serial = within.start;
        while serial < within.end && missing.len() <= NAMED {
            let page_end = (serial / PAGE + 1).saturating_mul(PAGE).min(within.end);
            let Some(page) = state.pages.get(&(serial / PAGE)) else {
                extend(&mut missing, serial..page_end);
                serial = page_end;
                continue;
            };
            if page[(serial % PAGE) as usize].accepted == 0 {
                extend(&mut missing, serial..serial + 1);
            }
            serial += 1;
        }
        missing.truncate(NAMED);
        missing
    }

    /// Serials accepted more than once and how often, in order, the first [`NAMED`] of them.
    pub fn repeated(&self) -> Vec<(u64, u32)> {
        let state = self.state.lock();
        let mut numbers: Vec<_> = state.pages.keys().copied().collect();
        numbers.sort_unstable();
        let entries = numbers.into_iter().flat_map(|number| (number * PAGE..).zip(state.pages[&number].iter()));
        entries
            .filter(|(_, entry)| entry.accepted > 1)
            .map(|(serial, entry)| (serial, entry.accepted))
            .take(NAMED)
            .collect()
    }

    /// Forgets everything.
    pub fn reset(&self) {
        *self.state.lock() = State::default();
    }
}

fn extend(ranges: &mut Vec<Range<u64>>, more: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == more.start => last.end = more.end,
        _ => ranges.push(more),
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("sums", &self.sums()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_serial_is_found_wherever_it_stands() {
        assert_eq!(serial_of(br#"{"aps":{},"serial":7}"#), Some(7));
        assert_eq!(serial_of(br#"{"M": {"serial" : 18446744073}}"#), Some(18_446_744_073));
        assert_eq!(serial_of(br#""{\"m\":{\"serial\":12}}""#), Some(12), "a payload sent as a string");
        assert_eq!(serial_of(br#"{"data":{"serial":"12"}}"#), Some(12), "a number as a string");
        assert_eq!(serial_of(br#"{"data":{"m":"{\"serial\":\"12\"}"}}"#), Some(12), "the same inside a string");
        assert_eq!(serial_of(br#"{"xserial":7,"serial":"a","b":{"serial":"7b"}}"#), None);
        assert_eq!(serial_of(b"\xff\xfe"), None);
    }

    #[test]
    fn identities_and_strays_are_counted() {
        let ledger = Ledger::default();
        ledger.note(Some(1), b"a", false);
        ledger.note(Some(1), b"a", true);
        ledger.note(Some(1), b"b", true);
        ledger.note(None, b"c", true);
        assert_eq!(ledger.of(1), (3, 2));
        let expected =
            Sums { serials: 1, accepted: 1, repeated: 1, identity_changes: 1, without_serial: 1, untracked: 0 };
        assert_eq!(ledger.sums(), expected);
        ledger.take_back(1);
        assert_eq!(ledger.sums(), Sums { repeated: 0, ..expected });
        ledger.take_back(1);
        ledger.take_back(1);
        ledger.take_back(7_000);
        assert_eq!(ledger.sums(), Sums { repeated: 0, accepted: 0, ..expected });
        assert_eq!((ledger.of(1), ledger.missing(0..3).first()), ((3, 0), Some(&(0..3))));
        ledger.note(Some(1), b"a", true);
        assert_eq!((ledger.sums().accepted, ledger.sums().repeated), (1, 0));
        ledger.reset();
        assert_eq!(ledger.sums(), Sums::default());
    }

    proptest! {
        #[test]
        fn missing_and_repeated_agree_with_a_naive_count(serials in prop::collection::vec(900u64..3_000, 0..400), start in 0u64..2_000, length in 0u64..2_000) {
            let ledger = Ledger::default();
            let mut naive = BTreeMap::<u64, u32>::new();
            for serial in serials {
                ledger.note(Some(serial), b"id", true);
                *naive.entry(serial).or_default() += 1;
            }
            let missing: Vec<u64> = ledger.missing(start..start + length).into_iter().flatten().collect();
            let expected: Vec<u64> = (start..start + length).filter(|serial| !naive.contains_key(serial)).collect();
            prop_assert_eq!(missing, expected);
            let twice: Vec<_> = naive.into_iter().filter(|(_, count)| *count > 1).collect();
            prop_assert_eq!(ledger.repeated(), twice);
        }
    }
}
