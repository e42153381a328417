//! Data keys: made, wrapped, and had back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use sluice_provider::{Attributes, ObjectInfo, PartNumber, PutBody, SIZE_ATTRIBUTE};

use super::cipher::DataKey;
use super::customer::CustomerKey;
use super::envelope::{Base64, ENVELOPE_ATTRIBUTE, Envelope, LAYOUT_ATTRIBUTE, Method, SESSION_ATTRIBUTE, VERSION};
use super::kms::{Kms, KmsCredential};
use super::layout::Layout;
use super::reader::{Opener, part_purpose};
use super::settings::Settings;
use super::vault::Vault;
use super::writer::{self, Sealing};
use crate::error::{EncryptionFault, Error, ErrorKind, Result};
use crate::tokens::Keyring;

/// The key of those who ask for `aws:kms` and name no key, where none is configured: the gateway's own, as AWS has one of this name for
/// each account. A master key wraps what it protects.
const GATEWAY_KMS_KEY: &str = "aws/s3";

/// What binds the key that vouches for parts to its data key.
const VOUCHER: &[u8] = b"sluice voucher";

/// How something is to be encrypted.
#[derive(Clone, Debug)]
pub enum Wish {
    /// With a key that the customer brings along each time.
    Customer(CustomerKey),
    /// With the gateway's master key.
    Gateway,
    /// With a key of a key management service.
    Kms {
        /// Its name; the configured one when `None`.
        key: Option<String>,
        /// What must be said again to have it opened.
        context: BTreeMap<String, String>,
        /// Whether objects of the bucket share what the service wraps.
        bucket_key: bool,
    },
}

/// Where an object is, as far as its key is bound to it.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key, as the bucket knows it.
    pub key: &'a str,
}

/// Everything that encrypts. Without keys it can still do what customers bring keys for.
#[derive(Debug)]
pub struct Encryption {
    master: Option<Keyring>,
    vault: Vault,
    kms: Option<Kms>,
    default_key: Option<String>,
    customer_keys_need_tls: bool,
}

impl Encryption {
    /// With the gateway's master keys. Reads the keyring: for start-up.
    ///
    /// # Errors
    /// `InvalidArgument` when the configured keyring or key management service is none.
    pub fn new(settings: &Settings, master: Option<Keyring>, credential: Option<KmsCredential>) -> Result<Self> {
        let configured = |text: &String| (!text.is_empty()).then(|| text.clone());
        let vault = Vault::open(configured(&settings.keyring_file).map(PathBuf::from))?;
        let kms = Kms::new(settings, credential)?;
        let default_key = configured(&settings.default_kms_key);
        Ok(Self { master, vault, kms, default_key, customer_keys_need_tls: settings.customer_keys_need_tls })
    }

    /// Without any key of its own: what remains is what customers bring keys for, in one request.
    #[must_use]
    pub fn without_keys() -> Self {
        Self { master: None, vault: Vault::empty(), kms: None, default_key: None, customer_keys_need_tls: false }
    }

    /// Whether customers may bring their keys over TLS alone.
    #[must_use]
    pub fn customer_keys_need_tls(&self) -> bool {
        self.customer_keys_need_tls
    }

    /// A body as it is to be stored at a place.
    ///
    /// # Errors
    /// `Encryption` when the wish cannot be met.
    pub async fn seal(&self, at: At<'_>, wish: &Wish, body: PutBody) -> Result<PutBody> {
        let key = DataKey::random()?;
        let envelope = self.wrap(at, wish, &key).await?;
        let sealing = Sealing {
            segments: key.stream(),
            head: None,
            attributes: vec![(ENVELOPE_ATTRIBUTE, envelope.to_text()?)],
            opaque: envelope.method != Method::Gateway,
        };
        Ok(writer::seal(body, sealing))
    }

