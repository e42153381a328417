//! `/api/v1/buckets/{bucket}/lifecycle/plan`

use std::time::SystemTime;

use http::StatusCode;
use serde::Serialize;
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
    expire_bytes: u64,
    abort_uploads: u64,
    steps: Vec<Planned>,
}

#[derive(Serialize)]
struct Planned {
    action: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_id: Option<String>,
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
    let (seen, expire, abort_uploads) = (tally.seen, tally.expired, tally.aborted);
    Ok(json(StatusCode::OK, &Plan { at: shown(now), seen, expire, expire_bytes: tally.bytes, abort_uploads, steps }))
}

fn planned(step: &Step) -> Planned {
    let (action, upload_id) = match &step.action {
        Action::Expire(_) => ("expire", None),
        Action::AbortUpload(upload) => ("abort-upload", Some(upload.clone())),
    };
    Planned { action, key: step.key.clone(), upload_id, rule: step.rule.clone(), due: shown(step.due), size: step.size }
}

fn shown(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}
