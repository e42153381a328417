//! What an operator sees: the metric table, logs, the access log, request ids.
//!
//! It promises bounded cardinality (operations are a closed set, bucket names are capped), costs nothing for a line that is not
//! written, and never blocks a reactor thread on a log that nobody reads: lines beyond a bound are dropped and counted. The only room
//! that names prometheus-client and opentelemetry.

mod access;
mod bucket_label;
mod explanations;
mod exposition;
mod lines;
mod logging;
mod metrics;
mod notices;
mod op_stats;
mod request_id;
mod settings;
mod trace;

pub use access::{AccessLine, access_enabled};
pub use explanations::{Explanation, Explanations};
pub use logging::{LogControl, LogGuard, init, log_lines_dropped};
pub use metrics::{Answered, Kind, Metrics, MountMeter, Row, TABLE, UpstreamCounts, metrics};
pub use notices::{AuditLine, audit_enabled, note_work};
pub use op_stats::{Op, OpStats, Summary, op_stats, percentile};
pub use request_id::{RequestId, host_id};
pub use settings::{Format, Settings};
pub use trace::{RequestSpan, SpanEnd, TraceError, TraceGuard, init_traces};

/// The S3 error code of an answer (`NoSuchKey` …), for the error metric. Among the response's extensions, where the front end knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub &'static str);
