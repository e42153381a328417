//! Checksums as answers show them.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use sluice_provider::Attributes;

use super::error::{Failure, Result};
use super::headers::first;
use super::xml::Xml;
use crate::objects::attribute;
use crate::transfer::{Algorithm, ChecksumType};

/// The element of a checksum: `ChecksumCRC32` …
pub(crate) fn element(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Crc32 => "ChecksumCRC32",
        Algorithm::Crc32c => "ChecksumCRC32C",
        Algorithm::Crc64Nvme => "ChecksumCRC64NVME",
        Algorithm::Sha1 => "ChecksumSHA1",
        Algorithm::Sha256 => "ChecksumSHA256",
    }
}

/// The checksums that attributes keep.
pub(crate) fn of(attributes: &Attributes) -> impl Iterator<Item = (Algorithm, &str)> {
    // Most objects of a list page have none: one look tells.
    let any = attributes.with_prefix("checksum.").next().is_some();
    Algorithm::ALL.into_iter().filter(move |_| any).filter_map(|a| Some((a, attributes.get(a.attribute())?)))
}

/// Whether a read asks for the checksums that are kept.
pub(crate) fn are_asked_for(headers: &HeaderMap) -> bool {
    first(headers, "x-amz-checksum-mode").is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"ENABLED"))
}

/// What the checksum of an object covers. A composite value is never passed off as one of the whole object.
pub(crate) fn type_of(attributes: &Attributes) -> ChecksumType {
    let composite = || of(attributes).any(|(_, value)| value.contains('-'));
    match attributes.get(attribute::CHECKSUM_TYPE).and_then(ChecksumType::from_name) {
        Some(kind) => kind,
        None if composite() => ChecksumType::Composite,
        None => ChecksumType::FullObject,
    }
}

/// Shows the checksums of an object as headers.
pub(crate) fn to_headers(attributes: &Attributes, headers: &mut HeaderMap) {
    let mut any = false;
    for (algorithm, value) in of(attributes) {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(algorithm.header()), value);
            any = true;
        }
    }
    if any {
        headers.insert("x-amz-checksum-type", HeaderValue::from_static(type_of(attributes).name()));
    }
}

/// Shows the checksums of an object as elements, the type with them.
pub(crate) fn to_xml(attributes: &Attributes, xml: &mut Xml) {
    let mut any = false;
    for (algorithm, value) in of(attributes) {
        xml.text(element(algorithm), value);
        any = true;
    }
    if any {
        xml.text("ChecksumType", type_of(attributes).name());
    }
}

/// `x-amz-checksum-algorithm`, in the form of a name.
///
/// # Errors
/// `InvalidRequest` for an unknown one.
pub(crate) fn named(name: Option<&str>) -> Result<Option<Algorithm>> {
    match name {
        None => Ok(None),
        Some(name) => match Algorithm::from_name(name) {
            Some(algorithm) => Ok(Some(algorithm)),
            None => Err(Failure::request(
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
            )),
        },
    }
}

/// `x-amz-checksum-type`.
///
/// # Errors
/// `InvalidRequest` for an unknown one.
pub(crate) fn type_named(name: Option<&str>) -> Result<Option<ChecksumType>> {
    match name {
        None => Ok(None),
        Some(name) => match ChecksumType::from_name(name) {
            Some(kind) => Ok(Some(kind)),
            None => Err(Failure::request("Value for x-amz-checksum-type header is invalid.")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_composite_value_is_never_called_full() {
        let attributes: Attributes = [("checksum.crc32", "AAAAAA==-2")].into_iter().collect();
        let mut headers = HeaderMap::new();
        to_headers(&attributes, &mut headers);
        assert_eq!(headers["x-amz-checksum-crc32"], "AAAAAA==-2");
        assert_eq!(headers["x-amz-checksum-type"], "COMPOSITE");
        let full: Attributes = [("checksum.crc32", "AAAAAA=="), ("checksum.type", "FULL_OBJECT")].into_iter().collect();
        assert_eq!(type_of(&full), ChecksumType::FullObject);
    }
}
