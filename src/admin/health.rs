//! Whether the process lives, and whether it can serve.

use std::fmt::Display;
use std::time::Duration;

use futures::StreamExt as _;
use http::StatusCode;
use serde::Serialize;

use super::answer::{Answer, json};
use super::service::Parts;
use crate::mounts::Mount;
use crate::runtime::Phase;

/// How long a check may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many buckets are looked at: a probe costs the same with ten buckets and with a million.
const BUCKETS: usize = 32;
/// The most that is told of a reason, in characters.
const REASON_CHARS: usize = 500;
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
    /// Why, as the log has it.
    reason: String,
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
        let named = |prefix: &str, reason| FailedMount { bucket: bucket.name.clone(), prefix: prefix.to_owned(), reason };
        let namespace = match in_time(parts.namespaces.get(&bucket.name)).await {
            Ok(namespace) => namespace,
            Err(reason) => return vec![Err(named("", reason))],
        };
        let mut outcomes = Vec::new();
        let table = namespace.mounts.load_full();
        for mount in table.iter().chain(table.classes()) {
            let outcome = failing(mount).await.map_or(Ok(()), |reason| Err(named(&mount.prefix, reason)));
            outcomes.push(outcome);
        }
        outcomes
    });
    let outcomes: Vec<_> = checks.buffer_unordered(AT_ONCE).collect().await;
    let mut mounts = Mounts::default();
    for outcome in outcomes.into_iter().flatten() {
        mounts.checked += 1;
        mounts.failed.extend(outcome.err());
    }
    mounts
}

/// Why a mount cannot be used right now, if it cannot.
pub(super) async fn failing(mount: &Mount) -> Option<String> {
    in_time(mount.provider.check()).await.err()
}

/// What something comes to, or why it comes to nothing: in a line, as errors never hold secrets.
async fn in_time<T, E: Display>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string().chars().take(REASON_CHARS).collect()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
