//! What an operator can set.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sluice_provider::{Error, ErrorKind, Result};

use crate::Service;

/// The names of all settings, for messages.
pub const KNOWN_SETTINGS: &str = "service, endpoint, root, credentials_file, container, account_name, bucket, bucket_id, user, key_file, \
     known_hosts, anonymous, attributes, layout, space, read_only, connect_timeout_ms, answer_timeout_ms";

/// Names of secrets: what is not a setting, and is often tried as one.
const SECRETS: [&str; 9] = [
    "account_key",
    "sas_token",
    "credential",
    "credential_path",
    "token",
    "application_key_id",
    "application_key",
    "password",
    "key",
];

/// What becomes of the attributes that a service cannot keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributesKept {
    /// They are kept in the overlay.
    Overlay,
    /// Writes that have any are refused, and ETags are the service's.
    Refuse,
}

/// How keys become names where there are directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A key is its own path. `a` and `a/b` cannot both be there: the later one is refused.
    Plain,
    /// Directories have names that no object has, so that `a` and `a/b` can both be there.
    Marked,
}

/// The settings of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The service. Without a default.
    pub service: Service,
    /// Where the objects are below the endpoint, the container or the bucket. `/` unless set.
    pub root: String,
    /// The file of credentials.
    pub credentials_file: Option<PathBuf>,
    /// `overlay` unless set.
    pub attributes: AttributesKept,
    /// `plain` unless set.
    pub layout: Layout,
    /// What tells the overlay of these objects from others. Made of the place unless set.
    pub space: String,
    /// Refuses all writes.
    pub read_only: bool,
    /// How long a connection may take. 5 s unless set.
    pub connect_timeout: Duration,
    /// How long the service may be silent. 30 s unless set.
    pub answer_timeout: Duration,
    /// What OpenDAL is told.
    pub(crate) options: HashMap<String, String>,
}

impl Settings {
    /// A service, everything else as it is unless set.
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self {
            service,
            root: "/".into(),
            credentials_file: None,
            attributes: AttributesKept::Overlay,
            layout: Layout::Plain,
            space: service.name().into(),
            read_only: false,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            options: HashMap::new(),
        }
    }

    /// The settings that a mount spells out.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a name that is not known or not of this service, a value that cannot be read, what is missing, and
    /// secrets, which would be stored in the clear.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self> {
        let refused = |name: &str, reason: &str| {
            Error::new(ErrorKind::Unsupported, "setting of an opendal mount").with("name", name).with("reason", reason)
        };
        let service = map.get("service").ok_or_else(|| refused("service", "it is needed"))?;
        let service = Service::named(service)?;
        let mut settings = Self::new(service);
        let mut space = None;
        for (name, value) in map {
            match name.as_str() {
                "service" => {}
                "root" => settings.root = root(value).ok_or_else(|| refused(name, "it is a path without `.` and `..`"))?,
                "credentials_file" if service.secrets().is_empty() => {
                    return Err(refused(name, "this service has none: ssh finds its keys itself, or by key_file"));
                }
                "credentials_file" => settings.credentials_file = Some(value.into()),
                "attributes" => {
                    settings.attributes = match value.as_str() {
                        "overlay" => AttributesKept::Overlay,
                        "refuse" => AttributesKept::Refuse,
                        _ => return Err(refused(name, "it is overlay or refuse")),
                    };
                }
                "layout" if service.is_tree() => {
                    settings.layout = match value.as_str() {
                        "plain" => Layout::Plain,
                        "marked" => Layout::Marked,
                        _ => return Err(refused(name, "it is plain or marked")),
                    };
                }
                "space" => {
                    if value.is_empty() || value.len() > 256 || !value.bytes().all(|b| b.is_ascii_graphic()) {
                        return Err(refused(name, "it has 1 to 256 printable ASCII characters"));
                    }
                    space = Some(value.clone());
                }
                "read_only" => settings.read_only = parse(value).ok_or_else(|| refused(name, "it is true or false"))?,
                "connect_timeout_ms" => settings.connect_timeout = millis(value).ok_or_else(|| refused(name, "1 to 600000"))?,
                "answer_timeout_ms" => settings.answer_timeout = millis(value).ok_or_else(|| refused(name, "1 to 600000"))?,
                secret if SECRETS.contains(&secret) => {
                    return Err(refused(name, "a secret would be stored in the clear: it belongs into credentials_file"));
                }
                _ => {
                    let Some((_, known)) = service.settings().iter().find(|(known, _)| known == name) else {
                        return Err(Error::new(ErrorKind::Unsupported, "unknown setting of an opendal mount")
                            .with("name", name)
                            .with("service", service));
                    };
                    check(service, name, value).map_err(|reason| refused(name, reason))?;
                    settings.options.insert((*known).to_owned(), value.trim_end_matches('/').to_owned());
                }
            }
        }
        for name in service.needs() {
            if map.get(*name).is_none_or(String::is_empty) {
                return Err(refused(name, "this service needs it"));
            }
        }
        settings.space = space.unwrap_or_else(|| place(service, map, &settings.root));
        Ok(settings)
    }
}

