//! Certificates made at start: a CA to hand to the client and a leaf for the simulator's names.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A TLS identity that nobody trusts but those who are given its CA.
#[derive(Debug)]
pub struct Identity {
    /// The CA's certificate, PEM: what a client must trust.
    pub ca_pem: String,
    /// The CA's own key, PEM: given to a later start, its certificates are trusted by the same clients.
    pub ca_key_pem: String,
    /// The server's side, TLS 1.2 and 1.3, ALPN `h2`. A client without ALPN is served too, as APNs does (observed by
    /// bloomberg/pushiko, docs/comparisons.md); one that offers only other protocols is refused with an alert.
    pub server: Arc<ServerConfig>,
}

/// Why no identity could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A name that a certificate cannot hold.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// rustls refused what was made.
    #[error("cannot set up tls: {0}")]
    Setup(#[from] rustls::Error),
}

/// Makes a CA and a leaf for `names` (host names and IP addresses), valid as long as rcgen's default says (decades).
///
/// With the CA's key of an earlier start (`ca_key`, PEM) who trusts that start's CA trusts this one: name and key are the
/// same, and these are what trust goes by.
pub fn identity(names: &[String], ca_key: Option<&str>) -> Result<Identity, TlsError> {
    let ca_key = ca_key.map_or_else(KeyPair::generate, KeyPair::from_pem)?;
    let ca_key_pem = ca_key.serialize_pem();
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "Pusher simulator CA");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name.push(DnType::CommonName, "Pusher simulator");
    let certificate = leaf.signed_by(&key, &issuer)?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Identity { ca_pem, ca_key_pem, server: Arc::new(server) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_makes_an_own_ca_for_the_names_given() {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let one = identity(&names, None).expect("identity");
        assert!(one.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        assert_ne!(one.ca_pem, identity(&names, None).expect("identity").ca_pem);
        assert!(identity(&["not ascii: ü".to_owned()], None).is_err());
    }
}
