//! `[lifecycle]`

use serde::{Deserialize, Serialize};

/// How lifecycle configurations are carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds between two runs over all buckets; 0 carries nothing out.
    pub interval_secs: u64,
    /// Objects and uploads that a run removes, or moves to another storage class, per second at most, so that it leaves room for the
    /// requests of clients.
    pub removals_per_sec: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval_secs: 3600, removals_per_sec: 1000 }
    }
}