    /// Makes an upload an encrypted one: what its session must remember.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub async fn begin_upload(&self, at: At<'_>, wish: &Wish, attributes: &mut Attributes) -> Result<()> {
        let (key, voucher) = (DataKey::random()?, DataKey::random()?);
        let mut envelope = self.wrap(at, wish, &key).await?;
        envelope.voucher = Some(Base64(key.wrap(&voucher, VOUCHER)?.to_vec()));
        // The customer's key need not come again with the end of the upload: the session holds what is needed then, and no longer.
        let session = self.master()?.seal(&session_purpose(at), &voucher.to_hex())?;
        attributes.set(ENVELOPE_ATTRIBUTE, envelope.to_text()?);
        attributes.set(SESSION_ATTRIBUTE, BASE64.encode(session));
        Ok(())
    }

    /// A part of an upload as it is to be stored; unchanged when the upload is not an encrypted one.
    ///
    /// # Errors
    /// `Encryption` when the customer's key is missing, or another one than the upload began with.
    pub async fn seal_part(
        &self,
        at: At<'_>,
        session: &BTreeMap<String, String>,
        number: PartNumber,
        customer: Option<&CustomerKey>,
        body: PutBody,
    ) -> Result<PutBody> {
        let Some(text) = session.get(ENVELOPE_ATTRIBUTE) else {
            return match customer {
                Some(_) => Err(fault(EncryptionFault::UploadNotEncrypted, "encrypt a part")),
                None => Ok(body),
            };
        };
        let envelope = Envelope::parse(text)?;
        if envelope.method == Method::Customer && customer.is_none() {
            return Err(fault(EncryptionFault::UploadKeyNeeded, "encrypt a part"));
        }
        let outer = self.unwrap(at, &envelope, customer).await.map_err(|error| match error.kind() {
            ErrorKind::Encryption(EncryptionFault::OtherKey) => fault(EncryptionFault::UploadOtherKey, "encrypt a part"),
            _ => error,
        })?;
        let key = DataKey::random()?;
        let head = outer.wrap(&key, &part_purpose(number.get()))?;
        let sealing = Sealing {
            segments: key.stream(),
            head: Some(Bytes::copy_from_slice(&head)),
            attributes: Vec::new(),
            opaque: envelope.method != Method::Gateway,
        };
        Ok(writer::seal(body, sealing))
    }

    /// Turns what the session of an encrypted upload remembers into what is stored beside the object: number and size of content of
    /// each part. Changes nothing of an upload that is not encrypted.
    ///
    /// # Errors
    /// `Internal` when the session cannot be opened: its master key is gone.
    pub async fn finish_upload(&self, at: At<'_>, attributes: &mut Attributes, parts: &[(u16, u64)]) -> Result<()> {
        let Some(session) = attributes.get(SESSION_ATTRIBUTE).map(str::to_owned) else { return Ok(()) };
        let broken = || Error::new(ErrorKind::Internal, "read the session of an encrypted upload");
        let session = BASE64.decode(session).map_err(|e| broken().caused_by(e))?;
        let voucher = self.master()?.open(&session_purpose(at), &session).await?;
        let voucher = DataKey::from_hex(voucher.expose()).ok_or_else(broken)?;
        attributes.remove(SESSION_ATTRIBUTE);
        let size: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
        attributes.set(SIZE_ATTRIBUTE, size.to_string());
        attributes.set(LAYOUT_ATTRIBUTE, writer::text(&voucher.vouch(list(parts).as_bytes())?));
        Ok(())
    }

    /// The key to an object; `None` when it is not encrypted. `parts` are the parts that it remembers, number and size.
    ///
    /// # Errors
    /// `Encryption` when the customer's key is missing, is another one, or there is no use for it; the provider's Corrupt when what is
    /// stored beside the object is not what was.
    pub async fn open(
        &self,
        at: At<'_>,
        info: &ObjectInfo,
        parts: impl FnOnce() -> Option<Vec<(u16, u64)>> + Send,
        customer: Option<&CustomerKey>,
    ) -> Result<Option<Opener>> {
        let Some(text) = info.attributes.get(ENVELOPE_ATTRIBUTE) else {
            return match customer {
                Some(_) => Err(fault(EncryptionFault::NotApplicable, "read")),
                None => Ok(None),
            };
        };
        let envelope = Envelope::parse(text)?;
        let key = self.unwrap(at, &envelope, customer).await?;
        let layout = match &envelope.voucher {
            None => Layout::Whole(sluice_provider::known_size(info)),
            Some(voucher) => {
                let word = info.attributes.get(LAYOUT_ATTRIBUTE).and_then(|word| BASE64.decode(word).ok()).unwrap_or_default();
                let parts = parts().unwrap_or_default();
                let voucher = key.unwrap(&voucher.0, VOUCHER);
                if !voucher.is_some_and(|voucher| voucher.vouched(list(&parts).as_bytes(), &word)) {
                    return Err(corrupt("the list of parts").into());
                }
                Layout::Parts(parts)
            }
        };
        if layout.stored_bytes() != info.size || layout.bytes() != sluice_provider::known_size(info) {
            return Err(corrupt("the size").with("stored", info.size).with("content", layout.bytes()).into());
        }
        Ok(Some(Opener { key, layout }))
    }

    /// Whether somebody with this key may be told of an object: what a read would refuse is refused.
    ///
    /// # Errors
    /// As [`open`](Self::open), for the customer's key.
    pub async fn check(&self, at: At<'_>, attributes: &Attributes, customer: Option<&CustomerKey>) -> Result<()> {
        let Some(text) = attributes.get(ENVELOPE_ATTRIBUTE) else {
            return match customer {
                Some(_) => Err(fault(EncryptionFault::NotApplicable, "look at")),
                None => Ok(()),
            };
        };
        let envelope = Envelope::parse(text)?;
        match (envelope.method, customer) {
            // Boxed, so that what is not encrypted does not carry it around.
            (Method::Customer, _) | (_, Some(_)) => Box::pin(self.unwrap(at, &envelope, customer)).await.map(drop),
            _ => Ok(()),
        }
    }

    async fn wrap(&self, at: At<'_>, wish: &Wish, key: &DataKey) -> Result<Envelope> {
        let mut envelope = Envelope {
            version: VERSION,
            method: Method::Gateway,
            wrapped: Base64(Vec::new()),
            voucher: None,
            key: String::new(),
            context: BTreeMap::new(),
            outer: None,
            bucket_key: false,
        };
        envelope.wrapped.0 = match wish {
            Wish::Customer(customer) => {
                envelope.method = Method::Customer;
                customer.key.wrap(key, purpose(at, &envelope)?.as_bytes())?.to_vec()
            }
            Wish::Gateway => self.master()?.seal(&purpose(at, &envelope)?, &key.to_hex())?,
            Wish::Kms { key: name, context, bucket_key } => {
                envelope.method = Method::Kms;
                envelope.context.clone_from(context);
                envelope.bucket_key = *bucket_key;
                let purpose = purpose(at, &envelope)?;
                let Some(name) = name.as_ref().or(self.default_key.as_ref()) else {
                    if self.kms.is_some() {
                        return Err(fault(EncryptionFault::NoDefaultKey, "choose a key"));
                    }
                    envelope.key = GATEWAY_KMS_KEY.to_owned();
                    envelope.wrapped.0 = self.master()?.seal(&purpose, &key.to_hex())?;
                    return Ok(envelope);
                };
                match &self.kms {
                    Some(kms) if !self.vault.has(name).await => {
                        let made = kms.make(name, at, context, *bucket_key).await?;
                        envelope.outer = Some(made.sealed);
                        envelope.key = made.name;
                        made.key.wrap(key, purpose.as_bytes())?.to_vec()
                    }
                    _ => {
                        envelope.key.clone_from(name);
                        self.vault.seal(name, &purpose, &key.to_hex()).await?
                    }
                }
            }
        };
        Ok(envelope)
    }

    async fn unwrap(&self, at: At<'_>, envelope: &Envelope, customer: Option<&CustomerKey>) -> Result<DataKey> {
        let purpose = purpose(at, envelope)?;
        let wrapped = &envelope.wrapped.0;
        let text = match (envelope.method, customer) {
            (Method::Customer, None) => return Err(fault(EncryptionFault::KeyNeeded, "read")),
            (Method::Customer, Some(customer)) => {
                let key = customer.key.unwrap(wrapped, purpose.as_bytes());
                return key.ok_or_else(|| fault(EncryptionFault::OtherKey, "read"));
            }
            (_, Some(_)) => return Err(fault(EncryptionFault::NotApplicable, "read")),
            (Method::Gateway, None) => self.master()?.open(&purpose, wrapped).await?,
            (Method::Kms, None) if envelope.key == GATEWAY_KMS_KEY && envelope.outer.is_none() => {
                // A key of that name in the keyring is another one.
                match self.vault.unseal(&envelope.key, &purpose, wrapped).await {
                    Ok(text) => text,
                    Err(_) => self.master()?.open(&purpose, wrapped).await?,
                }
            }
            (Method::Kms, None) if envelope.outer.is_some() => {
                let (Some(kms), Some(outer)) = (&self.kms, &envelope.outer) else {
                    return Err(fault(EncryptionFault::NoSuchKey(envelope.key.clone()), "read"));
                };
                let outer = kms.open(&envelope.key, outer, at, &envelope.context, envelope.bucket_key).await?;
                let key = outer.unwrap(wrapped, purpose.as_bytes());
                return key.ok_or_else(|| corrupt("the data key").into());
            }
            (Method::Kms, None) => self.vault.unseal(&envelope.key, &purpose, wrapped).await?,
        };
        DataKey::from_hex(text.expose()).ok_or_else(|| corrupt("the data key").into())
    }

    fn master(&self) -> Result<&Keyring> {
        let none = || Error::new(ErrorKind::NotImplemented("This gateway has no master key.".into()), "encrypt");
        self.master.as_ref().ok_or_else(none)
    }
}

