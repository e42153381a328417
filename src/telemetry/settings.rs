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
        Self { level: "info".to_owned(), format: Format::Auto, access: false }
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
