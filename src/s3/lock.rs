//! Object Lock on the wire: the bucket's configuration, and the headers and documents of retention and legal holds
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_provider::Attributes;

use super::dates;
use super::error::{Code, Failure, Result};
use super::headers::{first, text};
use super::xml::{Element, Xml};
use crate::namespaces::Namespace;
use crate::objects::attribute;
use crate::objects::lock::{Mode, Retention};
use crate::transfer::Algorithm;

/// The settings document of a bucket that holds its Object Lock configuration. There is one exactly when the bucket has the lock.
pub(crate) const SETTING: &str = Namespace::OBJECT_LOCK;

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const HOLD: &str = "x-amz-object-lock-legal-hold";

/// The longest default retention, in days (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DefaultRetention.html> names no
/// other limit than this one of years).
const MAX_DAYS: u32 = 36_500;
const MAX_YEARS: u32 = 100;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a default retention lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Days(u32),
    Years(u32),
}

/// The configuration of a bucket that has the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    default: Option<(Mode, Period)>,
}

impl Configuration {
    /// The configuration of a bucket; `None` when it has no lock.
    pub(crate) fn of(namespace: &Namespace) -> Option<Self> {
        // What cannot be read locks without a default: nothing that is locked is lost by it.
        namespace.setting(SETTING).map(|text| Self::from_text(&text).unwrap_or_default())
    }

