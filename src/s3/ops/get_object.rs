//! GetObject and HeadObject.

use futures::TryStreamExt;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, LAST_MODIFIED};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use s3s::Body;
use sluice_provider::PartNumber;

use crate::namespaces::Namespace;
use crate::objects::{Found, OpenBody, ReadRequest};
use crate::s3::call::{Answer, Call, set_etag, set_version};
use crate::s3::error::{Code, Failure, Result};
use crate::s3::file_body::FileBody;
use crate::s3::{checksums, conditions, dates, encryption, headers, lifecycle, parts, range, redirect};
use crate::transfer::Algorithm;

pub(crate) async fn get(call: &mut Call) -> Answer {
    let read = ReadRequest { pieces: call.sends_files, ..read(call)? };
    let namespace = call.namespace()?;
    if call.parts.objects.makes_links(&namespace, &call.key)?
        && let Some(response) = Box::pin(elsewhere(call, &namespace, &read)).await?
    {
        return Ok(response);
    }
    let opened = match call.parts.objects.get(&namespace, &call.key, &read).await {
        Ok(opened) => opened,
        Err(error) => return Err(call.unread(&namespace, &call.key, told(call, error.into())).await),
    };
    call.check_read(&namespace, &opened.found.info.attributes)?;
    let mut response = respond(call, &read, &opened.found)?;
    lifecycle::tell_expiry(&namespace, &opened.found.info, response.headers_mut());
    *response.body_mut() = match opened.body {
        OpenBody::Full(bytes) => Body::from(bytes),
        OpenBody::Pieces(pieces) => {
            let bytes = opened.found.range.as_ref().map_or(opened.found.info.size, |range| range.end - range.start);
            response.extensions_mut().insert(FileBody::new(pieces, bytes));
            Body::empty()
        }
        // An error in here breaks the connection, which is the only way left to say that the rest is missing.
        OpenBody::Stream(stream) => Body::http_body_unsync(StreamBody::new(stream.map_ok(Frame::data))),
    };
    Ok(response)
}

/// Where the bytes are, for a reader who can be sent there.
async fn elsewhere(call: &Call, namespace: &Namespace, read: &ReadRequest) -> Result<Option<Response<Body>>> {
    let Some(wish) = redirect::wish(call) else { return Ok(None) };
    let (info, link) = match call.parts.objects.link(namespace, &call.key, read, &wish).await {
        Ok(Some(linked)) => linked,
        Ok(None) => return Ok(None),
        Err(error) => return Err(call.unread(namespace, &call.key, told(call, error.into())).await),
    };
    call.check_read(namespace, &info.attributes)?;
    redirect::to(&link).map(Some)
}

pub(crate) async fn head(call: &mut Call) -> Answer {
    let read = read(call)?;
    let namespace = call.namespace()?;
    let found = match call.parts.objects.head(&namespace, &call.key, &read).await {
        Ok(found) => found,
        Err(error) => return Err(call.unread(&namespace, &call.key, told(call, error.into())).await),
    };
    call.check_read(&namespace, &found.info.attributes)?;
    call.parts.objects.check_key(&namespace, &found.info, read.customer_key.as_ref()).await?;
    let mut response = respond(call, &read, &found)?;
    lifecycle::tell_expiry(&namespace, &found.info, response.headers_mut());
    Ok(response)
}

fn read(call: &Call) -> Result<ReadRequest> {
    let version = call.version()?;
    encryption::refuse_on_read(&call.headers)?;
    let customer_key = encryption::customer_key(&call.headers)?;
    let conditions = conditions::read(&call.headers)?;
    let mut read = ReadRequest { version, conditions, customer_key, ..ReadRequest::default() };
    if let Some(text) = call.header("range")? {
        read.range = range::parse(text);
        if read.range.is_some() {
            read.if_range = conditions::if_range(&call.headers)?;
        }
    }
    if let Some(text) = call.query.get("partNumber") {
        let number = text.parse().ok().and_then(PartNumber::new).ok_or_else(|| {
            Failure::argument("partNumber", text, "Part number must be an integer between 1 and 10000, inclusive")
        })?;
        if call.headers.contains_key(http::header::RANGE) {
            return Err(Failure::request("Cannot specify both Range header and partNumber query parameter"));
        }
        read.part = Some(number);
    }
    Ok(read)
}

/// Adds what a failed read says.
fn told(call: &Call, failure: Failure) -> Failure {
    match (failure.code(), call.headers.get(http::header::RANGE).and_then(|v| v.to_str().ok())) {
        (Code::InvalidRange, Some(range)) => failure.field("RangeRequested", range),
        _ => failure,
    }
}

fn respond(call: &Call, read: &ReadRequest, found: &Found) -> Answer {
    let info = &found.info;
    let mut response = Response::new(Body::empty());
    let shown = response.headers_mut();
    shown.reserve(12 + info.attributes.len());
    shown.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(value) = dates::http_header(info.modified) {
        shown.insert(LAST_MODIFIED, value);
    }
    set_etag(shown, info.etag.as_str());
    headers::from_attributes(&info.attributes, shown);
    encryption::to_headers(&info.attributes, read.customer_key.as_ref(), shown)?;
    set_version(shown, &*call.namespace()?, &info.attributes);
    let length = match &found.range {
        Some(range) => {
            let value = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), info.size);
            if let Ok(value) = HeaderValue::try_from(value) {
                shown.insert(CONTENT_RANGE, value);
            }
            range.end - range.start
        }
        None => info.size,
    };
    shown.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let (Some(_), Some(count)) = (read.part, found.parts) {
        shown.insert("x-amz-mp-parts-count", HeaderValue::from(count));
    }
    if checksums::are_asked_for(&call.headers) {
        match (&read.part, &found.range) {
            (Some(number), Some(_)) => part_checksums(info, number.get(), shown),
            // The checksum of the whole says nothing of a range, and clients would check it.
            (None, Some(_)) => {}
            (_, None) => checksums::to_headers(&info.attributes, shown),
        }
    }
    headers::override_response(&call.query, shown)?;
    if found.range.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn part_checksums(info: &sluice_provider::ObjectInfo, number: u16, shown: &mut HeaderMap) {
    let parts = parts::of(&info.attributes).unwrap_or_default();
    let Some(part) = parts.into_iter().find(|p| p.number == number) else { return };
    for (algorithm, value) in part.checksums {
        if let Ok(value) = HeaderValue::try_from(value) {
            shown.insert(Algorithm::header(algorithm), value);
            shown.insert("x-amz-checksum-type", HeaderValue::from_static(checksums::type_of(&info.attributes).name()));
        }
    }
}
