//! TLS for HTTP/2: what [`crate::tls`] asks of every server, and ALPN `h2`.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

pub use crate::tls::{TlsError, Trust};

use crate::tls;

const ALPN: &[&[u8]] = &[b"h2"];

/// The configuration of connections whose trust does not change.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    tls::client_config(ca_file, ALPN)
}

/// What the connections of all pools of a platform trust.
pub fn trust(ca_file: Option<&Path>) -> Result<Trust, TlsError> {
    Trust::read(ca_file, ALPN)
}
