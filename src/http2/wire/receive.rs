//! What the peer says, frame by frame (RFC 9113 6).

use bytes::Bytes;
use http::StatusCode;

use super::decoder::{Fields, MAX_LIST};
use super::frame::{self, Broken, Code, Head, MAX_FRAME};
use super::session::{Ended, Session};
use crate::http2::MAX_ANSWER_BODY;

/// Window that we grant anew at once.
const GRANT: u32 = 1 << 20;

/// What is said of an answer whose end will not come.
pub(super) const BROKEN_OFF: &str = "its answer was broken off";

/// A list of headers whose end has not come.
pub(super) struct Block {
    stream: u32,
    is_last: bool,
    bytes: Vec<u8>,
    /// Frames that it came in: empty ones must not go on for ever.
    frames: usize,
}

impl Session {
    /// Takes all whole frames at the beginning of `bytes`; how many bytes that were.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut rest = bytes;
        while let Some(head) = Head::read(rest) {
            if head.len > MAX_FRAME {
                return Err(Broken::size("a frame that is longer than we allow"));
            }
            let Some(payload) = rest.get(frame::HEAD..frame::HEAD + head.len) else { break };
            self.take(head, payload)?;
            rest = &rest[frame::HEAD + head.len..];
        }
        Ok(bytes.len() - rest.len())
    }

    fn take(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        if self.block.as_ref().is_some_and(|block| head.kind != frame::CONTINUATION || head.stream != block.stream) {
            return Err(Broken::protocol("headers that are broken off"));
        }
        match head.kind {
            frame::DATA => self.data(head, payload),
            frame::HEADERS => self.headers(head, payload),
            frame::CONTINUATION => self.continuation(head, payload),
            frame::RST_STREAM => self.rst_stream(head, payload),
            frame::SETTINGS => self.settings(head, payload),
            frame::PUSH_PROMISE => Err(Broken::protocol("a pushed stream that we forbade")),
            frame::PING => self.pinged(head, payload),
            frame::GOAWAY => self.goaway_came(head, payload),
            frame::WINDOW_UPDATE => self.window_update(head, payload),
            frame::PRIORITY if payload.len() != 5 => Err(Broken::size("a PRIORITY of another size")),
            _ => Ok(()), // RFC 9113 4.1: unknown ones are nothing
        }
    }

    /// The key of the stream that a frame is about; `None`: it has ended, and the peer may not know yet.
    fn stream(&self, head: Head) -> Result<Option<usize>, Broken> {
        if head.stream.is_multiple_of(2) || head.stream >= self.streams.next_id() {
            return Err(Broken::protocol("a frame of a stream that was never opened"));
        }
        Ok(self.streams.key(head.stream))
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let key = self.stream(head)?;
        let body = frame::unpadded(head, payload)?;
        self.consumed += payload.len() as u32;
        if self.consumed >= GRANT {
            frame::write(&mut self.out, frame::WINDOW_UPDATE, 0, 0, &self.consumed.to_be_bytes());
            self.consumed = 0;
            self.wake();
        }
        let Some((key, stream)) = key.and_then(|key| Some((key, self.streams.get(key)?))) else { return Ok(()) };
        if stream.head.is_none() {
            self.reply()?;
            self.fail(key, Code::PROTOCOL_ERROR, Ended::Malformed("its body came before its headers"));
            return Ok(());
        }
        stream.came += payload.len();
        stream.got += body.len() as u64;
        let room = MAX_ANSWER_BODY - stream.body.len();
        let is_whole = head.has(frame::END_STREAM);
        if is_whole && stream.body.is_empty() && body.len() <= room {
            let body = Bytes::copy_from_slice(body);
            return self.answer(key, Some(body));
        }
        stream.body.extend_from_slice(&body[..body.len().min(room)]);
        if is_whole || stream.came >= MAX_ANSWER_BODY {
            return self.answer(key, is_whole.then(Bytes::new));
        }
        Ok(())
    }

    /// An answer is there. `whole`: its end has come, with this as its body unless parts of it came before; else the peer is told that
    /// nobody waits for the rest.
    fn answer(&mut self, key: usize, whole: Option<Bytes>) -> Result<(), Broken> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let Some((status, headers)) = stream.head.take() else { return Ok(()) };
        let (id, is_all_sent, is_whole) = (stream.id, stream.rest.is_empty(), whole.is_some());
        let body = whole.filter(|body| !body.is_empty()).unwrap_or_else(|| stream.body.split().freeze());
        let is_short = is_whole && stream.is_short();
        if !is_whole || !is_all_sent {
            self.reply()?;
            self.reset(id, Code::CANCEL);
        }
        let end = if is_short {
            Err(Ended::Malformed("its body has another length than it says"))
        } else {
            Ok((status, headers, body))
        };
        self.streams.end(key, end);
        Ok(())
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        self.stream(head)?;
        let mut fragment = frame::unpadded(head, payload)?;
        if head.has(frame::WITH_PRIORITY) {
            fragment = fragment.get(5..).ok_or(Broken::size("headers that are shorter than their priority"))?;
        }
        let is_last = head.has(frame::END_STREAM);
        if head.has(frame::END_HEADERS) {
            return self.block(head.stream, is_last, fragment);
        }
        self.block = Some(Block { stream: head.stream, is_last, bytes: fragment.to_vec(), frames: 1 });
        Ok(())
    }

    fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let Some(mut block) = self.block.take() else {
            return Err(Broken::protocol("headers that go on without a beginning"));
        };
        block.bytes.extend_from_slice(payload);
        block.frames += 1;
        if block.bytes.len() > MAX_LIST || block.frames > MAX_LIST / frame::HEAD {
            return Err(Broken::flood("headers without end"));
        }
        if head.has(frame::END_HEADERS) {
            return self.block(block.stream, block.is_last, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole list of headers; also that of a stream that has ended changes the table.
    fn block(&mut self, id: u32, is_last: bool, block: &[u8]) -> Result<(), Broken> {
        let fields = self.decoder.decode(block)?;
        let Some(key) = self.streams.key(id) else {
            self.answers += 1; // too late for its request, and a sign that the peer answers
            return Ok(());
        };
        match self.fields(key, is_last, fields) {
            Ok(true) => self.answer(key, Some(Bytes::new())),
            Ok(false) => Ok(()),
            Err(why) => {
                self.reply()?;
                self.fail(key, Code::PROTOCOL_ERROR, Ended::Malformed(why));
                Ok(())
            }
        }
    }

    /// The head of an answer, one before it (1xx), or what follows its body. `true`: it is the answer's end.
    fn fields(&mut self, key: usize, is_last: bool, fields: Fields) -> Result<bool, &'static str> {
        let Some(stream) = self.streams.get(key) else { return Ok(false) };
        if let Some(why) = fields.wrong {
            return Err(why);
        }
        if stream.head.is_some() {
            return match fields.status {
                None if is_last => Ok(true),
                _ => Err("its headers came twice"),
            };
        }
        let status = fields.status.and_then(|status| StatusCode::from_u16(status).ok()).ok_or("it has no status")?;
        stream.is_begun = true;
        if status.is_informational() {
            return if is_last { Err("it ends before it begins") } else { Ok(false) };
        }
        stream.head = Some((status, fields.headers));
        stream.length = fields.length;
        self.answers += 1;
        Ok(is_last)
    }

    fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let code = Code(frame::number(payload, "a RST_STREAM of another size")?);
        let Some(key) = self.stream(head)? else { return Ok(()) };
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let end = match stream.head.take() {
            None if !stream.is_begun => Err(Ended::Reset(code)),
            // The answer is whole, and the rest of the request is not wanted (RFC 9113 8.1).
            Some((status, headers)) if code == Code::NO_ERROR && !stream.is_short() => {
                Ok((status, headers, stream.body.split().freeze()))
            }
            // Whatever the code says: it was processed.
            _ => Err(Ended::Malformed(BROKEN_OFF)),
        };
        self.streams.end(key, end);
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let increment = frame::number(payload, "a WINDOW_UPDATE of another size")? & frame::MAX_31;
        if head.stream == 0 {
            return self.grant(increment);
        }
        match self.stream(head)? {
            Some(key) => self.grant_stream(key, increment),
            None => Ok(()),
        }
    }
}