/// An endpoint is where a server is: credentials in it would be stored in the clear, and shown.
fn check(service: Service, name: &str, value: &str) -> Result<(), &'static str> {
    match name {
        "endpoint" => {
            let http = matches!(service, Service::Azblob | Service::Gcs | Service::Http | Service::Webdav);
            let rest = if http {
                value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"))
            } else {
                Some(value.split_once("://").map_or(value, |(_, rest)| rest))
            };
            match rest {
                None | Some("") => Err("it begins with http:// or https://"),
                Some(rest) if rest.contains(['@', '?', '#']) || rest.starts_with('-') => {
                    Err("it has no credentials and no query")
                }
                Some(_) => Ok(()),
            }
        }
        "anonymous" if parse::<bool>(value).is_none() => Err("it is true or false"),
        "known_hosts" if !["strict", "accept", "add"].contains(&value) => Err("it is strict, accept or add"),
        // They reach the command line of ssh.
        "user" | "key_file" if value.is_empty() || value.starts_with('-') => Err("it cannot be this"),
        _ => Ok(()),
    }
}

fn parse<T: FromStr>(value: &str) -> Option<T> {
    value.parse().ok()
}

fn millis(value: &str) -> Option<Duration> {
    parse(value).filter(|ms| (1..=600_000).contains(ms)).map(Duration::from_millis)
}

/// A path with a slash at both ends.
fn root(value: &str) -> Option<String> {
    let segments: Vec<_> = value.split('/').filter(|segment| !segment.is_empty()).collect();
    let sound = segments.iter().all(|segment| ![".", ".."].contains(segment) && segment.trim() == *segment);
    sound.then(|| if segments.is_empty() { "/".to_owned() } else { format!("/{}/", segments.join("/")) })
}

/// What names the objects of a mount, whoever mounts them: at most 256 bytes.
fn place(service: Service, map: &BTreeMap<String, String>, root: &str) -> String {
    let mut place = service.name().to_owned();
    for name in ["endpoint", "account_name", "container", "bucket", "user"] {
        if let Some(value) = map.get(name) {
            place = format!("{place}|{name}={}", value.trim_end_matches('/'));
        }
    }
    place = format!("{place}|{root}");
    if place.len() <= 256 { place } else { crate::overlay::digest(&place) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let map = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Settings::from_map(&map).map_err(|e| e.to_string())
    }

    #[test]
    #[cfg(feature = "webdav")]
    fn a_service_and_its_endpoint_are_enough() {
        let settings = read(&[("service", "webdav"), ("endpoint", "http://h:1/dav/"), ("root", "a//b"), ("user", "me")]).unwrap();
        assert_eq!((settings.root.as_str(), settings.options["endpoint"].as_str()), ("/a/b/", "http://h:1/dav"));
        assert_eq!(settings.space, "webdav|endpoint=http://h:1/dav|user=me|/a/b/");
        assert_eq!((settings.attributes, settings.layout), (AttributesKept::Overlay, Layout::Plain));
    }

    #[test]
    #[cfg(all(feature = "webdav", feature = "azblob", feature = "sftp"))]
    fn what_is_not_understood_is_refused() {
        let dav = [("service", "webdav"), ("endpoint", "http://h")];
        for (pairs, named) in [
            (vec![], "service"),
            (vec![("service", "hdfs")], "azblob"),
            (vec![("service", "webdav")], "endpoint"),
            (vec![("service", "azblob"), ("layout", "marked"), ("container", "c")], "layout"),
            (vec![("service", "sftp"), ("endpoint", "h"), ("credentials_file", "/x")], "key_file"),
            (vec![("service", "sftp"), ("endpoint", "-oProxyCommand=x")], "endpoint"),
            (vec![("service", "webdav"), ("endpoint", "http://u:word@h")], "endpoint"),
            (vec![("service", "webdav"), ("endpoint", "ftp://h")], "endpoint"),
            ([&dav[..], &[("root", "../x")]].concat(), "root"),
            ([&dav[..], &[("attributes", "drop")]].concat(), "attributes"),
            ([&dav[..], &[("container", "c")]].concat(), "container"),
            ([&dav[..], &[("password", "word")]].concat(), "credentials_file"),
            ([&dav[..], &[("answer_timeout_ms", "0")]].concat(), "answer_timeout_ms"),
            ([&dav[..], &[("read_only", "1")]].concat(), "read_only"),
        ] {
            let refusal = read(&pairs).unwrap_err();
            assert!(refusal.contains(named) && !refusal.contains("word@") && !refusal.contains("= word"), "{pairs:?}: {refusal}");
        }
    }
}
