//! `[transfer]`

use serde::{Deserialize, Serialize};
use sluice_md5_lanes::Kernel;

use super::Lanes;

/// How bodies are moved.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether uploads that arrive together share the lanes of vector registers for their MD5: `auto` where the processor has them
    /// (AVX2, AVX-512), or `off`; then every upload is hashed for itself where it is received.
    pub md5_lanes: Md5Lanes,
}

/// Whether MD5 lanes are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Md5Lanes {
    /// Where the processor has them.
    #[default]
    Auto,
    /// Nowhere.
    Off,
}

impl Settings {
    /// The lanes that all bodies of a gateway share; `None` when they are off.
    #[must_use]
    pub fn lanes(&self) -> Option<Lanes> {
        (self.md5_lanes == Md5Lanes::Auto).then(|| Lanes::new(Kernel::detect()))
    }
}
