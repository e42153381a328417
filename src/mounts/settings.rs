//! `[mounts]`

use serde::{Deserialize, Serialize};

/// The upkeep of what is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds between two sweeps of the mounts in use: what ended processes left in staging is removed, and what was kept for
    /// speed and not used is let go.
    pub sweep_secs: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sweep_secs: 3600 }
    }
}
