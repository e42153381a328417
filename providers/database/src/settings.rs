//! What an operator can set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sluice_provider::{Error, ErrorKind, Result};

/// The names of all settings, for messages.
pub const KNOWN_SETTINGS: &str =
    "url, space, password_file, connections, durability, max_value_bytes (kv), page_bytes (page), keep_secs (page)";

/// How objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each in one row.
    Values,
    /// In pages.
    Pages,
}

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    File(PathBuf),
    Server { url: String, password_file: Option<PathBuf> },
}

/// The settings of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How objects are kept.
    pub kind: Kind,
    pub(crate) place: Place,
    /// What tells the rows of this mount from those of others in the same database.
    pub space: String,
    /// Connections to a server, at most.
    pub connections: u32,
    /// Whether what was acknowledged in a SQLite file survives the loss of power; a server has its own setting.
    pub flush: bool,
    /// The largest value in bytes.
    pub max_value_bytes: u64,
    /// The size of a page in bytes, for objects that are written from now on.
    pub page_bytes: u32,
    /// How long a body that was replaced or deleted is kept for those who read it.
    pub keep: Duration,
}

const PAGE_BYTES: std::ops::RangeInclusive<u64> = 4096..=4 * 1024 * 1024;
const VALUE_BYTES: std::ops::RangeInclusive<u64> = 1..=16 * 1024 * 1024;

impl Settings {
    /// The settings that a mount spells out. A setting that nobody reads would be a promise that nobody keeps.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a name that is not known, a value that cannot be read, and a URL with a password, which would be
    /// stored in the clear.
    pub fn from_map(kind: Kind, map: &BTreeMap<String, String>) -> Result<Self> {
        let refused = |name: &str, why: &str| {
            Error::new(ErrorKind::Unsupported, "setting of a database mount").with("name", name).with("reason", why)
        };
        let (mut url, mut space, mut password_file, mut flush) = (None, None, None, true);
        let (mut connections, mut max_value_bytes, mut page_bytes, mut keep) = (8, 1024 * 1024, 16 * 1024, 900);
        let number = |name: &str, value: &str, range: std::ops::RangeInclusive<u64>| match value.parse::<u64>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(refused(name, &format!("it is a number from {} to {}", range.start(), range.end()))),
        };
        for (name, value) in map {
            match (name.as_str(), kind) {
                ("url", _) => url = Some(value.as_str()),
                ("space", _) => space = Some(value.clone()),
                ("password_file", _) => password_file = Some(PathBuf::from(value)),
                ("durability", _) => match value.as_str() {
                    "fsync" => flush = true,
                    "os" => flush = false,
                    _ => return Err(refused(name, "it is `fsync` or `os`")),
                },
                ("connections", _) => connections = number(name, value, 2..=1000)?,
                ("max_value_bytes", Kind::Values) => max_value_bytes = number(name, value, VALUE_BYTES)?,
                ("page_bytes", Kind::Pages) => page_bytes = number(name, value, PAGE_BYTES)?,
                ("keep_secs", Kind::Pages) => keep = number(name, value, 0..=365 * 24 * 3600)?,
                _ => return Err(Error::new(ErrorKind::Unsupported, "unknown setting of a database mount").with("name", name)),
            }
        }
        let url = url.ok_or_else(|| refused("url", "it is needed: `sqlite:PATH` or `postgres://USER@HOST/DATABASE`"))?;
        let space = space.ok_or_else(|| refused("space", "it is needed: it tells the objects of this mount from others"))?;
        if space.is_empty() || space.len() > 128 || !space.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refused("space", "it has 1 to 128 printable ASCII characters"));
        }
        let place = place(url, password_file).map_err(|why| refused("url", why))?;
        Ok(Self {
            kind,
            place,
            space,
            flush,
            connections: u32::try_from(connections).unwrap_or(8),
            max_value_bytes,
            page_bytes: u32::try_from(page_bytes).unwrap_or(16 * 1024),
            keep: Duration::from_secs(keep),
        })
    }
}

fn place(url: &str, password_file: Option<PathBuf>) -> std::result::Result<Place, &'static str> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() { Err("a path follows `sqlite:`") } else { Ok(Place::File(PathBuf::from(path))) };
    }
    let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) else {
        return Err("it begins with `sqlite:` or `postgres://`");
    };
    let user = rest.split(['/', '?']).next().unwrap_or_default().rsplit_once('@').map_or("", |(user, _)| user);
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
    if user.contains(':') || parameters.contains("password") {
        return Err("a password in it would be stored in the clear: it belongs into `password_file`, PGPASSWORD or ~/.pgpass");
    }
    Ok(Place::Server { url: url.to_owned(), password_file })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn read(kind: Kind, pairs: &[(&str, &str)]) -> std::result::Result<Settings, String> {
        let map = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Settings::from_map(kind, &map).map_err(|e| e.to_string())
    }

    #[test]
    fn a_mount_names_its_database_and_its_space() {
        let settings = read(Kind::Pages, &[("url", "sqlite:/a/b.db"), ("space", "s"), ("page_bytes", "65536")]).unwrap();
        assert_eq!(settings.place, Place::File("/a/b.db".into()));
        assert_eq!((settings.page_bytes, settings.keep.as_secs()), (65536, 900));
        let server = read(Kind::Values, &[("url", "postgres://me@h:1/d"), ("space", "s"), ("max_value_bytes", "10")]).unwrap();
        assert!(matches!(server.place, Place::Server { .. }) && server.max_value_bytes == 10);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let sound = [("url", "sqlite:/a"), ("space", "s")];
        for (kind, pairs, named) in [
            (Kind::Values, vec![("space", "s")], "url"),
            (Kind::Values, vec![("url", "sqlite:/a")], "space"),
            (Kind::Values, vec![("url", "mysql://x"), ("space", "s")], "url"),
            (Kind::Values, vec![("url", "sqlite:"), ("space", "s")], "url"),
            (Kind::Values, [&sound[..], &[("page_bytes", "4096")]].concat(), "page_bytes"),
            (Kind::Pages, [&sound[..], &[("max_value_bytes", "4096")]].concat(), "max_value_bytes"),
            (Kind::Pages, [&sound[..], &[("page_bytes", "1")]].concat(), "page_bytes"),
            (Kind::Pages, [&sound[..], &[("spaec", "1")]].concat(), "spaec"),
        ] {
            assert!(read(kind, &pairs).unwrap_err().contains(named), "{pairs:?}");
        }
        for url in ["postgres://me:hunter2@h/d", "postgres://h/d?password=hunter2"] {
            let refusal = read(Kind::Values, &[("url", url), ("space", "s")]).unwrap_err();
            assert!(refusal.contains("password_file") && !refusal.contains("hunter2"), "{refusal}");
        }
    }
}
