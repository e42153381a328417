//! Conditional headers (RFC 9110 section 13.1), on reads, on writes and on the source of a copy.
//!
//! A condition that cannot be read is never dropped: an ETag that no object can have becomes one that matches nothing. Dates are
//! the exception, because AWS ignores those it cannot read. For the same reason an empty condition is not an absent one, and one
//! that is given in several lines is the list of them all.

use std::borrow::Cow;

use http::HeaderMap;
use sluice_provider::{DeleteWhen, ETag, PutWhen};

use super::dates;
use super::error::{Code, Failure, Result};
use super::headers::{first, readable, text};
use crate::objects::{ETagCondition, IfRange, ReadConditions};

/// A tag as clients send it: quoted, bare, or weak. The flag says weak.
fn tag(text: &str) -> (Option<ETag>, bool) {
    let text = text.trim();
    let (text, weak) = text.strip_prefix("W/").map_or((text, false), |rest| (rest, true));
    (ETag::new(unquoted(text)).ok(), weak)
}

/// An ETag without its quotes.
pub(crate) fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// A condition as it was sent: `None` only if it was not. Of several lines, their list (RFC 9110 section 5.3).
///
/// # Errors
/// `InvalidArgument` when it is not text.
pub(crate) fn condition<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<Cow<'h, str>>> {
    if first(headers, name).is_none() {
        return Ok(None);
    }
    let mut lines = headers.get_all(name).iter().map(|value| readable(name, value));
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let mut all = Cow::Borrowed(first);
    for line in lines {
        let list = all.to_mut();
        list.push_str(", ");
        list.push_str(line?);
    }
    Ok(Some(all))
}

/// The list of an If-Match (`strong`: weak tags never match) or If-None-Match.
fn list(text: &str, strong: bool) -> ETagCondition {
    if text.trim() == "*" {
        return ETagCondition::Any;
    }
    let tags = text.split(',').map(tag).filter(|(_, weak)| !(strong && *weak)).filter_map(|(tag, _)| tag);
    ETagCondition::OneOf(tags.collect())
}

