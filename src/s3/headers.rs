//! Headers in and attributes out: what S3 keeps with an object, and how it is shown again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use sluice_provider::{Attributes, SEQUENCE_ATTRIBUTE};

use super::error::{Code, Failure, Result};
use super::query::Query;
use super::{encryption, lock};
use crate::objects::attribute;

/// The most user metadata, names and values together, in bytes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>).
pub(crate) const MAX_USER_METADATA_BYTES: usize = 2048;

/// What an object without a Content-Type has.
pub(crate) const DEFAULT_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("binary/octet-stream");

const USER_METADATA: &str = "x-amz-meta-";

/// Header names and the attributes that keep them.
const KEPT: [(&str, &str); 7] = [
    ("cache-control", attribute::CACHE_CONTROL),
    ("content-disposition", attribute::CONTENT_DISPOSITION),
    ("content-encoding", attribute::CONTENT_ENCODING),
    ("content-language", attribute::CONTENT_LANGUAGE),
    ("content-type", attribute::CONTENT_TYPE),
    ("expires", attribute::EXPIRES),
    ("x-amz-website-redirect-location", attribute::WEBSITE_REDIRECT),
];

/// The `response-*` parameters and the headers they replace.
const OVERRIDES: [(&str, &str); 6] = [
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
    ("response-content-language", "content-language"),
    ("response-content-type", "content-type"),
    ("response-expires", "expires"),
];

/// Up to so many headers are sooner gone through than a name is read, checked and hashed; few requests have more.
const FEW_HEADERS: usize = 24;

/// The first value of a header, which is named in lower case.
pub(crate) fn first<'h>(headers: &'h HeaderMap, name: &'static str) -> Option<&'h HeaderValue> {
    if headers.len() > FEW_HEADERS {
        return headers.get(name);
    }
    headers.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value)
}

/// The value of a header, if it is there and not empty.
///
/// # Errors
/// `InvalidArgument` when it is not text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>> {
    let Some(value) = first(headers, name).filter(|v| !v.is_empty()) else { return Ok(None) };
    readable(name, value).map(Some)
}

/// The value of the header of this name.
///
/// # Errors
/// `InvalidArgument` when it is not text.
pub(crate) fn readable<'h>(name: &'static str, value: &'h HeaderValue) -> Result<&'h str> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| Failure::argument(name, "", "A header value is not valid UTF-8."))
}

/// A header value as text: UTF-8 where it is, else Latin-1 (what a byte above 127 meant before).
fn lenient(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().map(|b| char::from(*b)).collect(),
    }
}

/// Content-Encoding without the `aws-chunked` that belongs to the transfer; where there is none, it stays as it was written.
fn without_aws_chunked(encoding: &str) -> String {
    let codings = || encoding.split(',').map(str::trim).filter(|c| !c.is_empty());
    let transfer = |coding: &str| coding.eq_ignore_ascii_case("aws-chunked");
    if !codings().any(transfer) {
        return encoding.to_owned();
    }
    codings().filter(|c| !transfer(c)).collect::<Vec<_>>().join(",")
}

/// Reads system headers, user metadata and the storage class into attributes.
///
/// # Errors
/// `MetadataTooLarge`, `InvalidStorageClass`, `InvalidRedirectLocation`.
pub(crate) fn to_attributes(headers: &HeaderMap) -> Result<Attributes> {
    let mut attributes = Attributes::new();
    for (header, name) in KEPT {
        let Some(value) = first(headers, header).filter(|v| !v.is_empty()) else { continue };
        let value = lenient(value);
        if name == attribute::WEBSITE_REDIRECT && !["/", "http://", "https://"].iter().any(|prefix| value.starts_with(prefix)) {
            return Err(Code::InvalidRedirectLocation.into());
        }
        if name == attribute::CONTENT_ENCODING {
            let value = without_aws_chunked(&value);
            if !value.is_empty() {
                attributes.set(name, value);
            }
        } else {
            attributes.set(name, value);
        }
    }
    if let Some(class) = storage_class(headers)? {
        attributes.set(attribute::STORAGE_CLASS, class);
    }
    user_metadata(headers, &mut attributes)?;
    Ok(attributes)
}

fn storage_class(headers: &HeaderMap) -> Result<Option<&'static str>> {
    match text(headers, "x-amz-storage-class")? {
        None | Some("STANDARD") => Ok(None),
        Some("REDUCED_REDUNDANCY") => Ok(Some("REDUCED_REDUNDANCY")),
        Some(other) => Err(Failure::new(Code::InvalidStorageClass).field("StorageClassRequested", other)),
    }
}

fn user_metadata(headers: &HeaderMap, attributes: &mut Attributes) -> Result<()> {
    let mut size = 0;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix(USER_METADATA).filter(|s| !s.is_empty()) else { continue };
        let values: Vec<String> = headers.get_all(name).iter().map(lenient).collect();
        let value = values.join(",");
        size += short.len() + value.len();
        attributes.set(format!("{}{short}", attribute::USER_PREFIX), value);
    }
    if size > MAX_USER_METADATA_BYTES {
        return Err(Failure::new(Code::MetadataTooLarge)
            .field("Size", size.to_string())
            .field("MaxSizeAllowed", MAX_USER_METADATA_BYTES.to_string()));
    }
    Ok(())
}

