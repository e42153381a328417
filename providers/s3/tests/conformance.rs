//! The promises of the contract, kept through a second gateway whose buckets lie in memory.
//!
//! Parts are kept as objects here whatever their size, because the suite lets small ones stand before large ones, which S3 refuses;
//! `uploads.rs` looks at parts of an upload at the remote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod remote;

use std::sync::OnceLock;

use remote::{Remote, shared};
use sluice_provider::conformance::Subject;
use sluice_provider_s3::S3;

static REMOTE: OnceLock<Remote> = OnceLock::new();

async fn fresh() -> Subject {
    let mut settings = shared(&REMOTE, "memory").settings();
    settings.native_part_bytes = u64::MAX;
    let (one, two) = (S3::open(settings.clone()).await.unwrap(), S3::open(settings).await.unwrap());
    Subject::new(one).with_peer(two).with_hard_keys([".sluice-s3", ".sluice-s30", ".sluice-s3.", ".sluice-", "sluice-s3/"])
}

sluice_provider::conformance!(fresh);
