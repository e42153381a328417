//! The promises of the contract, kept through a second gateway whose buckets lie in memory.
//!
//! Parts are kept as objects here whatever their size, because the suite lets small ones stand before large ones, which S3 refuses;
//! `uploads.rs` looks at parts of an upload at the remote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod remote;

use std::sync::{Mutex, Weak};

use remote::{Remote, shared};
use sluice_provider::conformance::Subject;
use sluice_provider_s3::S3;

static REMOTE: Mutex<Weak<Remote>> = Mutex::new(Weak::new());

async fn fresh() -> Subject {
    let remote = shared(&REMOTE, "memory");
    let mut settings = remote.settings();
    settings.native_part_bytes = u64::MAX;
    let (one, two) = (S3::open(settings.clone()).await.unwrap(), S3::open(settings).await.unwrap());
    Subject::new(one)
        .with_peer(two)
        .with_hard_keys([".sluice-s3", ".sluice-s30", ".sluice-s3.", ".sluice-", "sluice-s3/"])
        .keeping(remote)
}

sluice_provider::conformance!(fresh);