/// Whether an attribute is one that a client sets with its own headers, so that `REPLACE` replaces it.
pub(crate) fn is_clients(name: &str) -> bool {
    name.starts_with(attribute::USER_PREFIX) || KEPT.iter().any(|(_, kept)| *kept == name)
}

/// Text as a header can carry it: as it is, or as an encoded word of RFC 2047, as AWS does.
fn encoded(text: &str) -> Option<HeaderValue> {
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return HeaderValue::from_str(text).ok();
    }
    // An encoded word has at most 75 characters; 45 bytes make 60 of base64.
    let mut words = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut cut = rest.len().min(45);
        while !rest.is_char_boundary(cut) {
            cut -= 1;
        }
        let (word, next) = rest.split_at(cut);
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str("=?UTF-8?B?");
        words.push_str(&BASE64.encode(word));
        words.push_str("?=");
        rest = next;
    }
    HeaderValue::from_str(&words).ok()
}

/// Shows attributes as the headers of a GET or HEAD.
pub(crate) fn from_attributes(attributes: &Attributes, headers: &mut HeaderMap) {
    let mut typed = false;
    for (name, value) in attributes.iter() {
        if let Some(short) = name.strip_prefix(attribute::USER_PREFIX) {
            let mut header = String::with_capacity(USER_METADATA.len() + short.len());
            header.push_str(USER_METADATA);
            header.push_str(short);
            if let (Ok(name), Some(value)) = (HeaderName::try_from(header), encoded(value)) {
                headers.insert(name, value);
            }
        } else if let Some((header, _)) = KEPT.iter().find(|(_, kept)| *kept == name) {
            if let Some(value) = encoded(value) {
                typed |= *header == "content-type";
                headers.insert(HeaderName::from_static(header), value);
            }
        } else if name == attribute::STORAGE_CLASS {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static("x-amz-storage-class"), value);
            }
        } else if name == attribute::LOCK_MODE || name == attribute::LOCK_HOLD {
            lock::to_headers(attributes, headers);
        } else if name == SEQUENCE_ATTRIBUTE {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static("x-sluice-seq"), value);
            }
        } else if name == attribute::TAGS && !value.is_empty() {
            headers.insert(HeaderName::from_static("x-amz-tagging-count"), HeaderValue::from(value.split('&').count()));
        }
    }
    if !typed {
        headers.insert(http::header::CONTENT_TYPE, DEFAULT_CONTENT_TYPE);
    }
}

/// Replaces headers as the `response-*` parameters ask.
///
/// # Errors
/// `InvalidArgument` for a value that cannot be a header.
pub(crate) fn override_response(query: &Query, headers: &mut HeaderMap) -> Result<()> {
    if query.is_empty() {
        return Ok(());
    }
    for replaced in overridden(query) {
        let (header, _, value) = replaced?;
        headers.insert(HeaderName::from_static(header), value);
    }
    Ok(())
}

/// The headers that the `response-*` parameters of a query replace, and with what; `InvalidArgument` for what cannot be a header.
pub(crate) fn overridden(query: &Query) -> impl Iterator<Item = Result<(&'static str, &str, HeaderValue)>> {
    OVERRIDES.into_iter().filter_map(|(parameter, header)| {
        let text = query.filled(parameter)?;
        // Bytes above 127 go out as they came in.
        let value = HeaderValue::from_bytes(text.as_bytes())
            .map_err(|_| Failure::argument(parameter, text, "The value cannot be a header."));
        Some(value.map(|value| (header, text, value)))
    })
}

/// Whether a query asks for any `response-*` override.
pub(crate) fn overrides(query: &Query) -> bool {
    OVERRIDES.iter().any(|(parameter, _)| query.has(parameter))
}

/// The source of a copy: bucket, key and, if one is named, version.
///
/// # Errors
/// `InvalidArgument` when it names no object.
pub(crate) fn copy_source(headers: &HeaderMap) -> Result<(String, String, Option<String>)> {
    let name = "x-amz-copy-source";
    let bad = |value: &str| Failure::argument(name, value, "Invalid copy source object key");
    let text = text(headers, name)?.ok_or_else(|| bad(""))?;
    let (path, version) = match text.split_once("?versionId=") {
        Some((path, version)) => (path, Some(version.to_owned())),
        None => (text, None),
    };
    let path = percent_decode_str(path).decode_utf8().map_err(|_| bad(text))?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    match path.split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok((bucket.to_owned(), key.to_owned(), version)),
        _ => Err(Failure::argument(name, text, "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")),
    }
}

/// The offset of an append.
const WRITE_OFFSET: &str = "x-amz-write-offset-bytes";

/// At which offset a PutObject appends; `None` for one that does not.
///
/// # Errors
/// `InvalidArgument`; those of [`encryption::check`].
pub(crate) fn write_offset(headers: &HeaderMap) -> Result<Option<u64>> {
    encryption::check(headers)?;
    let Some(text) = text(headers, WRITE_OFFSET)? else { return Ok(None) };
    let bad = || Failure::argument(WRITE_OFFSET, text, "The write offset is not valid.");
    text.trim().parse().map(Some).map_err(|_| bad())
}

