//! `sluice serve`: start, serve, drain.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::signal::unix::{SignalKind, signal};

use super::data_dir::{DataDir, Hold, Holder};
use super::failure::{BROKEN_OFF, DONE, Failure};
use super::first_start;
use crate::admin::{self, Admin};
use crate::config::{Config, Loaded, Secrets, ServeArgs};
use crate::handles::Registry;
use crate::lifecycle::{Lease, Lifecycle};
use crate::meta::{self, CircuitState, MetaStore};
use crate::mounts;
use crate::namespaces::{DefaultMount, Namespaces};
use crate::objects::Objects;
use crate::runtime::{self, Drain, Gate, Task};
use crate::s3::{self, Front};
use crate::server::{Edge, Fault, Limits, RequestBody, Server, s3_fault};
use crate::telemetry::{self, RequestId, metrics};
use crate::tokens::{self, KeySource, MasterKeys, Tokens};
use crate::uploads::Uploads;

/// How long what was broken off may take to let go.
const GRACE: Duration = Duration::from_millis(250);
/// How long the admin listener may take to finish: its answers are small.
const ADMIN_PATIENCE: Duration = Duration::from_secs(1);
/// Requests of the admin listener at once.
const ADMIN_REQUESTS: usize = 64;
const ADMIN_CONNECTIONS: usize = 256;
/// How long other gateways wait for one that died in a lifecycle run.
const LIFECYCLE_TERM: Duration = Duration::from_secs(60);
/// How often sessions and revocations that have ended are forgotten: a thousand of each at a time.
const SWEEP_IDENTITIES: Duration = Duration::from_secs(10);

/// Runs the command.
pub(super) fn run(args: &ServeArgs) -> Result<u8, Failure> {
    small_pages();
    let loaded = args.sources()?.load()?;
    if args.check {
        for warning in &loaded.warnings {
            let _ = writeln!(io::stderr(), "warning: {warning}");
        }
        let printed = io::stdout().write_all(loaded.to_toml().as_bytes());
        return printed.map(|()| DONE).map_err(Failure::of("standard output"));
    }
    let _log = telemetry::init(&loaded.config.log).map_err(Failure::of("the log"))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("sluice").build();
    let runtime = runtime.map_err(Failure::of("the runtime"))?;
    let ended = runtime.block_on(serve(loaded));
    // What still runs on the blocking pool belongs to requests that were broken off.
    runtime.shutdown_timeout(GRACE);
    ended
}

async fn serve(loaded: Loaded) -> Result<u8, Failure> {
    let stop = Stop::listen().map_err(Failure::of("signals"))?;
    let gateway = Gateway::start(loaded.config, &loaded.secrets).await?;
    Ok(gateway.until(stop).await)
}

/// A gateway that serves.
pub(super) struct Gateway {
    config: Config,
    store: Arc<dyn MetaStore>,
    handles: Registry,
    gate: Gate,
    drain: Drain,
    admin_drain: Drain,
    pub(super) s3: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Stopped when the requests have ended.
    background: Vec<Task>,
    sweep: crate::handles::Sweep,
    /// Let go last.
    data_dir: DataDir,
}

