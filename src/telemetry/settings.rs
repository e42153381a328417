//! `[log]`

use serde::{Deserialize, Serialize};

/// What is logged, and how. Logs go to standard error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives for single modules such as `info,sluice::meta=debug`.
    pub level: String,
    /// `pretty` for people, `json` for machines, `auto` for `pretty` on a terminal and `json` elsewhere.
    pub format: Format,
    /// Whether every request leaves a line in the log. Costs a few microseconds a request. Answers of 500 and above are logged in any case.
    pub access: bool,
    /// Whether every S3 request that changes something leaves a line that tells who changed what, refused ones too. Calls of the admin
    /// API and of `aws iam` that change something always do.
    pub audit: bool,
    /// Milliseconds from which on an operation is slow: counted in `sluice_slow_operations_total` and told in the log with its request
    /// id. The time that a client takes for its own bytes does not count. 0 for never.
    pub slow_ms: u64,
    /// Whether the last 10 000 operations are kept for `/api/v1/opstats` and `/api/v1/alerts`, in 320 KiB.
    pub op_stats: bool,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto, access: false, audit: false, slow_ms: 100, op_stats: true }
    }
}

impl Settings {
    /// Whether the settings make sense.
    ///
    /// # Errors
    /// The key, and why not.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        super::logging::check_level(self).map_err(|why| ("level", why))
    }
}
