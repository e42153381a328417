//! Encryption at rest: what is stored is not what was sent.
//!
//! What the room promises:
//! - **Nobody reads without the key.** Each object has a random data key of its own, and each part of an upload another one. At rest
//!   the data key is only wrapped: by the customer's key, which is never stored, by the gateway's master key, or by a key of a key
//!   management service. Keys in memory are wiped when they are dropped.
//! - **Nothing is changed unseen.** Content is sealed in segments of 64 KiB (AES-256-GCM, NIST SP 800-38D), numbered, the last one marked:
//!   what was cut off, put elsewhere, or exchanged with another segment, part or object is an error and never content. The wrapped key is
//!   bound to bucket and key, the list of parts is sealed too.
//! - **A range costs its own segments**, plus the head of the part where it begins.
//! - **Sizes, checksums and conditions are those of the content.** What is stored is longer by 16 bytes for each segment.
//!
//! `docs/adr/0004-encryption.md` has the format and the reasons.

mod cipher;
mod customer;
mod envelope;
mod keys;
mod kms;
mod layout;
mod reader;
mod settings;
#[cfg(test)]
mod tests;
mod vault;
mod writer;

pub use customer::CustomerKey;
pub use envelope::{ATTRIBUTES, ENVELOPE_ATTRIBUTE, Method, Shown, is_encrypted, shown};
pub use keys::{At, Encryption, Wish};
pub use kms::KmsCredential;
pub use layout::stored_part_bytes;
pub use reader::{Fetch, Opener};
pub use settings::Settings;
