//! `[tokens]`

use serde::{Deserialize, Serialize};

/// Access keys and who has them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many credentials are remembered; the least recently used goes first.
    pub cache_capacity: u64,
    /// Seconds for which a credential is remembered, and never beyond its own end. For as long as this a key goes on when the metadata store
    /// is down.
    pub cache_ttl_secs: u64,
    /// A program with its arguments that prints the master keys, instead of `SLUICE_MASTER_KEY` and the file `master.key` in the data
    /// directory. It is run at the start, and again when a key is met that is not known.
    pub master_key_command: Vec<String>,
    /// The issuers whose OpenID Connect tokens are taken, as URLs; empty for all that an account registers with
    /// `CreateOpenIDConnectProvider`. The gateway reads the keys of an issuer itself: with this list, no account can make it ask anybody else.
    pub openid_issuers: Vec<String>,
    /// Whether issuers may be reached without TLS (`http://`), where anybody on the way could give keys of their own: for tests.
    pub openid_http: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_capacity: 100_000,
            cache_ttl_secs: 300,
            master_key_command: Vec::new(),
            openid_issuers: Vec::new(),
            openid_http: false,
        }
    }
}
