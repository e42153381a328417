//! `[handles]`

use serde::{Deserialize, Serialize};

/// When an open handle counts as abandoned.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds between two sweeps.
    pub sweep_secs: u64,
    /// Seconds without a byte moving after which a handle is closed.
    pub idle_secs: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sweep_secs: 60, idle_secs: 300 }
    }
}
