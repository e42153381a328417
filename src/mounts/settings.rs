//! `[mounts]`

use serde::{Deserialize, Serialize};

/// The upkeep of what is mounted, and how much of the gateway one mount may hold up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds between two sweeps of the mounts in use: what ended processes left in staging is removed, and what was kept for
    /// speed and not used is let go.
    pub sweep_secs: u64,
    /// The most that the sorted directories of all local mounts may take together, in bytes. Three quarters of it are the most for
    /// the names of one directory; of a larger one a part is held, and listing it costs reading it more often.
    pub listing_cache_bytes: usize,
    /// Seconds that a mount may take to begin its answer; then the request is answered 503. Uploads, copies and completions, which
    /// take as long as their bodies, have none of it.
    pub timeout_secs: u64,
    /// Calls of one mount at once, so that one that hangs leaves requests for the others; one more is answered 503 SlowDown.
    pub max_concurrent: usize,
    /// Calls in a row that a mount may fail before its keys are answered 503 at once.
    pub breaker_failures: u32,
    /// Seconds until one call is let through again to see whether it is back.
    pub breaker_recovery_secs: u64,
    /// The directory of plugins, `NAME.wasm`, for mounts of the provider `wasm`. It is watched: a file that is replaced takes the place of
    /// the plugin that was loaded. What plugins are compiled to lies in `cache/plugins` of the data directory.
    pub plugin_dir: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sweep_secs: 3600,
            listing_cache_bytes: 64 * 1024 * 1024,
            timeout_secs: 20,
            max_concurrent: 750,
            breaker_failures: 5,
            breaker_recovery_secs: 30,
            plugin_dir: "{data_dir}/plugins".to_owned(),
        }
    }
}