impl Gateway {
    /// Starts everything, lowest floor first.
    pub(super) async fn start(config: Config, secrets: &Secrets) -> Result<Self, Failure> {
        raise_descriptor_limit();
        let mut data_dir = hold(&config)?;
        let (store, tokens) = open_store(&config, secrets, &data_dir).await?;
        let token = match &secrets.admin_token {
            Some(token) => tokens::Secret::new(token.expose().to_owned()),
            None => admin::admin_token(&data_dir.admin_token()).map_err(Failure::of("the admin token"))?,
        };

        // Bound before the root key is made: a start that fails for a taken port must not have shown a key, nor lost one.
        let s3_server = bind("server.listen", &config.server.listen).await?;
        let admin_server = bind("admin.listen", &config.admin.listen).await?;
        let (s3, admin) = (s3_server.address(), admin_server.address());
        let holder = Holder { pid: std::process::id(), admin: admin.to_string() };
        data_dir.tell(&holder).map_err(Failure::of("the lock of the data directory"))?;
        first_start::root_key(&tokens, secrets, s3).await?;

        mounts::limit_listing_cache(config.mounts.listing_cache_bytes);
        let handles = Registry::new(config.handles.clone());
        let sweep = handles.start_sweep();
        let default_mount =
            DefaultMount { provider: config.default_mount.provider.clone(), settings: config.default_mount.settings() };
        let namespaces = Arc::new(Namespaces::new(Arc::clone(&store), default_mount));
        let uploads = Arc::new(Uploads::new(Arc::clone(&store)).with_handles(handles.clone()));
        let objects = Arc::new(Objects::new(Arc::clone(&uploads), handles.clone()));
        let lifecycle =
            Lifecycle::new(Arc::clone(&namespaces), Arc::clone(&objects), Arc::clone(&uploads), config.lifecycle.clone());
        let lease = Lease::new(Arc::clone(&store), uuid::Uuid::new_v4().to_string(), LIFECYCLE_TERM);
        let lifecycle = Arc::new(lifecycle.with_lease(lease));
        let front = Front::new(s3::Parts {
            namespaces: Arc::clone(&namespaces),
            objects: Arc::clone(&objects),
            uploads: Arc::clone(&uploads),
            tokens: Arc::clone(&tokens),
            lanes: config.transfer.lanes(),
            settings: config.s3.clone(),
        });
        let (drain, admin_drain) = (Drain::new(), Drain::new());
        let gate = Gate::new(config.server.max_concurrent_requests);
        let edge = Edge {
            service: move |request: Request<RequestBody>| {
                let front = front.clone();
                async move { front.call(request).await }
            },
            fault: s3_fault,
            gate: gate.clone(),
            metrics: Some(metrics()),
            domains: config.s3.domains.clone().into(),
            head_timeout: Some(Duration::from_secs(config.server.request_timeout_secs)),
        };
        report_to_metrics(&gate, &handles, &tokens, &store);
        let service = Admin::new(admin::Parts {
            store: Arc::clone(&store),
            namespaces: Arc::clone(&namespaces),
            lifecycle: Arc::clone(&lifecycle),
            tokens: Arc::clone(&tokens),
            handles: handles.clone(),
            metrics: metrics(),
            drain: drain.clone(),
            instance_id: instance_id(),
            token: Arc::new(token),
        });
        let admin_edge = Edge {
            service: move |request: Request<RequestBody>| {
                let service = service.clone();
                async move { service.call(request).await }
            },
            fault: admin_fault,
            gate: Gate::new(ADMIN_REQUESTS),
            metrics: None,
            domains: Arc::from([]),
            head_timeout: None,
        };
        let idle = Duration::from_secs(config.server.idle_timeout_secs);
        let s3_limits = Limits { idle, connections: config.server.max_connections, sendfile: config.server.sendfile };
        let admin_limits = Limits { idle, connections: ADMIN_CONNECTIONS, sendfile: false };
        let (expiry, mounted) = (config.uploads.clone(), Arc::clone(&namespaces));
        let sweep_uploads = move || {
            let (uploads, namespaces, expiry) = (Arc::clone(&uploads), Arc::clone(&namespaces), expiry.clone());
            async move { uploads.sweep_expired(&namespaces, &expiry).await }
        };
        let sweep_mounts = move || {
            let namespaces = Arc::clone(&mounted);
            async move {
                namespaces.sweep_mounts().await;
            }
        };
        let secs = Duration::from_secs;
        let swept = Arc::clone(&tokens);
        let run_lifecycle = move || {
            let lifecycle = Arc::clone(&lifecycle);
            async move { lifecycle.run_shared().await }
        };
        let mut background = vec![
            runtime::spawn("S3 listener", s3_server.run(edge, s3_limits, drain.clone())),
            runtime::spawn("admin listener", admin_server.run(admin_edge, admin_limits, admin_drain.clone())),
            runtime::every("sweep of uploads", secs(config.uploads.sweep_secs), sweep_uploads),
            runtime::spawn("changes of identities", Arc::clone(&tokens).follow_changes()),
            runtime::every("sweep of identities", SWEEP_IDENTITIES, move || {
                let tokens = Arc::clone(&swept);
                async move {
                    if let Err(error) = tokens.sweep().await {
                        tracing::warn!(%error, "what has ended stays in the metadata store");
                    }
                }
            }),
            runtime::every("sweep of mounts", secs(config.mounts.sweep_secs), sweep_mounts),
        ];
        if config.lifecycle.interval_secs > 0 {
            background.push(runtime::every("lifecycle", secs(config.lifecycle.interval_secs), run_lifecycle));
        }
        let gateway = Self { config, store, handles, gate, drain, admin_drain, s3, admin, background, sweep, data_dir };
        gateway.tell();
        Ok(gateway)
    }

