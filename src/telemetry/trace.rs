//! Traces: one span a request, sent by OTLP over HTTP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Without it there is no exporter, no
//! thread and no cost but a look at a flag.
//!
//! The variables are those of the specification
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>): `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_BSP_*`, `OTEL_EXPORTER_OTLP_HEADERS` and so on. A request that brings a W3C `traceparent` belongs to that trace.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

use super::RequestId;

/// How long the end of the process waits for a collector that does not take spans.
const FLUSH: Duration = Duration::from_secs(5);

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Keeps the exporter alive; what is queued is sent when it is dropped.
#[must_use = "spans are sent until this is dropped"]
pub struct TraceGuard(Option<SdkTracerProvider>);

/// The span of a request.
pub struct RequestSpan(Span);

/// How a request ended, as its span tells it.
#[derive(Clone, Copy, Debug)]
pub struct SpanEnd<'a> {
    /// The operation.
    pub op: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The S3 error code, where there is one.
    pub code: Option<&'static str>,
    /// The bucket; empty for none.
    pub bucket: &'a str,
    /// The key; empty for none.
    pub key: &'a str,
    /// The request's id.
    pub request_id: &'a RequestId,
    /// The method.
    pub method: &'a str,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// Whether the answer got to its end.
    pub complete: bool,
}

struct Headers<'a>(&'a HeaderMap);

/// Begins to send spans if the environment asks for it. To be called outside of the runtime.
///
/// # Errors
/// The exporter cannot be built as the environment asks.
pub fn init_traces(instance: &str) -> Result<TraceGuard, ExporterBuildError> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let asked = set("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"));
    let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if asked.is_none() || off {
        return Ok(TraceGuard(None));
    }
    let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build()?;
    let mut resource = Resource::builder();
    if set("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("sluice");
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let instance = KeyValue::new("service.instance.id", instance.to_owned());
    let resource = resource.with_attributes([version, instance]).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let _ = TRACER.set(provider.tracer("sluice"));
    Ok(TraceGuard(Some(provider)))
}

impl TraceGuard {
    /// Whether spans are sent.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for TraceGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

impl RequestSpan {
    /// The span of a request that begins now; `None` when nobody wants it.
    #[must_use]
    pub fn begin(headers: &HeaderMap) -> Option<Box<Self>> {
        let tracer = TRACER.get()?;
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        let builder = tracer.span_builder("request").with_kind(SpanKind::Server).with_start_time(SystemTime::now());
        Some(Box::new(Self(tracer.build_with_context(builder, &parent))))
    }

    /// Ends it.
    pub fn end(mut self: Box<Self>, end: &SpanEnd<'_>) {
        let span = &mut self.0;
        if !span.is_recording() {
            return;
        }
        let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        span.update_name(end.op);
        span.set_attributes([
            KeyValue::new("http.request.method", end.method.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(end.status)),
            KeyValue::new("http.request.body.size", size(end.received)),
            KeyValue::new("http.response.body.size", size(end.sent)),
            KeyValue::new("rpc.system", "aws-api"),
            KeyValue::new("rpc.service", "S3"),
            KeyValue::new("rpc.method", end.op),
            KeyValue::new("aws.request_id", end.request_id.0.to_string()),
            KeyValue::new("aws.s3.bucket", end.bucket.to_owned()),
            KeyValue::new("aws.s3.key", end.key.to_owned()),
        ]);
        if let Some(code) = end.code {
            span.set_attribute(KeyValue::new("error.type", code));
        }
        // A client's mistake is no error of a server (semantic conventions for HTTP spans).
        if end.status >= 500 || !end.complete {
            span.set_status(Status::error(end.code.unwrap_or("broken off")));
        }
        span.end();
    }
}

impl fmt::Debug for RequestSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestSpan")
    }
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
