//! How attributes lie at the remote: what S3 has a header for as that header, so that others who read the bucket see it; the rest
//! in one piece of user metadata, `sluice`; and what does not fit its 2 KiB in a record beside the objects.
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>)

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::HeaderMap;
use serde::{Deserialize, Serialize};
use sluice_provider::{Attributes, ETag, Error, ErrorKind, Result};

/// What the gateway calls user metadata.
pub(crate) const USER: &str = "meta.";
/// The headers of user metadata.
const META: &str = "x-amz-meta-";
/// The metadata that is the gateway's own.
pub(crate) const OWN: &str = "x-amz-meta-sluice";
/// The attributes that are headers of S3.
pub(crate) const SYSTEM: [&str; 5] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type"];
/// What S3 takes as user metadata, names and values together, less a little.
const MAX_META_BYTES: usize = 2000;

/// What the gateway adds to an object at the remote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Own {
    /// Attributes that no header can carry.
    #[serde(rename = "a", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<String, String>,
    /// The ETag, which need not be the remote's.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    /// When it was last written, in seconds since 1970, if the remote's own time says something else.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(crate) modified: Option<u64>,
    /// The record that holds all attributes, and the ETag.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<String>,
    /// Whether the content type was given: the remote has one in any case.
    #[serde(rename = "t", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) typed: bool,
    /// Another one for each write, so that a record is never taken for that of an equal object.
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub(crate) nonce: String,
}

/// What lies in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The key that it belongs to.
    #[serde(rename = "k")]
    pub(crate) key: String,
    #[serde(rename = "a")]
    pub(crate) attributes: BTreeMap<String, String>,
    #[serde(rename = "e")]
    pub(crate) etag: String,
}

impl Record {
    pub(crate) fn new(key: &str, attributes: &Attributes, etag: &ETag) -> Self {
        let attributes = attributes.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Self { key: key.to_owned(), attributes, etag: etag.as_str().to_owned() }
    }

    pub(crate) fn attributes(&self) -> Attributes {
        self.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()
    }
}

/// Headers of an object that is to be written.
pub(crate) type Headers = Vec<(String, String)>;

/// The headers of an object with these attributes, or `None` when they do not fit.
pub(crate) fn inline(attributes: &Attributes, etag: &ETag) -> Result<Option<Headers>> {
    let mut own = Own { etag: Some(etag.as_str().into()), nonce: nonce()?, ..Own::default() };
    let mut headers = Headers::new();
    for (name, value) in attributes.iter() {
        match header_of(name, value) {
            Some(header) => {
                own.typed |= name == "content-type";
                headers.push((header, value.to_owned()));
            }
            None => drop(own.attributes.insert(name.to_owned(), value.to_owned())),
        }
    }
    headers.push((OWN.into(), encode(&own)?));
    Ok((meta_bytes(&headers) <= MAX_META_BYTES).then_some(headers))
}

/// The headers of an object whose attributes lie in a record. Those that S3 knows are there too, as far as they fit.
pub(crate) fn with_record(attributes: &Attributes, record: &str, modified: Option<u64>) -> Result<Headers> {
    let own = Own { record: Some(record.into()), modified, ..Own::default() };
    let mut headers = vec![(OWN.to_owned(), encode(&own)?)];
    for (name, value) in attributes.iter() {
        let Some(header) = header_of(name, value) else { continue };
        headers.push((header, value.to_owned()));
        if meta_bytes(&headers) > MAX_META_BYTES {
            headers.pop();
        }
    }
    Ok(headers)
}

/// What the headers of an answer say: the attributes (complete unless there is a record), and what is the gateway's own.
pub(crate) fn read(headers: &HeaderMap) -> Result<(Attributes, Option<Own>)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let own = text(OWN).map(decode).transpose()?;
    let mut attributes = Attributes::new();
    for name in SYSTEM {
        let given = name != "content-type" || own.as_ref().is_none_or(|own| own.typed);
        if given && let Some(value) = text(name) {
            attributes.set(name, value);
        }
    }
    for (name, value) in headers {
        if let Some(short) = name.as_str().strip_prefix(META)
            && name.as_str() != OWN
            && let Ok(value) = value.to_str()
        {
            attributes.set(format!("{USER}{short}"), value);
        }
    }
    if let Some(own) = &own {
        attributes.extend(own.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    }
    Ok((attributes, own))
}

