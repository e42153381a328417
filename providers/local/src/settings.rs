//! How a root is opened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sluice_provider::{Error, ErrorKind, Result};

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The loss of power: data and directory entries are flushed before a write is acknowledged (fsync(2)).
    #[default]
    Fsync,
    /// The end of the process. The kernel flushes when it likes; after a loss of power the latest objects may be missing, empty
    /// or torn. For scratch data and benchmarks.
    Os,
}

/// What a listing may remember of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snapshots {
    /// Its sorted names and what was seen of its objects, where the kernel tells of changes (inotify(7) on file systems of its own);
    /// as with `Times` elsewhere.
    #[default]
    Auto,
    /// Its sorted names as long as its times stay what they were; every object is looked at for every page.
    Times,
    /// Nothing: it is read for every page.
    Off,
}

/// Settings of a [`Local`](crate::Local).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory that holds the objects; created, with its parents, when missing.
    pub root: PathBuf,
    /// `durability`: `fsync` (default) or `os`.
    pub durability: Durability,
    /// `follow_symlinks`: whether a symbolic link to a regular file beneath the root is an object. Links to directories and
    /// links that lead out of the root are never followed. Default `false`.
    pub follow_symlinks: bool,
    /// `xattrs`: `auto` (default; used when the file system has user attributes) or `off` (attributes always go to records).
    pub xattrs: bool,
    /// `openat2`: `auto` (default; used when the kernel has it) or `off` (paths are walked one component at a time).
    pub openat2: bool,
    /// `exchange`: `auto` (default; an object is replaced by swapping names where the file system can) or `off` (by rename(2), which
    /// on ext4 writes the data out then and there).
    pub exchange: bool,
    /// `parts_in_place`: `auto` (default; parts of one size are written where the object will have them, so that completing an upload
    /// copies nothing) or `off` (every part is a file of its own, and completing copies them together).
    pub parts_in_place: bool,
    /// `snapshots`: `auto` (default), `times` or `off`: what listings remember of directories.
    pub snapshots: Snapshots,
    /// `spread`: `auto` (default; on ext4 without a journal, staged files take turns in directories all over the disk) or `off`.
    pub spread: bool,
}

impl Settings {
    /// Defaults for a root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            durability: Durability::Fsync,
            follow_symlinks: false,
            xattrs: true,
            openat2: true,
            exchange: true,
            parts_in_place: true,
            snapshots: Snapshots::Auto,
            spread: true,
        }
    }

    /// Reads settings by name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming a missing, unknown or unreadable setting.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self> {
        let root = map.get("root").filter(|root| !root.is_empty()).ok_or_else(|| refuse("root", "is required"))?;
        let mut settings = Self::new(root);
        for (name, value) in map {
            match name.as_str() {
                "root" => {}
                "durability" => {
                    settings.durability = choice(name, value, &[("fsync", Durability::Fsync), ("os", Durability::Os)])?;
                }
                "follow_symlinks" => settings.follow_symlinks = choice(name, value, &[("false", false), ("true", true)])?,
                "xattrs" => settings.xattrs = choice(name, value, &[("auto", true), ("off", false)])?,
                "openat2" => settings.openat2 = choice(name, value, &[("auto", true), ("off", false)])?,
                "exchange" => settings.exchange = choice(name, value, &[("auto", true), ("off", false)])?,
                "parts_in_place" => settings.parts_in_place = choice(name, value, &[("auto", true), ("off", false)])?,
                "snapshots" => {
                    let choices = [("auto", Snapshots::Auto), ("times", Snapshots::Times), ("off", Snapshots::Off)];
                    settings.snapshots = choice(name, value, &choices)?;
                }
                "spread" => settings.spread = choice(name, value, &[("auto", true), ("off", false)])?,
                unknown => return Err(refuse(unknown, "is not a setting of the local provider")),
            }
        }
        Ok(settings)
    }
}

fn choice<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T> {
    choices.iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        refuse(name, "must be one of").with("choices", words.join(", ")).with("value", value)
    })
}

fn refuse(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("setting `{name}` {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn names_the_setting_it_does_not_know() {
        let error = Settings::from_map(&map(&[("root", "/x"), ("rooot", "/y")])).unwrap_err();
        assert!(error.to_string().contains("`rooot`"), "{error}");
        let error = Settings::from_map(&map(&[("root", "/x"), ("durability", "maybe")])).unwrap_err();
        assert!(error.to_string().contains("`durability`") && error.to_string().contains("fsync, os"), "{error}");
        assert!(Settings::from_map(&map(&[("durability", "os")])).unwrap_err().to_string().contains("`root`"));
    }

    #[test]
    fn is_durable_and_follows_nothing_by_default() {
        let settings = Settings::from_map(&map(&[("root", "/x")])).unwrap();
        assert_eq!(settings, Settings::new("/x"));
        assert_eq!((settings.durability, settings.follow_symlinks), (Durability::Fsync, false));
    }
}
