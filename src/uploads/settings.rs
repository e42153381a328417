//! `[uploads]`

use serde::{Deserialize, Serialize};

/// How long unfinished uploads live.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Days after which an unfinished upload is aborted; 0 keeps it for ever.
    pub expire_days: u32,
    /// Seconds between two sweeps.
    pub sweep_secs: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { expire_days: 7, sweep_secs: 3600 }
    }
}
