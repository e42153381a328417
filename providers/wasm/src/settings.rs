//! The settings of a mount.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_provider::{Error, ErrorKind, Result};

/// What the settings of the mount below begin with.
pub const OVER_PREFIX: &str = "over.";
/// What the settings begin with that the plugin itself sees.
pub const CONFIG_PREFIX: &str = "config.";
/// The names of the settings, for messages.
pub const KNOWN_SETTINGS: &str =
    "plugin, over, over.SETTING, config.NAME, instances, timeout_ms, instructions, memory_bytes, max_body_bytes";

const MIB: u64 = 1024 * 1024;
/// The most instances of a plugin that a mount may have at once.
pub(crate) const MAX_INSTANCES: usize = 20;
/// How much of the settings a plugin may see, in bytes.
const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// What a mount of a plugin goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of the plugin: of its file, without `.wasm`.
    pub plugin: String,
    /// The provider below, for a plugin that transforms or checks: its kind and its settings.
    pub over: Option<(String, BTreeMap<String, String>)>,
    /// What the plugin can ask for.
    pub config: BTreeMap<String, String>,
    /// Calls at once, each in an instance of its own: 1 to 20.
    pub instances: usize,
    /// The wall-clock time of a call.
    pub timeout: Duration,
    /// How many instructions a call may take, about.
    pub instructions: u64,
    /// How much memory an instance may have, in bytes.
    pub memory_bytes: usize,
    /// The largest body, in bytes, to and from the plugin.
    pub max_body_bytes: usize,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with what is wrong.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self> {
        let mut settings = Self {
            plugin: String::new(),
            over: None,
            config: BTreeMap::new(),
            instances: MAX_INSTANCES,
            timeout: Duration::from_secs(2),
            instructions: 10_000_000_000,
            memory_bytes: 128 * MIB as usize,
            max_body_bytes: 8 * MIB as usize,
        };
        let mut over = BTreeMap::new();
        for (name, value) in map {
            match name.as_str() {
                "plugin" => settings.plugin = plugin_name(value)?.to_owned(),
                "over" => settings.over = Some((value.clone(), BTreeMap::new())),
                "instances" => settings.instances = number(name, value, 1, MAX_INSTANCES as u64)? as usize,
                "timeout_ms" => settings.timeout = Duration::from_millis(number(name, value, 10, 60_000)?),
                "instructions" => settings.instructions = number(name, value, 100_000, u64::MAX / 2)?,
                "memory_bytes" => settings.memory_bytes = number(name, value, 64 * 1024, 1024 * MIB)? as usize,
                "max_body_bytes" => settings.max_body_bytes = number(name, value, 1, 64 * MIB)? as usize,
                other => {
                    if let Some(name) = other.strip_prefix(OVER_PREFIX) {
                        over.insert(name.to_owned(), value.clone());
                    } else if let Some(name) = other.strip_prefix(CONFIG_PREFIX) {
                        settings.config.insert(name.to_owned(), value.clone());
                    } else {
                        return Err(wrong(other, "there is no such setting"));
                    }
                }
            }
        }
        if settings.plugin.is_empty() {
            return Err(wrong("plugin", "is missing: the name of a file NAME.wasm in the plugin directory"));
        }
        match &mut settings.over {
            Some((_, below)) => *below = over,
            None if !over.is_empty() => return Err(wrong("over", "is missing: the kind of the provider that over.* is for")),
            None => {}
        }
        if settings.config.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_CONFIG_BYTES {
            return Err(wrong("config.*", "is more than 64 KiB"));
        }
        Ok(settings)
    }
}

/// Whether this can be the name of a plugin: a file of the plugin directory, and of no other.
fn plugin_name(name: &str) -> Result<&str> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(sound) {
        return Err(wrong("plugin", "has 1 to 64 letters, digits, - and _"));
    }
    Ok(name)
}

fn number(name: &str, value: &str, least: u64, most: u64) -> Result<u64> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| wrong(name, &format!("is a number of {least} to {most}")))
}

fn wrong(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("setting {name}")).with("because", what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_map(&pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn settings_are_split() {
        let settings =
            read(&[("plugin", "hello"), ("config.greeting", "Hi"), ("over", "local"), ("over.root", "/x"), ("instances", "1")]);
        let settings = settings.unwrap();
        assert_eq!(settings.config.get("greeting").unwrap(), "Hi");
        let (kind, below) = settings.over.unwrap();
        assert_eq!((kind.as_str(), below.get("root").unwrap().as_str()), ("local", "/x"));
        assert_eq!(settings.instances, 1);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (pairs, named) in [
            (vec![], "plugin"),
            (vec![("plugin", "../x")], "plugin"),
            (vec![("plugin", "a"), ("instances", "21")], "instances"),
            (vec![("plugin", "a"), ("timeout", "1")], "timeout"),
            (vec![("plugin", "a"), ("over.root", "/x")], "over"),
        ] {
            assert!(read(&pairs).unwrap_err().to_string().contains(named));
        }
    }
}
