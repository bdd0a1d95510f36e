//! The last changes of state in words, kept for whoever asks. Fed by the log, which tells each change once (`telemetry`), so
//! that nobody has to tell it twice. What repeats is kept once, with how often: a connection that ends each minute leaves room
//! for the rest.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

/// How many are kept.
pub const MOST: usize = 50;
/// Longest text of a value, characters.
const LONGEST: usize = 240;
/// Fields that make an entry another one than its like.
const WHOSE: [&str; 9] = ["app", "platform", "lane", "job", "topic", "host", "part", "key", "reason"];

static JOURNAL: Journal = Journal::new();

/// The journal of this process.
pub fn of_process() -> &'static Journal {
    &JOURNAL
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it happened last, ms since the epoch.
    pub at_ms: i64,
    /// `info`, `warning`, `error`.
    pub level: &'static str,
    /// What happened.
    pub what: String,
    /// About whom or what.
    pub about: BTreeMap<String, String>,
    /// How often.
    pub times: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Journal(Mutex<VecDeque<Entry>>);

impl Journal {
    const fn new() -> Self {
        Journal(Mutex::new(VecDeque::new()))
    }

    /// Adds a change.
    pub fn add(&self, at_ms: i64, level: &'static str, what: String, about: BTreeMap<String, String>) {
        let about: BTreeMap<_, _> = about.into_iter().map(|(name, value)| (name, short(value))).collect();
        let mut entries = self.0.lock();
        let is_like = |entry: &Entry| {
            entry.what == what
                && entry.level == level
                && WHOSE.iter().all(|name| entry.about.get(*name) == about.get(*name))
        };
        let before = entries.iter().position(is_like).and_then(|at| entries.remove(at));
        if entries.len() >= MOST {
            entries.pop_front();
        }
        entries.push_back(Entry { at_ms, level, what, about, times: 1 + before.map_or(0, |before| before.times) });
    }

    /// All that are kept, the newest last.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().iter().cloned().collect()
    }
}

fn short(value: String) -> String {
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(app: &str, streams: u32) -> BTreeMap<String, String> {
        [("app".to_owned(), app.to_owned()), ("streams".to_owned(), streams.to_string())].into()
    }

    #[test]
    fn what_repeats_is_kept_once_and_the_newest_is_last() {
        let journal = Journal::new();
        journal.add(1, "info", "connection ended".into(), about("a", 1));
        journal.add(2, "error", "the breaker is open".into(), about("a", 0));
        journal.add(3, "info", "connection ended".into(), about("a", 7));
        journal.add(4, "info", "connection ended".into(), about("b", 7));
        let entries = journal.entries();
        let told: Vec<_> = entries.iter().map(|one| (one.at_ms, one.times, one.about["streams"].as_str())).collect();
        assert_eq!(told, [(2, 1, "0"), (3, 2, "7"), (4, 1, "7")]);
    }

    #[test]
    fn it_is_bounded_in_number_and_length() {
        let journal = Journal::new();
        for number in 0..200 {
            journal.add(number, "info", number.to_string(), [("error".to_owned(), "ü".repeat(10_000))].into());
        }
        let entries = journal.entries();
        assert_eq!((entries.len(), entries[0].at_ms), (MOST, 150));
        assert_eq!(entries[0].about["error"].chars().count(), LONGEST + 1);
    }
}
