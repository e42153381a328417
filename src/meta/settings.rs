//! `[meta]`

use serde::{Deserialize, Serialize};

/// Where the metadata store is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `sqlite:PATH`. Empty: `sluice.db` in the data directory.
    pub dsn: String,
}
