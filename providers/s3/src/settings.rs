//! What an operator can set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::uri::{Authority, Scheme, Uri};
use sluice_provider::{Error, ErrorKind, Result};

use crate::upstreams::MOST;

/// The names of all settings, for messages.
pub const KNOWN_SETTINGS: &str = "bucket, endpoint, region, prefix, virtual_host, profile, credentials_file, conditions, answers, \
     read_only, buffer_bytes, native_part_bytes, min_idle, max_idle, idle_ms, max_connections, connect_timeout_ms, answer_timeout_ms, \
     retries, redirect, redirect_secs, upstreams, select, settle_secs";

/// The smallest part that may stand before others in an upload, in bytes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
pub(crate) const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

/// Whether the remote keeps conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditions {
    /// It is asked when the mount opens, by a few writes in the hidden space.
    Probe,
    /// It does, says the operator.
    On,
    /// It does not: each condition is refused.
    Off,
}

/// How exact answers are that the remote gives only for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// The time of a write is the remote's clock when it answered, the ETags of a listing are the remote's own.
    Quick,
    /// A HEAD after each write and for each line of a listing.
    Exact,
}

/// Which of several upstreams is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The one with the lowest latency.
    Fastest,
    /// The one with the fewest reads under way, in turn among equals.
    Balanced,
    /// For each key the same, so that its cache is warm.
    Affinity,
    /// The one with the lowest latency, given what it has to do and how often it failed.
    Adaptive,
}

/// The settings of an s3 mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The bucket. Without a default.
    pub bucket: String,
    /// Scheme, host and port, such as `https://s3.example.org:9000`. AWS in the region unless set.
    pub endpoint: Uri,
    /// The region that signatures name. `us-east-1` unless set.
    pub region: String,
    /// What all keys of the mount begin with at the remote. Empty unless set.
    pub prefix: String,
    /// Names the bucket in the host, not in the path.
    pub virtual_host: bool,
    /// The profile of the credentials file. `AWS_PROFILE`, or `default`, unless set.
    pub profile: Option<String>,
    /// The only place where credentials are looked for, when set.
    pub credentials_file: Option<PathBuf>,
    /// Whether the remote keeps conditions. `probe` unless set.
    pub conditions: Conditions,
    /// `quick` unless set.
    pub answers: Answers,
    /// Refuses all writes, and never makes one.
    pub read_only: bool,
    /// Bodies of up to so many bytes are held until they are whole, and sent with all their attributes in one request. 4 MiB
    /// unless set.
    pub buffer_bytes: u64,
    /// Parts from this size on are parts of an upload at the remote; smaller ones are kept as objects until the end. 5 MiB unless
    /// set, and never less.
    pub native_part_bytes: u64,
    /// Connections to each upstream that are opened with the mount and kept open, used or not. 0 unless set.
    pub min_idle: usize,
    /// Connections to each upstream that may lie idle. 32 unless set.
    pub max_idle: usize,
    /// How long a connection may lie idle, beyond [`min_idle`](Self::min_idle) of them. 20 s unless set, less than servers wait.
    pub idle: Duration,
    /// Requests to each upstream at a time, bodies included; others wait for [`connect_timeout`](Self::connect_timeout). 512 unless set.
    pub max_connections: usize,
    /// How long a connection may take. 5 s unless set.
    pub connect_timeout: Duration,
    /// How long the remote may be silent: before it answers, and between two pieces of a body. 30 s unless set.
    pub answer_timeout: Duration,
    /// How often a call that may be repeated is tried again. 3 unless set.
    pub retries: u32,
    /// Lets readers be sent to the remote by links.
    pub redirect: bool,
    /// How long such a link holds. 120 s unless set.
    pub redirect_time: Duration,
    /// Replicas of the bucket, which are read from as well. At most seven.
    pub upstreams: Vec<Uri>,
    /// Which of them is asked, or the endpoint itself. `adaptive` unless set.
    pub select: Select,
    /// For how long what was written through this gateway is read from the endpoint alone. 60 s unless set.
    pub settle: Duration,
}

