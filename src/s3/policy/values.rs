//! What the condition keys of a request hold
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/amazon-s3-policy-keys.html>).

use std::time::SystemTime;

use http::HeaderMap;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::decide::About;
use crate::namespaces::Namespace;
use crate::s3::headers::copy_source;
use crate::s3::operation::Op;
use crate::s3::tagging::{self, Tags};

/// `X-Amz-Date`
const AMZ_DATE: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// The values of one key; none when the request has no such key.
pub(super) fn values(about: &About<'_>, namespace: &Namespace, existing: &Tags, now: SystemTime, key: &str) -> Vec<String> {
    let About { op, headers, query, .. } = *about;
    if let Some(tag) = key.strip_prefix("s3:existingobjecttag/") {
        return of_tag(existing, tag);
    }
    if let Some(tag) = key.strip_prefix("s3:requestobjecttag/") {
        return of_tag(&request_tags(about), tag);
    }
    let queried = |name| query.get(name).map(str::to_owned).into_iter().collect();
    match key {
        "aws:resourceaccount" | "s3:resourceaccount" => vec![namespace.bucket.owner.clone()],
        "s3:prefix" => about.prefix.map_or_else(|| queried("prefix"), |prefix| vec![prefix.to_owned()]),
        "s3:delimiter" => queried("delimiter"),
        "s3:max-keys" => queried("max-keys"),
        "s3:versionid" => queried("versionId"),
        "s3:requestobjecttagkeys" => request_tags(about).into_iter().map(|(name, _)| name).collect(),
        "s3:objectcreationoperation" => match op {
            Op::PutObject | Op::CopyObject | Op::CompleteMultipartUpload => vec!["true".to_owned()],
            Op::CreateMultipartUpload | Op::UploadPart | Op::UploadPartCopy => vec!["false".to_owned()],
            _ => vec![],
        },
        // Policies write the source with the slash or without; the request may have either, and encoded.
        "s3:x-amz-copy-source" => copy_source(headers)
            .map(|(bucket, key, _)| vec![format!("{bucket}/{key}"), format!("/{bucket}/{key}")])
            .unwrap_or_default(),
        key => values_of_request(about, now, key),
    }
}

/// As [`values`], of what head and connection tell whatever the request is about.
pub(crate) fn values_of_request(about: &About<'_>, now: SystemTime, key: &str) -> Vec<String> {
    let About { headers, peer, .. } = *about;
    match key {
        "aws:currenttime" => OffsetDateTime::from(now).format(&Rfc3339).into_iter().collect(),
        "aws:epochtime" => vec![OffsetDateTime::from(now).unix_timestamp().to_string()],
        "aws:referer" => header(headers, "referer"),
        "aws:useragent" => header(headers, "user-agent"),
        "aws:sourceip" => peer.map(|peer| peer.address.to_canonical().to_string()).into_iter().collect(),
        "aws:securetransport" => vec![peer.is_some_and(|peer| peer.secure).to_string()],
        "aws:viaawsservice" | "aws:principalisawsservice" => vec!["false".to_owned()],
        "s3:if-match" | "s3:if-none-match" => header(headers, &key["s3:".len()..]),
        "s3:authtype" => auth_type(about).into_iter().map(str::to_owned).collect(),
        "s3:signatureversion" => signature_version(about).into_iter().map(str::to_owned).collect(),
        "s3:signatureage" => signature_age(about, now).map(|age| age.to_string()).into_iter().collect(),
        key => match key.strip_prefix("s3:") {
            Some(name) if name.starts_with("x-amz-") => header(headers, name),
            Some(name) if name.starts_with("object-lock-") => header(headers, &format!("x-amz-{name}")),
            _ => vec![],
        },
    }
}

fn header(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).into_iter().collect()
}

/// The values of a tag. Condition keys know no case, so that there may be several.
fn of_tag(tags: &Tags, name: &str) -> Vec<String> {
    tags.iter().filter(|(tag, _)| tag.to_ascii_lowercase() == name).map(|(_, value)| value.clone()).collect()
}

fn request_tags(about: &About<'_>) -> Tags {
    match about.tags {
        Some(tags) => tags.clone(),
        None => {
            let text = about.headers.get("x-amz-tagging").and_then(|v| std::str::from_utf8(v.as_bytes()).ok());
            // What is no set of tags is refused by the operation.
            text.and_then(|text| tagging::from_header(text).ok()).unwrap_or_default()
        }
    }
}

fn auth_type(about: &About<'_>) -> Option<&'static str> {
    if about.form {
        Some("POST")
    } else if about.headers.contains_key(http::header::AUTHORIZATION) {
        Some("REST-HEADER")
    } else if about.query.has("X-Amz-Signature") || about.query.has("Signature") {
        Some("REST-QUERY-STRING")
    } else {
        None
    }
}

fn signature_version(about: &About<'_>) -> Option<&'static str> {
    let header = about.headers.get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    if about.query.has("Signature") || header.is_some_and(|v| v.starts_with(b"AWS ")) {
        Some("AWS")
    } else {
        auth_type(about).map(|_| "AWS4-HMAC-SHA256")
    }
}

/// How long ago a request was signed, in milliseconds.
fn signature_age(about: &About<'_>, now: SystemTime) -> Option<i128> {
    // Version 2 does not sign the date in a query.
    signature_version(about).filter(|version| *version != "AWS")?;
    let date = about.query.get("X-Amz-Date").or_else(|| about.headers.get("x-amz-date").and_then(|v| v.to_str().ok()))?;
    let signed = PrimitiveDateTime::parse(date, AMZ_DATE).ok()?.assume_utc();
    Some((OffsetDateTime::from(now) - signed).whole_milliseconds())
}
