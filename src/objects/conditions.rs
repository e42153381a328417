//! Conditions on reads.

use std::time::{SystemTime, UNIX_EPOCH};

use sluice_provider::{ETag, ObjectInfo};

use super::{ETagCondition, IfRange, ReadConditions};
use crate::error::{Error, ErrorKind, Result};

// === impl ETagCondition ===

impl ETagCondition {
    fn names(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(etags) => etags.contains(etag),
        }
    }
}

// === impl IfRange ===

impl IfRange {
    /// Whether the range applies. A date must be the very second of the last modification (RFC 9110 section 13.1.5).
    pub(super) fn holds(&self, info: &ObjectInfo) -> bool {
        match self {
            Self::ETag(etag) => *etag == info.etag,
            Self::Date(date) => seconds(*date) == seconds(info.modified),
        }
    }
}

// === impl ReadConditions ===

impl ReadConditions {
    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
            && self.if_unmodified_since.is_none()
    }

    /// Evaluates them in the order of RFC 9110 section 13.2.2: a date counts only without the ETag condition of its pair. Dates
    /// have whole seconds. An If-Modified-Since in the future is no condition.
    ///
    /// # Errors
    /// `PreconditionFailed`, `NotModified`.
    pub(super) fn check(&self, info: &ObjectInfo) -> Result<()> {
        let modified = seconds(info.modified);
        let failed = |header| Err(Error::new(ErrorKind::PreconditionFailed(header), "read"));
        match (&self.if_match, self.if_unmodified_since) {
            (Some(condition), _) if !condition.names(&info.etag) => return failed("If-Match"),
            (None, Some(date)) if modified > seconds(date) => return failed("If-Unmodified-Since"),
            _ => {}
        }
        let current = match (&self.if_none_match, self.if_modified_since) {
            (Some(condition), _) => condition.names(&info.etag),
            (None, Some(date)) => modified <= seconds(date) && seconds(date) <= seconds(SystemTime::now()),
            (None, None) => false,
        };
        if current { Err(Error::new(ErrorKind::NotModified(Box::new(info.clone())), "read")) } else { Ok(()) }
    }

    /// Evaluates them for the source of a copy, where every condition that does not hold is a failure
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>).
    ///
    /// # Errors
    /// `PreconditionFailed`.
    pub(super) fn check_source(&self, info: &ObjectInfo) -> Result<()> {
        self.check(info).map_err(|error| {
            let header = match error.kind() {
                ErrorKind::PreconditionFailed("If-Match") => "x-amz-copy-source-If-Match",
                ErrorKind::PreconditionFailed(_) => "x-amz-copy-source-If-Unmodified-Since",
                ErrorKind::NotModified(_) if self.if_none_match.is_some() => "x-amz-copy-source-If-None-Match",
                ErrorKind::NotModified(_) => "x-amz-copy-source-If-Modified-Since",
                _ => return error,
            };
            Error::new(ErrorKind::PreconditionFailed(header), "copy source")
        })
    }
}

/// HTTP dates have no fractions.
fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::Duration;

    use sluice_provider::{Attributes, Key};

    use super::*;

    fn info() -> ObjectInfo {
        let modified = UNIX_EPOCH + Duration::from_millis(1_000_500);
        ObjectInfo {
            key: Key::new("k").unwrap(),
            size: 1,
            etag: ETag::new("e").unwrap(),
            modified,
            attributes: Attributes::new(),
        }
    }

    fn at(second: u64) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::from_secs(second))
    }

    fn one(etag: &str) -> Option<ETagCondition> {
        Some(ETagCondition::OneOf(vec![ETag::new("other").unwrap(), ETag::new(etag).unwrap()]))
    }

    fn outcome(conditions: &ReadConditions) -> &'static str {
        match conditions.check(&info()).map_err(|e| e.kind().clone()) {
            Ok(()) => "200",
            Err(ErrorKind::NotModified(_)) => "304",
            Err(ErrorKind::PreconditionFailed(_)) => "412",
            Err(_) => "?",
        }
    }

    #[test]
    fn each_condition_alone() {
        let none = ReadConditions::default;
        let cases = [
            (none(), "200"),
            (ReadConditions { if_match: one("e"), ..none() }, "200"),
            (ReadConditions { if_match: one("x"), ..none() }, "412"),
            (ReadConditions { if_match: Some(ETagCondition::Any), ..none() }, "200"),
            (ReadConditions { if_none_match: one("e"), ..none() }, "304"),
            (ReadConditions { if_none_match: one("x"), ..none() }, "200"),
            (ReadConditions { if_none_match: Some(ETagCondition::Any), ..none() }, "304"),
            (ReadConditions { if_modified_since: at(999), ..none() }, "200"),
            // Modified at 1000.5 s, which HTTP calls 1000.
            (ReadConditions { if_modified_since: at(1000), ..none() }, "304"),
            (ReadConditions { if_modified_since: at(1001), ..none() }, "304"),
            (ReadConditions { if_modified_since: at(100_000_000_000), ..none() }, "200"),
            (ReadConditions { if_unmodified_since: at(999), ..none() }, "412"),
            (ReadConditions { if_unmodified_since: at(1000), ..none() }, "200"),
        ];
        for (conditions, expected) in cases {
            assert_eq!(outcome(&conditions), expected, "{conditions:?}");
        }
    }

    #[test]
    fn an_etag_outweighs_the_date_of_its_pair() {
        let none = ReadConditions::default;
        let cases = [
            (ReadConditions { if_match: one("e"), if_unmodified_since: at(999), ..none() }, "200"),
            (ReadConditions { if_match: one("x"), if_unmodified_since: at(1001), ..none() }, "412"),
            (ReadConditions { if_none_match: one("x"), if_modified_since: at(1001), ..none() }, "200"),
            (ReadConditions { if_none_match: one("e"), if_modified_since: at(999), ..none() }, "304"),
            (ReadConditions { if_match: one("x"), if_none_match: one("e"), ..none() }, "412"),
            (ReadConditions { if_match: one("e"), if_none_match: one("e"), ..none() }, "304"),
        ];
        for (conditions, expected) in cases {
            assert_eq!(outcome(&conditions), expected, "{conditions:?}");
        }
    }

    #[test]
    fn a_source_that_was_not_modified_is_a_failure() {
        let conditions = ReadConditions { if_none_match: one("e"), ..ReadConditions::default() };
        let kind = conditions.check_source(&info()).unwrap_err().kind().clone();
        assert!(matches!(kind, ErrorKind::PreconditionFailed("x-amz-copy-source-If-None-Match")), "{kind:?}");
    }

    #[test]
    fn if_range_by_date_is_exact() {
        assert!(IfRange::Date(at(1000).unwrap()).holds(&info()));
        assert!(!IfRange::Date(at(1001).unwrap()).holds(&info()));
        assert!(IfRange::ETag(ETag::new("e").unwrap()).holds(&info()));
    }
}
