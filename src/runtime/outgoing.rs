//! TLS of the connections that the gateway's own commands make: to an admin listener, and to an endpoint that is looked at. Blocking.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};

/// How long before its end a certificate is told to end soon.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Whom a client believes.
#[derive(Clone, Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

/// A connection, with TLS or without.
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS, its handshake done.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

#[derive(Debug)]
struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    /// Believed whatever name it was asked for by: whoever reads the configuration knows whose it is.
    own: Option<CertificateDer<'static>>,
    ends_soon: AtomicBool,
}

// === impl Trust ===

impl Trust {
    /// `authorities` is a file (PEM) that stands in for the authorities of the machine (those that `SSL_CERT_FILE` names, where it is
    /// set). `own` is the file of a listener's own certificate (PEM, itself first), or of its authority, which is believed as well.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate.
    pub fn new(authorities: Option<&Path>, own: Option<&Path>) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(path) => {
                roots.add_parsable_certificates(certificates(path)?);
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let own = own.map(certificates).transpose()?.unwrap_or_default();
        roots.add_parsable_certificates(own.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let authorities = authorities.map_err(|error| io::Error::other(format!("the authorities of this machine: {error}")))?;
        let verifier = Arc::new(Verifier { authorities, own: own.into_iter().next(), ends_soon: AtomicBool::new(false) });
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let believed: Arc<dyn ServerCertVerifier> = Arc::<Verifier>::clone(&verifier);
        let config = config.dangerous().with_custom_certificate_verifier(believed).with_no_client_auth();
        Ok(Self { config: Arc::new(config), verifier })
    }

    /// Shakes hands with the server of this name, which is a host name or an address.
    ///
    /// # Errors
    /// The name is none, the server speaks no TLS, or its certificate is not believed.
    pub fn connect(&self, mut stream: TcpStream, name: &str) -> io::Result<Stream> {
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    /// Whether one of the certificates that were shown ends within fourteen days.
    #[must_use]
    pub fn ends_soon(&self) -> bool {
        self.verifier.ends_soon.load(Ordering::Relaxed)
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let failed = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()));
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        return Err(failed("no certificate in it".to_owned()));
    }
    Ok(found)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |now| self.authorities.verify_server_cert(shown, between, name, ocsp, now);
        let verified = if self.own.as_ref() == Some(shown) { Ok(ServerCertVerified::assertion()) } else { verify(now) };
        let later = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + SOON);
        if let Err(rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) =
            verify(later)
        {
            self.ends_soon.store(true, Ordering::Relaxed);
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

// === impl Stream ===

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            // Not everybody says goodbye before they hang up; what was cut off is seen by what is missing of the answer.
            Self::Tls(stream) => match stream.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Tls(_)) { "Stream(TLS)" } else { "Stream(plain)" })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cert.pem");
        assert!(Trust::new(None, Some(&path)).unwrap_err().to_string().contains("cert.pem"));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(Trust::new(Some(&path), None).unwrap_err().to_string().contains("no certificate in it"));
    }
}