/// The header that can carry an attribute as it is.
fn header_of(name: &str, value: &str) -> Option<String> {
    // What a header would trim, fold or refuse goes elsewhere.
    let plain = value.bytes().all(|b| (0x20..0x7f).contains(&b)) && value.trim() == value && !value.contains("  ");
    if !plain || value.is_empty() || value.len() > 1024 {
        return None;
    }
    if SYSTEM.contains(&name) {
        let sound = match name {
            "content-type" => value.split_once('/').is_some_and(|(kind, rest)| is_token(kind) && !rest.is_empty()),
            "content-encoding" => !value.contains("aws-chunked"),
            _ => true,
        };
        return sound.then(|| name.to_owned());
    }
    let short = name.strip_prefix(USER)?;
    let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    // A gateway behind a gateway has this name itself.
    let free = !short.is_empty() && short != "sluice" && short.len() <= 128;
    // A value that looks encoded (RFC 2047) would be decoded by the next one.
    (free && short.bytes().all(sound) && !value.contains("=?")).then(|| format!("{META}{short}"))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn meta_bytes(headers: &Headers) -> usize {
    headers.iter().filter_map(|(name, value)| Some(name.strip_prefix(META)?.len() + value.len())).sum()
}

fn encode(own: &Own) -> Result<String> {
    let json = serde_json::to_vec(own).map_err(|e| Error::new(ErrorKind::Internal, "attributes").caused_by(e))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn decode(text: &str) -> Result<Own> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "metadata of an object at the remote").with("name", OWN);
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|e| corrupt().caused_by(e))?;
    serde_json::from_slice(&json).map_err(|e| corrupt().caused_by(e))
}

fn nonce() -> Result<String> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|e| Error::new(ErrorKind::Internal, "nonce").caused_by(e))?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn came_back(headers: Headers) -> (Attributes, Option<Own>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(http::HeaderName::try_from(name).unwrap(), value.try_into().unwrap());
        }
        // The remote has a type for everything.
        map.entry("content-type").or_insert("binary/octet-stream".parse().unwrap());
        read(&map).unwrap()
    }

    #[test]
    fn attributes_come_back() {
        let etag = ETag::new("tag").unwrap();
        for pairs in [
            vec![],
            vec![("content-type", "text/plain"), ("meta.colour", "blue"), ("tags", "a=b")],
            vec![("content-type", ""), ("cache-control", " x"), ("meta.colour", "größe\n"), ("a", "\0")],
            vec![("content-type", "1"), ("meta.A", "upper"), ("meta.a", "lower"), ("meta.sluice", "mine"), ("meta.", "none")],
            vec![("content-encoding", "aws-chunked"), ("expires", "0"), ("meta.q", "=?utf-8?B?eA==?="), ("meta.two", "a  b")],
        ] {
            let attributes: Attributes = pairs.into_iter().collect();
            let headers = inline(&attributes, &etag).unwrap().unwrap();
            assert!(headers.iter().all(|(n, v)| !n.is_empty() && v.bytes().all(|b| (0x20..0x7f).contains(&b))), "{headers:?}");
            let (read, own) = came_back(headers);
            assert_eq!(read, attributes);
            assert_eq!(own.unwrap().etag.as_deref(), Some("tag"));
        }
    }

    #[test]
    fn what_is_too_much_for_metadata_is_said_so() {
        let etag = ETag::new("tag").unwrap();
        let much: Attributes =
            [("meta.a", "x".repeat(900)), ("meta.b", "y".repeat(900)), ("c", "z".repeat(900))].into_iter().collect();
        assert!(inline(&much, &etag).unwrap().is_none());
        let headers = with_record(&much, "id", Some(7)).unwrap();
        assert!(meta_bytes(&headers) <= MAX_META_BYTES && headers.len() == 3, "{headers:?}");
        let own = came_back(headers).1.unwrap();
        assert_eq!((own.record.as_deref(), own.modified), (Some("id"), Some(7)));
    }

    #[test]
    fn objects_of_others_have_what_the_remote_says() {
        let headers = vec![("content-type".to_owned(), "image/png".to_owned()), ("x-amz-meta-k".to_owned(), "v".to_owned())];
        let (read, own) = came_back(headers);
        assert!(own.is_none());
        assert_eq!(read, [("content-type", "image/png"), ("meta.k", "v")].into_iter().collect());
        let mut garbage = HeaderMap::new();
        garbage.insert(OWN, "%%%".parse().unwrap());
        assert_eq!(*super::read(&garbage).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
