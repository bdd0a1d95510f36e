//! Who is next: each table has a line of its own, tables take turns, and none has all the places at once. Those whose
//! statements do not come through, because of a lock for example, have one each, and all but one together. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

/// Lines of things that wait for a place.
#[derive(Debug)]
pub(super) struct Lines<K, T> {
    by_key: HashMap<K, Line<T>>,
    /// Whose turn it is, for those where somebody waits.
    turns: VecDeque<K>,
    stuck: HashSet<K>,
    places: usize,
    taken: usize,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    taken: usize,
}

impl<K: Clone + Eq + Hash, T> Lines<K, T> {
    /// So many places. One key has all but one of them at most, so that the others' turns come.
    pub(super) fn new(places: usize) -> Self {
        Lines { by_key: HashMap::new(), turns: VecDeque::new(), stuck: HashSet::new(), places: places.max(1), taken: 0 }
    }

    /// At the end of its key's line.
    pub(super) fn add(&mut self, key: K, thing: T) {
        let line = self.by_key.entry(key.clone()).or_insert_with(|| Line { waiting: VecDeque::new(), taken: 0 });
        if line.waiting.is_empty() {
            self.turns.push_back(key);
        }
        line.waiting.push_back(thing);
    }

    /// The next to have a place, when there is one for it.
    pub(super) fn admit(&mut self) -> Option<(K, T)> {
        if self.taken >= self.places {
            return None;
        }
        let at = self.turns.iter().position(|key| self.may_have_a_place(key))?;
        let key = self.turns.remove(at)?;
        let line = self.by_key.get_mut(&key)?;
        let thing = line.waiting.pop_front()?;
        line.taken += 1;
        self.taken += 1;
        if !line.waiting.is_empty() {
            self.turns.push_back(key.clone());
        }
        Some((key, thing))
    }

    fn may_have_a_place(&self, key: &K) -> bool {
        let (most, taken) = ((self.places - 1).max(1), self.taken_by(key));
        if self.stuck.contains(key) {
            return taken == 0 && self.stuck.iter().map(|one| self.taken_by(one)).sum::<usize>() < most;
        }
        taken < most
    }

    fn taken_by(&self, key: &K) -> usize {
        self.by_key.get(key).map_or(0, |line| line.taken)
    }

    /// Whether what has a place of this key's does not come through.
    pub(super) fn set_stuck(&mut self, key: &K, stuck: bool) {
        if stuck {
            self.stuck.insert(key.clone());
        } else {
            self.stuck.remove(key);
        }
    }

    /// One of this key has given its place back.
    pub(super) fn done(&mut self, key: &K) {
        if let Some(line) = self.by_key.get_mut(key) {
            line.taken -= 1;
            self.taken -= 1;
            if line.taken == 0 && line.waiting.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    /// All that wait for a place.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.by_key.values().flat_map(|line| &line.waiting)
    }

    /// Whether nobody waits and nobody has a place.
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_key_leaves_a_place_and_the_others_have_turns() {
        let mut lines = Lines::new(3);
        (0..5).for_each(|n| lines.add("slow", n));
        assert_eq!((lines.admit(), lines.admit(), lines.admit()), (Some(("slow", 0)), Some(("slow", 1)), None));
        lines.add("a", 10);
        lines.add("a", 11);
        lines.add("b", 20);
        assert_eq!((lines.admit(), lines.admit()), (Some(("a", 10)), None), "three places");
        lines.done(&"a");
        assert_eq!(lines.admit(), Some(("b", 20)));
        lines.done(&"b");
        assert_eq!(lines.admit(), Some(("a", 11)));
        lines.done(&"slow");
        assert_eq!(lines.admit(), Some(("slow", 2)));
    }

    #[test]
    fn those_that_are_stuck_have_one_place_each_and_leave_one_to_the_others() {
        let mut lines = Lines::new(3);
        for (n, key) in ["a", "b", "c", "a", "b"].into_iter().enumerate() {
            lines.set_stuck(&key, true);
            lines.add(key, n);
        }
        assert_eq!((lines.admit(), lines.admit(), lines.admit()), (Some(("a", 0)), Some(("b", 1)), None));
        lines.add("well", 9);
        assert_eq!(lines.admit(), Some(("well", 9)));
        lines.done(&"well");
        assert_eq!(lines.admit(), None);
        lines.done(&"a");
        assert_eq!(lines.admit(), Some(("c", 2)), "it is its turn");
        lines.set_stuck(&"b", false);
        assert_eq!((lines.admit(), lines.admit()), (Some(("a", 3)), None), "three places");
        lines.done(&"c");
        assert_eq!(lines.admit(), Some(("b", 4)), "its second");
    }

    #[test]
    fn a_single_place_serves_all() {
        let mut lines = Lines::new(1);
        lines.add("a", 1);
        lines.add("b", 2);
        assert_eq!((lines.admit(), lines.admit()), (Some(("a", 1)), None));
        lines.done(&"a");
        assert_eq!(lines.admit(), Some(("b", 2)));
    }

    proptest! {
        #[test]
        fn everything_has_its_place_once_in_order_and_within_bounds(
            steps in prop::collection::vec((0u8..4, any::<bool>()), 1..200), places in 1usize..6,
        ) {
            let mut lines = Lines::new(places);
            let (mut at_work, mut seen): (Vec<u8>, Vec<(u8, usize)>) = (Vec::new(), Vec::new());
            let mut step = |lines: &mut Lines<u8, usize>, at_work: &mut Vec<u8>| {
                while let Some((key, thing)) = lines.admit() {
                    at_work.push(key);
                    seen.push((key, thing));
                }
                let most = (places - 1).max(1);
                assert!(at_work.len() <= places);
                assert!((0..4).all(|key| at_work.iter().filter(|one| **one == key).collect::<Vec<_>>().len() <= most));
            };
            for (n, (key, ends)) in steps.iter().enumerate() {
                lines.add(*key, n);
                step(&mut lines, &mut at_work);
                if *ends && !at_work.is_empty() {
                    lines.done(&at_work.remove(0));
                    step(&mut lines, &mut at_work);
                }
            }
            while !at_work.is_empty() {
                lines.done(&at_work.remove(0));
                step(&mut lines, &mut at_work);
            }
            prop_assert!(lines.is_empty());
            prop_assert_eq!(seen.len(), steps.len());
            for key in 0..4 {
                let order: Vec<_> = seen.iter().filter(|(one, _)| *one == key).map(|(_, n)| *n).collect();
                prop_assert!(order.is_sorted());
            }
        }
    }
}
