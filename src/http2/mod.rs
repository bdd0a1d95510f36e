//! The provider-blind HTTP/2 transport: TLS, connections, pools. The only user of `h2` in the sending path.
//!
//! A provider's client asks a [`Pool`] for a [`Slot`] (a place for one stream on a living connection), checks its gate,
//! and sends. Everything about connections (opening, widening, draining, pinging, replacing) happens below this line.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};

/// How a pool behaves; the provider's rules of its protocol.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Host name or address to connect to; resolved afresh for each connection, both IP families tried.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Most connections of this pool (of this sender thread).
    pub max_connections: usize,
    /// Connections kept open when idle (1 on the key's home sender, 0 elsewhere).
    pub min_idle: usize,
    /// Streams on a new connection until its first proven answer (APNs with token auth: 1); `None`: the peer's limit.
    pub streams_until_proven: Option<usize>,
    /// Streams assumed before the peer's SETTINGS arrive.
    pub initial_streams: usize,
    /// PING when nothing was received for this long; `None`: never ping (FCM).
    pub ping_after: Option<Duration>,
    /// A ping (or, without pings, any request) unanswered for this long means a dead peer.
    pub dead_after: Duration,
    /// Connect and handshake, together.
    pub connect_timeout: Duration,
    /// From a request's headers to the end of its answer.
    pub request_timeout: Duration,
    /// A connection above `min_idle` without a stream for this long is closed.
    pub idle_timeout: Duration,
    /// First and longest pause between failed connects (exponential, full jitter).
    pub backoff: (Duration, Duration),
    /// Whether an answer proves that the peer accepts our credentials (APNs: any status but 403).
    pub proves: fn(StatusCode) -> bool,
}

/// A pool's answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, at most 64 KiB of it.
    pub body: Bytes,
    /// From the request's first byte to the end of the answer.
    pub round_trip: Duration,
    /// Where it came from.
    pub peer: SocketAddr,
    /// The connection that it came on.
    pub connection: Connection,
}

/// A connection, as an answer names it.
#[derive(Clone, Debug)]
pub struct Connection {
    _todo: (),
}

impl Connection {
    /// Marks this connection as not to be used for new streams.
    pub fn retire(&self) {}
}

/// Whether the peer may have processed a request that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Certainly not: never sent, above GOAWAY's last stream id, or REFUSED_STREAM. Safe to send again at once.
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
    /// The peer reset the stream with REFUSED_STREAM.
    Refused,
    /// The peer reset the stream with another code.
    Reset,
    /// No answer within the request timeout.
    Timeout,
    /// The pool is closed: the process is shutting down.
    Closed,
}

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct SendError {
    /// What happened.
    pub failure: Failure,
    /// Whether it may have been processed.
    pub fate: Fate,
    /// For people; names the peer.
    pub detail: String,
}

/// Connections to one peer under one credential, on one sender thread. Cheap to clone; its tasks run on the runtime
/// that it was made on.
#[derive(Clone, Debug)]
pub struct Pool {
    _todo: (),
}

/// A place for one stream on a living connection. Dropping it unused gives the place back.
#[derive(Debug)]
pub struct Slot {
    _todo: (),
}

impl Pool {
    /// A pool that connects when it is asked for a place.
    pub fn new(settings: PoolSettings, tls: std::sync::Arc<rustls::ClientConfig>) -> Pool {
        let _ = (settings, tls);
        Pool { _todo: () }
    }

    /// Waits for a place. Fails when no connection can be had (after its own backoff says so) or the pool is closed.
    pub async fn acquire(&self) -> Result<Slot, SendError> {
        std::future::pending().await
    }

    /// Refuses all that waits for a place, now and from now on; open streams go on.
    pub fn close(&self) {}

    /// Marks every present connection as not to be used for new streams; they end when their streams have ended.
    /// For a credential that the peer has turned against (expired provider token, revoked key).
    pub fn retire_all(&self) {}
}

impl Slot {
    /// Sends one request and waits for the whole answer, within the request timeout.
    pub async fn send(self, request: Request<()>, body: Bytes) -> Result<Answer, SendError> {
        let _ = (request, body);
        std::future::pending().await
    }

    /// Marks this connection as not to be used for new streams.
    pub fn retire(&self) {}
}

/// TLS.
pub mod tls {
    use std::path::Path;
    use std::sync::Arc;

    /// The system's trust store and the certificates of `extra_ca`.
    pub fn client_config(extra_ca: Option<&Path>) -> std::io::Result<Arc<rustls::ClientConfig>> {
        let _ = extra_ca;
        let roots = rustls::RootCertStore::empty();
        Ok(Arc::new(
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap_or_else(|_| unreachable!())
                .with_root_certificates(roots)
                .with_no_client_auth(),
        ))
    }
}
