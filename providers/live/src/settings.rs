//! What an operator can set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sluice_provider::{Error, ErrorKind, Result};

/// The names of the settings of a stream mount, for messages.
pub const STREAM_SETTINGS: &str = "window_bytes, window_seconds, quota_bytes, max_objects, max_followers";
/// The names of the settings of a pubsub mount, for messages.
pub const TOPIC_SETTINGS: &str = "messages, max_message_bytes, quota_bytes, max_objects, max_followers, log, durability";

/// The settings of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many bytes of a stream are kept.
    pub window_bytes: u64,
    /// How long they are kept; until the window is full when `None`.
    pub window: Option<Duration>,
    /// How many messages of a topic are kept.
    pub messages: usize,
    /// The largest message in bytes.
    pub max_message_bytes: u64,
    /// How many bytes all that is kept may have together.
    pub quota_bytes: u64,
    /// How many streams or topics there may be.
    pub max_objects: usize,
    /// How many followers there may be.
    pub max_followers: usize,
    /// The directory in which messages of topics are kept; in memory only when `None`. Created, with its parents, when missing.
    pub log: Option<PathBuf>,
    /// Whether a message is flushed before it is acknowledged (fdatasync(2)). Without, it survives the end of the process but not the
    /// loss of power.
    pub durable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_bytes: 64 * 1024 * 1024,
            window: None,
            messages: 100,
            max_message_bytes: 1024 * 1024,
            quota_bytes: 1024 * 1024 * 1024,
            max_objects: 100_000,
            max_followers: 10_000,
            log: None,
            durable: true,
        }
    }
}

impl Settings {
    /// The settings that a mount spells out, of those in `known`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a name that is not known, or a value that cannot be read.
    pub fn from_map(known: &str, map: &BTreeMap<String, String>) -> Result<Self> {
        let mut settings = Self::default();
        for (name, value) in map {
            let refused =
                |why: &str| Error::new(ErrorKind::Unsupported, "setting of a live mount").with("name", name).with("reason", why);
            if !known.split(", ").any(|known| known == name) {
                return Err(refused("nobody knows it"));
            }
            match (name.as_str(), value.as_str()) {
                ("log", "") => return Err(refused("it is a directory")),
                ("log", path) => {
                    settings.log = Some(PathBuf::from(path));
                    continue;
                }
                ("durability", "fsync" | "os") => {
                    settings.durable = value == "fsync";
                    continue;
                }
                ("durability", _) => return Err(refused("it is one of fsync, os")),
                _ => {}
            }
            let number = value.parse::<u64>().ok().filter(|number| *number > 0);
            let number = number.ok_or_else(|| refused("it is a number above 0"))?;
            let count = usize::try_from(number).unwrap_or(usize::MAX);
            match name.as_str() {
                "window_bytes" => settings.window_bytes = number,
                "window_seconds" => settings.window = Some(Duration::from_secs(number)),
                "messages" => settings.messages = count,
                "max_message_bytes" => settings.max_message_bytes = number,
                "quota_bytes" => settings.quota_bytes = number,
                "max_objects" => settings.max_objects = count,
                "max_followers" => settings.max_followers = count,
                _ => return Err(refused("nobody knows it")),
            }
        }
        if map.contains_key("durability") && settings.log.is_none() {
            let error = Error::new(ErrorKind::Unsupported, "setting of a live mount").with("name", "durability");
            return Err(error.with("reason", "it says how a log is written, and there is none"));
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_is_not_understood_is_refused() {
        let read = |known, name: &str, value: &str| Settings::from_map(known, &[(name.into(), value.into())].into());
        assert_eq!(read(TOPIC_SETTINGS, "messages", "5").unwrap().messages, 5);
        assert_eq!(read(STREAM_SETTINGS, "window_bytes", "5").unwrap().window_bytes, 5);
        for (known, name, value) in [
            (STREAM_SETTINGS, "messages", "5"),
            (TOPIC_SETTINGS, "mesages", "5"),
            (TOPIC_SETTINGS, "messages", "0"),
            (TOPIC_SETTINGS, "durability", "maybe"),
            (TOPIC_SETTINGS, "durability", "os"),
            (TOPIC_SETTINGS, "log", ""),
            (STREAM_SETTINGS, "log", "/x"),
        ] {
            assert!(read(known, name, value).unwrap_err().to_string().contains(name));
        }
    }
}
