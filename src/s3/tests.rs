//! The front end as clients see it: over HTTP, with real signatures, on a memory mount.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod access;
mod acls;
mod authorisers;
mod bodies;
mod buckets;
mod copies;
mod cors;
mod encryption;
mod forms;
mod gateway;
mod iam;
mod listings;
mod multipart;
mod objects;
mod ownership;
mod policies;
mod refusals;
mod signature_v2;
mod usual;
mod versions;

use gateway::{ANN, Answer, BOB, Gateway, ROOT, sha256_hex};

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn checksum(algorithm: crate::transfer::Algorithm, bytes: &[u8]) -> String {
    base64(&crate::transfer::Hasher::once(algorithm, bytes))
}

fn md5(bytes: &[u8]) -> String {
    base64(&hex::decode(crate::transfer::md5_hex(bytes)).unwrap())
}
