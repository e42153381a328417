//! TLS: certificates that can be exchanged while connections are open, optional client certificates, HTTP/2 by ALPN.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use super::settings::ClientAuth;

/// Where certificates and keys lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain in PEM, the gateway's own first.
    pub cert: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
    /// The authorities whose client certificates are taken; looked at unless `client_auth` is off.
    pub client_ca: PathBuf,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
}

impl TlsFiles {
    /// Of a listener that asks for no client certificates; `None` without TLS. `section` is for the message.
    ///
    /// # Errors
    /// One is named without the other.
    pub fn pair(section: &str, cert: &str, key: &str) -> Result<Option<Self>, String> {
        match (cert.is_empty(), key.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => {
                let [cert, key] = [cert, key].map(PathBuf::from);
                Ok(Some(Self { cert, key, client_ca: PathBuf::new(), client_auth: ClientAuth::Off }))
            }
            _ => Err(format!("{section}.tls_cert and {section}.tls_key belong together")),
        }
    }
}

/// The TLS of a listener. What is exchanged holds for connections from then on; those that are open keep what they began with.
pub struct Tls(ArcSwap<ServerConfig>);

/// Certificates that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of what it should.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificates and the key do not go together, or rustls refuses them.
    #[error("{}: {source}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities of clients make no verifier.
    #[error("{}: {reason}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

// === impl Tls ===

impl Tls {
    /// Reads the files. Blocks on them.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from(read(files)?)))
    }

    /// Takes over what another has read.
    pub fn exchange(&self, other: Self) {
        self.0.store(other.0.into_inner());
    }

    /// Shakes hands by what holds now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(at(&files.key))?;
    let provider = Arc::new(ring::default_provider());
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Refused { path, source }
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(refused(&files.cert))?;
    let builder = match files.client_auth {
        ClientAuth::Off => builder.with_no_client_auth(),
        ClientAuth::Optional | ClientAuth::Required => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(&files.client_ca)? {
                roots.add(authority).map_err(refused(&files.client_ca))?;
            }
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if files.client_auth == ClientAuth::Optional {
                verifier = verifier.allow_unauthenticated();
            }
            let path = || files.client_ca.clone();
            let verifier = verifier.build().map_err(|error| TlsError::ClientCa { path: path(), reason: error.to_string() })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(refused(&files.cert))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A client that comes back skips half of the handshake. Keys of tickets are of this process and of these certificates.
    config.ticketer = ring::Ticketer::new().map_err(refused(&files.key))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(at(path))?;
    if found.is_empty() {
        return Err(TlsError::File { path: path.to_owned(), source: rustls::pki_types::pem::Error::NoItemsFound });
    }
    Ok(found)
}

fn at(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::File { path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
            client_ca: PathBuf::new(),
            client_auth: ClientAuth::Off,
        };
        assert!(Tls::load(&files).unwrap_err().to_string().contains("cert.pem"));
        std::fs::write(&files.cert, "no certificate").unwrap();
        assert!(Tls::load(&files).unwrap_err().to_string().contains("cert.pem"));
    }
}
