//! From errno to the error kinds of the contract.

use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Key};

/// The result of a system call.
pub(crate) type Sys<T> = std::result::Result<T, Errno>;

/// What a caller can do about an errno. `ENOENT` is not here on purpose: only the code that looked a key up knows whether it
/// means "no such object"; anywhere else it means that the store is broken.
fn kind(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOSPC => ErrorKind::NoSpace,
        Errno::DQUOT => ErrorKind::QuotaExceeded,
        Errno::FBIG => ErrorKind::TooLarge,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorKind::PermissionDenied,
        Errno::NAMETOOLONG => ErrorKind::InvalidKey,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => ErrorKind::Busy,
        _ => ErrorKind::Unavailable,
    }
}

/// An error of the file system in `operation`.
pub(crate) fn fault(operation: &'static str, errno: Errno) -> Error {
    Error::new(kind(errno), operation).caused_by(std::io::Error::from(errno))
}

/// There is no such object.
pub(crate) fn missing(operation: &'static str, key: &Key) -> Error {
    Error::new(ErrorKind::NotFound, operation).with("key", format!("{key:?}"))
}