/// Refuses headers that ask for what Sluice does not do: to ignore them would be to lie.
///
/// # Errors
/// `NotImplemented`; before it those of [`encryption::check`].
pub(crate) fn refuse_unkept(headers: &HeaderMap) -> Result<()> {
    encryption::check(headers)?;
    if headers.contains_key(WRITE_OFFSET) {
        return Err(Failure::not_implemented("Only PutObject appends.").field("Header", WRITE_OFFSET));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_bytes(v.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn a_header_is_found_among_few_and_among_many() {
        let names: Vec<HeaderName> =
            (0..2 * FEW_HEADERS).map(|n| HeaderName::try_from(format!("x-amz-meta-{n}")).unwrap()).collect();
        for many in [1, FEW_HEADERS - 3, FEW_HEADERS, 2 * FEW_HEADERS] {
            let mut sent = headers(&[("x-amz-acl", "first"), ("content-type", "text/plain")]);
            sent.append("x-amz-acl", HeaderValue::from_static("second"));
            sent.extend(names[..many].iter().map(|name| (name.clone(), HeaderValue::from_static("v"))));
            assert_eq!(first(&sent, "x-amz-acl").unwrap(), "first", "{many}");
            assert_eq!(first(&sent, "content-type").unwrap(), "text/plain", "{many}");
            assert_eq!(first(&sent, "x-amz-ac"), None, "{many}");
        }
    }

    #[test]
    fn headers_come_back_as_they_went_in() {
        let sent = headers(&[
            ("content-type", "text/plain"),
            ("content-encoding", "gzip, aws-chunked"),
            ("expires", "Thu, 01 Dec 1994 16:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-b", "grüße"),
            ("x-amz-meta-c", ""),
            ("x-amz-meta-d", "=?UTF-8?B?Z3I=?="),
        ]);
        let attributes = to_attributes(&sent).unwrap();
        let mut shown = HeaderMap::new();
        from_attributes(&attributes, &mut shown);
        assert_eq!(shown["content-encoding"], "gzip");
        assert_eq!(shown["expires"], "Thu, 01 Dec 1994 16:00:00 GMT");
        assert_eq!(shown["x-amz-storage-class"], "REDUCED_REDUNDANCY");
        assert_eq!(shown["x-amz-meta-b"], "=?UTF-8?B?Z3LDvMOfZQ==?=");
        assert_eq!((&shown["x-amz-meta-c"], &shown["x-amz-meta-d"]), (&HeaderValue::from_static(""), &sent["x-amz-meta-d"]));
        assert_eq!(shown["content-type"], "text/plain");
    }

    #[test]
    fn aws_chunked_is_never_stored() {
        assert_eq!(to_attributes(&headers(&[("content-encoding", "aws-chunked")])).unwrap().get("content-encoding"), None);
        assert_eq!(without_aws_chunked("aws-chunked, gzip, AWS-chunked"), "gzip");
        assert_eq!(without_aws_chunked("deflate, gzip"), "deflate, gzip");
    }

    #[test]
    fn an_object_without_a_type_is_binary() {
        let mut shown = HeaderMap::new();
        from_attributes(&Attributes::new(), &mut shown);
        assert_eq!(shown["content-type"], "binary/octet-stream");
    }

    #[test]
    fn metadata_has_a_limit() {
        let just = "x".repeat(2047);
        assert!(to_attributes(&headers(&[("x-amz-meta-a", &just)])).is_ok());
        let over = "x".repeat(2048);
        assert_eq!(to_attributes(&headers(&[("x-amz-meta-a", &over)])).unwrap_err().code(), Code::MetadataTooLarge);
    }

    #[test]
    fn long_values_make_several_words() {
        let value = encoded(&"é".repeat(50)).unwrap();
        let words: Vec<_> = value.to_str().unwrap().split(' ').map(str::to_owned).collect();
        assert!(words.len() > 1 && words.iter().all(|w| w.len() <= 75));
    }

    #[test]
    fn copy_sources_are_taken_apart() {
        let source = |v| copy_source(&headers(&[("x-amz-copy-source", v)]));
        assert_eq!(source("/b/a%20b%3Fc").unwrap(), ("b".into(), "a b?c".into(), None));
        assert_eq!(source("b/k?versionId=null").unwrap(), ("b".into(), "k".into(), Some("null".into())));
        assert_eq!(source("b//k").unwrap().1, "/k");
        assert!(source("b").is_err() && source("/b/").is_err() && source("%ff/k").is_err());
    }

    #[test]
    fn storage_classes_are_known_or_refused() {
        assert_eq!(to_attributes(&headers(&[("x-amz-storage-class", "STANDARD")])).unwrap().len(), 0);
        assert_eq!(to_attributes(&headers(&[("x-amz-storage-class", "X")])).unwrap_err().code(), Code::InvalidStorageClass);
    }
}
