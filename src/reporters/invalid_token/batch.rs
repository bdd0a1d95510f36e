//! Batching by size and time. Pure: time is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Items collected per key until there are enough of them, or the first has waited long enough.
#[derive(Debug)]
pub struct Batches<K, T> {
    size: usize,
    interval: Duration,
    open: HashMap<K, Open<T>>,
    items: usize,
}

#[derive(Debug)]
struct Open<T> {
    due: Instant,
    items: Vec<T>,
}

impl<K: Clone + Eq + Hash, T> Batches<K, T> {
    /// Batches of at most `size` items, none older than `interval`.
    pub fn new(size: usize, interval: Duration) -> Self {
        Batches { size: size.max(1), interval, open: HashMap::new(), items: 0 }
    }

    /// Adds an item; the batch of its key when it is full with it.
    pub fn add(&mut self, key: K, item: T, now: Instant) -> Option<(K, Vec<T>)> {
        let open = self.open.entry(key.clone()).or_insert_with(|| Open { due: now + self.interval, items: Vec::new() });
        open.items.push(item);
        self.items += 1;
        if open.items.len() < self.size {
            return None;
        }
        self.items -= open.items.len();
        self.open.remove(&key).map(|open| (key, open.items))
    }

    /// How many items are collected.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// When the next batch is due; `None` when nothing is collected.
    pub fn due(&self) -> Option<Instant> {
        self.open.values().map(|open| open.due).min()
    }

    /// The batches that are due at `now`.
    pub fn take_due(&mut self, now: Instant) -> Vec<(K, Vec<T>)> {
        let taken: Vec<_> =
            self.open.extract_if(|_, open| open.due <= now).map(|(key, open)| (key, open.items)).collect();
        self.items -= taken.iter().map(|(_, items)| items.len()).sum::<usize>();
        taken
    }

    /// All that is collected.
    pub fn take_all(&mut self) -> Vec<(K, Vec<T>)> {
        self.items = 0;
        self.open.drain().map(|(key, open)| (key, open.items)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_closes_when_full_or_due() {
        let start = Instant::now();
        let mut batches = Batches::new(2, Duration::from_millis(200));
        assert!(batches.add("a", 1, start).is_none());
        assert!(batches.add("b", 9, start + Duration::from_millis(50)).is_none());
        assert_eq!(batches.add("a", 2, start + Duration::from_millis(60)), Some(("a", vec![1, 2])));
        assert_eq!(batches.due(), Some(start + Duration::from_millis(250)));
        assert!(batches.take_due(start + Duration::from_millis(249)).is_empty());
        assert_eq!(batches.take_due(start + Duration::from_millis(250)), [("b", vec![9])]);
        assert_eq!(batches.due(), None);
    }

    proptest! {
        #[test]
        fn every_item_comes_out_once_in_time_and_in_small_enough_batches(
            steps in prop::collection::vec((0u8..4, 0u64..100), 1..200), size in 1usize..10,
        ) {
            let interval = Duration::from_millis(150);
            let mut batches = Batches::new(size, interval);
            let mut now = Instant::now();
            let mut out = Vec::new();
            for (n, (key, wait)) in steps.iter().enumerate() {
                now += Duration::from_millis(*wait);
                let mut taken = batches.take_due(now);
                taken.extend(batches.add(*key, (n, now), now));
                prop_assert!(batches.due().is_none_or(|due| due > now && due <= now + interval));
                out.extend(taken);
                let gone: usize = out.iter().map(|(_, items): &(u8, Vec<_>)| items.len()).sum();
                prop_assert_eq!(batches.len(), n + 1 - gone);
            }
            out.extend(batches.take_all());
            prop_assert!(batches.is_empty());
            prop_assert!(out.iter().all(|(_, items)| items.len() <= size));
            let mut seen: Vec<_> = out.into_iter().flat_map(|(_, items)| items).map(|(n, _)| n).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..steps.len()).collect::<Vec<_>>());
        }
    }
}
