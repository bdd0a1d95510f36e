//! The provider-blind HTTP/2 transport: TLS, connections, pools. HTTP/2 itself is our own (`wire`).
//!
//! A provider's client asks a [`Pool`] for a [`Slot`] (a place for one stream on a living connection), checks its gate,
//! and sends. Everything about connections (opening, widening, draining, pinging, replacing) happens below this line.
//!
//! What holds here, and why:
//! - *Never above the peer's limit.* Places are counted (`places`) and a request leaves only on a place. APNs answers a client that goes over
//!   its limit with GOAWAY.
//! - *A request's fate is known.* Every failure says whether the peer may have processed the request ([`Fate`]), because
//!   a push that is sent twice is shown twice.
//! - *Everything ends.* Connects, requests and silent peers have deadlines; a connection is recycled before its stream
//!   ids run out; one tick per connection watches all of its requests instead of one timer per push.
//! - *One lock per pool*, held for nanoseconds, never over an await: a pool lives on one sender thread.
//!
//! Knows no provider: no status but through [`PoolSettings::proves`], no header, no body.

mod channel;
mod connect;
mod connection;
mod failure;
mod flow;
mod keep_alive;
mod link;
mod news;
mod places;
mod pool;
mod request;
mod shared;
mod state;
pub mod tls;
mod waiters;
mod width;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use pool::{ConnectionRef, Pool, Stats};
pub use request::Slot;

/// Most bytes of an answer's body that are kept; the rest is not read. Providers answer with a few hundred bytes, a
/// proxy's error page with some more.
pub const MAX_ANSWER_BODY: usize = 64 * 1024;

/// How a pool behaves; the provider's rules of its protocol.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Host name or address to connect to; resolved afresh for each connection, both IP families tried.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Most connections of this pool (of this sender thread), those that drain not counted.
    pub max_connections: usize,
    /// Connections kept open when idle (1 on the key's home sender, 0 elsewhere).
    pub min_idle: usize,
    /// Streams on a new connection until its first proven answer (APNs with token auth: 1); `None`: the peer's limit.
    pub streams_until_proven: Option<usize>,
    /// Most streams on one connection, whatever the peer allows: a peer may name no limit at all.
    pub max_streams: usize,
    /// The same for a peer that names no limit of its own.
    pub streams_unless_named: usize,
    /// PING when nothing was received for this long; `None`: never ping (FCM).
    pub ping_after: Option<Duration>,
    /// A ping or a request unanswered, with nothing else received, for this long means a dead peer.
    pub dead_after: Duration,
    /// Resolve, connect and handshake, together.
    pub connect_timeout: Duration,
    /// From a request's headers to the end of its answer.
    pub request_timeout: Duration,
    /// A connection above `min_idle` without a stream for this long is closed.
    pub idle_timeout: Duration,
    /// First and longest pause between failed connects (exponential, full jitter).
    pub backoff: (Duration, Duration),
    /// Requests after which a connection is replaced; stream ids end at 2^30 of them.
    pub max_requests: u64,
    /// Age at which a connection is replaced, less up to a tenth by chance so that connections do not go together;
    /// `None`: never. APNs connections have shown errors after about a week.
    pub max_age: Option<Duration>,
    /// The names of the headers that are read of an answer, in lower case: the others are not kept.
    pub reads: &'static [&'static str],
    /// Whether an answer proves that the peer accepts our credentials (APNs: any status but 403).
    pub proves: fn(StatusCode) -> bool,
}

impl PoolSettings {
    /// Settings that suit any HTTP/2 peer; a provider overrides what its protocol asks for.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        PoolSettings {
            host: host.into(),
            port,
            max_connections: 10,
            min_idle: 0,
            streams_until_proven: None,
            max_streams: 1000,
            streams_unless_named: 1000,
            ping_after: None,
            dead_after: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_mins(1),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            max_requests: 1_000_000_000,
            max_age: Some(Duration::from_hours(24)),
            reads: &[],
            proves: |_| true,
        }
    }
}

impl PoolSettings {
    /// Streams on a connection whose peer allows `named`.
    fn streams(&self, named: Option<u32>) -> usize {
        named.map_or(self.streams_unless_named, |named| named as usize).min(self.max_streams)
    }
}

/// A pool's answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Those of its headers that are read: [`PoolSettings::reads`].
    pub headers: HeaderMap,
    /// Body, at most [`MAX_ANSWER_BODY`] of it.
    pub body: Bytes,
    /// From the request's first byte to the end of the answer.
    pub round_trip: Duration,
    /// Where it came from.
    pub peer: SocketAddr,
    /// The connection that it came by, to retire it when the answer says that it is of no more use.
    pub connection: ConnectionRef,
}

/// Whether the peer may have processed a request that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Certainly not: never sent, above GOAWAY's last stream id, or `REFUSED_STREAM`. Safe to send again at once.
    NotProcessed,
    /// Perhaps: sending again may repeat it.
    Unknown,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be had: DNS, connect, TLS, handshake.
    Connect,
    /// The connection ended before the answer.
    ConnectionLost,
    /// The peer said GOAWAY before it processed the request.
    GoAway,
    /// The peer reset the stream with `REFUSED_STREAM`, or lowered its limit of streams before the request began.
    Refused,
    /// The peer reset the stream with another code, its answer was malformed, or (with [`Fate::NotProcessed`]) the
    /// request itself is not one that HTTP/2 can carry.
    Reset,
    /// No answer within the request timeout.
    Timeout,
    /// The pool is closed: the process is shutting down.
    Closed,
}

/// What a peer showed that was connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Which of the host's addresses answered.
    pub peer: SocketAddr,
    /// The version of TLS, in words.
    pub tls: &'static str,
    /// Streams that it allows on a connection, as a pool would use them.
    pub streams: usize,
}

/// Opens one connection as a pool of these settings would, and closes it. An error names the peer and what to do.
pub async fn reach(settings: &PoolSettings, tls: &Arc<rustls::ClientConfig>) -> Result<Reached, String> {
    let opened = connect::open(settings, tls, connect::Family::default()).await.map_err(|error| error.to_string())?;
    let streams = settings.streams(opened.link.session().limit());
    Ok(Reached { peer: opened.peer, tls: opened.tls, streams })
}

/// A request without an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct SendError {
    /// What happened.
    pub failure: Failure,
    /// Whether it may have been processed.
    pub fate: Fate,
    /// For people; names the peer, and what it said in its GOAWAY.
    pub detail: String,
    /// The connection that it happened on, if one was had.
    pub connection: ConnectionRef,
    /// From the request's first byte until then; nothing when it did not leave.
    pub after: Duration,
}
