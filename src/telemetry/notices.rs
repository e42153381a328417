//! Lines that an operator asks for beside the access log: who changed what, and what was slow.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::RequestId;

/// Slow operations that leave a line in one second; the rest is only counted.
const LINES_PER_SEC: u64 = 10;

static SLOW_MS: AtomicU64 = AtomicU64::new(0);
static LINES: AtomicU64 = AtomicU64::new(0);
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What the line of a change tells.
#[derive(Clone, Copy, Debug)]
pub struct AuditLine<'a> {
    /// The request's id.
    pub request_id: &'a str,
    /// Who is connected.
    pub remote: &'a str,
    /// The access key; empty for none, `admin` for the admin token.
    pub who: &'a str,
    /// What was asked for.
    pub op: &'a str,
    /// The bucket, or the path of an admin call.
    pub resource: &'a str,
    /// The key; empty for none.
    pub key: &'a str,
    /// The status of the answer.
    pub status: u16,
}

impl AuditLine<'_> {
    /// Writes the line of an administrative call.
    pub fn administrative(&self) {
        let Self { request_id, remote, who, op, resource, key, status } = *self;
        tracing::info!(target: "sluice::audit::admin", request_id, remote, who, op, resource, key, status, "audit");
    }

    /// Writes the line of a call that changes data.
    pub fn data(&self) {
        let Self { request_id, remote, who, op, resource, key, status } = *self;
        tracing::info!(target: "sluice::audit::data", request_id, remote, who, op, resource, key, status, "audit");
    }
}

/// Whether calls that change data leave a line.
#[must_use]
pub fn audit_enabled() -> bool {
    tracing::enabled!(target: "sluice::audit::data", tracing::Level::INFO)
}

/// Sets from how many milliseconds on an operation is slow; 0 for never.
pub(super) fn set_slow_ms(ms: u64) {
    SLOW_MS.store(ms, Ordering::Relaxed);
}

/// Notes how long the gateway worked on an operation; true when that was slow.
pub fn note_work(request_id: &RequestId, op: &'static str, bucket: &str, secs: f64) -> bool {
    let limit = SLOW_MS.load(Ordering::Relaxed);
    if limit == 0 || secs * 1e3 < limit as f64 {
        return false;
    }
    // The second and the number of lines in it, in one word.
    let second = BEGAN.elapsed().as_secs() << 8;
    let before = LINES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lines| {
        Some(if lines & !0xff == second { (lines + 1).min(second | 0xff) } else { second | 1 })
    });
    let told = before.is_ok_and(|lines| lines & !0xff != second || lines & 0xff < LINES_PER_SEC);
    if told {
        tracing::warn!(request_id = &*request_id.0, op, bucket, ms = secs * 1e3, "slow operation");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_what_is_configured() {
        let id = RequestId::next();
        set_slow_ms(100);
        assert!(!note_work(&id, "GetObject", "b", 0.0999));
        assert!((0..100).all(|_| note_work(&id, "GetObject", "b", 0.1)));
        set_slow_ms(0);
        assert!(!note_work(&id, "GetObject", "b", 99.0));
    }
}