    /// Where everything lies, and what to do next.
    fn tell(&self) {
        let config = &self.config;
        for (what, address) in [("S3", self.s3), ("admin", self.admin)] {
            if !address.ip().is_loopback() {
                tracing::warn!(%address, "the {what} listener is open beyond this machine without TLS: put a TLS proxy in front of it");
            }
        }
        tracing::info!(
            data_dir = %self.data_dir.path().display(),
            store = meta::shown(&config.meta.dsn),
            default_mount = config.default_mount.provider,
            root = config.default_mount.root,
            admin_token = %self.data_dir.admin_token().display(),
            "where everything lies"
        );
        tracing::info!(
            "serving S3 on {} and health, metrics and the admin API on {}; more keys: `sluice key create NAME`; stop: Ctrl+C",
            first_start::endpoint(self.s3),
            first_start::endpoint(self.admin),
        );
    }

    /// Serves until told to stop, and stops. The exit code says whether all requests finished.
    async fn until(self, mut stop: Stop) -> u8 {
        let name = stop.next().await;
        tracing::info!(signal = name, in_flight = self.gate.inside(), "stopping: no new requests; those under way may finish");
        let drain = self.drain.clone();
        let again = runtime::spawn("second signal", async move {
            let name = stop.next().await;
            tracing::warn!(signal = name, "stopping at once");
            drain.abort();
        });
        let code = self.stop().await;
        drop(again);
        code
    }

