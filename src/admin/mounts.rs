//! `/api/v1/buckets/{bucket}/mounts`, `/api/v1/buckets/{bucket}/caps` and `/api/v1/providers`

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sluice_provider::Upstream;

use super::answer::{Answer, Failure, json};
use super::health::failing;
use super::service::Parts;
use crate::meta::MountRecord;
use crate::mounts::{KINDS, Kind};

/// A setting by whose name one can tell that it is a secret is shown as this.
const HIDDEN: &str = "********";

/// How many mounts are asked at once how they are.
const AT_ONCE: usize = 8;

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

#[derive(Serialize)]
struct Kinds {
    providers: Vec<Kind>,
}

#[derive(Serialize)]
struct Capabilities {
    mounts: Vec<Capable>,
}

/// What a mount can do, as far as it is known: of one that is not open yet, what is hoped for.
#[derive(Serialize)]
struct Capable {
    prefix: String,
    provider: String,
    /// `ok`, or why it cannot be used right now.
    state: String,
    writable: bool,
    conditions: bool,
    attributes: bool,
    persistent: bool,
    max_object_bytes: Option<u64>,
    multipart: bool,
    versions: bool,
    append: bool,
    rename: bool,
    follow: bool,
    /// Whether readers can be sent to where the bytes are.
    redirect: bool,
    /// The places that are read from, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    upstreams: Vec<Source>,
}

/// One of several places that a mount reads from.
#[derive(Serialize)]
struct Source {
    place: String,
    primary: bool,
    available: bool,
    latency_ms: Option<f64>,
    fault_rate: f64,
    in_flight: usize,
}

impl From<Upstream> for Source {
    fn from(upstream: Upstream) -> Self {
        Self {
            place: upstream.place,
            primary: upstream.primary,
            available: upstream.available,
            latency_ms: upstream.latency.map(|latency| latency.as_secs_f64() * 1000.0),
            fault_rate: upstream.faults,
            in_flight: upstream.in_flight,
        }
    }
}

/// The kinds of providers.
pub(super) fn kinds() -> Answer {
    json(StatusCode::OK, &Kinds { providers: KINDS.to_vec() })
}

/// What the mounts of a bucket can do.
pub(super) async fn capabilities(parts: &Parts, bucket: &str) -> Result<Answer, Failure> {
    let namespace = parts.namespaces.get(bucket).await?;
    let table = namespace.mounts.load();
    let mounts: Vec<_> = table.iter().chain(table.classes()).collect();
    let states: Vec<_> = stream::iter(mounts.clone()).map(failing).buffered(AT_ONCE).collect().await;
    let capable = mounts.into_iter().zip(states).map(|(mount, failing)| {
        let provider = &mount.provider;
        let features = provider.features();
        Capable {
            prefix: mount.prefix.to_string(),
            provider: mount.kind.to_string(),
            state: failing.unwrap_or_else(|| "ok".to_owned()),
            writable: features.writable,
            conditions: features.conditions,
            attributes: features.attributes,
            persistent: features.persistent,
            max_object_bytes: features.max_object_bytes,
            multipart: provider.multipart().is_some(),
            versions: provider.versions().is_some(),
            append: provider.appends().is_some(),
            rename: provider.renames().is_some(),
            follow: provider.follows().is_some(),
            redirect: provider.links().is_some(),
            upstreams: provider.upstreams().into_iter().map(Source::from).collect(),
        }
    });
    Ok(json(StatusCode::OK, &Capabilities { mounts: capable.collect() }))
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
