//! The streams of a connection that are somebody's: unanswered, or answered and not yet looked at.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::session::{Ended, Received};

/// One stream.
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) begun: Instant,
    /// Where its first byte lies in all that was ever written on the connection.
    pub(super) at: u64,
    /// Answers on the connection when it began.
    pub(super) answers: u64,
    /// Whether it was found to be too old before.
    pub(super) is_overdue: bool,
    /// What is still to be sent of its body.
    pub(super) rest: Bytes,
    /// Body bytes that the peer takes of it now.
    pub(super) window: i64,
    /// Whether anything of an answer has come, be it one before the answer: then it is processed.
    pub(super) is_begun: bool,
    /// The answer's head, when it has come.
    pub(super) head: Option<(StatusCode, HeaderMap)>,
    /// Body bytes that the answer's head says will come.
    pub(super) length: Option<u64>,
    pub(super) body: BytesMut,
    /// Bytes of the answer's DATA frames so far, with their padding.
    pub(super) came: usize,
    /// Bytes of the answer's body so far.
    pub(super) got: u64,
    pub(super) end: Option<Result<Received, Ended>>,
    pub(super) waker: Option<Waker>,
}

impl Stream {
    /// Whether less, or more, of the answer has come than its head says.
    pub(super) fn is_short(&self) -> bool {
        self.length.is_some_and(|length| length != self.got)
    }
}

/// Streams by their ids, and by small keys that are used again.
#[derive(Default)]
pub(super) struct Streams {
    by_key: Vec<Option<Stream>>,
    free: Vec<usize>,
    /// Keys by id, from the oldest stream on that has not ended; ids are the odd numbers in turn.
    keys: VecDeque<Option<usize>>,
    /// The id of the first of them.
    oldest: u32,
    open: usize,
}

impl Streams {
    pub(super) fn new() -> Streams {
        Streams { oldest: 1, ..Streams::default() }
    }

    /// The id of the next stream.
    pub(super) fn next_id(&self) -> u32 {
        self.oldest + 2 * self.keys.len() as u32
    }

    /// Streams that have not ended: those that count against the peer's limit.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Adds the next stream.
    pub(super) fn push(&mut self, stream: Stream) -> usize {
        let key = self.free.pop().unwrap_or_else(|| {
            self.by_key.push(None);
            self.by_key.len() - 1
        });
        self.by_key[key] = Some(stream);
        self.keys.push_back(Some(key));
        self.open += 1;
        key
    }

    /// The key of a stream that has not ended.
    pub(super) fn key(&self, id: u32) -> Option<usize> {
        let nth = id.checked_sub(self.oldest)? / 2;
        *self.keys.get(nth as usize)?
    }

    pub(super) fn get(&mut self, key: usize) -> Option<&mut Stream> {
        self.by_key.get_mut(key)?.as_mut()
    }

    /// Ends a stream, if it has not ended before, and wakes who waits for that. From now on its id leads nowhere.
    pub(super) fn end(&mut self, key: usize, end: Result<Received, Ended>) {
        let Some(stream) = self.by_key.get_mut(key).and_then(Option::as_mut).filter(|stream| stream.end.is_none())
        else {
            return;
        };
        stream.end = Some(end);
        stream.rest = Bytes::new();
        if let Some(waker) = stream.waker.take() {
            waker.wake();
        }
        let id = stream.id;
        self.forget(id);
    }

    /// Takes out a stream that has ended.
    pub(super) fn take_end(&mut self, key: usize) -> Option<Result<Received, Ended>> {
        let place = self.by_key.get_mut(key)?;
        let end = place.as_mut()?.end.take()?;
        *place = None;
        self.free.push(key);
        Some(end)
    }

    /// Takes a stream out whose end nobody waits for any more; its id, when it had not ended.
    pub(super) fn remove(&mut self, key: usize) -> Option<u32> {
        let stream = self.by_key.get_mut(key)?.take()?;
        self.free.push(key);
        if stream.end.is_some() {
            return None;
        }
        self.forget(stream.id);
        Some(stream.id)
    }

    fn forget(&mut self, id: u32) {
        self.open -= 1;
        if let Some(key) = self.keys.get_mut((id.saturating_sub(self.oldest) / 2) as usize) {
            *key = None;
        }
        while let Some(None) = self.keys.front() {
            self.keys.pop_front();
            self.oldest += 2;
        }
    }

    /// The keys of all that have not ended, in the order in which they began.
    pub(super) fn keys(&self) -> Vec<usize> {
        self.keys.iter().flatten().copied().collect()
    }

    /// The oldest that has not ended.
    pub(super) fn first(&self) -> Option<&Stream> {
        self.by_key[(*self.keys.front()?)?].as_ref()
    }
}
