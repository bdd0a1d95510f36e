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
    /// Body bytes read before a request is judged as it is: more than any body that the provider takes.
    const BODY_READ: usize;
    /// Whether a client must name its protocol in the TLS handshake (ALPN).
    const NEEDS_ALPN: bool;

    /// A connection begins; `number` counts from 1.
    fn open(&self, number: u64) -> Self::Session;

    /// Judges one complete request. `now_ms` counts from the epoch.
    fn serve(&self, session: &mut Self::Session, request: &Parts, body: &[u8], now_ms: i64) -> Reply;

    /// The push of this serial, which a reply called accepted, was not processed after all.
    fn take_back(&self, serial: u64);

    /// What the provider says when it ends a connection for this.
    fn farewell(&self, why: Farewell) -> GoAway;
}

/// Why a connection ends on the simulator's own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// More streams than an acknowledged limit allows.
    TooManyStreams,
    /// More PINGs than the provider likes.
    TooManyPings,
    /// It is old.
    MaxAge,
    /// Nothing happened on it for long.
    Idle,
}

/// What becomes of a stream.
#[derive(Debug)]
pub enum Action {
    /// An answer, and the name that it is counted under.
    Answer(Response<()>, Bytes, Cow<'static, str>),
    /// An answer's header, and never its end.
    Stall(Response<()>),
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
    /// The serial that was entered as accepted.
    pub accepted: Option<u64>,
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
        Reply { action, accepted: None, after: Duration::ZERO, limit: None, refuse_others: false, goaway: None }
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
