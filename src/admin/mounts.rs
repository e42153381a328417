//! `/api/v1/buckets/{bucket}/mounts`

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Failure, json};
use super::service::Parts;
use crate::meta::MountRecord;

/// A setting by whose name one can tell that it is a secret is shown as this.
const HIDDEN: &str = "********";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMount {
    prefix: String,
    provider: String,
    #[serde(default)]
    settings: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Mounts {
    mounts: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    prefix: String,
    provider: String,
    settings: BTreeMap<String, String>,
}

/// The mounts of a bucket.
pub(super) async fn list(parts: &Parts, bucket: &str) -> Result<Answer, Failure> {
    let mounts = parts.namespaces.mounts(bucket).await?;
    Ok(json(StatusCode::OK, &Mounts { mounts: mounts.into_iter().map(listed).collect() }))
}

/// Mounts a provider.
pub(super) async fn add(parts: &Parts, bucket: &str, new: NewMount) -> Result<Answer, Failure> {
    let record = MountRecord { bucket: bucket.to_owned(), prefix: new.prefix, provider: new.provider, settings: new.settings };
    parts.namespaces.mount(record.clone()).await?;
    tracing::info!(bucket, prefix = record.prefix, provider = record.provider, "mounted");
    Ok(json(StatusCode::CREATED, &listed(record)))
}

/// Unmounts.
pub(super) async fn remove(parts: &Parts, bucket: &str, prefix: &str) -> Result<(), Failure> {
    parts.namespaces.unmount(bucket, prefix).await?;
    tracing::info!(bucket, prefix, "unmounted");
    Ok(())
}

fn listed(mount: MountRecord) -> Listed {
    let mut settings = mount.settings;
    for (name, value) in &mut settings {
        let name = name.to_ascii_lowercase();
        if ["secret", "password", "token", "credential", "private"].iter().any(|part| name.contains(part)) {
            HIDDEN.clone_into(value);
        }
    }
    Listed { prefix: mount.prefix, provider: mount.provider, settings }
}
