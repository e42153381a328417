//! The metric table: every metric of the gateway, its name, its labels and its help text, in one place.

use std::fmt;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::bucket_label::BucketLabels;
use super::exposition;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in seconds.
    Histogram,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name, as it is scraped.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    method: &'static str,
    op: &'static str,
    status: u16,
    bucket: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DurationLabels {
    op: &'static str,
    status_class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OpLabels {
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BuildLabels {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ActionLabels {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LimitLabels {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    provider: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpstreamLabels {
    role: &'static str,
    outcome: &'static str,
}

/// What mounts with several upstreams did, over all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamCounts {
    /// Reads that the primary answered, and that it failed.
    pub primary: (u64, u64),
    /// Reads that replicas answered, and that they failed.
    pub replicas: (u64, u64),
    /// Reads that went on to another upstream.
    pub failovers: u64,
    /// Upstreams that are left out now.
    pub out: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProviderLabels {
    provider: &'static str,
}

/// The metrics of a mount, looked up once.
#[derive(Clone, Debug)]
pub struct MountMeter {
    answered: Counter,
    failed: Counter,
    timed_out: Counter,
    busy: Counter,
    refused: Counter,
    opened: Counter,
    seconds: Histogram,
}

impl MountMeter {
    /// It answered, after this time.
    pub fn answered(&self, after: std::time::Duration) {
        self.answered.inc();
        self.seconds.observe(after.as_secs_f64());
    }

    /// It failed.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// It did not answer in time.
    pub fn timed_out(&self) {
        self.timed_out.inc();
    }

    /// A call was refused because there are too many.
    pub fn busy(&self) {
        self.busy.inc();
    }

    /// A call was refused because the mount had failed.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// Calls are refused from now on.
    pub fn opened(&self) {
        self.opened.inc();
    }
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

fn duration() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0])
}

fn first_byte() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0])
}

macro_rules! table {
    ($( $field:ident: $type:ty = $make:expr, $kind:ident $name:literal [$($label:literal),*], $help:literal; )*) => {
        /// All metrics. One for the process ([`metrics`]); a test may make its own.
        pub struct Metrics {
            $( pub(super) $field: $type, )*
            registry: Registry,
            buckets: BucketLabels,
            refresh: Mutex<Vec<Refresh>>,
        }

        /// Every metric there is.
        pub const TABLE: &[Row] =
            &[$( Row { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help } ),*];

        impl Metrics {
            /// A set of its own, all zero.
            #[must_use]
            pub fn new() -> Self {
                let mut registry = Registry::default();
                $(
                    let $field: $type = $make;
                    // The encoder adds the suffix of a counter and the full stop of a help text itself.
                    registry.register($name.trim_end_matches("_total"), $help, $field.clone());
                )*
                Self { $( $field, )* registry, buckets: BucketLabels::new(), refresh: Mutex::new(Vec::new()) }
            }
        }
    };
}

