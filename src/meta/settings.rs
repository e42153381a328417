//! `[meta]`

use serde::{Deserialize, Serialize};

/// Where the metadata store is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST/DATABASE` for a store that several gateways share; the password is better in
    /// `SLUICE_META_DSN` than in a file. Empty: `sluice.db` in the data directory.
    pub dsn: String,
    /// The most connections to a PostgreSQL server, at least 2.
    pub pool: u32,
    /// Failures in a row after which calls to a store that does not answer are refused at once.
    pub breaker_failures: u32,
    /// Seconds for which they are refused before one is let through to see whether the store is back.
    pub breaker_recovery_secs: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dsn: String::new(), pool: 20, breaker_failures: 5, breaker_recovery_secs: 30 }
    }
}
