//! What a server must show before we speak to it: TLS 1.2 or later, a certificate that the system's trust store or an
//! extra CA file vouches for, and the protocol that we ask for (ALPN).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::reload::{Print, Refused, Taking, Watched};

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read, or something in it is not a certificate.
    #[error("cannot read CA certificates from {}: {reason}; give a PEM file with CERTIFICATE sections", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The system has no trust store and no CA file was given.
    #[error("no trusted certificates found ({reason}); install ca-certificates, set SSL_CERT_FILE, or name a CA file")]
    NoRoots {
        /// What the look for them said.
        reason: String,
    },
    /// The cryptography provider supports no allowed TLS version.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// What one kind of connections trusts, and its CA file, which may change while the program runs; clones are the same one.
#[derive(Clone)]
pub struct Trust {
    config: Arc<RwLock<Arc<ClientConfig>>>,
    alpn: &'static [&'static [u8]],
    file: Option<(PathBuf, Print)>,
}

impl Trust {
    /// The system's store and the CA file, as [`client_config`] does.
    pub fn read(ca_file: Option<&Path>, alpn: &'static [&'static [u8]]) -> Result<Trust, TlsError> {
        let file = ca_file.map(CaFile::read).transpose()?;
        let config = Arc::new(RwLock::new(client_config_of(file.as_ref(), alpn)?));
        Ok(Trust { config, alpn, file: file.map(|file| (file.path, Print::of(&file.content))) })
    }

    /// For a connection that is made now.
    pub fn current(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config.read())
    }

    /// The CA file, when there is one, as `key` names it: new connections trust what it holds, the present ones go on. `apps`
    /// are who depends on it.
    pub fn watched(&self, key: &str, apps: Vec<Arc<str>>) -> Option<Watched> {
        let (path, print) = self.file.clone()?;
        let (of_take, config, alpn) = (path.clone(), Arc::clone(&self.config), self.alpn);
        let take = move |mut contents: Vec<Vec<u8>>| -> Taking {
            let file = CaFile { path: of_take.clone(), content: contents.pop().unwrap_or_default() };
            let made = client_config_of(Some(&file), alpn).map_err(|error| Refused::for_good(error.to_string()));
            Box::pin(std::future::ready(made.map(|made| *config.write() = made)))
        };
        Some(Watched::new(key, apps, vec![(path, print)], Box::new(take)))
    }
}

impl From<Arc<ClientConfig>> for Trust {
    /// One that no file changes.
    fn from(config: Arc<ClientConfig>) -> Self {
        Trust { config: Arc::new(RwLock::new(config)), alpn: &[], file: None }
    }
}

/// A client's TLS configuration, to be shared by its connections: the session cache makes reconnects cheaper. `alpn` names the
/// protocols to ask for; none: the peer is not asked.
///
/// Trusts the system's store (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and, in addition, the certificates in
/// `ca_file` (PEM).
pub fn client_config(ca_file: Option<&Path>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    client_config_of(ca_file.map(CaFile::read).transpose()?.as_ref(), alpn)
}

/// A CA file that was read.
struct CaFile {
    path: PathBuf,
    content: Vec<u8>,
}

impl CaFile {
    fn read(path: &Path) -> Result<CaFile, TlsError> {
        let refuse =
            |error: std::io::Error| TlsError::CaFile { path: path.to_owned(), reason: format!("I/O error: {error}") };
        Ok(CaFile { path: path.to_owned(), content: std::fs::read(path).map_err(refuse)? })
    }
}

/// The same with the content of a CA file.
fn client_config_of(ca_file: Option<&CaFile>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let native = rustls_native_certs::load_native_certs();
    let problems: Vec<String> = native.errors.iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        tracing::warn!(problems = %problems.join("; "), "some trusted certificates could not be loaded");
    }
    let extra = ca_file.map(certificates).transpose()?.unwrap_or_default();
    let roots = roots(native.certs, extra, &problems.join("; "))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Joins both sources; certificates of the system's store that cannot be parsed are passed over, as everywhere else.
fn roots(
    native: Vec<CertificateDer<'static>>,
    extra: Vec<CertificateDer<'static>>,
    problems: &str,
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(native.into_iter().chain(extra));
    if roots.is_empty() {
        let reason = if problems.is_empty() { "the system's trust store is empty" } else { problems };
        return Err(TlsError::NoRoots { reason: reason.to_owned() });
    }
    Ok(roots)
}

fn certificates(file: &CaFile) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::CaFile { path: file.path.clone(), reason };
    let certificates = CertificateDer::pem_slice_iter(&file.content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    let mut check = RootCertStore::empty();
    for certificate in &certificates {
        check.add(certificate.clone()).map_err(|error| refuse(error.to_string()))?;
    }
    if certificates.is_empty() {
        return Err(refuse("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_ca_file_is_read_and_the_config_asks_for_the_protocol() {
        let ca = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let file = file(&ca.cert.pem());
        let config = client_config(Some(file.path()), &[b"h2"]).unwrap();
        assert_eq!(config.alpn_protocols, vec![b"h2".to_vec()]);
        let read = CaFile::read(file.path()).unwrap();
        assert_eq!(certificates(&read).unwrap(), vec![ca.cert.der().clone()]);
    }

    #[test]
    fn a_bad_ca_file_is_named() {
        let missing = client_config(Some(Path::new("/nowhere/ca.pem")), &[]).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/ca.pem"), "{missing}");
        let empty = file("nothing here\n");
        let error = client_config(Some(empty.path()), &[]).unwrap_err().to_string();
        assert!(error.contains(&empty.path().display().to_string()) && error.contains("no certificate"), "{error}");
        let broken = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let error = client_config(Some(broken.path()), &[]).unwrap_err().to_string();
        assert!(error.contains(&broken.path().display().to_string()), "{error}");
    }

    #[test]
    fn no_roots_at_all_says_what_to_do() {
        let error = roots(vec![], vec![], "").unwrap_err().to_string();
        insta::assert_snapshot!(error, @"no trusted certificates found (the system's trust store is empty); install ca-certificates, set SSL_CERT_FILE, or name a CA file");
    }
}
