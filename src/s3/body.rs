//! Bodies on their way in: what the client declared about them, and what their stream's errors mean.
//!
//! The framework decodes aws-chunked bodies and checks signatures and the signed SHA-256; everything else that was declared is
//! verified by [`crate::transfer`]. Nothing that is still framed is ever stored, and nothing that was cut off.

use std::error::Error as StdError;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::HeaderMap;
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{BodySizeLimitExceeded, TrailingHeaders};
use sluice_provider::{self as provider, BodyFault, ByteStream, PutBody};

use super::error::{Code, Failure, Result};
use super::headers::{first, text};
use super::terminal::Unterminated;
use crate::transfer::{Algorithm, Declared, TrailerSource, verify};

/// What a stream error of the framework means.
fn fault(error: &(dyn StdError + 'static)) -> provider::ErrorKind {
    use provider::ErrorKind::{Body, Internal};
    let mut cause = Some(error);
    while let Some(e) = cause {
        if e.is::<Unterminated>() {
            return Body(BodyFault::Incomplete);
        }
        if e.is::<BodySizeLimitExceeded>() {
            return Body(BodyFault::TooLarge);
        }
        if e.is::<hyper::Error>() {
            // The connection ended or broke the framing in mid-body.
            return Body(BodyFault::Incomplete);
        }
        if e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::TimedOut) {
            return Body(BodyFault::TimedOut);
        }
        match e.downcast_ref::<UploadStreamError>() {
            Some(UploadStreamError::Sha256Mismatch) => return Body(BodyFault::Sha256Mismatch),
            Some(UploadStreamError::LengthMismatch) => return Body(BodyFault::TooLong),
            Some(UploadStreamError::Incomplete) => return Body(BodyFault::Incomplete),
            Some(UploadStreamError::Underlying(_)) | None => {}
        }
        match e.downcast_ref::<AwsChunkedStreamError>() {
            Some(AwsChunkedStreamError::SignatureMismatch) => return Body(BodyFault::Signature),
            Some(AwsChunkedStreamError::LengthMismatch) => return Body(BodyFault::TooLong),
            Some(AwsChunkedStreamError::FormatError | AwsChunkedStreamError::Incomplete) => return Body(BodyFault::Incomplete),
            Some(AwsChunkedStreamError::ChunkMetaTooLarge(..) | AwsChunkedStreamError::ChunkDataTooLarge(..)) => {
                return Body(BodyFault::TooLarge);
            }
            Some(AwsChunkedStreamError::TrailersTooLarge(..) | AwsChunkedStreamError::TooManyTrailerHeaders(..)) => {
                return Body(BodyFault::Trailer);
            }
            Some(AwsChunkedStreamError::Underlying(_)) | None => {}
        }
        cause = e.source();
    }
    Internal
}

/// The framework's stream with the contract's errors.
fn stream<S>(body: S) -> ByteStream
where
    S: futures::Stream<Item = Result<Bytes, s3s::StdError>> + Send + 'static,
{
    body.map_err(|e| provider::Error::new(fault(e.as_ref()), "request body").caused_by(e)).boxed()
}

/// The checksum headers of a request: at most one, with its raw value.
///
/// # Errors
/// `InvalidRequest` when there are several, `BadDigest` for one that cannot be.
pub(crate) fn checksum_header(headers: &HeaderMap) -> Result<Option<(Algorithm, Vec<u8>)>> {
    let mut found = None;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix("x-amz-checksum-") else { continue };
        if matches!(short, "mode" | "type" | "algorithm") {
            continue;
        }
        let Some(algorithm) = Algorithm::from_header(name.as_str()) else {
            return Err(Failure::not_implemented(format!("The checksum of the header {name} is not implemented.")));
        };
        if found.is_some() || headers.get_all(name).iter().count() > 1 {
            return Err(Failure::request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."));
        }
        let value = text(headers, algorithm.header())?.unwrap_or_default();
        found = Some((algorithm, raw(algorithm, value)?));
    }
    Ok(found)
}

/// The raw value of a checksum in base64.
///
/// # Errors
/// `BadDigest` when it is none: no body can have it.
pub(crate) fn raw(algorithm: Algorithm, base64: &str) -> Result<Vec<u8>> {
    match BASE64.decode(base64.trim()) {
        Ok(bytes) if bytes.len() == algorithm.bytes() => Ok(bytes),
        _ => Err(Failure::because(Code::BadDigest, format!("Value for {} header is invalid.", algorithm.header()))),
    }
}

