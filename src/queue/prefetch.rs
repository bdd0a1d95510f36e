//! How much the client may fetch ahead. Pure.
//!
//! The client's bounds hold for each partition's queue, and a queue may exceed them by one fetch. So that all together
//! stay within one bound, each gets its part of it.

use std::collections::BTreeMap;

/// Least bytes of a partition's part: some messages of the largest kind.
const LEAST: u64 = 64 << 10;
/// Most bytes of its queue, and of one fetch beyond it: more makes nothing faster. A fetch counts as the broker sends it, and
/// four times that may stand in the queue when batches are compressed.
const QUEUE: u64 = 1 << 20;
const FETCH: u64 = 256 << 10;
/// Fewest and most messages of its queue; each costs some hundred bytes beside its own. The most last a worker at full speed for five
/// milliseconds when it has a single partition, and the next are fetched meanwhile.
const FEWEST: u64 = 64;
const MOST: u64 = 256;
const COST: u64 = 1 << 10;

/// Bounds of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefetch {
    messages: u64,
    queue_bytes: u64,
    fetch_bytes: u64,
}

impl Prefetch {
    /// Each part of `bytes`, when there are so many partitions.
    pub(super) fn of(bytes: u64, partitions: usize) -> Self {
        let part = (bytes / (partitions as u64).max(1)).max(LEAST);
        Prefetch {
            messages: (part / 2 / COST).clamp(FEWEST, MOST),
            queue_bytes: (part / 2).min(QUEUE),
            fetch_bytes: (part / 2).min(FETCH),
        }
    }

    /// What so many partitions may hold in all.
    pub(super) fn total(self, partitions: usize) -> u64 {
        partitions as u64 * (self.queue_bytes + self.fetch_bytes)
    }

    /// As options of the client, but for those that were chosen by hand.
    pub(super) fn options(self, chosen: &BTreeMap<String, String>) -> impl Iterator<Item = (&'static str, String)> {
        let options: [(&[&str], String); 3] = [
            (&["queued.min.messages"], self.messages.to_string()),
            (&["queued.max.messages.kbytes"], (self.queue_bytes >> 10).to_string()),
            (&["fetch.message.max.bytes", "max.partition.fetch.bytes"], self.fetch_bytes.to_string()),
        ];
        let is_free = |names: &[&str]| !names.iter().any(|name| chosen.contains_key(*name));
        options.into_iter().filter(move |(names, _)| is_free(names)).map(|(names, value)| (names[0], value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: u64 = 64 << 20;

    #[test]
    fn few_partitions_have_what_makes_them_fast_and_many_share_the_bound() {
        assert_eq!(Prefetch::of(BOUND, 4), Prefetch { messages: 256, queue_bytes: 1 << 20, fetch_bytes: 256 << 10 });
        for partitions in [0, 1, 16, 64, 100, 500, 1_000] {
            assert!(Prefetch::of(BOUND, partitions).total(partitions) <= BOUND, "{partitions}");
        }
        assert_eq!(
            Prefetch::of(BOUND, 100_000),
            Prefetch { messages: 64, queue_bytes: 32 << 10, fetch_bytes: 32 << 10 }
        );
    }

    #[test]
    fn what_was_chosen_by_hand_stays() {
        let options = |chosen: &[&str]| {
            let chosen = chosen.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
            Prefetch::of(BOUND, 64).options(&chosen).collect::<Vec<_>>()
        };
        let [messages, queue, fetch] = [
            ("queued.min.messages", "256"),
            ("queued.max.messages.kbytes", "512"),
            ("fetch.message.max.bytes", "262144"),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        assert_eq!(options(&[]), [messages, queue.clone(), fetch]);
        assert_eq!(options(&["queued.min.messages", "max.partition.fetch.bytes"]), [queue]);
    }
}
