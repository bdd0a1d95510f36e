//! Requests' bodies, as far as the peer's windows take them (RFC 9113 6.9).

use super::frame::{self, Broken, Code, DATA, END_STREAM, Head};
use super::session::{Ended, Session};

impl Session {
    /// Sends what the windows take of a stream's body; the rest waits.
    pub(super) fn feed(&mut self, key: usize) {
        // A key may stand there for a stream that is gone.
        if !self.feed_some(key) && !self.starved.contains(&key) {
            self.starved.push(key);
        }
    }

    /// A window opened: those that wait go on, in their order.
    pub(super) fn feed_starved(&mut self) {
        if self.starved.is_empty() {
            return;
        }
        let starved = std::mem::take(&mut self.starved);
        let waiting = starved.into_iter().filter(|key| !self.feed_some(*key)).collect();
        self.starved = waiting;
        self.wake();
    }

    /// `false`: there is a rest that waits.
    fn feed_some(&mut self, key: usize) -> bool {
        let Some(stream) = self.streams.get(key) else { return true };
        while !stream.rest.is_empty() {
            let room = self.window.min(stream.window).max(0) as usize;
            let len = stream.rest.len().min(room).min(self.peer.frame);
            if len == 0 {
                return false;
            }
            let part = stream.rest.split_to(len);
            let flags = if stream.rest.is_empty() { END_STREAM } else { 0 };
            Head { len, kind: DATA, flags, stream: stream.id }.write(&mut self.out);
            self.out.extend_from_slice(&part);
            self.window -= len as i64;
            stream.window -= len as i64;
        }
        true
    }

    /// The window of the whole connection is larger by so much.
    pub(super) fn grant(&mut self, increment: u32) -> Result<(), Broken> {
        if increment == 0 {
            return Err(Broken::protocol("a WINDOW_UPDATE of nothing"));
        }
        self.window += i64::from(increment);
        if self.window > i64::from(frame::MAX_31) {
            return Err(Broken::flow("a window that is too large"));
        }
        self.feed_starved();
        Ok(())
    }

    /// The window of one stream is; what is wrong about that is the stream's alone.
    pub(super) fn grant_stream(&mut self, key: usize, increment: u32) -> Result<(), Broken> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        stream.window += i64::from(increment);
        let is_too_large = stream.window > i64::from(frame::MAX_31);
        if increment == 0 || is_too_large {
            self.reply()?;
            let code = if is_too_large { Code::FLOW_CONTROL_ERROR } else { Code::PROTOCOL_ERROR };
            self.fail(key, code, Ended::Malformed("its window became none that there is"));
        } else if self.starved.contains(&key) && self.feed_some(key) {
            self.starved.retain(|starved| *starved != key);
        }
        self.wake();
        Ok(())
    }

    /// New streams have another window, and so have those that there are (RFC 9113 6.9.2).
    pub(super) fn set_first_window(&mut self, window: i64) -> Result<(), Broken> {
        let more = window - self.peer.window;
        if more == 0 {
            return Ok(());
        }
        self.peer.window = window;
        for key in self.streams.keys() {
            let Some(stream) = self.streams.get(key) else { continue };
            stream.window += more;
            if stream.window > i64::from(frame::MAX_31) {
                return Err(Broken::flow("a window that is too large"));
            }
        }
        if more > 0 {
            self.feed_starved();
        }
        Ok(())
    }
}