/// The conditions on a read.
pub(crate) fn read(headers: &HeaderMap) -> Result<ReadConditions> {
    four(headers, ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"])
}

/// The conditions on the source of a copy.
pub(crate) fn copy_source(headers: &HeaderMap) -> Result<ReadConditions> {
    four(
        headers,
        [
            "x-amz-copy-source-if-match",
            "x-amz-copy-source-if-none-match",
            "x-amz-copy-source-if-modified-since",
            "x-amz-copy-source-if-unmodified-since",
        ],
    )
}

/// The conditions on the source of a rename.
pub(crate) fn rename_source(headers: &HeaderMap) -> Result<ReadConditions> {
    four(
        headers,
        [
            "x-amz-rename-source-if-match",
            "x-amz-rename-source-if-none-match",
            "x-amz-rename-source-if-modified-since",
            "x-amz-rename-source-if-unmodified-since",
        ],
    )
}

fn four(headers: &HeaderMap, names: [&'static str; 4]) -> Result<ReadConditions> {
    let [matches, none, since, unmodified] = names;
    Ok(ReadConditions {
        if_match: condition(headers, matches)?.map(|t| list(&t, true)),
        if_none_match: condition(headers, none)?.map(|t| list(&t, false)),
        if_modified_since: text(headers, since)?.and_then(dates::parse_http),
        if_unmodified_since: text(headers, unmodified)?.and_then(dates::parse_http),
    })
}

/// If-Range. What is neither a strong tag nor a date can never hold, so that the whole object is sent.
pub(crate) fn if_range(headers: &HeaderMap) -> Result<Option<IfRange>> {
    let Some(text) = text(headers, "if-range")? else { return Ok(None) };
    if let Some(date) = dates::parse_http(text) {
        return Ok(Some(IfRange::Date(date)));
    }
    match tag(text) {
        (Some(tag), false) => Ok(Some(IfRange::ETag(tag))),
        _ => Ok(Some(IfRange::Date(std::time::SystemTime::UNIX_EPOCH))),
    }
}

/// A tag that no object has, for a condition that must fail.
fn never() -> Result<ETag> {
    ETag::new("-").map_err(Failure::from)
}

/// A condition that S3 does not know here, and that is not to be ignored.
fn refuse(name: &str) -> Failure {
    Failure::from(Code::NotImplemented).field("Header", name)
}

/// Refuses the conditions that S3 does not know on writes and deletes.
fn refuse_others(headers: &HeaderMap, names: &[&'static str]) -> Result<()> {
    names.iter().find(|name| first(headers, name).is_some()).map_or(Ok(()), |name| Err(refuse(name)))
}

/// The condition on a write: an `If-Match` or an `If-None-Match`. S3 documents `*` for the latter; a tag means what RFC 9110 says.
///
/// # Errors
/// `NotImplemented` for dates, for lists and for both at once, as on S3.
pub(crate) fn write(headers: &HeaderMap) -> Result<PutWhen> {
    refuse_others(headers, &["if-modified-since", "if-unmodified-since"])?;
    match (condition(headers, "if-match")?.as_deref(), condition(headers, "if-none-match")?.as_deref()) {
        (None, None) => Ok(PutWhen::Always),
        (None, Some(none)) if none.trim() == "*" => Ok(PutWhen::IfAbsent),
        (None, Some(none)) if none.contains(',') => Err(refuse("If-None-Match")),
        (None, Some(none)) => match tag(none) {
            (Some(tag), _) => Ok(PutWhen::IfNoneMatch(tag)),
            // No object has such a tag.
            _ => Ok(PutWhen::Always),
        },
        (Some(_), Some(_)) => Err(refuse("If-Match")),
        (Some(matches), None) if matches.trim() == "*" => Ok(PutWhen::IfPresent),
        (Some(matches), None) if matches.contains(',') => Err(refuse("If-Match")),
        (Some(matches), None) => match tag(matches) {
            (Some(tag), false) => Ok(PutWhen::IfMatch(tag)),
            _ => Ok(PutWhen::IfMatch(never()?)),
        },
    }
}

/// The header a failed write condition came with.
pub(crate) fn name_of(when: &PutWhen) -> Option<&'static str> {
    match when {
        PutWhen::Always => None,
        PutWhen::IfAbsent | PutWhen::IfNoneMatch(_) => Some("If-None-Match"),
        PutWhen::IfPresent | PutWhen::IfMatch(_) => Some("If-Match"),
    }
}

/// The condition on the deletion of one object.
///
/// # Errors
/// `InvalidArgument` for a time or a size that cannot be read, `NotImplemented` for conditions that S3 does not know on a delete.
pub(crate) fn delete_one(headers: &HeaderMap) -> Result<DeleteWhen> {
    refuse_others(headers, &["if-none-match", "if-modified-since", "if-unmodified-since"])?;
    let part = |name| condition(headers, name);
    let (etag, modified, size) = (part("if-match")?, part("x-amz-if-match-last-modified-time")?, part("x-amz-if-match-size")?);
    delete(etag.as_deref(), modified.as_deref(), size.as_deref())
}

/// The condition on a delete, from its three parts as text.
///
/// # Errors
/// `InvalidArgument` for a time or a size that cannot be read.
pub(crate) fn delete(etag: Option<&str>, modified: Option<&str>, size: Option<&str>) -> Result<DeleteWhen> {
    if etag.is_none() && modified.is_none() && size.is_none() {
        return Ok(DeleteWhen::Always);
    }
    let etag = match etag.map(str::trim) {
        None | Some("*") => None,
        Some(text) => match tag(text) {
            (Some(tag), false) => Some(tag),
            _ => Some(never()?),
        },
    };
    let modified = match modified {
        None => None,
        Some(text) => Some(dates::parse_any(text).ok_or_else(|| {
            Failure::argument("x-amz-if-match-last-modified-time", text, "The last modified time is not valid.")
        })?),
    };
    let size = match size {
        None => None,
        Some(text) => Some(
            text.trim().parse::<u64>().map_err(|_| Failure::argument("x-amz-if-match-size", text, "The size is not valid."))?,
        ),
    };
    Ok(DeleteWhen::IfMatch { etag, modified, size })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    fn etag(text: &str) -> ETag {
        ETag::new(text).unwrap()
    }

    #[test]
    fn tags_are_read_quoted_bare_and_in_lists() {
        let c = read(&headers(&[("if-match", "\"a\", b,W/\"c\""), ("if-none-match", "W/\"c\"")])).unwrap();
        assert_eq!(c.if_match, Some(ETagCondition::OneOf(vec![etag("a"), etag("b")])));
        assert_eq!(c.if_none_match, Some(ETagCondition::OneOf(vec![etag("c")])));
        assert_eq!(read(&headers(&[("if-match", "*")])).unwrap().if_match, Some(ETagCondition::Any));
        assert_eq!(read(&headers(&[("if-match", "\"\"")])).unwrap().if_match, Some(ETagCondition::OneOf(vec![])));
    }

    #[test]
    fn an_empty_condition_is_not_an_absent_one() {
        let c = read(&headers(&[("if-match", ""), ("if-none-match", "")])).unwrap();
        assert_eq!((c.if_match, c.if_none_match), (Some(ETagCondition::OneOf(vec![])), Some(ETagCondition::OneOf(vec![]))));
        assert_eq!(write(&headers(&[("if-match", "")])).unwrap(), PutWhen::IfMatch(never().unwrap()));
        assert_eq!(delete_one(&headers(&[])).unwrap(), DeleteWhen::Always);
        let nothing = DeleteWhen::IfMatch { etag: Some(never().unwrap()), modified: None, size: None };
        assert_eq!(delete_one(&headers(&[("if-match", "")])).unwrap(), nothing);
        assert!(delete_one(&headers(&[("x-amz-if-match-size", "")])).is_err());
    }

    #[test]
    fn a_condition_that_s3_does_not_know_is_refused() {
        for name in ["if-modified-since", "if-unmodified-since"] {
            let asked = headers(&[(name, "Sun, 06 Nov 1994 08:49:37 GMT")]);
            assert_eq!(write(&asked).unwrap_err().code(), Code::NotImplemented);
            assert_eq!(delete_one(&asked).unwrap_err().code(), Code::NotImplemented);
        }
        assert_eq!(delete_one(&headers(&[("if-none-match", "*")])).unwrap_err().code(), Code::NotImplemented);
    }

    #[test]
    fn several_lines_are_one_list() {
        let mut twice = headers(&[("if-none-match", "\"a\"")]);
        twice.append("if-none-match", HeaderValue::from_static("\"b\", \"c\""));
        let list = vec![etag("a"), etag("b"), etag("c")];
        assert_eq!(read(&twice).unwrap().if_none_match, Some(ETagCondition::OneOf(list)));
        let mut hidden = headers(&[("if-none-match", "\"a\"")]);
        hidden.append("if-none-match", HeaderValue::from_static("*"));
        assert!(write(&hidden).is_err(), "the second line is a condition too");
    }

    #[test]
    fn dates_that_aws_ignores_are_ignored() {
        let c =
            read(&headers(&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT"), ("if-unmodified-since", "soon")])).unwrap();
        assert!(c.if_modified_since.is_none() && c.if_unmodified_since.is_none());
        assert!(read(&headers(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")])).unwrap().if_modified_since.is_some());
    }

    #[test]
    fn write_conditions_are_those_of_s3() {
        assert_eq!(write(&headers(&[])).unwrap(), PutWhen::Always);
        assert_eq!(write(&headers(&[("if-none-match", "*")])).unwrap(), PutWhen::IfAbsent);
        assert_eq!(write(&headers(&[("if-match", "\"x\"")])).unwrap(), PutWhen::IfMatch(etag("x")));
        assert_eq!(write(&headers(&[("if-match", "*")])).unwrap(), PutWhen::IfPresent);
        assert_eq!(write(&headers(&[("if-none-match", "\"x\"")])).unwrap(), PutWhen::IfNoneMatch(etag("x")));
        assert!(write(&headers(&[("if-none-match", "\"x\", \"y\"")])).is_err());
        assert!(write(&headers(&[("if-none-match", "*"), ("if-match", "*")])).is_err());
    }

    #[test]
    fn an_if_range_that_cannot_hold_does_not() {
        let r = |v| if_range(&headers(&[("if-range", v)])).unwrap().unwrap();
        assert!(matches!(r("\"x\""), IfRange::ETag(_)));
        assert!(matches!(r("Sun, 06 Nov 1994 08:49:37 GMT"), IfRange::Date(_)));
        assert!(matches!(r("W/\"x\""), IfRange::Date(std::time::SystemTime::UNIX_EPOCH)));
    }

    #[test]
    fn delete_conditions_are_read_or_refused() {
        assert_eq!(delete(None, None, None).unwrap(), DeleteWhen::Always);
        assert_eq!(delete(Some("*"), None, None).unwrap(), DeleteWhen::IfMatch { etag: None, modified: None, size: None });
        assert!(delete(None, Some("never"), None).is_err() && delete(None, None, Some("-1")).is_err());
    }
}
