//! What was set and is not known to be written: the last value of each key.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::state::MOST;

/// One entry to be written.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) key: Arc<str>,
    pub(super) change: Change,
}

/// What an entry is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This.
    Value(Arc<str>),
    /// None any more, by the word of this person.
    End(Arc<str>),
}

/// Shared by who sets and who writes.
#[derive(Debug)]
pub(super) struct Orders {
    waiting: Mutex<Waiting>,
    open: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: BTreeMap<Arc<str>, Change>,
    under_way: usize,
    /// A write has failed since it was asked last.
    failed: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Orders { waiting: Mutex::default(), open: watch::Sender::new(0) }
    }
}

impl Orders {
    /// Takes an order; it replaces one of the same key that has not been begun.
    pub(super) fn add(&self, key: Arc<str>, change: Change) {
        let mut waiting = self.waiting.lock();
        if waiting.next.len() >= MOST && !waiting.next.contains_key(&key) {
            tracing::error!(alarm = true, %key, "too many entries wait to be written; this one is not kept");
            return;
        }
        waiting.next.insert(key, change);
        self.tell(&waiting);
    }

    /// All that waits, to be written now. Nothing while some is under way: two writes of a key must not overtake each other.
    pub(super) fn begin(&self) -> Vec<Order> {
        let mut waiting = self.waiting.lock();
        if waiting.under_way > 0 {
            return Vec::new();
        }
        let orders: Vec<_> =
            std::mem::take(&mut waiting.next).into_iter().map(|(key, change)| Order { key, change }).collect();
        waiting.under_way = orders.len();
        orders
    }

    /// A write came to its end. One that failed waits again, unless its key has been set anew.
    pub(super) fn end(&self, order: Order, written: bool) {
        let mut waiting = self.waiting.lock();
        waiting.under_way -= 1;
        if !written {
            waiting.failed = true;
            waiting.next.entry(order.key).or_insert(order.change);
        }
        self.tell(&waiting);
    }

    /// Whether a write has failed since this was asked last.
    pub(super) fn take_failure(&self) -> bool {
        std::mem::take(&mut self.waiting.lock().failed)
    }

    /// How many are not written.
    pub(super) fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// Whether any is not written.
    pub(super) fn are_open(&self) -> bool {
        *self.open.borrow() > 0
    }

    fn tell(&self, waiting: &Waiting) {
        self.open.send_replace(waiting.next.len() + waiting.under_way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(orders: &Orders) -> Vec<Order> {
        orders.begin()
    }

    #[test]
    fn the_last_value_is_written_and_a_failed_one_gives_way_to_a_newer() {
        let orders = Orders::default();
        let (value, end) = (|text: &str| Change::Value(text.into()), Change::End("ann".into()));
        orders.add("a".into(), value("1"));
        orders.add("a".into(), value("2"));
        orders.add("b".into(), end.clone());
        let mut first = begun(&orders);
        assert_eq!(first.len(), 2);
        orders.add("a".into(), value("3"));
        assert!(begun(&orders).is_empty(), "some are under way");
        assert_eq!(*orders.open().borrow(), 3);
        let (b, a) = (first.pop().unwrap(), first.pop().unwrap());
        assert_eq!((&a.change, &b.change), (&value("2"), &end));
        orders.end(a, false);
        orders.end(b, false);
        assert!(orders.take_failure() && !orders.take_failure());
        let second = begun(&orders);
        assert_eq!(second.iter().map(|order| &order.change).collect::<Vec<_>>(), [&value("3"), &end]);
        for order in second {
            orders.end(order, true);
        }
        assert_eq!(*orders.open().borrow(), 0);
    }
}
