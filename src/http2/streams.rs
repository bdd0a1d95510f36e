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
    /// The connection's answers when it began.
    answers: u64,
    /// Whether it was found to be too old before.
    overdue: bool,
}

impl Open {
    pub(super) fn new(begun: Instant, stream: Option<SendStream<Bytes>>, answers: u64) -> Self {
        Open { begun, stream, answers, overdue: false }
    }
}

/// What is to end because of its age.
#[derive(Default)]
pub(super) struct Expired {
    /// Their sending halves.
    pub(super) streams: Vec<SendStream<Bytes>>,
    /// Whether the connection has had no answer at all since one of them began.
    pub(super) is_mute: bool,
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

    /// Those that began at `before` or earlier, when that is found for the second time: after a time in which this process stood
    /// still their answers may have been read a moment ago, and their tasks are yet to look. `answers`: the connection's so far.
    pub(super) fn expired(&mut self, before: Instant, answers: u64) -> Expired {
        let mut expired = Expired::default();
        for open in self.open.iter_mut().flatten().filter(|open| open.begun <= before) {
            if std::mem::replace(&mut open.overdue, true) {
                expired.is_mute |= open.answers == answers;
                expired.streams.extend(open.stream.take());
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_twice_ends_and_tells_whether_anything_was_answered_since_it_began() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        let key = streams.insert(Open::new(now, None, 7));
        let before = now.checked_sub(std::time::Duration::from_secs(1)).unwrap();
        assert!(!streams.expired(before, 7).is_mute && !streams.expired(now, 7).is_mute, "young, and found once");
        assert!(streams.expired(now, 7).is_mute);
        assert!(!streams.expired(now, 8).is_mute, "others are answered");
        streams.remove(key);
        streams.insert(Open::new(now, None, 8));
        assert!(!streams.expired(now, 8).is_mute, "the place of an old one is nothing to a new one");
    }

    #[test]
    fn stream_keys_are_used_again() {
        let mut streams = Streams::default();
        let now = Instant::now();
        let open = |begun| Open::new(begun, None, 0);
        let first = streams.insert(open(now));
        let second = streams.insert(open(now + std::time::Duration::from_secs(1)));
        assert_eq!(streams.oldest(), Some(now));
        assert!(streams.remove(first).is_some());
        assert!(streams.remove(first).is_none());
        assert_eq!(streams.insert(open(now)), first);
        assert_ne!(first, second);
    }
}