impl Settings {
    /// A bucket of an endpoint, everything else as it is unless set.
    #[must_use]
    pub fn new(endpoint: Uri, bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            endpoint,
            region: "us-east-1".into(),
            prefix: String::new(),
            virtual_host: false,
            profile: None,
            credentials_file: None,
            conditions: Conditions::Probe,
            answers: Answers::Quick,
            read_only: false,
            buffer_bytes: 4 * 1024 * 1024,
            native_part_bytes: MIN_PART_BYTES,
            min_idle: 0,
            max_idle: 32,
            idle: Duration::from_secs(20),
            max_connections: 512,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            retries: 3,
            redirect: false,
            redirect_time: Duration::from_secs(120),
            upstreams: Vec::new(),
            select: Select::Adaptive,
            settle: Duration::from_secs(60),
        }
    }

    /// The settings that a mount spells out.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a name that is not known, a value that cannot be read, or no `bucket`.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self> {
        let region = map.get("region").map_or("us-east-1", String::as_str);
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(refused("region", region));
        }
        let aws = format!("https://s3.{region}.amazonaws.com");
        let endpoint = map.get("endpoint").unwrap_or(&aws);
        let mut settings = Self::new(parse_endpoint(endpoint)?, map.get("bucket").map_or("", String::as_str));
        settings.region = region.to_owned();
        for (name, value) in map {
            match name.as_str() {
                "endpoint" | "region" => {}
                "bucket" => check_bucket(value)?,
                "prefix" => settings.prefix.clone_from(value),
                "virtual_host" => settings.virtual_host = parse(name, value)?,
                "profile" => settings.profile = Some(value.clone()),
                "credentials_file" => settings.credentials_file = Some(value.into()),
                "conditions" => {
                    settings.conditions = match value.as_str() {
                        "probe" => Conditions::Probe,
                        "on" => Conditions::On,
                        "off" => Conditions::Off,
                        _ => return Err(refused(name, value).with("known", "probe, on, off")),
                    };
                }
                "answers" => {
                    settings.answers = match value.as_str() {
                        "quick" => Answers::Quick,
                        "exact" => Answers::Exact,
                        _ => return Err(refused(name, value).with("known", "quick, exact")),
                    };
                }
                "read_only" => settings.read_only = parse(name, value)?,
                "buffer_bytes" => settings.buffer_bytes = within(name, value, 0, 16 * 1024 * 1024)?,
                "native_part_bytes" => settings.native_part_bytes = within(name, value, MIN_PART_BYTES, u64::MAX)?,
                "min_idle" => settings.min_idle = count(name, value, 0, 64)?,
                "max_idle" => settings.max_idle = parse(name, value)?,
                "idle_ms" => settings.idle = Duration::from_millis(within(name, value, 100, 3_600_000)?),
                "max_connections" => settings.max_connections = count(name, value, 4, 65_536)?,
                "redirect" => settings.redirect = parse(name, value)?,
                "redirect_secs" => settings.redirect_time = Duration::from_secs(within(name, value, 1, 3600)?),
                "upstreams" => settings.upstreams = parse_upstreams(value)?,
                "select" => {
                    settings.select = match value.as_str() {
                        "fastest" => Select::Fastest,
                        "balanced" => Select::Balanced,
                        "affinity" => Select::Affinity,
                        "adaptive" => Select::Adaptive,
                        _ => return Err(refused(name, value).with("known", "fastest, balanced, affinity, adaptive")),
                    };
                }
                "settle_secs" => settings.settle = Duration::from_secs(within(name, value, 0, 86_400)?),
                "connect_timeout_ms" => settings.connect_timeout = Duration::from_millis(within(name, value, 1, 600_000)?),
                "answer_timeout_ms" => settings.answer_timeout = Duration::from_millis(within(name, value, 1, 3_600_000)?),
                "retries" => settings.retries = parse::<u32>(name, value)?.min(10),
                _ => return Err(Error::new(ErrorKind::Unsupported, "unknown setting of an s3 mount").with("name", name)),
            }
        }
        if settings.bucket.is_empty() {
            return Err(Error::new(ErrorKind::Unsupported, "an s3 mount needs the setting").with("name", "bucket"));
        }
        if settings.min_idle > settings.max_idle {
            return Err(refused("min_idle", &settings.min_idle.to_string()).with("max_idle", settings.max_idle));
        }
        let mut all: Vec<&Uri> = settings.upstreams.iter().chain([&settings.endpoint]).collect();
        all.sort_by_key(|uri| uri.to_string());
        all.dedup();
        if all.len() <= settings.upstreams.len() {
            return Err(refused("upstreams", "").with("reason", "one is named twice; the endpoint is one of them by itself"));
        }
        Ok(settings)
    }
}

fn refused(name: &str, value: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "setting of an s3 mount").with("name", name).with("value", value)
}

fn parse<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|e| refused(name, value).caused_by(e))
}

fn within(name: &str, value: &str, least: u64, most: u64) -> Result<u64> {
    match parse(name, value)? {
        number if (least..=most).contains(&number) => Ok(number),
        _ => Err(refused(name, value).with("least", least).with("most", most)),
    }
}

