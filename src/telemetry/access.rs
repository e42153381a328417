//! The access log: one line a request.

use std::net::SocketAddr;

use super::RequestId;

/// What the line tells. All borrowed: nothing is made for a line that is not written.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// The request's id.
    pub request_id: &'a RequestId,
    /// Who is connected.
    pub remote: SocketAddr,
    /// The method.
    pub method: &'a str,
    /// The bucket, as far as the edge can tell.
    pub bucket: &'a str,
    /// The key, percent-encoded as it came.
    pub key: &'a str,
    /// The operation.
    pub op: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The S3 error code, where it is known.
    pub code: Option<&'static str>,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// Milliseconds to the head of the answer.
    pub first_byte_ms: f64,
    /// Milliseconds to its end.
    pub total_ms: f64,
    /// The access key that the request names; empty for an anonymous one. Not verified when the answer is a 403.
    pub access_key: &'a str,
    /// Whether the answer got to its end.
    pub complete: bool,
}

/// Whether the gateway failed. Asking to come again later is no failure: a line for each would be a way to fill the log.
fn failed(status: u16, code: Option<&str>) -> bool {
    status >= 500 && code != Some("SlowDown")
}

/// Whether a line would be written for an answer of this status and error code: ask before gathering what it takes.
#[must_use]
pub fn access_enabled(status: u16, code: Option<&str>) -> bool {
    if failed(status, code) {
        tracing::enabled!(target: "sluice::failed", tracing::Level::WARN)
    } else {
        tracing::enabled!(target: "sluice::access", tracing::Level::INFO)
    }
}

macro_rules! line {
    ($line:ident, $target:literal, $level:ident) => {
        tracing::event!(
            target: $target,
            tracing::Level::$level,
            request_id = &*$line.request_id.0,
            remote = %$line.remote,
            method = $line.method,
            bucket = $line.bucket,
            key = $line.key,
            op = $line.op,
            status = $line.status,
            code = $line.code,
            received = $line.received,
            sent = $line.sent,
            first_byte_ms = $line.first_byte_ms,
            total_ms = $line.total_ms,
            access_key = $line.access_key,
            complete = $line.complete,
            "request"
        )
    };
}

impl AccessLine<'_> {
    /// Writes the line: a warning when the gateway failed, whether or not the access log is on.
    pub fn write(&self) {
        let line = self;
        if failed(line.status, line.code) && !tracing::enabled!(target: "sluice::access", tracing::Level::INFO) {
            line!(line, "sluice::failed", WARN);
        } else {
            line!(line, "sluice::access", INFO);
        }
    }
}
