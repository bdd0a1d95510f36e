//! The entries. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::de::DeserializeOwned;

/// Most entries that are kept in memory: far above what people decide, far below what would hurt.
pub const MOST: usize = 10_000;
/// Longest value, bytes.
pub const LONGEST: usize = 64 * 1024;

/// Of how many entries that ended it is known who ended them: those of the last moments are asked about.
const ENDS: usize = 100;
/// Longest name of who ended one, characters.
const LONGEST_NAME: usize = 200;

/// Key → JSON. Cheap to clone: texts are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    entries: BTreeMap<Arc<str>, Arc<str>>,
    /// Key and who, the last one at the end.
    ends: VecDeque<(Arc<str>, Arc<str>)>,
}

/// What became of an entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The state is another one now.
    Changed,
    /// It says what was known.
    Same,
    /// There are too many entries, or it is too long: it is not kept.
    Refused,
}

impl State {
    /// An entry; nothing when it is not there or is not of this shape.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.entries.get(key).and_then(|text| parsed(key, text))
    }

    /// The entries whose keys begin so, with the rest of their keys, in order; those of another shape are passed over.
    pub fn below<'a, T: DeserializeOwned + 'a>(
        &'a self,
        beginning: &'a str,
    ) -> impl Iterator<Item = (&'a str, T)> + 'a {
        let from = self.entries.range::<str, _>((std::ops::Bound::Included(beginning), std::ops::Bound::Unbounded));
        let ours = from.map_while(move |(key, text)| Some((key.strip_prefix(beginning)?, text)));
        ours.filter_map(|(rest, text)| Some((rest, parsed(rest, text)?)))
    }

    /// Takes an entry over, or its end.
    pub fn apply(&mut self, key: &str, value: Option<&str>) -> Applied {
        let Some(value) = value else { return self.end(key, None) };
        if value.len() > LONGEST || (self.entries.len() >= MOST && !self.entries.contains_key(key)) {
            return Applied::Refused;
        }
        let before = self.entries.insert(key.into(), value.into());
        if before.as_deref() == Some(value) { Applied::Same } else { Applied::Changed }
    }

    /// Takes an entry's end over, with who ended it.
    pub fn end(&mut self, key: &str, by: Option<&str>) -> Applied {
        if self.entries.remove(key).is_none() {
            return Applied::Same;
        }
        self.ends.retain(|(ended, _)| **ended != *key);
        if self.ends.len() >= ENDS {
            self.ends.pop_front();
        }
        let by: Option<String> = by.map(|by| by.chars().take(LONGEST_NAME).collect());
        self.ends.extend(by.map(|by| (key.into(), by.into())));
        Applied::Changed
    }

    /// Who ended an entry that is not there any more; `None` when its end does not say, or was long ago.
    pub fn ended_by(&self, key: &str) -> Option<&str> {
        self.ends.iter().find(|(ended, _)| **ended == *key).map(|(_, by)| &**by)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn parsed<T: DeserializeOwned>(key: &str, text: &str) -> Option<T> {
    serde_json::from_str(text)
        .inspect_err(|error| tracing::debug!(key, %error, "an entry of another shape is passed over"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_key_and_by_the_beginning_of_keys() {
        let mut state = State::default();
        for (key, value) in [("a/1", "1"), ("a/2", "\"text\""), ("a/3", "3"), ("b/1", "9"), ("a", "0")] {
            assert_eq!(state.apply(key, Some(value)), Applied::Changed);
        }
        assert_eq!(state.get::<i32>("b/1"), Some(9));
        assert_eq!(state.get::<i32>("a/2"), None, "another shape");
        assert_eq!(state.below::<i32>("a/").collect::<Vec<_>>(), [("1", 1), ("3", 3)]);
    }

    #[test]
    fn the_last_value_counts_and_an_end_removes() {
        let mut state = State::default();
        assert_eq!(state.apply("k", None), Applied::Same);
        assert_eq!(state.apply("k", Some("1")), Applied::Changed);
        assert_eq!(state.apply("k", Some("1")), Applied::Same);
        assert_eq!(state.apply("k", Some("2")), Applied::Changed);
        assert_eq!(state.get::<i32>("k"), Some(2));
        assert_eq!(state.apply("k", None), Applied::Changed);
        assert!(state.is_empty());
    }

    #[test]
    fn who_ended_an_entry_is_known_for_a_while() {
        let mut state = State::default();
        let mut pass = |key: &str, by: Option<&str>| {
            state.apply(key, Some("1"));
            state.end(key, by);
            state.clone()
        };
        pass("a", Some("ann"));
        assert_eq!(pass("a", Some("bob")).ended_by("a"), Some("bob"));
        assert_eq!(pass("a", None).ended_by("a"), None, "by a program that does not say");
        pass("a", Some("ann"));
        for number in 1..ENDS {
            pass(&number.to_string(), Some(&"x".repeat(1_000)));
        }
        assert_eq!(pass("1", Some("bob")).ended_by("a"), Some("ann"));
        assert_eq!(pass("more", Some("bob")).ended_by("a"), None);
        assert_eq!(state.ended_by("7").map(str::len), Some(LONGEST_NAME));
        assert_eq!((state.end("none", Some("bob")), state.ended_by("none")), (Applied::Same, None));
    }

    #[test]
    fn it_is_bounded_and_what_is_known_still_changes() {
        let mut state = State::default();
        for number in 0..MOST {
            state.apply(&number.to_string(), Some("0"));
        }
        assert_eq!(state.apply("more", Some("0")), Applied::Refused);
        assert_eq!(state.apply("7", Some(&"1".repeat(LONGEST + 1))), Applied::Refused);
        assert_eq!(state.apply("7", Some("1")), Applied::Changed);
    }
}