    /// As the settings keep it.
    pub(crate) fn to_text(self) -> String {
        match self.default {
            None => "Enabled".to_owned(),
            Some((mode, Period::Days(days))) => format!("{} {days} Days", mode.name()),
            Some((mode, Period::Years(years))) => format!("{} {years} Years", mode.name()),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mode = match words.next()? {
            "Enabled" => return Some(Self::default()),
            mode => Mode::from_name(mode)?,
        };
        let count = words.next()?.parse().ok()?;
        let period = match words.next()? {
            "Days" => Period::Days(count),
            "Years" => Period::Years(count),
            _ => return None,
        };
        Some(Self { default: Some((mode, period)) })
    }

    /// Reads what a client sends.
    ///
    /// # Errors
    /// `MalformedXML`, `InvalidRetentionPeriod`.
    pub(crate) fn from_xml(root: &Element) -> Result<Self> {
        let malformed = || Failure::from(Code::MalformedXML);
        if root.text_of("ObjectLockEnabled").map(str::trim) != Some("Enabled") {
            return Err(malformed());
        }
        let Some(rule) = root.child("Rule") else { return Ok(Self::default()) };
        let default = rule.child("DefaultRetention").ok_or_else(malformed)?;
        let mode = default.text_of("Mode").and_then(|mode| Mode::from_name(mode.trim())).ok_or_else(malformed)?;
        let count = |text: &str, most: u32| match text.trim().parse::<i64>() {
            Err(_) => Err(malformed()),
            Ok(count) => match u32::try_from(count) {
                Ok(count @ 1..) if count <= most => Ok(count),
                Ok(count @ 1..) => {
                    Err(Failure::argument("DefaultRetention", count.to_string(), "Default retention period is too large."))
                }
                _ => Err(Failure::because(
                    Code::InvalidRetentionPeriod,
                    "Default retention period must be a positive integer value.",
                )),
            },
        };
        let period = match (default.text_of("Days"), default.text_of("Years")) {
            (Some(days), None) => Period::Days(count(days, MAX_DAYS)?),
            (None, Some(years)) => Period::Years(count(years, MAX_YEARS)?),
            _ => return Err(malformed()),
        };
        Ok(Self { default: Some((mode, period)) })
    }

    /// As a client reads it.
    pub(crate) fn to_xml(self) -> Xml {
        let mut xml = Xml::document();
        xml.root("ObjectLockConfiguration");
        xml.text("ObjectLockEnabled", "Enabled");
        if let Some((mode, period)) = self.default {
            xml.open("Rule");
            xml.open("DefaultRetention");
            xml.text("Mode", mode.name());
            match period {
                Period::Days(days) => xml.plain("Days", days),
                Period::Years(years) => xml.plain("Years", years),
            }
            xml.close("DefaultRetention");
            xml.close("Rule");
        }
        xml.close("ObjectLockConfiguration");
        xml
    }

    /// The retention of what is written now and names none of its own.
    fn default_retention(self, now: SystemTime) -> Option<Retention> {
        let (mode, period) = self.default?;
        let days = match period {
            Period::Days(days) => days,
            Period::Years(years) => years.saturating_mul(365),
        };
        Some(Retention { mode, until: now + DAY * days })
    }
}

/// The answer for a bucket without the lock.
pub(crate) fn no_lock() -> Failure {
    Failure::request("Bucket is missing Object Lock Configuration")
}

fn date(text: &str) -> Option<SystemTime> {
    dates::parse_any(text).filter(|date| *date >= UNIX_EPOCH)
}

/// Reads a date until which something is to be retained.
fn until(text: &str) -> Result<SystemTime> {
    match date(text) {
        None => Err(Failure::argument(UNTIL, text, "The retain until date must be provided in ISO 8601 format")),
        Some(date) if date <= SystemTime::now() => {
            Err(Failure::argument(UNTIL, text, "The retain until date must be in the future!"))
        }
        Some(date) => Ok(date),
    }
}

/// Adds what the headers of a new object say of its lock.
///
/// # Errors
/// `InvalidRequest` in a bucket without the lock or without a digest of the body, `InvalidArgument`.
pub(crate) fn new_object(namespace: &Namespace, headers: &HeaderMap, attributes: &mut Attributes) -> Result<()> {
    let (mode, date, hold) = (text(headers, MODE)?, text(headers, UNTIL)?, text(headers, HOLD)?);
    let Some(configuration) = Configuration::of(namespace) else {
        return if mode.is_some() || date.is_some() || hold.is_some() { Err(no_lock()) } else { Ok(()) };
    };
    let retention = match (mode, date) {
        (None, None) => configuration.default_retention(SystemTime::now()),
        (Some(mode), Some(date)) => {
            let mode = Mode::from_name(mode).ok_or_else(|| Failure::argument(MODE, mode, "Unknown wormMode directive."))?;
            Some(Retention { mode, until: until(date)? })
        }
        (mode, date) => {
            let message = format!("{UNTIL} and {MODE} must both be supplied");
            let (name, value) = if mode.is_some() { (MODE, mode) } else { (UNTIL, date) };
            return Err(Failure::argument(name, value.unwrap_or_default(), message));
        }
    };
    attributes.extend(retention.iter().flat_map(Retention::attributes));
    match hold {
        None => {}
        Some(state @ ("ON" | "OFF")) => attributes.set(attribute::LOCK_HOLD, state),
        Some(other) => return Err(Failure::argument(HOLD, other, "Legal Hold must be either of 'ON' or 'OFF'")),
    }
    Ok(())
}

/// Makes sure that the body of a put that is to be locked comes with a digest, as AWS wants it.
///
/// # Errors
/// `InvalidRequest`.
pub(crate) fn check_digest(headers: &HeaderMap) -> Result<()> {
    if ![MODE, UNTIL, HOLD].iter().any(|name| first(headers, name).is_some()) {
        return Ok(());
    }
    let digest =
        ["content-md5", "x-amz-trailer", "x-amz-sdk-checksum-algorithm"].iter().any(|name| first(headers, name).is_some())
            || headers.keys().any(|name| Algorithm::from_header(name.as_str()).is_some());
    if !digest {
        return Err(Failure::request(
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
        ));
    }
    Ok(())
}

/// The default retention for an upload that named none of its own when it began.
pub(crate) fn default_attributes(namespace: &Namespace) -> Attributes {
    let retention = Configuration::of(namespace).and_then(|configuration| configuration.default_retention(SystemTime::now()));
    retention.iter().flat_map(Retention::attributes).collect()
}

/// Shows the lock of a version in the headers of a GET or HEAD.
pub(crate) fn to_headers(attributes: &Attributes, headers: &mut HeaderMap) {
    if let Some(retention) = Retention::of(attributes) {
        headers.insert(HeaderName::from_static(MODE), HeaderValue::from_static(retention.mode.name()));
        if let Ok(value) = HeaderValue::from_str(&dates::iso_millis(retention.until)) {
            headers.insert(HeaderName::from_static(UNTIL), value);
        }
    }
    if let Some(Ok(value)) = attributes.get(attribute::LOCK_HOLD).map(HeaderValue::from_str) {
        headers.insert(HeaderName::from_static(HOLD), value);
    }
}

/// Reads a `<Retention>`; `None` for an empty one, which ends it.
///
/// # Errors
/// `MalformedXML`, `InvalidArgument`.
pub(crate) fn retention_from_xml(root: &Element) -> Result<Option<Retention>> {
    let malformed = || Failure::from(Code::MalformedXML);
    match (root.text_of("Mode").map(str::trim), root.text_of("RetainUntilDate").map(str::trim)) {
        (None, None) => Ok(None),
        (Some(mode), Some(text)) => {
            let mode = Mode::from_name(mode).ok_or_else(malformed)?;
            date(text).ok_or_else(malformed)?;
            Ok(Some(Retention { mode, until: until(text)? }))
        }
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn read(inner: &str) -> Result<Configuration> {
        let text = format!("<ObjectLockConfiguration>{inner}</ObjectLockConfiguration>");
        Configuration::from_xml(&crate::s3::xml::parse(text.as_bytes(), "ObjectLockConfiguration").unwrap())
    }

    fn rule(inner: &str) -> Result<Configuration> {
        read(&format!("<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"))
    }

    #[test]
    fn a_configuration_is_kept_as_it_was_sent() {
        let none = read("<ObjectLockEnabled>Enabled</ObjectLockEnabled>").unwrap();
        let days = rule("<Mode>GOVERNANCE</Mode><Days>1</Days>").unwrap();
        let years = rule("<Mode>COMPLIANCE</Mode><Years>3</Years>").unwrap();
        for configuration in [none, days, years] {
            assert_eq!(Configuration::from_text(&configuration.to_text()), Some(configuration));
            let root = crate::s3::xml::parse(configuration.to_xml().finish().as_bytes(), "ObjectLockConfiguration").unwrap();
            assert_eq!(Configuration::from_xml(&root).unwrap(), configuration);
        }
        let now = UNIX_EPOCH + DAY;
        assert_eq!(years.default_retention(now).unwrap().until, now + DAY * (3 * 365));
        assert!(none.default_retention(now).is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let code = |result: Result<Configuration>| result.unwrap_err().code();
        assert_eq!(code(read("<ObjectLockEnabled>Disabled</ObjectLockEnabled>")), Code::MalformedXML);
        assert_eq!(code(read("")), Code::MalformedXML);
        assert_eq!(code(rule("<Mode>abc</Mode><Days>1</Days>")), Code::MalformedXML);
        assert_eq!(code(rule("<Mode>GOVERNANCE</Mode>")), Code::MalformedXML);
        assert_eq!(code(rule("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>")), Code::MalformedXML);
        assert_eq!(code(rule("<Mode>GOVERNANCE</Mode><Days>0</Days>")), Code::InvalidRetentionPeriod);
        assert_eq!(code(rule("<Mode>GOVERNANCE</Mode><Years>-1</Years>")), Code::InvalidRetentionPeriod);
        assert_eq!(code(rule("<Mode>GOVERNANCE</Mode><Days>99999</Days>")), Code::InvalidArgument);
    }

    #[test]
    fn a_retention_is_whole_or_not_there() {
        let read = |inner: &str| {
            let text = format!("<Retention>{inner}</Retention>");
            retention_from_xml(&crate::s3::xml::parse(text.as_bytes(), "Retention").unwrap())
        };
        assert_eq!(read("").unwrap(), None);
        let good = read("<Mode>GOVERNANCE</Mode><RetainUntilDate>2100-01-01T00:00:00.5Z</RetainUntilDate>").unwrap().unwrap();
        let attributes: Attributes = good.attributes().into_iter().collect();
        assert_eq!(Retention::of(&attributes), Some(good));
        let code = |inner| read(inner).unwrap_err().code();
        assert_eq!(code("<Mode>GOVERNANCE</Mode>"), Code::MalformedXML);
        assert_eq!(code("<Mode>x</Mode><RetainUntilDate>2100-01-01T00:00:00Z</RetainUntilDate>"), Code::MalformedXML);
        assert_eq!(code("<Mode>GOVERNANCE</Mode><RetainUntilDate>soon</RetainUntilDate>"), Code::MalformedXML);
        assert_eq!(code("<Mode>GOVERNANCE</Mode><RetainUntilDate>2001-01-01T00:00:00Z</RetainUntilDate>"), Code::InvalidArgument);
    }
}
