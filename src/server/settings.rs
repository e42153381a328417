//! `[server]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::proxies::Proxies;
use super::tls::TlsFiles;

/// The S3 listener and its limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port of the S3 listener. Plain HTTP unless `tls_cert` is set.
    pub listen: String,
    /// Seconds until the head of an answer, counted from the last byte of the request that arrived; then the request is given up
    /// with 503. Copies and the completion of multipart uploads, whose work grows with the object, are exempt.
    pub request_timeout_secs: u64,
    /// Seconds without a byte moving after which a connection is closed: while it waits for a request, for the rest of a body, or
    /// for the client to read an answer. A client that moves, however slowly, is never cut.
    pub idle_timeout_secs: u64,
    /// Seconds that a stop (SIGTERM, Ctrl+C) waits for requests under way; what remains then is broken off.
    pub shutdown_timeout_secs: u64,
    /// Seconds between the moment when a stopping gateway says at `/health/ready` that it is not ready, and the one when it takes no more
    /// connections: as long as whatever balances the load needs to notice.
    pub drain_delay_secs: u64,
    /// Requests at once, counted until the end of their bodies; one more is answered 503 SlowDown. A change is taken over while the
    /// gateway runs.
    pub max_concurrent_requests: usize,
    /// Connections at once; one more is closed unanswered.
    pub max_connections: usize,
    /// Whether large bodies that are files go from the page cache to the socket without a copy (sendfile), and those of `s3` mounts
    /// with an `http` endpoint from one socket to the other (splice). It saves most of the processor time of a large GET; off only to
    /// find out whether it is the cause of something. Never with TLS.
    pub sendfile: bool,
    /// Whether a connection without TLS stays on one thread, of which there are as many as processors: the one that stands for the processor
    /// on which its packets arrive, unless that has many more connections than another. It saves a tenth to a third of the processor time of most
    /// requests; off, whichever thread is free goes on with it, as with TLS and on one processor. Counts from the next start.
    pub connection_affinity: bool,
    /// The certificate chain (PEM) with which the S3 listener speaks TLS, HTTP/1.1 and HTTP/2. Read again when it changes and on SIGHUP.
    /// Empty: plain HTTP.
    pub tls_cert: String,
    /// The private key (PEM) of `tls_cert`.
    pub tls_key: String,
    /// Whether clients show certificates of their own: `off`, `optional` (when they have one it must be good) or `required`.
    pub tls_client_auth: ClientAuth,
    /// The authorities (PEM) whose client certificates are taken.
    pub tls_client_ca: String,
    /// Addresses and networks of proxies in front, such as `10.0.0.0/8`. What they say in X-Forwarded-For, X-Forwarded-Proto and
    /// X-Forwarded-Host counts (for policies, rates, logs and signatures); what anybody else says there does not.
    pub trusted_proxies: Vec<String>,
    /// Whether every connection begins with a header of the PROXY protocol, version 2. Connections that are not from
    /// `trusted_proxies` are closed then.
    pub proxy_protocol: bool,
    /// Seconds between looks at the configuration file and the certificates; what has changed is taken over as on SIGHUP. 0 looks never.
    pub watch_secs: u64,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Nobody asks for them.
    #[default]
    Off,
    /// One that is shown must be good.
    Optional,
    /// Who has none is not let in.
    Required,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9000".to_owned(),
            request_timeout_secs: 30,
            idle_timeout_secs: 30,
            shutdown_timeout_secs: 30,
            drain_delay_secs: 0,
            max_concurrent_requests: 1000,
            max_connections: 10_000,
            sendfile: true,
            connection_affinity: true,
            tls_cert: String::new(),
            tls_key: String::new(),
            tls_client_auth: ClientAuth::Off,
            tls_client_ca: String::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            watch_secs: 2,
        }
    }
}

impl Settings {
    /// Where the certificates lie; `None` without TLS.
    ///
    /// # Errors
    /// The keys do not go together.
    pub fn tls_files(&self) -> Result<Option<TlsFiles>, String> {
        let client_auth = self.tls_client_auth;
        let Some(files) = TlsFiles::pair("server", &self.tls_cert, &self.tls_key)? else {
            return match client_auth {
                ClientAuth::Off => Ok(None),
                _ => Err("server.tls_client_auth wants server.tls_cert and server.tls_key".to_owned()),
            };
        };
        if client_auth != ClientAuth::Off && self.tls_client_ca.is_empty() {
            return Err("server.tls_client_auth wants server.tls_client_ca".to_owned());
        }
        Ok(Some(TlsFiles { client_ca: PathBuf::from(&self.tls_client_ca), client_auth, ..files }))
    }

    /// The proxies in front.
    ///
    /// # Errors
    /// An entry that is no network, or a PROXY protocol that nobody may speak.
    pub fn proxies(&self) -> Result<Proxies, String> {
        let proxies = Proxies::parse(&self.trusted_proxies).map_err(|why| format!("server.trusted_proxies: {why}"))?;
        if self.proxy_protocol && proxies.is_empty() {
            return Err("server.proxy_protocol wants server.trusted_proxies: else anybody could say who they are".to_owned());
        }
        Ok(proxies)
    }
}
