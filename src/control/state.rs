//! The entries. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

/// Most entries that are kept in memory: far above what people decide, far below what would hurt.
pub const MOST: usize = 10_000;
/// Longest value, bytes.
pub const LONGEST: usize = 64 * 1024;

/// Key → JSON. Cheap to clone: texts are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(BTreeMap<Arc<str>, Arc<str>>);

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
        self.0.get(key).and_then(|text| parsed(key, text))
    }

    /// The entries whose keys begin so, with the rest of their keys, in order; those of another shape are passed over.
    pub fn below<'a, T: DeserializeOwned + 'a>(
        &'a self,
        beginning: &'a str,
    ) -> impl Iterator<Item = (&'a str, T)> + 'a {
        let from = self.0.range::<str, _>((std::ops::Bound::Included(beginning), std::ops::Bound::Unbounded));
        let ours = from.map_while(move |(key, text)| Some((key.strip_prefix(beginning)?, text)));
        ours.filter_map(|(rest, text)| Some((rest, parsed(rest, text)?)))
    }

    /// Takes an entry over, or its end.
    pub fn apply(&mut self, key: &str, value: Option<&str>) -> Applied {
        let Some(value) = value else {
            return if self.0.remove(key).is_some() { Applied::Changed } else { Applied::Same };
        };
        if value.len() > LONGEST || (self.0.len() >= MOST && !self.0.contains_key(key)) {
            return Applied::Refused;
        }
        let before = self.0.insert(key.into(), value.into());
        if before.as_deref() == Some(value) { Applied::Same } else { Applied::Changed }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
