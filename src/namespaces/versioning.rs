//! What a bucket keeps of what is replaced and deleted.

use sluice_provider::Versioning;

use super::Namespace;

impl Namespace {
    /// The settings document that holds the state of versioning: `Enabled` or `Suspended`.
    pub const VERSIONING: &'static str = "versioning";

    /// The settings document of a bucket that has Object Lock.
    pub const OBJECT_LOCK: &'static str = "object-lock";

    /// The state of versioning. No I/O.
    #[must_use]
    pub fn versioning(&self) -> Versioning {
        match self.settings.load().get(Self::VERSIONING).map(|state| &**state) {
            Some("Enabled") => Versioning::Enabled,
            Some("Suspended") => Versioning::Suspended,
            _ => Versioning::Off,
        }
    }
}