/// What a wrapped key is bound to: how it is wrapped, the place, and the client's context.
fn purpose(at: At<'_>, envelope: &Envelope) -> Result<String> {
    let method = match envelope.method {
        Method::Customer => "sse-c",
        Method::Gateway => "sse-s3",
        Method::Kms => "sse-kms",
    };
    // As a document, so that no two places and contexts read the same.
    let bound = serde_json::to_string(&(method, at.bucket, at.key, &envelope.context));
    let bound = bound.map_err(|e| Error::new(ErrorKind::Internal, "bind a key to its place").caused_by(e))?;
    Ok(format!("sluice object {bound}"))
}

fn session_purpose(at: At<'_>) -> String {
    format!("sluice upload {}/{}", at.bucket, at.key)
}

/// The list of parts as it is vouched for.
fn list(parts: &[(u16, u64)]) -> String {
    parts.iter().map(|(number, bytes)| format!("{number}:{bytes}")).collect::<Vec<_>>().join(",")
}

fn fault(fault: EncryptionFault, operation: &'static str) -> Error {
    Error::new(ErrorKind::Encryption(fault), operation)
}

fn corrupt(what: &'static str) -> sluice_provider::Error {
    sluice_provider::Error::new(sluice_provider::ErrorKind::Corrupt, "open an encrypted object").with("wrong", what)
}
