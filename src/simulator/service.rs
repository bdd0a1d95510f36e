//! What a provider says about a request: the seam between a provider's rules and the connection that carries them out.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;
use http::request::Parts;

/// A provider's rules.
pub trait Service: Send + Sync + 'static {
    /// What is remembered per connection.
    type Session: Send;

    /// A connection begins; `number` counts from 1.
    fn open(&self, number: u64) -> Self::Session;

    /// Judges one complete request. `now_ms` counts from the epoch.
    fn serve(&self, session: &mut Self::Session, request: &Parts, body: &[u8], now_ms: i64) -> Reply;

    /// The debug data of the GOAWAY for too many streams.
    fn too_many_streams(&self) -> Bytes;
}

/// What becomes of a stream.
#[derive(Debug)]
pub enum Action {
    /// An answer, and the name that it is counted under.
    Answer(Response<()>, Bytes, Cow<'static, str>),
    /// Never an answer.
    Silence,
    /// `RST_STREAM`.
    Reset(Reason),
    /// The connection breaks without a word.
    Break,
    /// GOAWAY that leaves this stream out: it was not processed.
    Unprocessed(GoAway),
}

/// What a service wants done with a request and its connection.
#[derive(Debug)]
pub struct Reply {
    /// What becomes of the stream.
    pub action: Action,
    /// How long the answer takes.
    pub after: Duration,
    /// Announces another stream limit.
    pub limit: Option<u32>,
    /// Resets all other streams with `REFUSED_STREAM`.
    pub refuse_others: bool,
    /// GOAWAY; what was taken in before it is still answered.
    pub goaway: Option<GoAway>,
}

impl Reply {
    /// A reply without consequences for the connection.
    pub fn new(action: Action) -> Self {
        Reply { action, after: Duration::ZERO, limit: None, refuse_others: false, goaway: None }
    }
}

/// A GOAWAY to send.
#[derive(Clone, Debug)]
pub struct GoAway {
    /// Error code (RFC 9113, 7); 0: `NO_ERROR`.
    pub code: u32,
    /// Debug data.
    pub debug: Bytes,
}

/// An order to every connection.
#[derive(Clone, Debug)]
pub enum Command {
    /// GOAWAY; what was received is answered, then the connection ends.
    GoAway(GoAway),
    /// The connection breaks without a word.
    Close,
    /// See [`super::wire::WireControl::mute`].
    Mute,
}

/// What a connection starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Stream limit in the first SETTINGS.
    pub streams: u32,
    /// Window of each stream, bytes.
    pub stream_window: u32,
    /// Window of the connection, bytes.
    pub connection_window: u32,
    /// Whether going over an acknowledged stream limit ends the connection with GOAWAY; else `REFUSED_STREAM`.
    pub strict_streams: bool,
    /// Whether it is mute from the start.
    pub mute: bool,
}