table! {
    requests: Family<RequestLabels, Counter> = Family::default(),
        Counter "sluice_http_requests_total" ["method", "op", "status", "bucket"], "Requests answered";
    durations: Durations<DurationLabels> = Family::new_with_constructor(duration as fn() -> Histogram),
        Histogram "sluice_http_request_duration_seconds" ["op", "status_class"], "Time from the head of a request to the end of its answer";
    ttfb: Durations<OpLabels> = Family::new_with_constructor(first_byte as fn() -> Histogram),
        Histogram "sluice_ttfb_seconds" ["op"], "Time from the head of a request to the head of its answer";
    errors: Family<CodeLabels, Counter> = Family::default(),
        Counter "sluice_errors_total" ["code"], "Answers of 400 and above by their S3 error code";
    received: Counter = Counter::default(),
        Counter "sluice_http_received_bytes_total" [], "Bytes of request bodies that arrived";
    sent: Counter = Counter::default(),
        Counter "sluice_http_sent_bytes_total" [], "Bytes of response bodies handed to connections";
    cut: Counter = Counter::default(),
        Counter "sluice_http_responses_cut_total" [], "Answers that broke off before their end";
    in_flight: Gauge = Gauge::default(),
        Gauge "sluice_http_requests_in_flight" [], "Requests being answered, until the end of their bodies";
    connections: Gauge = Gauge::default(),
        Gauge "sluice_http_connections" [], "Open client connections";
    redirects: Counter = Counter::default(),
        Counter "sluice_redirects_total" [], "Reads answered with a link to where the bytes are";
    upstream_reads: Family<UpstreamLabels, Counter> = Family::default(),
        Counter "sluice_upstream_reads_total" ["role", "outcome"], "Reads of mounts with several upstreams: by whether the primary or a replica was asked, answered or failed";
    upstream_failovers: Counter = Counter::default(),
        Counter "sluice_upstream_failovers_total" [], "Reads that went on to another upstream";
    upstreams_out: Gauge = Gauge::default(),
        Gauge "sluice_upstreams_out" [], "Upstreams that are left out because they failed";
    mount_calls: Family<CallLabels, Counter> = Family::default(),
        Counter "sluice_mount_calls_total" ["provider", "outcome"], "Calls of mounts: answered, failed, timed_out, busy (over the cap), refused (circuit open)";
    mount_seconds: Durations<ProviderLabels> = Family::new_with_constructor(first_byte as fn() -> Histogram),
        Histogram "sluice_mount_answer_seconds" ["provider"], "Time from a call of a mount to the begin of its answer";
    mount_circuit_opened: Family<ProviderLabels, Counter> = Family::default(),
        Counter "sluice_mount_circuit_opened_total" ["provider"], "Times that a mount stopped answering";
    rate_limited: Family<LimitLabels, Counter> = Family::default(),
        Counter "sluice_rate_limited_total" ["limit"], "Requests refused because their sender or bucket is over its rate";
    rate_limit_entries: Gauge = Gauge::default(),
        Gauge "sluice_rate_limit_entries" [], "Senders and buckets whose rate is remembered";
    open_handles: Gauge = Gauge::default(),
        Gauge "sluice_open_handles" [], "Objects open for reading or writing";
    handles_reaped: Counter = Counter::default(),
        Counter "sluice_handles_reaped_total" [], "Handles closed because no byte moved for too long";
    token_cache_hits: Counter = Counter::default(),
        Counter "sluice_token_cache_hits_total" [], "Access keys found in the cache";
    token_cache_misses: Counter = Counter::default(),
        Counter "sluice_token_cache_misses_total" [], "Access keys that the metadata store was asked for";
    token_cache_evictions: Counter = Counter::default(),
        Counter "sluice_token_cache_evictions_total" [], "Access keys that left the cache to make room";
    token_cache_entries: Gauge = Gauge::default(),
        Gauge "sluice_token_cache_entries" [], "Access keys in the cache";
    meta_circuit_open: Gauge = Gauge::default(),
        Gauge "sluice_meta_circuit_open" [], "1 while calls to the metadata store are refused because it does not answer";
    meta_circuit_opened: Counter = Counter::default(),
        Counter "sluice_meta_circuit_opened_total" [], "Times that the metadata store stopped answering";
    meta_circuit_refused: Counter = Counter::default(),
        Counter "sluice_meta_circuit_refused_total" [], "Calls to the metadata store that were refused at once";
    listing_bytes: Gauge = Gauge::default(),
        Gauge "sluice_listing_cache_bytes" [], "What sorted directories of local mounts take";
    listing_directories: Gauge = Gauge::default(),
        Gauge "sluice_listing_cache_directories" [], "Directories of local mounts that are kept sorted";
    listing_reads: Counter = Counter::default(),
        Counter "sluice_listing_directory_reads_total" [], "Directories of local mounts that were read for a listing";
    listing_hits: Counter = Counter::default(),
        Counter "sluice_listing_cache_hits_total" [], "Directories of local mounts that a listing found sorted";
    slow: Family<OpLabels, Counter> = Family::default(),
        Counter "sluice_slow_operations_total" ["op"], "Operations on which the gateway worked for longer than log.slow_ms";
    blocking_queue: Gauge = Gauge::default(),
        Gauge "sluice_blocking_queue_depth" [], "Work for the disk that waits for a thread";
    lifecycle_runs: Counter = Counter::default(),
        Counter "sluice_lifecycle_runs_total" [], "Lifecycle runs over all buckets that this gateway brought to their end";
    lifecycle_running: Gauge = Gauge::default(),
        Gauge "sluice_lifecycle_running" [], "1 while this gateway is at a lifecycle run";
    lifecycle_last: Gauge = Gauge::default(),
        Gauge "sluice_lifecycle_last_run_seconds" [], "How long this gateway's last lifecycle run took";
    lifecycle_seen: Counter = Counter::default(),
        Counter "sluice_lifecycle_seen_total" [], "Objects, versions and uploads that lifecycle runs looked at";
    lifecycle_actions: Family<ActionLabels, Counter> = Family::default(),
        Counter "sluice_lifecycle_actions_total" ["action"], "What lifecycle runs did; `left` is what was due and could not be done, or was changed meanwhile";
    tls_failed: Counter = Counter::default(),
        Counter "sluice_tls_handshakes_failed_total" [], "Connections that did not get through the TLS handshake";
    panics: Counter = Counter::default(),
        Counter "sluice_panics_total" [], "Panics caught in requests";
    task_panics: Counter = Counter::default(),
        Counter "sluice_task_panics_total" [], "Panics caught in background tasks";
    log_lines_dropped: Counter = Counter::default(),
        Counter "sluice_log_lines_dropped_total" [], "Log lines dropped because nobody read them fast enough";
    build: Family<BuildLabels, Gauge> = Family::default(),
        Gauge "sluice_build_info" ["version"], "Always 1; the version is a label";
    resident: Gauge = Gauge::default(),
        Gauge "process_resident_memory_bytes" [], "Resident memory of the process";
}

