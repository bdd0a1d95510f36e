//! What must become of every record: kept by a hash of the record's value, so that a million cost little.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use pusher::generate::Generated;

/// What must become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Accepted, under this serial.
    Delivered(u64),
    /// Refused, with this key in its feedback record.
    Refused(&'static str),
    /// It has come to no end yet.
    Waiting,
}

#[derive(Debug, Default)]
pub(crate) struct Books(HashMap<u64, Fate>);

impl Books {
    /// Notes a message; whether it is to be delivered.
    pub(crate) fn note(&mut self, push: &Generated) -> bool {
        let fate = push.expected.reason_key().map_or(Fate::Delivered(push.serial), Fate::Refused);
        self.0.insert(hash(push.line.as_bytes()), fate);
        matches!(fate, Fate::Delivered(_))
    }

    /// Notes a message that is to wait for ever.
    pub(crate) fn note_waiting(&mut self, line: &str) {
        self.0.insert(hash(line.as_bytes()), Fate::Waiting);
    }

    pub(crate) fn of(&self, value: &[u8]) -> Option<Fate> {
        self.0.get(&hash(value)).copied()
    }

    /// What was judged is not needed any more.
    pub(crate) fn close(&mut self) {
        self.0.clear();
    }
}

fn hash(value: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}
