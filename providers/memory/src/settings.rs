//! What an operator can set.

use std::collections::BTreeMap;

use sluice_provider::{Error, ErrorKind, Result};

/// The settings of a memory mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many bytes the mount may hold: bodies, staged parts, keys and attributes together. 1 GiB unless set.
    pub quota_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { quota_bytes: 1024 * 1024 * 1024 }
    }
}

impl Settings {
    /// The settings that a mount spells out: `quota_bytes` in decimal digits, at least 1.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a name that is not known, or a value that cannot be read. A setting that nobody reads would
    /// otherwise be a promise that nobody keeps.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self> {
        let mut settings = Self::default();
        for (name, value) in map {
            match name.as_str() {
                "quota_bytes" => settings.quota_bytes = whole_number(name, value)?,
                _ => return Err(Error::new(ErrorKind::Unsupported, "unknown setting of a memory mount").with("name", name)),
            }
        }
        Ok(settings)
    }
}

fn whole_number(name: &str, value: &str) -> Result<u64> {
    let refusal = || Error::new(ErrorKind::Unsupported, "setting of a memory mount").with("name", name).with("value", value);
    match value.parse() {
        Ok(0) => Err(refusal().with("least", 1)),
        Ok(number) => Ok(number),
        Err(e) => Err(refusal().caused_by(e)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()
    }

    #[test]
    fn a_mount_may_say_nothing_or_its_quota() {
        assert_eq!(Settings::from_map(&map(&[])).unwrap().quota_bytes, 1 << 30);
        assert_eq!(Settings::from_map(&map(&[("quota_bytes", "4096")])).unwrap().quota_bytes, 4096);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for pairs in [
            [("quota", "4096")],
            [("Quota_Bytes", "1")],
            [("quota_bytes", "")],
            [("quota_bytes", "1GiB")],
            [("quota_bytes", "-1")],
            [("quota_bytes", "0")],
        ] {
            let refusal = Settings::from_map(&map(&pairs)).unwrap_err();
            assert_eq!(*refusal.kind(), ErrorKind::Unsupported);
            assert!(refusal.to_string().contains(pairs[0].0), "{refusal}");
        }
    }
}
