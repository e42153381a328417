//! Traces: one span a request, sent by OTLP over HTTP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Without it there is no exporter, no
//! thread and no cost but a look at a flag.
//!
//! The variables are those of the specification
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>): `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_BSP_*`, `OTEL_EXPORTER_OTLP_HEADERS` and so on; with `https`, `OTEL_EXPORTER_OTLP_CERTIFICATE`, `_CLIENT_CERTIFICATE` and
//! `_CLIENT_KEY` too. A request that brings a W3C `traceparent` belongs to that trace.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use thiserror::Error;

use super::RequestId;

/// How long the end of the process waits for a collector that does not take spans.
const FLUSH: Duration = Duration::from_secs(5);

/// How long a collector may take for an answer, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why no spans can be sent.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The exporter cannot be built as the environment asks.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
    /// A file that the environment names cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates that cannot be used.
    #[error("{}: {source}", what.display())]
    Tls {
        /// The file.
        what: PathBuf,
        /// Why.
        source: reqwest::Error,
    },
}

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
/// See [`TraceError`].
pub fn init_traces(instance: &str) -> Result<TraceGuard, TraceError> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let asked = set("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"));
    let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if asked.is_none() || off {
        return Ok(TraceGuard(None));
    }
    let of_traces = |name: &str| set(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
    let client = client(&|name| of_traces(name).or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{name}"))))?;
    let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_http_client(client).build()?;
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

/// A client for the collector. With `https` it believes the authorities of the machine, or those that the environment names, and shows a
/// certificate of its own where it names one.
fn client(set: &dyn Fn(&str) -> Option<String>) -> Result<reqwest::blocking::Client, TraceError> {
    // The client takes the process's cryptography, of which there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |path: &str| std::fs::read(path).map_err(|source| TraceError::File { path: path.into(), source });
    let patience = set("TIMEOUT").and_then(|ms| ms.parse().ok()).map_or(PATIENCE, Duration::from_millis);
    let mut builder = reqwest::blocking::Client::builder().timeout(patience);
    if let Some(path) = set("CERTIFICATE") {
        let authorities = reqwest::Certificate::from_pem_bundle(&read(&path)?).map_err(TraceError::tls(&path))?;
        builder = builder.tls_certs_only(authorities);
    }
    if let (Some(cert), Some(key)) = (set("CLIENT_CERTIFICATE"), set("CLIENT_KEY")) {
        let mut pem = read(&cert)?;
        pem.push(b'\n');
        pem.extend(read(&key)?);
        builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(TraceError::tls(&cert))?);
    }
    builder.build().map_err(TraceError::tls("the client"))
}

impl TraceError {
    fn tls(what: impl AsRef<Path>) -> impl FnOnce(reqwest::Error) -> Self {
        let what = what.as_ref().to_owned();
        move |source| Self::Tls { what, source }
    }
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
