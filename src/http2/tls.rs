//! TLS for HTTP/2: what [`crate::tls`] asks of every server, and ALPN `h2`.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::tls::{self, TlsError};

/// The configuration of all pools.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    tls::client_config(ca_file, &[b"h2"])
}
