//! Errors: a kind to act on, an operation and context to read, and the source.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// The result of a provider call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it. Exhaustive: the gateway maps it to the wire in one match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The key (or upload, or part) is not there. Never used for a store that cannot be reached.
    NotFound,
    /// A condition of the call does not hold.
    PreconditionFailed,
    /// Another writer of the same key got in the way; trying again may work.
    Conflict,
    /// The range starts beyond the object, whose size in bytes this is.
    RangeNotSatisfiable {
        /// The size of the object.
        size: u64,
    },
    /// Something was to be appended at another offset than the end, which this is.
    WriteOffset {
        /// The size of the object in bytes.
        size: u64,
    },
    /// The name cannot be a key here.
    InvalidKey,
    /// Larger than this store takes.
    TooLarge,
    /// The device is full.
    NoSpace,
    /// The configured quota is used up.
    QuotaExceeded,
    /// The caller's own guard speaks against the change. Nothing was changed.
    Guarded,
    /// The store refuses access to the gateway itself.
    PermissionDenied,
    /// The store cannot do this at all.
    Unsupported,
    /// The store cannot be reached, or fails now.
    Unavailable,
    /// The store did not answer in time.
    TimedOut,
    /// The store asks for fewer requests.
    Busy,
    /// What is stored does not make sense.
    Corrupt,
    /// The body on its way in is not what was declared.
    Body(BodyFault),
    /// A fault of the program.
    Internal,
}

/// How a body on its way in broke its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It ended before its declared length, or its framing broke off.
    Incomplete,
    /// It is longer than declared.
    TooLong,
    /// It is larger than one write may be.
    TooLarge,
    /// Its MD5 is not the one declared.
    Md5Mismatch,
    /// Its SHA-256 is not the one that was signed.
    Sha256Mismatch,
    /// A checksum is not the one declared; the algorithm as S3 names it.
    ChecksumMismatch(&'static str),
    /// A trailer that was declared did not come, or cannot be read.
    Trailer,
    /// A chunk signature is wrong.
    Signature,
    /// The sender stopped moving.
    TimedOut,
}

/// An error with its story.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` in `operation` (a verb, or what was looked at).
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

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.0.operation
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
