//! TLS for HTTP/2: what [`crate::tls`] asks of every server, and ALPN `h2`.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

pub use crate::tls::{CaFile, TlsError, Trust};

use crate::tls;

const ALPN: &[&[u8]] = &[b"h2"];

/// The configuration of all pools.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    tls::client_config(ca_file, ALPN)
}

/// The same with the content of a CA file.
pub fn client_config_of(ca_file: Option<&CaFile>) -> Result<Arc<ClientConfig>, TlsError> {
    tls::client_config_of(ca_file, ALPN)
}
