//! Bodies in motion: digests, verification of what was declared, and holding back the last chunk until it holds.
//!
//! Everything that a client stores passes [`verify`]: whatever it declared about its body (length, MD5, SHA-256, checksums in a
//! header or a trailer) is checked while the bytes go by, and the last chunk is withheld until all of it holds. A body that
//! breaks its word ends in [`sluice_provider::ErrorKind::Body`], so that no provider can publish it.
//!
//! Bodies that are large and on their way together are hashed side by side ([`Lanes`]), off the threads that receive them.
//!
//! On the way out, [`frames`] turns what a provider opened into frames for the wire. It promises the exact length or an error:
//! a reader never takes a truncated object for a whole one. [`pieces`] does the same for a connection that has the kernel send files.

mod checksum;
mod crc;
mod digests;
mod frames;
mod lanes;
mod multipart;
mod settings;
mod verify;

pub use checksum::{Algorithm, ChecksumType, Hasher, combine, decode, decode_md5, encode, md5_hex};
pub use frames::{Extent, Frames, Piece, PieceStream, arriving, frames, pieces};
pub use lanes::Lanes;
pub use multipart::{composite, full_object, md5_of_etag, multipart_etag};
pub use settings::{Md5Lanes, Settings};
pub use verify::{Declared, TrailerSource, verify};
