//! The gateway's error: a kind to act on, an operation, context, a source. Mapped to S3 once, in `s3/error.rs`.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use sluice_provider as provider;

/// The result of a gateway call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it. Exhaustive on purpose: a new kind does not compile until it is mapped.
#[derive(Clone, Debug)]
pub enum ErrorKind {
    /// The provider's word.
    Provider(provider::ErrorKind),
    /// There is no such bucket, or no mount for this key in it.
    NoSuchBucket,
    /// The name is taken by somebody else.
    BucketAlreadyExists,
    /// The name is taken by the one who asks.
    BucketAlreadyOwnedByYou,
    /// It still holds objects.
    BucketNotEmpty,
    /// The name cannot be a bucket.
    InvalidBucketName,
    /// There is no such upload.
    NoSuchUpload,
    /// A part of the list was never uploaded, or its ETag or checksum is another.
    InvalidPart,
    /// The parts are not in ascending order.
    InvalidPartOrder,
    /// A part other than the last is smaller than 5 MiB.
    EntityTooSmall,
    /// The part number asked for on a read is beyond the object's parts.
    InvalidPartNumber,
    /// There is no such version; its id.
    NoSuchVersion(String),
    /// A delete marker stands for the key, or is the version that was asked for by name.
    DeleteMarker {
        /// The marker's version id.
        version: String,
        /// When it was made.
        modified: std::time::SystemTime,
        /// Whether it was asked for by name.
        named: bool,
    },
    /// Retention or a legal hold keeps the version as it is.
    ObjectLocked,
    /// The read condition says that the reader's copy is current.
    NotModified(Box<provider::ObjectInfo>),
    /// A condition does not hold; the header it came with.
    PreconditionFailed(&'static str),
    /// An argument makes no sense: what AWS calls it, and the message.
    InvalidArgument(Cow<'static, str>),
    /// The request as a whole makes no sense: the message.
    InvalidRequest(Cow<'static, str>),
    /// The caller may not do this.
    AccessDenied,
    /// Sluice, or this mount, does not do this.
    NotImplemented(Cow<'static, str>),
    /// A name in the admin API is not there.
    NoSuchEntity,
    /// A name in the admin API is taken, or in use.
    EntityExists,
    /// Something still hangs on what was to be removed.
    DeleteConflict,
    /// There may be no more of these.
    LimitExceeded,
    /// Encryption at rest: what was asked for does not go with what is there.
    Encryption(EncryptionFault),
    /// The metadata store cannot be reached.
    MetaUnavailable,
    /// A token that was given to another request.
    IdempotencyMismatch,
    /// Too much at once.
    SlowDown,
    /// A fault of the program.
    Internal,
}

/// Why something cannot be encrypted or decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncryptionFault {
    /// The object is encrypted with a key of the customer's, which did not come along.
    KeyNeeded,
    /// The customer's key is not the one that the object was encrypted with.
    OtherKey,
    /// A customer's key came along for an object that is not encrypted with one.
    NotApplicable,
    /// A part came with another key than the one that its upload was begun with.
    UploadOtherKey,
    /// A part came without the customer's key that its upload was begun with.
    UploadKeyNeeded,
    /// A part came with a customer's key to an upload that was begun without.
    UploadNotEncrypted,
    /// No key of the key management service was named, and none is configured.
    NoDefaultKey,
    /// The key management service has no key of this name.
    NoSuchKey(String),
    /// The key of this name cannot be used now.
    KeyDisabled(String),
    /// The key management service refuses.
    Refused,
    /// The key management service cannot be reached, or fails.
    ServiceUnavailable,
}

/// The context that names a mount by its prefix.
pub const MOUNT: &str = "mount";

/// An error with its story.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` in `operation`.
    pub fn new(kind: ErrorKind, operation: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, operation: operation.into(), context: Vec::new(), source: None }))
    }

    /// Adds a fact for the reader of a log. Never a secret.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// A fact that was added.
    #[must_use]
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is the provider's word of this kind.
    #[must_use]
    pub fn is_provider(&self, kind: provider::ErrorKind) -> bool {
        matches!(&self.0.kind, ErrorKind::Provider(k) if *k == kind)
    }
}

impl From<provider::Error> for Error {
    fn from(error: provider::Error) -> Self {
        Self::new(ErrorKind::Provider(*error.kind()), error.operation().to_owned()).caused_by(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.0.operation, self.0.kind)?;
        for (name, value) in &self.0.context {
            write!(f, ", {name} {value}")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}