/// A source that is asked when somebody scrapes.
type Refresh = Box<dyn Fn(&Metrics) + Send + Sync>;

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics of this process.
#[must_use]
pub fn metrics() -> &'static Metrics {
    &METRICS
}

/// A request that has been answered to the end.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Its method.
    pub method: &'a http::Method,
    /// The operation, as S3 names it.
    pub op: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The error code, where it is known.
    pub code: Option<&'static str>,
    /// The bucket; empty when the request names none.
    pub bucket: &'a str,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// Seconds to the head of the answer.
    pub first_byte_secs: f64,
    /// Seconds to its end.
    pub total_secs: f64,
    /// Whether the answer got to its end.
    pub complete: bool,
}

// === impl Metrics ===

impl Metrics {
    /// Counts an answered request.
    pub fn answered(&self, request: &Answered<'_>) {
        let status_class = match request.status {
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "1xx",
        };
        let labels = RequestLabels {
            method: method_label(request.method),
            op: request.op,
            status: request.status,
            bucket: self.buckets.label(request.bucket, request.status < 400),
        };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&DurationLabels { op: request.op, status_class }).observe(request.total_secs);
        self.ttfb.get_or_create(&OpLabels { op: request.op }).observe(request.first_byte_secs);
        if request.status >= 400 {
            let code = request.code.unwrap_or(code_of_status(request.status));
            self.errors.get_or_create(&CodeLabels { code }).inc();
        }
        if request.received > 0 {
            self.received.inc_by(request.received);
        }
        if request.sent > 0 {
            self.sent.inc_by(request.sent);
        }
        if !request.complete {
            self.cut.inc();
        }
    }

    /// The metrics of a mount of this kind of provider.
    #[must_use]
    pub fn mount_meter(&self, provider: &'static str) -> MountMeter {
        let calls = |outcome| self.mount_calls.get_or_create(&CallLabels { provider, outcome }).clone();
        MountMeter {
            answered: calls("answered"),
            failed: calls("failed"),
            timed_out: calls("timed_out"),
            busy: calls("busy"),
            refused: calls("refused"),
            opened: self.mount_circuit_opened.get_or_create(&ProviderLabels { provider }).clone(),
            seconds: self.mount_seconds.get_or_create(&ProviderLabels { provider }).clone(),
        }
    }

    /// Counts an operation that was slow.
    pub fn slow(&self, op: &'static str) {
        self.slow.get_or_create(&OpLabels { op }).inc();
    }

    /// Notes how much work for the disk waits for a thread.
    pub fn set_blocking_queue(&self, depth: usize) {
        self.blocking_queue.set(gauge(depth));
    }

    /// Counts a TLS handshake that failed.
    pub fn tls_failed(&self) {
        self.tls_failed.inc();
    }

    /// Counts a panic of a request.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Notes how many requests are being answered.
    pub fn set_in_flight(&self, count: usize) {
        self.in_flight.set(gauge(count));
    }

    /// Notes how many connections are open.
    pub fn set_connections(&self, count: usize) {
        self.connections.set(gauge(count));
    }

    /// Notes how many requests were refused for the rate of their sender and of their bucket, and how many rates are remembered.
    pub fn set_rate_limits(&self, users: u64, buckets: u64, entries: usize) {
        for (limit, count) in [("user", users), ("bucket", buckets)] {
            raise(&self.rate_limited.get_or_create(&LimitLabels { limit }), count);
        }
        self.rate_limit_entries.set(gauge(entries));
    }

    /// Notes the state of the handle registry: how many are open, and how many were ever reaped.
    pub fn set_handles(&self, open: usize, reaped: u64) {
        self.open_handles.set(gauge(open));
        raise(&self.handles_reaped, reaped);
    }

    /// Notes how often the cache of access keys had the answer, how often not, how many it dropped for others, and how many it holds.
    pub fn set_token_cache(&self, hits: u64, misses: u64, evictions: u64, entries: u64) {
        raise(&self.token_cache_hits, hits);
        raise(&self.token_cache_misses, misses);
        raise(&self.token_cache_evictions, evictions);
        self.token_cache_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Notes the state of the circuit breaker of the metadata store.
    pub fn set_meta_circuit(&self, open: bool, opened: u64, refused: u64) {
        self.meta_circuit_open.set(i64::from(open));
        raise(&self.meta_circuit_opened, opened);
        raise(&self.meta_circuit_refused, refused);
    }

    /// Notes what listings remember of directories, how often they were read and how often that was spared.
    pub fn set_listing_cache(&self, directories: usize, bytes: usize, reads: u64, hits: u64) {
        self.listing_directories.set(gauge(directories));
        self.listing_bytes.set(gauge(bytes));
        raise(&self.listing_reads, reads);
        raise(&self.listing_hits, hits);
    }

    /// Counts a read that was answered with a link.
    pub fn redirected(&self) {
        self.redirects.inc();
    }

    /// Notes what mounts with several upstreams did.
    pub fn set_upstreams(&self, counts: UpstreamCounts) {
        for (role, (answered, failed)) in [("primary", counts.primary), ("replica", counts.replicas)] {
            for (outcome, count) in [("answered", answered), ("failed", failed)] {
                raise(&self.upstream_reads.get_or_create(&UpstreamLabels { role, outcome }), count);
            }
        }
        raise(&self.upstream_failovers, counts.failovers);
        self.upstreams_out.set(gauge(counts.out));
    }

    /// Notes whether this gateway is at a lifecycle run.
    pub fn set_lifecycle_running(&self, running: bool) {
        self.lifecycle_running.set(i64::from(running));
    }

    /// Notes the end of a lifecycle run.
    pub fn lifecycle_ran(&self, took: std::time::Duration) {
        self.lifecycle_runs.inc();
        self.lifecycle_last.set(i64::try_from(took.as_secs()).unwrap_or(i64::MAX));
    }

    /// Notes what a lifecycle run looked at.
    pub fn lifecycle_saw(&self, count: u64) {
        self.lifecycle_seen.inc_by(count);
    }

    /// Notes what a lifecycle run did, by action.
    pub fn lifecycle_did(&self, done: impl IntoIterator<Item = (&'static str, u64)>) {
        for (action, count) in done.into_iter().filter(|(_, count)| *count > 0) {
            self.lifecycle_actions.get_or_create(&ActionLabels { action }).inc_by(count);
        }
    }

    /// Notes how many panics supervised tasks have caught.
    pub fn set_task_panics(&self, count: u64) {
        raise(&self.task_panics, count);
    }

    /// Registers a source that is asked before every scrape. It must not block.
    pub fn on_scrape(&self, refresh: impl Fn(&Self) + Send + Sync + 'static) {
        self.refresh.lock().push(Box::new(refresh));
    }

    /// The Prometheus text format 0.0.4, or OpenMetrics 1.0 when `openmetrics`.
    #[must_use]
    pub fn render(&self, openmetrics: bool) -> String {
        for refresh in self.refresh.lock().iter() {
            refresh(self);
        }
        self.build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        self.resident.set(resident_bytes());
        raise(&self.log_lines_dropped, super::log_lines_dropped());
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        if openmetrics { text } else { exposition::plain(&text) }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Brings a counter up to a value that is counted elsewhere.
fn raise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// The code of an answer that does not tell: what its status says.
fn code_of_status(status: u16) -> &'static str {
    match status {
        400 => "HTTP400",
        401 => "HTTP401",
        403 => "HTTP403",
        404 => "HTTP404",
        405 => "HTTP405",
        408 => "HTTP408",
        409 => "HTTP409",
        411 => "HTTP411",
        412 => "HTTP412",
        413 => "HTTP413",
        416 => "HTTP416",
        431 => "HTTP431",
        500 => "HTTP500",
        501 => "HTTP501",
        503 => "HTTP503",
        other if other < 500 => "HTTP4xx",
        _ => "HTTP5xx",
    }
}

/// What `/proc` says; 0 where there is none.
fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<i64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests;