/// Content-MD5, raw.
///
/// # Errors
/// `InvalidDigest`.
fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>> {
    let Some(value) = first(headers, "content-md5") else { return Ok(None) };
    let raw = BASE64.decode(value.as_bytes().trim_ascii()).ok().and_then(|b| <[u8; 16]>::try_from(b).ok());
    raw.map(Some).ok_or_else(|| Code::InvalidDigest.into())
}

/// The checksum that a trailer will give.
///
/// # Errors
/// `InvalidRequest` for a trailer that is no checksum.
fn trailer_header(headers: &HeaderMap) -> Result<Option<Algorithm>> {
    let Some(names) = text(headers, "x-amz-trailer")? else { return Ok(None) };
    let mut found = None;
    for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        let algorithm = Algorithm::from_header(name)
            .ok_or_else(|| Failure::request("The value specified in the x-amz-trailer header is not supported"))?;
        if found.replace(algorithm).is_some() {
            return Err(Failure::request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."));
        }
    }
    Ok(found)
}

fn trailer_source(trailers: TrailingHeaders) -> TrailerSource {
    Box::new(move |algorithm| {
        let mut value = None;
        trailers.read(|headers| {
            let mut values = headers.get_all(algorithm.header()).iter();
            // Given twice, it is not given.
            if let (Some(one), None) = (values.next(), values.next()) {
                value = one.to_str().ok().map(str::to_owned);
            }
        });
        value
    })
}

/// Refuses a body that is framed as aws-chunked but was not decoded: it would be stored with its framing.
fn refuse_framed(headers: &HeaderMap) -> Result<()> {
    let says_hash = |v: &str| v.len() == 64 && v.bytes().all(|b| b.is_ascii_hexdigit());
    let sha256 = text(headers, "x-amz-content-sha256")?.unwrap_or_default();
    // A client that signed the hash of the body as it is means the body as it is.
    let verbatim = says_hash(sha256);
    let encoding = text(headers, "content-encoding")?.unwrap_or_default();
    let chunked = encoding.split(',').any(|c| c.trim().eq_ignore_ascii_case("aws-chunked"));
    if sha256.starts_with("STREAMING-") || (!verbatim && (chunked || first(headers, "x-amz-decoded-content-length").is_some())) {
        return Err(Failure::request("An aws-chunked body needs a signature that declares it in x-amz-content-sha256."));
    }
    if first(headers, "x-amz-trailer").is_some() {
        return Err(Failure::request("A trailer needs an aws-chunked body."));
    }
    Ok(())
}

