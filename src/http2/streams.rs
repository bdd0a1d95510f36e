//! Which requests of a connection have no answer yet.

use bytes::Bytes;
use h2::SendStream;
use tokio::time::Instant;

/// The unanswered requests of one connection, by small keys that are used again: what one tick looks through instead of
/// a timer for each.
#[derive(Default)]
pub(super) struct Streams {
    open: Vec<Option<Open>>,
    free: Vec<usize>,
}

/// One unanswered request.
pub(super) struct Open {
    pub(super) begun: Instant,
    /// Its sending half, to reset it by; `None` when that was done.
    pub(super) stream: Option<SendStream<Bytes>>,
    /// Whether it was found to be too old before.
    overdue: bool,
}

impl Open {
    pub(super) fn new(begun: Instant, stream: Option<SendStream<Bytes>>) -> Self {
        Open { begun, stream, overdue: false }
    }
}

impl Streams {
    pub(super) fn insert(&mut self, open: Open) -> usize {
        if let Some(key) = self.free.pop() {
            self.open[key] = Some(open);
            return key;
        }
        self.open.push(Some(open));
        self.open.len() - 1
    }

    pub(super) fn remove(&mut self, key: usize) -> Option<Open> {
        let open = self.open.get_mut(key)?.take();
        if open.is_some() {
            self.free.push(key);
        }
        open
    }

    /// When the oldest one began.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.open.iter().flatten().map(|open| open.begun).min()
    }

    /// The sending halves of those that began at `before` or earlier, when that is found for the second time: after a time in
    /// which this process stood still their answers may have been read a moment ago, and their tasks are yet to look.
    pub(super) fn expired(&mut self, before: Instant) -> Vec<SendStream<Bytes>> {
        let mut expired = Vec::new();
        for open in self.open.iter_mut().flatten().filter(|open| open.begun <= before) {
            if std::mem::replace(&mut open.overdue, true) {
                expired.extend(open.stream.take());
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_keys_are_used_again() {
        let mut streams = Streams::default();
        let now = Instant::now();
        let open = |begun| Open::new(begun, None);
        let first = streams.insert(open(now));
        let second = streams.insert(open(now + std::time::Duration::from_secs(1)));
        assert_eq!(streams.oldest(), Some(now));
        assert!(streams.remove(first).is_some());
        assert!(streams.remove(first).is_none());
        assert_eq!(streams.insert(open(now)), first);
        assert_ne!(first, second);
    }
}
