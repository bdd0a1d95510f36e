//! What the peer says about the connection as a whole: SETTINGS, PING, GOAWAY (RFC 9113 6.5, 6.7, 6.8).

use std::sync::Arc;

use super::frame::{self, Broken, Code, Head, MAX_FRAME};
use super::receive::BROKEN_OFF;
use super::session::{Ended, Session};

/// Longest text of a GOAWAY that is told, bytes.
const MAX_SAID: usize = 200;

impl Session {
    pub(super) fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream != 0 {
            return Err(Broken::protocol("SETTINGS of a stream"));
        }
        if head.has(frame::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(Broken::size("an acknowledgement that says more")) };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Broken::size("SETTINGS of another size"));
        }
        // A peer may hold to its old ones until it reads this: what the new ones let go comes behind it.
        self.reply()?;
        frame::write(&mut self.out, frame::SETTINGS, frame::ACK, 0, &[]);
        self.wake();
        for [a, b, value @ ..] in settings {
            self.setting(u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value))?;
        }
        self.peer.is_known = true;
        Ok(())
    }

    /// RFC 9113 6.5.2.
    fn setting(&mut self, id: u16, value: u32) -> Result<(), Broken> {
        match id {
            1 => self.encoder.set_max(value as usize),
            2 if value != 0 => return Err(Broken::protocol("a server that wants to be pushed to")),
            3 => self.peer.streams = Some(value),
            4 if value > frame::MAX_31 => return Err(Broken::flow("a first window that is too large")),
            4 => self.set_first_window(i64::from(value))?,
            5 if !(MAX_FRAME..1 << 24).contains(&(value as usize)) => {
                return Err(Broken::protocol("a size of frames that none may have"));
            }
            5 => self.peer.frame = value as usize,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn pinged(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if head.stream != 0 {
            return Err(Broken::protocol("a PING of a stream"));
        }
        if payload.len() != 8 {
            return Err(Broken::size("a PING of another size"));
        }
        if !head.has(frame::ACK) {
            self.reply()?;
            frame::write(&mut self.out, frame::PING, frame::ACK, 0, payload);
            self.wake();
        }
        Ok(())
    }

    pub(super) fn goaway_came(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let ([a, b, c, d], rest) = payload.split_first_chunk().ok_or(Broken::size("a GOAWAY that is too short"))?;
        let (code, said) = rest.split_first_chunk().ok_or(Broken::size("a GOAWAY that is too short"))?;
        if head.stream != 0 {
            return Err(Broken::protocol("a GOAWAY of a stream"));
        }
        self.reply()?;
        // A second one may only say less.
        self.last = (u32::from_be_bytes([*a, *b, *c, *d]) & frame::MAX_31).min(self.last);
        let text: Arc<str> = told(Code(u32::from_be_bytes(*code)), said).into();
        self.goaway = Some(text.clone());
        for key in self.streams.keys() {
            let Some(stream) = self.streams.get(key).filter(|stream| stream.id > self.last) else { continue };
            // One that is being answered is processed, whatever is said now.
            let end = if stream.is_begun { Ended::Malformed(BROKEN_OFF) } else { Ended::GoAway(text.clone()) };
            self.streams.end(key, Err(end));
        }
        Ok(())
    }
}

/// A GOAWAY in words: APNs gives a reason as JSON.
fn told(code: Code, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(&said[..said.len().min(MAX_SAID)]);
    let said: String = said.chars().filter(|c| !c.is_control()).collect();
    if said.is_empty() { format!("goaway {code}") } else { format!("goaway {code} {said}") }
}
