//! What can be proved about a provider's host.

use std::sync::Arc;

use crate::http2::{PoolSettings, reach};
use crate::proof::{Finding, Proof};

/// Whether a provider's host can be connected to as its pushes would.
pub(super) fn host_proof(subject: &'static str, settings: PoolSettings, tls: Arc<rustls::ClientConfig>) -> Proof {
    Proof::new(subject, async move {
        let place = format!("{}:{}", settings.host, settings.port);
        vec![match reach(&settings, &tls).await {
            Ok(at) => {
                let said = format!("{place} at {}: {}, HTTP/2, streams: {}", at.peer, at.tls, at.streams);
                Finding::proved(subject, said)
            }
            Err(error) => Finding::away(subject, error)
                .fix("see that this machine may connect there, and that nothing in between ends TLS"),
        }]
    })
}
