//! Which topics exist, told from several looks at the cluster's list. Pure.
//!
//! One list proves little: a broker that has just started knows a part, and a topic whose leaders are being elected is listed
//! with an error. So a topic is gone only when several looks in a row miss it, and one is new for sure only when as many
//! had missed it before.

use std::collections::BTreeMap;

/// Looks in a row without a topic after which it is not there.
const GONE_AFTER: u32 = 3;

/// The topics of one look with their numbers of partitions; `None`: listed with an error.
pub(super) type Listing = BTreeMap<String, Option<i32>>;

/// Whether a partition is from before our time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It was there at the first look.
    Old,
    /// It came into being while we run.
    New,
    /// It may have been there: what was written since the first look, in ms since the epoch, is new in any case.
    Unknown {
        /// The time of the first look.
        since_ms: i64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The look that saw it first, counted from 1.
    first: u32,
    /// Its partitions when their number was known first.
    partitions: Option<i32>,
    /// Looks in a row without it.
    missed: u32,
}

/// What the looks so far say.
#[derive(Debug, Default)]
pub(super) struct Topics {
    looks: u32,
    began_ms: i64,
    seen: BTreeMap<String, Seen>,
}

impl Topics {
    /// Adds a look.
    pub(super) fn look(&mut self, listing: &Listing, now_ms: i64) {
        self.looks = self.looks.saturating_add(1);
        if self.looks == 1 {
            self.began_ms = now_ms;
        }
        for (topic, seen) in &mut self.seen {
            seen.missed = if listing.contains_key(topic) { 0 } else { seen.missed + 1 };
        }
        self.seen.retain(|_, seen| seen.missed < GONE_AFTER);
        for (topic, partitions) in listing {
            let new = Seen { first: self.looks, partitions: None, missed: 0 };
            let seen = self.seen.entry(topic.clone()).or_insert(new);
            seen.partitions = seen.partitions.or(*partitions);
        }
    }

    /// Those that are there.
    pub(super) fn present(&self) -> impl Iterator<Item = &str> {
        self.seen.keys().map(String::as_str)
    }

    /// How many partitions these topics have, as far as that is known.
    pub(super) fn partitions<'a>(&self, topics: impl Iterator<Item = &'a str>) -> usize {
        let known = topics.filter_map(|topic| self.seen.get(topic)?.partitions);
        known.map(|partitions| partitions.max(0) as usize).sum()
    }

    /// Whether a partition is from before our time.
    pub(super) fn age(&self, topic: &str, partition: i32) -> Age {
        let unknown = Age::Unknown { since_ms: self.began_ms };
        let Some(seen) = self.seen.get(topic) else { return unknown };
        match seen.partitions {
            _ if seen.first > GONE_AFTER => Age::New,
            Some(partitions) if seen.first == 1 && partition < partitions => Age::Old,
            Some(partitions) if partition >= partitions => Age::New,
            _ => unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(topics: &[(&str, Option<i32>)]) -> Listing {
        topics.iter().map(|(topic, partitions)| ((*topic).to_owned(), *partitions)).collect()
    }

    fn after(looks: &[&[(&str, Option<i32>)]]) -> Topics {
        let mut topics = Topics::default();
        for (number, look) in looks.iter().enumerate() {
            topics.look(&listing(look), 1000 + number as i64);
        }
        topics
    }

    fn present(topics: &Topics) -> Vec<&str> {
        topics.present().collect()
    }

    const UNKNOWN: Age = Age::Unknown { since_ms: 1000 };

    #[test]
    fn a_topic_is_gone_only_after_three_looks_in_a_row_without_it() {
        let a = [("a", Some(2))];
        assert_eq!(present(&after(&[&a, &[], &[]])), ["a"]);
        assert_eq!(present(&after(&[&a, &[], &[], &a, &[], &[]])), ["a"], "not in a row");
        assert_eq!(present(&after(&[&a, &[], &[], &[]])), [""; 0]);
        assert_eq!(
            present(&after(&[&a, &[("a", None)], &[("a", None)], &[("a", None)]])),
            ["a"],
            "an error is a sign of life"
        );
    }

    #[test]
    fn what_was_there_at_the_first_look_is_old_and_partitions_added_later_are_new() {
        let topics = after(&[&[("a", Some(2))], &[("a", Some(4))], &[]]);
        assert_eq!([1, 2, 3].map(|partition| topics.age("a", partition)), [Age::Old, Age::New, Age::New]);
        assert_eq!(topics.partitions(["a", "b"].into_iter()), 2);
    }

    #[test]
    fn what_one_list_missed_may_be_old() {
        let late = [("a", Some(2))];
        assert_eq!(after(&[&[], &late]).age("a", 0), UNKNOWN);
        assert_eq!(after(&[&[], &[], &[], &late]).age("a", 0), Age::New, "three lists miss nothing");
        assert_eq!(after(&[&[], &late, &[], &[], &[], &late]).age("a", 0), Age::New, "made anew");
        assert_eq!(after(&[&[]]).age("a", 0), UNKNOWN, "the group knows more than we do");
    }

    #[test]
    fn a_topic_that_was_listed_with_an_error_is_old_as_far_as_its_partitions_are_known() {
        assert_eq!(after(&[&[("a", None)]]).age("a", 0), UNKNOWN);
        let topics = after(&[&[("a", None)], &[("a", Some(2))]]);
        assert_eq!([1, 2].map(|partition| topics.age("a", partition)), [Age::Old, Age::New]);
    }
}
