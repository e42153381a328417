//! Bodies in motion: digests, verification of what was declared, and holding back the last chunk until it holds.
//!
//! Everything that a client stores passes [`verify`]: whatever it declared about its body (length, MD5, SHA-256, checksums in a
//! header or a trailer) is checked while the bytes go by, and the last chunk is withheld until all of it holds. A body that
//! breaks its word ends in [`sluice_provider::ErrorKind::Body`], so that no provider can publish it.

mod checksum;
mod verify;

pub use checksum::{Algorithm, ChecksumType, Hasher, combine};
pub use verify::{Declared, TrailerSource, verify};