fn length(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>> {
    let Some(value) = text(headers, name)? else { return Ok(None) };
    match value.trim().parse::<u64>() {
        Ok(length) => Ok(Some(length)),
        Err(_) => Err(Failure::argument(name, value, format!("The value of {name} is not a length."))),
    }
}

/// Everything that headers declare about a body. `trailers` is there exactly when the framework decoded an aws-chunked body.
///
/// # Errors
/// `MissingContentLength`, `EntityTooLarge`, `InvalidDigest`, `InvalidRequest`.
pub(crate) fn declared(headers: &HeaderMap, trailers: Option<TrailingHeaders>, max_size: u64) -> Result<Declared> {
    let size = if trailers.is_some() {
        length(headers, "x-amz-decoded-content-length")?
    } else {
        refuse_framed(headers)?;
        length(headers, "content-length")?
    };
    let size = size.ok_or(Code::MissingContentLength)?;
    if size > max_size {
        return Err(Failure::new(Code::EntityTooLarge)
            .field("ProposedSize", size.to_string())
            .field("MaxSizeAllowed", max_size.to_string()));
    }
    let mut declared = Declared { size: Some(size), max_size: Some(max_size), md5: content_md5(headers)?, ..Declared::default() };
    let header = checksum_header(headers)?;
    let trailer = trailer_header(headers)?;
    let given = header.as_ref().map(|(a, _)| *a).or(trailer);
    if header.is_some() && trailer.is_some() {
        return Err(Failure::request("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."));
    }
    if let Some(name) = text(headers, "x-amz-sdk-checksum-algorithm")? {
        let wanted = Algorithm::from_name(name);
        match (wanted, given) {
            (Some(wanted), Some(given)) if wanted == given => {}
            (Some(_), None) => {
                return Err(Failure::request(
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
                ));
            }
            _ => return Err(Failure::request("Value for x-amz-sdk-checksum-algorithm header is invalid.")),
        }
    }
    declared.checksums.extend(header);
    if let (Some(algorithm), Some(trailers)) = (trailer, trailers) {
        declared.trailer = Some((algorithm, trailer_source(trailers)));
    }
    Ok(declared)
}

/// What a form declares about its file: its fields, and the length if the framework could tell.
///
/// # Errors
/// `InvalidDigest`, `InvalidRequest`.
pub(crate) fn form(fields: &HeaderMap, size: Option<u64>, max_size: u64) -> Result<Declared> {
    let checksums = checksum_header(fields)?.into_iter().collect();
    Ok(Declared { size, max_size: Some(max_size), md5: content_md5(fields)?, checksums, ..Declared::default() })
}

/// The body to store.
pub(crate) fn put_body(body: s3s::Body, declared: Declared) -> PutBody {
    verify(stream(body), declared)
}

/// The body of a form's file.
pub(crate) fn form_body(file: s3s::dto::StreamingBlob, declared: Declared) -> PutBody {
    verify(stream(file), declared)
}

/// Reads a whole document, verified like any other body.
///
/// # Errors
/// `MaxMessageLengthExceeded` beyond `max` bytes, and those of [`declared`].
pub(crate) async fn document(
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
    body: s3s::Body,
    max: usize,
) -> Result<Vec<u8>> {
    let too_long = |failure: Failure| match failure.code() {
        Code::EntityTooLarge => Code::MaxMessageLengthExceeded.into(),
        _ => failure,
    };
    let mut declared = match declared(headers, trailers, max as u64) {
        Ok(declared) => declared,
        // A chunked request, or one without any body: what comes is what there is.
        Err(f) if f.code() == Code::MissingContentLength => Declared {
            md5: content_md5(headers)?,
            checksums: checksum_header(headers)?.into_iter().collect(),
            ..Declared::default()
        },
        Err(f) => return Err(too_long(f)),
    };
    declared.max_size = Some(max as u64);
    let mut body = put_body(body, declared);
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await.map_err(|e| too_long(e.into()))? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn code(pairs: &[(&'static str, &str)]) -> Code {
        declared(&headers(pairs), None, 100).err().unwrap().code()
    }

    #[test]
    fn a_body_has_a_length() {
        assert_eq!(code(&[]), Code::MissingContentLength);
        assert_eq!(code(&[("content-length", "101")]), Code::EntityTooLarge);
        assert_eq!(declared(&headers(&[("content-length", "100")]), None, 100).unwrap().size, Some(100));
    }

    #[test]
    fn digests_must_be_digests() {
        let length = ("content-length", "1");
        assert_eq!(code(&[length, ("content-md5", "nope")]), Code::InvalidDigest);
        assert_eq!(code(&[length, ("content-md5", "")]), Code::InvalidDigest);
        assert_eq!(code(&[length, ("x-amz-checksum-crc32", "AAAA")]), Code::BadDigest);
        assert_eq!(
            code(&[length, ("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-crc32c", "AAAAAA==")]),
            Code::InvalidRequest
        );
        assert_eq!(code(&[length, ("x-amz-sdk-checksum-algorithm", "CRC32")]), Code::InvalidRequest);
        assert_eq!(code(&[length, ("x-amz-checksum-sha1", "AAAA")]), Code::BadDigest);
        let good = declared(&headers(&[length, ("x-amz-checksum-crc32", "AAAAAQ==")]), None, 9).unwrap();
        assert_eq!(good.checksums, [(Algorithm::Crc32, vec![0, 0, 0, 1])]);
    }

    #[test]
    fn framing_is_never_taken_for_data() {
        let length = ("content-length", "1");
        assert_eq!(code(&[length, ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")]), Code::InvalidRequest);
        assert_eq!(code(&[length, ("content-encoding", "gzip,aws-chunked")]), Code::InvalidRequest);
        assert_eq!(
            code(&[length, ("x-amz-decoded-content-length", "1"), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]),
            Code::InvalidRequest
        );
        let hash = "a".repeat(64);
        assert!(
            declared(&headers(&[length, ("content-encoding", "aws-chunked"), ("x-amz-content-sha256", &hash)]), None, 9).is_ok()
        );
    }

    #[test]
    fn stream_errors_keep_their_meaning_through_wrappers() {
        let wrapped = AwsChunkedStreamError::Underlying(Box::new(Unterminated));
        assert_eq!(fault(&wrapped), provider::ErrorKind::Body(BodyFault::Incomplete));
        assert_eq!(fault(&UploadStreamError::Sha256Mismatch), provider::ErrorKind::Body(BodyFault::Sha256Mismatch));
        let nested = UploadStreamError::Underlying(Box::new(BodySizeLimitExceeded { size: 2, limit: 1 }));
        assert_eq!(fault(&nested), provider::ErrorKind::Body(BodyFault::TooLarge));
        assert_eq!(fault(&AwsChunkedStreamError::SignatureMismatch), provider::ErrorKind::Body(BodyFault::Signature));
    }
}
