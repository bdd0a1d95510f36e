//! One connection's state: what is to leave, what the peer said, which streams there are.

use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use tokio::time::Instant;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::frame::{self, Broken, Code, MAX_FRAME};
use super::receive::Block;
use super::streams::{Stream, Streams};
use crate::http2::MAX_ANSWER_BODY;

/// The window that every connection and every stream starts with (RFC 9113 6.9.2).
pub const FIRST_WINDOW: usize = 65_535;
/// Window that we grant: answers are small, and none may wait for another's `WINDOW_UPDATE`.
const OUR_WINDOW: u32 = 8 << 20;
/// For one answer: more than is kept of it, so that no peer waits for us.
const OUR_STREAM_WINDOW: u32 = 2 * MAX_ANSWER_BODY as u32;
/// Frames of the peer's that were answered by frames which have not left: more are a flood.
const MOST_REPLIES: usize = 10_000;

/// An answer's head and body.
pub type Received = (StatusCode, HeaderMap, Bytes);

/// Why a stream ended without an answer.
#[derive(Clone, Debug)]
pub enum Ended {
    /// It was never begun: HTTP/2 cannot say it.
    Unsendable(&'static str),
    /// It was never begun: the peer has lowered its limit of streams since it got its place.
    Crowded,
    /// It is above the last stream of the peer's GOAWAY, or was to begin after that. What the peer said.
    GoAway(Arc<str>),
    /// The peer reset it.
    Reset(Code),
    /// What came is no answer.
    Malformed(&'static str),
    /// It was too old.
    Expired,
    /// The connection ended; whether any of the request had been handed over by then.
    Lost {
        /// Of the connection.
        why: Arc<str>,
        /// Of the request.
        has_left: bool,
    },
}

/// One connection as a client has it.
pub struct Session {
    pub(super) out: Vec<u8>,
    /// Bytes that were ever taken from `out`.
    pub(super) handed: u64,
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
    pub(super) streams: Streams,
    pub(super) peer: Peer,
    /// Body bytes that the peer takes on the whole connection now.
    pub(super) window: i64,
    /// Streams whose bodies wait for a window, in the order in which they came to that.
    pub(super) starved: Vec<usize>,
    /// Bytes of answers since the window was last granted anew.
    pub(super) consumed: u32,
    /// A list of headers that goes on in the next frame.
    pub(super) block: Option<Block>,
    pub(super) goaway: Option<Arc<str>>,
    /// The last stream that the peer will answer.
    pub(super) last: u32,
    /// Answers whose heads have come, also too late.
    pub(super) answers: u64,
    pub(super) replies: usize,
    pub(super) lost: Option<Arc<str>>,
    driver: Option<Waker>,
}

/// What the peer's SETTINGS say.
#[derive(Debug)]
pub(super) struct Peer {
    /// Whether they have come.
    pub(super) is_known: bool,
    /// Streams that it allows at once; it may name no limit.
    pub(super) streams: Option<u32>,
    /// Body bytes that it takes of a new stream.
    pub(super) window: i64,
    /// Bytes of a frame's payload.
    pub(super) frame: usize,
}

impl Session {
    /// A connection that is about to begin; its first bytes are to leave. Of an answer's headers those are kept that somebody reads.
    pub fn new(reads: &[&'static str]) -> Session {
        let mut out = frame::PREFACE.to_vec();
        let settings = [(0x2, 0), (0x4, OUR_STREAM_WINDOW), (0x6, super::decoder::MAX_LIST as u32)];
        let settings: Vec<u8> = settings.iter().flat_map(|(id, value)| setting(*id, *value)).collect();
        frame::write(&mut out, frame::SETTINGS, 0, 0, &settings);
        frame::write(&mut out, frame::WINDOW_UPDATE, 0, 0, &(OUR_WINDOW - FIRST_WINDOW as u32).to_be_bytes());
        Session {
            out,
            handed: 0,
            encoder: Encoder::new(),
            decoder: Decoder::new(reads),
            streams: Streams::new(),
            peer: Peer { is_known: false, streams: None, window: FIRST_WINDOW as i64, frame: MAX_FRAME },
            window: FIRST_WINDOW as i64,
            starved: Vec::new(),
            consumed: 0,
            block: None,
            goaway: None,
            last: frame::MAX_31,
            answers: 0,
            replies: 0,
            lost: None,
            driver: None,
        }
    }

    /// Begins a request. Its key is good until it is removed; who has it must do so.
    pub fn begin(&mut self, now: Instant, request: Request<()>, body: Bytes) -> Result<usize, Ended> {
        if let Some(why) = &self.lost {
            return Err(Ended::Lost { why: why.clone(), has_left: false });
        }
        if let Some(said) = &self.goaway {
            return Err(Ended::GoAway(said.clone()));
        }
        let id = self.streams.next_id();
        if self.streams.open() >= self.peer.streams.map_or(usize::MAX, |most| most as usize) || id > frame::MAX_31 {
            return Err(Ended::Crowded);
        }
        let at = self.handed + self.out.len() as u64;
        self.write_head(id, &request.into_parts().0, body.is_empty())?;
        let key = self.streams.push(Stream {
            id,
            begun: now,
            at,
            answers: self.answers,
            is_overdue: false,
            is_begun: false,
            rest: body,
            window: self.peer.window,
            head: None,
            length: None,
            body: BytesMut::new(),
            came: 0,
            got: 0,
            end: None,
            waker: None,
        });
        self.feed(key);
        self.wake();
        Ok(key)
    }

    /// The fields of a request, in as many frames as they need (RFC 9113 6.10).
    fn write_head(&mut self, id: u32, head: &http::request::Parts, is_all: bool) -> Result<(), Ended> {
        let at = self.out.len();
        let flags = if is_all { frame::END_STREAM } else { 0 };
        frame::write(&mut self.out, frame::HEADERS, flags | frame::END_HEADERS, id, &[]);
        let from = at + frame::HEAD;
        self.encoder.encode(head, &mut self.out).map_err(|why| {
            self.out.truncate(at);
            Ended::Unsendable(why)
        })?;
        let len = self.out.len() - from;
        if len <= self.peer.frame {
            self.out[at..at + 3].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
            return Ok(());
        }
        let block = self.out.split_off(from);
        self.out.truncate(at);
        let (mut parts, mut kind, mut flags) = (block.chunks(self.peer.frame).peekable(), frame::HEADERS, flags);
        while let Some(part) = parts.next() {
            flags |= if parts.peek().is_none() { frame::END_HEADERS } else { 0 };
            frame::write(&mut self.out, kind, flags, id, part);
            (kind, flags) = (frame::CONTINUATION, 0);
        }
        Ok(())
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self) {
        frame::write(&mut self.out, frame::PING, 0, 0, &[0; 8]);
        self.wake();
    }

    /// Bytes that are to leave.
    pub fn backlog(&self) -> usize {
        self.out.len()
    }

    /// Takes what is to leave, in exchange for an empty vector. From now on it counts as handed over.
    pub fn take_out(&mut self, spare: Vec<u8>) -> Vec<u8> {
        self.replies = 0;
        self.handed += self.out.len() as u64;
        std::mem::replace(&mut self.out, spare)
    }

    /// Notes a frame that is answered by another.
    pub(super) fn reply(&mut self) -> Result<(), Broken> {
        self.replies += 1;
        if self.replies > MOST_REPLIES {
            Err(Broken::flood("more frames than their answers can leave"))
        } else {
            Ok(())
        }
    }

    /// Wakes the connection's task when there is something to leave.
    pub fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Who is woken, once.
    pub fn set_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(driver) => driver.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Whether the peer's SETTINGS have come and allow a stream.
    pub fn is_open(&self) -> bool {
        self.peer.is_known && self.peer.streams != Some(0)
    }

    /// Streams that the peer allows at once, if it names a limit.
    pub fn limit(&self) -> Option<u32> {
        self.peer.streams
    }

    /// Body bytes that the peer takes now, on the whole connection.
    pub fn window(&self) -> i64 {
        self.window
    }

    /// What the peer's GOAWAY said.
    pub fn goaway(&self) -> Option<Arc<str>> {
        self.goaway.clone()
    }

    /// Answers whose heads have come, also those that came too late.
    pub fn answers(&self) -> u64 {
        self.answers
    }
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}
