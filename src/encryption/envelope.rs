//! What is stored beside an encrypted object: how its data key is wrapped. Nothing in here is a secret.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sluice_provider::Attributes;

use crate::error::{Error, ErrorKind, Result};

/// The attribute that holds the envelope of an encrypted object.
pub const ENVELOPE_ATTRIBUTE: &str = "sse";
/// The attribute with which the data key of an upload vouches for the list of its parts.
pub(super) const LAYOUT_ATTRIBUTE: &str = "sse.layout";
/// The attribute of an upload in progress that holds the key that will vouch, sealed by the master key.
pub(super) const SESSION_ATTRIBUTE: &str = "sse.session";

/// All attributes of this room: they belong to one object, and no copy has them.
pub const ATTRIBUTES: [&str; 3] = [ENVELOPE_ATTRIBUTE, LAYOUT_ATTRIBUTE, SESSION_ATTRIBUTE];

/// Whose key wraps the data key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// The customer's, which comes with each request (SSE-C).
    #[serde(rename = "C")]
    Customer,
    /// The gateway's master key (SSE-S3).
    #[serde(rename = "S3")]
    Gateway,
    /// A key of a key management service (SSE-KMS).
    #[serde(rename = "KMS")]
    Kms,
}

/// How the data key is wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// The layout of all this.
    #[serde(rename = "v")]
    pub(super) version: u8,
    #[serde(rename = "m")]
    pub(super) method: Method,
    /// The data key, wrapped.
    #[serde(rename = "w")]
    pub(super) wrapped: Base64,
    /// Of an upload: the key that vouches for the list of parts, wrapped by the data key. An object without is one stream.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub(super) voucher: Option<Base64>,
    /// The name of the key that wraps, as the client gave it.
    #[serde(rename = "k", default, skip_serializing_if = "String::is_empty")]
    pub(super) key: String,
    /// The client's encryption context.
    #[serde(rename = "c", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) context: BTreeMap<String, String>,
    /// A key that a service wrapped, and that wraps the data key in turn.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) outer: Option<Base64>,
    /// Whether that one is shared by objects of the bucket (S3 Bucket Keys).
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) bucket_key: bool,
}

/// The present layout.
pub(super) const VERSION: u8 = 1;

/// What an answer tells of an object's encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// How.
    pub method: Method,
    /// With [`Method::Kms`]: the name of the key.
    pub key: String,
    /// With [`Method::Kms`]: whether a bucket key is used.
    pub bucket_key: bool,
}

/// Whether an object with these attributes is encrypted.
#[must_use]
pub fn is_encrypted(attributes: &Attributes) -> bool {
    attributes.get(ENVELOPE_ATTRIBUTE).is_some()
}

/// How an object with these attributes is encrypted; `None` when it is not.
///
/// # Errors
/// `Internal` for an envelope that makes no sense.
pub fn shown(attributes: &Attributes) -> Result<Option<Shown>> {
    let Some(text) = attributes.get(ENVELOPE_ATTRIBUTE) else { return Ok(None) };
    let Envelope { method, key, bucket_key, .. } = Envelope::parse(text)?;
    Ok(Some(Shown { method, key, bucket_key }))
}

impl Envelope {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let broken = || Error::new(ErrorKind::Internal, "read the envelope of an encrypted object");
        let envelope: Self = serde_json::from_str(text).map_err(|e| broken().caused_by(e))?;
        if envelope.version == VERSION { Ok(envelope) } else { Err(broken().with("version", envelope.version)) }
    }

    pub(super) fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::new(ErrorKind::Internal, "write an envelope").caused_by(e))
    }
}

/// Bytes, in base64 where they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Base64(pub(super) Vec<u8>);

impl TryFrom<String> for Base64 {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        BASE64.decode(text).map(Self)
    }
}

impl From<Base64> for String {
    fn from(bytes: Base64) -> Self {
        BASE64.encode(bytes.0)
    }
}
