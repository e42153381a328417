//! Whether the process lives, and whether it can serve.

use std::time::Duration;

use futures::StreamExt as _;
use http::StatusCode;
use serde::Serialize;

use super::answer::{Answer, json};
use super::service::Parts;
use crate::runtime::Phase;

/// How long a check may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many buckets are looked at: a probe costs the same with ten buckets and with a million.
const BUCKETS: usize = 32;
/// How many at once.
const AT_ONCE: usize = 8;

#[derive(Serialize)]
struct Live<'a> {
    status: &'static str,
    instance_id: &'a str,
    version: &'static str,
}

#[derive(Serialize)]
struct Ready<'a> {
    status: &'static str,
    instance_id: &'a str,
    version: &'static str,
    store: &'static str,
    mounts: Mounts,
}

#[derive(Default, Serialize)]
struct Mounts {
    checked: usize,
    failed: Vec<FailedMount>,
}

#[derive(Serialize)]
struct FailedMount {
    bucket: String,
    prefix: String,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The process answers: that is all.
pub(super) fn live(parts: &Parts) -> Answer {
    json(StatusCode::OK, &Live { status: "ok", instance_id: &parts.instance_id, version: VERSION })
}

/// Ready when the store answers and mounts can be used. One mount that fails makes the gateway `degraded`, not unready: its other
/// buckets would suffer for it. Only when every mount that was looked at fails does it serve nobody.
pub(super) async fn ready(parts: &Parts) -> Answer {
    let store = matches!(tokio::time::timeout(PATIENCE, parts.store.check()).await, Ok(Ok(())));
    let mounts = if store { check_mounts(parts).await } else { Mounts::default() };
    let all_failed = mounts.checked > 0 && mounts.failed.len() == mounts.checked;
    let (code, status) = match () {
        () if parts.drain.phase() != Phase::Running => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        () if !store || all_failed => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        () if !mounts.failed.is_empty() => (StatusCode::OK, "degraded"),
        () => (StatusCode::OK, "ok"),
    };
    let store = if store { "ok" } else { "unavailable" };
    json(code, &Ready { status, instance_id: &parts.instance_id, version: VERSION, store, mounts })
}

async fn check_mounts(parts: &Parts) -> Mounts {
    let buckets = parts.namespaces.list(None, "", "", BUCKETS).await.unwrap_or_default();
    let checks = futures::stream::iter(buckets).map(|bucket| async move {
        let namespace = tokio::time::timeout(PATIENCE, parts.namespaces.get(&bucket.name)).await;
        let Ok(Ok(namespace)) = namespace else {
            return vec![(FailedMount { bucket: bucket.name, prefix: String::new() }, false)];
        };
        let mut outcomes = Vec::new();
        let table = namespace.mounts.load_full();
        for mount in table.iter().chain(table.classes()) {
            let good = matches!(tokio::time::timeout(PATIENCE, mount.provider.check()).await, Ok(Ok(())));
            outcomes.push((FailedMount { bucket: bucket.name.clone(), prefix: mount.prefix.to_string() }, good));
        }
        outcomes
    });
    let outcomes: Vec<_> = checks.buffer_unordered(AT_ONCE).collect().await;
    let mut mounts = Mounts::default();
    for (mount, good) in outcomes.into_iter().flatten() {
        mounts.checked += 1;
        if !good {
            mounts.failed.push(mount);
        }
    }
    mounts
}
