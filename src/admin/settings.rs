//! `[admin]`

use serde::{Deserialize, Serialize};

/// The admin listener: health, metrics and the admin API. Never the S3 protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port of the admin listener. Health and metrics are open to whoever reaches it; the API wants the admin token.
    pub listen: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9001".to_owned() }
    }
}
