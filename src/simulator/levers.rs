//! What can be switched about connections, whoever the provider is.

use serde::{Deserialize, Serialize};

/// How connections behave; provider-blind. All but `refuse_connections` and `fail_tls` count for connections opened later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Levers {
    /// Nobody listens: connecting is refused by the system.
    pub refuse_connections: bool,
    /// The TLS handshake is answered with the alert `handshake_failure`.
    pub fail_tls: bool,
    /// New connections accept bytes and say nothing, not even SETTINGS.
    pub mute: bool,
    /// Round trip time added at the byte layer, ms; half of it each way.
    pub rtt_ms: u64,
    /// Stream limit of a new connection.
    pub initial_streams: u32,
    /// Flow control window of each stream, bytes.
    pub stream_window: u32,
    /// Flow control window of a connection, bytes.
    pub connection_window: u32,
    /// Going over an acknowledged stream limit ends the connection with GOAWAY; else the stream gets `REFUSED_STREAM`.
    pub strict_streams: bool,
    /// A PING to the client after every answer.
    pub ping_after_answer: bool,
    /// The last DATA frame of an answer is empty, after one with the whole body.
    pub empty_last_frame: bool,
    /// GOAWAY when a connection is this old, ms; 0: never.
    pub max_age_ms: u64,
    /// GOAWAY when a connection has had no stream for so long, ms; 0: never.
    pub idle_ms: u64,
    /// GOAWAY when this many PINGs of the client came without a request between them; 0: never.
    pub most_pings: u32,
}

impl Default for Levers {
    /// APNs' values: one stream first, windows of 65,535 bytes (jchambers/pushy issues 476 and 356).
    fn default() -> Self {
        Levers {
            refuse_connections: false,
            fail_tls: false,
            mute: false,
            rtt_ms: 0,
            initial_streams: 1,
            stream_window: 65_535,
            connection_window: 65_535,
            strict_streams: true,
            ping_after_answer: false,
            empty_last_frame: false,
            max_age_ms: 0,
            idle_ms: 0,
            most_pings: 0,
        }
    }
}

impl Levers {
    /// The same, made fit for HTTP/2: windows within 1 byte and 2^31 - 1 (RFC 9113, 6.9.1).
    #[must_use]
    pub fn clamped(self) -> Self {
        const MOST: u32 = (1 << 31) - 1;
        Levers {
            stream_window: self.stream_window.clamp(1, MOST),
            connection_window: self.connection_window.clamp(1, MOST),
            ..self
        }
    }
}