fn count(name: &str, value: &str, least: u64, most: u64) -> Result<usize> {
    usize::try_from(within(name, value, least, most)?).map_err(|e| refused(name, value).caused_by(e))
}

/// Endpoints, separated by commas or blanks.
fn parse_upstreams(value: &str) -> Result<Vec<Uri>> {
    let places = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|place| !place.is_empty());
    let upstreams = places.map(parse_endpoint).collect::<Result<Vec<_>>>()?;
    if upstreams.len() >= MOST {
        return Err(refused("upstreams", "").with("most", MOST - 1));
    }
    Ok(upstreams)
}

/// A bucket goes into a path or a host as it is.
fn check_bucket(value: &str) -> Result<()> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if value.is_empty() || value.len() > 255 || !value.bytes().all(sound) || value.starts_with('.') {
        return Err(refused("bucket", value));
    }
    Ok(())
}

/// An endpoint is where a server is, and nothing else: credentials, a path or a query in it would go unread.
fn parse_endpoint(text: &str) -> Result<Uri> {
    let uri: Uri = text.parse().map_err(|e| refused("endpoint", text).caused_by(Box::new(e) as Box<_>))?;
    let known = uri.scheme().is_some_and(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS);
    let plain = uri.authority().is_some_and(|a: &Authority| !a.as_str().contains('@') && !a.host().is_empty());
    if !known || !plain || !matches!(uri.path_and_query().map(|p| p.as_str()), None | Some("/")) {
        return Err(refused("endpoint", "").with("due", "http(s)://host[:port]"));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()
    }

    #[test]
    fn a_bucket_is_enough() {
        let settings = Settings::from_map(&map(&[("bucket", "b"), ("region", "eu-central-1")])).unwrap();
        assert_eq!(settings.endpoint, "https://s3.eu-central-1.amazonaws.com/");
        assert_eq!(settings.conditions, Conditions::Probe);
        assert!(!settings.redirect && settings.upstreams.is_empty());
    }

    #[test]
    fn upstreams_are_a_list() {
        let given =
            [("bucket", "b"), ("endpoint", "http://a"), ("upstreams", "http://b:1, https://c\nhttp://d"), ("select", "affinity")];
        let settings = Settings::from_map(&map(&given)).unwrap();
        let places: Vec<String> = settings.upstreams.iter().map(ToString::to_string).collect();
        assert_eq!(places, ["http://b:1/", "https://c/", "http://d/"]);
        assert_eq!(settings.select, Select::Affinity);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (name, value) in [
            ("bukcet", "b"),
            ("bucket", ""),
            ("bucket", "a/b"),
            ("bucket", ".."),
            ("endpoint", "s3.example.org"),
            ("endpoint", "ftp://s3.example.org"),
            ("endpoint", "https://user:word@s3.example.org"),
            ("endpoint", "https://s3.example.org/path"),
            ("region", "us east"),
            ("conditions", "yes"),
            ("answers", "slow"),
            ("native_part_bytes", "1"),
            ("retries", "-1"),
            ("virtual_host", "1"),
            ("answer_timeout_ms", "0"),
            ("min_idle", "65"),
            ("min_idle", "33"),
            ("idle_ms", "0"),
            ("max_connections", "1"),
            ("redirect", "yes"),
            ("redirect_secs", "0"),
            ("redirect_secs", "4000"),
            ("select", "best"),
            ("settle_secs", "-1"),
            ("upstreams", "https://a, b"),
            ("upstreams", "https://user:word@a"),
            ("upstreams", "https://a https://a"),
            ("upstreams", "https://s3.us-east-1.amazonaws.com"),
            ("upstreams", "http://a,http://b,http://c,http://d,http://e,http://f,http://g,http://h"),
        ] {
            let mut settings = map(&[("bucket", "b")]);
            settings.insert(name.into(), value.into());
            let refusal = Settings::from_map(&settings).unwrap_err();
            assert_eq!(*refusal.kind(), ErrorKind::Unsupported, "{name}");
            assert!(!refusal.to_string().contains("word"), "{refusal}");
        }
        assert!(Settings::from_map(&map(&[])).is_err());
    }

    #[test]
    fn every_known_setting_is_named() {
        for name in KNOWN_SETTINGS.split(", ").map(str::trim) {
            let refusal = Settings::from_map(&map(&[("bucket", "b"), (name, "\u{1}")]));
            let unknown = refusal.as_ref().is_err_and(|e| e.to_string().contains("unknown"));
            assert!(!unknown, "{name}");
        }
    }
}
