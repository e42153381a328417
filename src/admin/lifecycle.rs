//! `/api/v1/buckets/{bucket}/lifecycle/plan`

use std::time::SystemTime;

use http::StatusCode;
use serde::Serialize;
use sluice_provider::VersionId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::answer::{Answer, Failure, json};
use super::service::Parts;
use crate::lifecycle::{Action, Step};

/// How many steps an answer shows by name when the caller does not say.
const SHOWN: usize = 1000;
/// How many steps an answer can show by name.
const MAX_SHOWN: usize = 10_000;

#[derive(Serialize)]
struct Plan {
    at: String,
    seen: u64,
    expire: u64,
    expire_versions: u64,
    remove_markers: u64,
    bytes: u64,
    moves: u64,
    moved_bytes: u64,
    abort_uploads: u64,
    steps: Vec<Planned>,
}

#[derive(Serialize)]
struct Planned {
    action: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage_class: Option<String>,
    rule: String,
    due: String,
    size: u64,
}

/// What a run at `at` would do.
pub(super) async fn plan(parts: &Parts, bucket: &str, at: Option<String>, limit: Option<String>) -> Result<Answer, Failure> {
    let now = match at {
        None => SystemTime::now(),
        Some(text) => OffsetDateTime::parse(&text, &Rfc3339)
            .map(SystemTime::from)
            .map_err(|_| Failure::invalid("`at` must be a time as RFC 3339 writes it, such as 2031-01-01T00:00:00Z."))?,
    };
    let limit = match limit {
        None => SHOWN,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| *limit <= MAX_SHOWN)
            .ok_or_else(|| Failure::invalid(format!("`limit` must be a number up to {MAX_SHOWN}.")))?,
    };
    let mut steps = Vec::new();
    let tally = parts
        .lifecycle
        .plan(bucket, now, |step| {
            if steps.len() < limit {
                steps.push(planned(step));
            }
        })
        .await?;
    let plan = Plan {
        at: shown(now),
        seen: tally.seen,
        expire: tally.expired,
        expire_versions: tally.versions,
        remove_markers: tally.markers,
        bytes: tally.bytes,
        moves: tally.moved,
        moved_bytes: tally.moved_bytes,
        abort_uploads: tally.aborted,
        steps,
    };
    Ok(json(StatusCode::OK, &plan))
}

fn planned(step: &Step) -> Planned {
    let mut planned = Planned {
        action: "",
        key: step.key.clone(),
        version_id: None,
        upload_id: None,
        storage_class: None,
        rule: step.rule.clone(),
        due: shown(step.due),
        size: step.size,
    };
    let version = |version: Option<VersionId>| version.map(|version| version.to_string());
    match &step.action {
        Action::Expire(_) => planned.action = "expire",
        Action::ExpireVersion(removal) => (planned.action, planned.version_id) = ("expire-version", version(removal.version)),
        Action::RemoveMarker(removal) => (planned.action, planned.version_id) = ("remove-marker", version(removal.version)),
        Action::Move(to) => {
            (planned.action, planned.version_id) = ("move", version(Some(to.version)));
            planned.storage_class = Some(to.class.clone());
        }
        Action::AbortUpload(upload) => (planned.action, planned.upload_id) = ("abort-upload", Some(upload.clone())),
    }
    planned
}

fn shown(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}
