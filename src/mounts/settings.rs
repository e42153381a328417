//! `[mounts]`

use serde::{Deserialize, Serialize};

/// The upkeep of what is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds between two sweeps of the mounts in use: what ended processes left in staging is removed, and what was kept for
    /// speed and not used is let go.
    pub sweep_secs: u64,
    /// The most that the sorted directories of all local mounts may take together, in bytes. Three quarters of it are the most for
    /// the names of one directory; of a larger one a part is held, and listing it costs reading it more often.
    pub listing_cache_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sweep_secs: 3600, listing_cache_bytes: 64 * 1024 * 1024 }
    }
}
