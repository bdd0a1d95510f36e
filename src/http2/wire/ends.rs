//! How requests end: answered, given up, too old, or with their connection.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::frame::{self, Broken, Code};
use super::session::{Ended, Received, Session};

impl Session {
    /// The end of a request, which is then removed.
    pub fn poll_end(&mut self, key: usize, cx: &Context<'_>) -> Poll<Result<Received, Ended>> {
        if let Some(end) = self.streams.take_end(key) {
            return Poll::Ready(end);
        }
        if let Some(stream) = self.streams.get(key) {
            match &mut stream.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }

    /// Removes a request whose end nobody waits for any more.
    pub fn remove(&mut self, key: usize) {
        if let Some(id) = self.streams.remove(key) {
            self.reset(id, Code::CANCEL);
        }
    }

    /// Says that a stream is over.
    pub(super) fn reset(&mut self, id: u32, code: Code) {
        frame::write(&mut self.out, frame::RST_STREAM, 0, id, &code.0.to_be_bytes());
        self.wake();
    }

    /// Ends a stream without an answer, and says so to the peer.
    pub(super) fn fail(&mut self, key: usize, code: Code, end: Ended) {
        if let Some(stream) = self.streams.get(key) {
            let id = stream.id;
            self.reset(id, code);
            self.streams.end(key, Err(end));
        }
    }

    /// Ends the requests that began at `before` or earlier, when that is found for the second time: after a time in which this process
    /// stood still their answers may lie where they are about to be read. `true`: the connection has had no answer at all since one of
    /// them began.
    pub fn expire(&mut self, before: Instant) -> bool {
        let mut is_mute = false;
        for key in self.streams.keys() {
            let answers = self.answers;
            let Some(stream) = self.streams.get(key).filter(|stream| stream.begun <= before) else { break };
            if std::mem::replace(&mut stream.is_overdue, true) {
                is_mute |= stream.answers == answers;
                self.fail(key, Code::CANCEL, Ended::Expired);
            }
        }
        is_mute
    }

    /// When the oldest unanswered request began.
    pub fn oldest(&self) -> Option<Instant> {
        self.streams.first().map(|stream| stream.begun)
    }

    /// Says that we end the connection, and why.
    pub fn say_goaway(&mut self, broken: Option<Broken>) {
        let (code, why) = broken.map_or((Code::NO_ERROR, ""), |broken| (broken.code, broken.why));
        // The peer opens no streams: the last of them is none.
        let payload = [&[0; 4][..], &code.0.to_be_bytes(), why.as_bytes()].concat();
        frame::write(&mut self.out, frame::GOAWAY, 0, 0, &payload);
    }

    /// The connection is no more: all that is unanswered ends with it.
    pub fn lose(&mut self, why: &str) {
        if self.lost.is_some() {
            return;
        }
        let why: Arc<str> = why.into();
        for key in self.streams.keys() {
            let handed = self.handed;
            let Some(stream) = self.streams.get(key) else { continue };
            let has_left = stream.at < handed;
            self.streams.end(key, Err(Ended::Lost { why: why.clone(), has_left }));
        }
        self.out = Vec::new();
        self.lost = Some(why);
    }
}