    /// Drains and closes, highest floor first.
    pub(super) async fn stop(self) -> u8 {
        let limit = Duration::from_secs(self.config.server.shutdown_timeout_secs);
        let finished = self.drain.finish(limit, GRACE).await;
        let closed = self.handles.close_all();
        drop(self.sweep);
        self.admin_drain.finish(ADMIN_PATIENCE, GRACE).await;
        drop(self.background);
        self.store.close().await;
        drop(self.data_dir);
        if finished {
            tracing::info!("stopped: all requests finished");
            DONE
        } else {
            tracing::warn!(requests = self.drain.aborted(), handles = closed, "stopped: requests were broken off");
            BROKEN_OFF
        }
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

fn hold(config: &Config) -> Result<DataDir, Failure> {
    let path = config.data_dir();
    match DataDir::hold(&path, true)? {
        Hold::Ours(dir) => Ok(dir),
        Hold::Theirs(holder) => {
            let pid = holder.pid;
            Err(Failure::new(format!("the data directory {} is in use by another gateway (process {pid})", path.display())))
        }
        Hold::Missing => Err(Failure::new(format!("the data directory {} cannot be created", path.display()))),
    }
}

/// Opens the metadata store and the token layer on it. The caller holds the data directory.
pub(super) async fn open_store(
    config: &Config,
    secrets: &Secrets,
    data_dir: &DataDir,
) -> Result<(Arc<dyn MetaStore>, Arc<Tokens>), Failure> {
    let store = meta::open(&config.meta, data_dir.path()).await.map_err(Failure::of("the metadata store"))?;
    let opened = async {
        let (keys, source) = master_keys(config, secrets, data_dir).await?;
        let tokens = Tokens::open_configured(Arc::clone(&store), keys, source, &config.tokens).await;
        tokens.map_err(Failure::of("the access keys"))
    };
    match opened.await {
        Ok(tokens) => Ok((store, Arc::new(tokens))),
        Err(failure) => {
            store.close().await;
            Err(failure)
        }
    }
}

/// The master keys, and where they can be read again.
async fn master_keys(config: &Config, secrets: &Secrets, data_dir: &DataDir) -> Result<(MasterKeys, Option<KeySource>), Failure> {
    let command = config.tokens.master_key_command.clone();
    let source: KeySource = if !command.is_empty() {
        Arc::new(move || tokens::master_keys_of_command(&command))
    } else if let Some(text) = &secrets.master_key {
        return Ok((tokens::parse_master_keys(text.expose()).map_err(Failure::of("SLUICE_MASTER_KEY"))?, None));
    } else {
        let path = data_dir.master_key();
        Arc::new(move || tokens::master_keys(&path))
    };
    let read = Arc::clone(&source);
    let keys = tokio::task::spawn_blocking(move || read()).await.map_err(Failure::of("the master key"))?;
    Ok((keys.map_err(Failure::of("the master key"))?, Some(source)))
}

async fn bind(key: &str, address: &str) -> Result<Server, Failure> {
    Server::bind(address).await.map_err(|error| Failure::new(format!("{key}: cannot listen on {address}: {error}")))
}

fn report_to_metrics(gate: &Gate, handles: &Registry, tokens: &Arc<Tokens>, store: &Arc<dyn MetaStore>) {
    let (gate, handles, tokens, store) = (gate.clone(), handles.clone(), Arc::clone(tokens), Arc::clone(store));
    metrics().on_scrape(move |metrics| {
        metrics.set_in_flight(gate.inside());
        metrics.set_handles(handles.len(), handles.counters().reaped);
        let cache = tokens.cache_counts();
        metrics.set_token_cache(cache.hits, cache.misses, cache.evictions, cache.entries);
        let circuit = store.circuit();
        metrics.set_meta_circuit(circuit.state != CircuitState::Closed, circuit.opened, circuit.refused);
        metrics.set_task_panics(runtime::panics());
        let listings = mounts::listing_cache();
        metrics.set_listing_cache(listings.directories, listings.bytes, listings.reads, listings.hits);
    });
}

fn admin_fault(fault: Fault, _path: &str, request_id: &RequestId) -> Response<Bytes> {
    let (status, code, message) = match fault {
        Fault::SlowDown => (StatusCode::TOO_MANY_REQUESTS, "SlowDown", "Too many requests at once."),
        Fault::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable", "The answer took too long."),
        Fault::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "The gateway failed: see its log."),
        Fault::Unreadable => (StatusCode::BAD_REQUEST, "BadRequest", "This is no HTTP request."),
        Fault::HeadTooLarge => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "HeadTooLarge", "The head of the request is too large.")
        }
    };
    admin::fault_document(status, code, message, request_id)
}

/// Names this process: 8 hexadecimal digits.
fn instance_id() -> Arc<str> {
    RequestId::next().0.get(..8).unwrap_or_default().to_ascii_lowercase().into()
}

/// Memory in pages of 4 KiB. The allocator asks for huge ones, which take 2 MiB for the first byte that is used of each: half of
/// what an idle gateway held. No operation was measured to be dearer without them.
fn small_pages() {
    // Where the kernel has no huge pages there is nothing to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// A connection is a descriptor, and so is an open object: as many as the system lets us have.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}
