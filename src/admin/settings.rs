//! `[admin]`

use serde::{Deserialize, Serialize};

/// The admin listener: health, metrics and the admin API. Never the S3 protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port of the admin listener. Health and metrics are open to whoever reaches it; the API wants the admin token.
    pub listen: String,
    /// The certificate chain (PEM) with which the admin listener speaks TLS. Read again when it changes and on SIGHUP. The commands
    /// (`sluice key create`, `sluice doctor` and so on) believe the certificate in this file, and those of an authority in it. Empty:
    /// plain HTTP.
    pub tls_cert: String,
    /// The private key (PEM) of `tls_cert`.
    pub tls_key: String,
    /// Memory that the gateway is meant to have, in bytes: `/api/v1/alerts` tells when four fifths of it are used. 0: what its control
    /// group may have (systemd's `MemoryMax`, a container's limit), or the machine.
    pub memory_limit_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9001".to_owned(), tls_cert: String::new(), tls_key: String::new(), memory_limit_bytes: 0 }
    }
}
