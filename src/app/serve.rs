//! `sluice serve`: start, serve, drain.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::data_dir::{DataDir, Hold, Holder};
use super::failure::{BROKEN_OFF, DONE, Failure};
use super::reload::Reloader;
use super::{first_start, listeners, reload};
use crate::admin::{self, Admin, Reload};
use crate::config::{Config, Loaded, Secrets, ServeArgs};
use crate::encryption::{Encryption, KmsCredential};
use crate::handles::Registry;
use crate::lifecycle::{Lease, Lifecycle};
use crate::limits::Rates;
use crate::meta::{self, CircuitState, MetaStore};
use crate::mounts::{self, ShieldLimits};
use crate::namespaces::Namespaces;
use crate::objects::Objects;
use crate::runtime::{self, Drain, Gate, ReactorThreads, Reactors, Task};
use crate::s3::{self, Front};
use crate::server::{Edge, Fault, Limits, RequestBody, Tls, s3_fault};
use crate::telemetry::{self, LogControl, RequestId, metrics};
use crate::tokens::{self, KeySource, Keyring, MasterKeys, Tokens};
use crate::uploads::Uploads;

/// How long a thread that did blocking work waits for more. Work goes to the one that has waited longest, so each of those that a burst took
/// keeps memory of its own for as long.
const IDLE_THREADS: Duration = Duration::from_secs(1);
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
/// How often it is written when keys were last used.
const WRITE_USES: Duration = Duration::from_secs(60);

/// How often rates that are whole again are forgotten.
const FORGET_RATES: Duration = Duration::from_secs(60);

/// Runs the command.
pub(super) fn run(args: &ServeArgs) -> Result<u8, Failure> {
    runtime::settle();
    let loaded = args.sources()?.load()?;
    if args.check {
        for warning in &loaded.warnings {
            let _ = writeln!(io::stderr(), "warning: {warning}");
        }
        let printed = io::stdout().write_all(loaded.to_toml().as_bytes());
        return printed.map(|()| DONE).map_err(Failure::of("standard output"));
    }
    let log = telemetry::init(&loaded.config.log).map_err(Failure::of("the log"))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let instance_id = instance_id();
    // Sent to the end, and outside of the runtime: what waits for a collector must not wait in it.
    let traces = telemetry::init_traces(&instance_id).map_err(Failure::of("OpenTelemetry"))?;
    if traces.is_on() {
        tracing::info!("spans go where OTEL_EXPORTER_OTLP_ENDPOINT says");
    }
    raise_descriptor_limit();
    let runtime = thrifty(&mut Builder::new_multi_thread()).build();
    let runtime = runtime.map_err(Failure::of("the runtime"))?;
    // As many as the runtime has workers; with one of those there is nothing to choose from. TLS is work that whoever is free should do.
    let workers = runtime.metrics().num_workers();
    let own = loaded.config.server.connection_affinity && loaded.config.server.tls_cert.is_empty() && workers > 1;
    let threads = own.then(|| ReactorThreads::start(workers, || thrifty(&mut Builder::new_current_thread()).build())).transpose();
    let threads = threads.unwrap_or_else(|error| {
        tracing::warn!(%error, "connections have no threads of their own: whichever is free serves them");
        None
    });
    let reactors = threads.as_ref().map(ReactorThreads::reactors);
    let ended = runtime.block_on(serve(loaded, Live { args: args.clone(), log: log.control(), instance_id, reactors }));
    // What still runs on the blocking pools belongs to requests that were broken off.
    if let Some(threads) = threads {
        threads.stop(GRACE);
    }
    runtime.shutdown_timeout(GRACE);
    ended
}

/// A runtime whose threads keep no memory that nobody uses.
fn thrifty(builder: &mut Builder) -> &mut Builder {
    builder.enable_all().thread_name("sluice").on_thread_park(runtime::give_back_freed).thread_keep_alive(IDLE_THREADS)
}

async fn serve(loaded: Loaded, live: Live) -> Result<u8, Failure> {
    let stop = Stop::listen().map_err(Failure::of("signals"))?;
    let gateway = Gateway::start(loaded.config, &loaded.secrets, live).await?;
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    Ok(gateway.until(stop).await)
}

/// What a configuration that is read again comes from, how it changes the log, and what serves connections.
pub(super) struct Live {
    args: ServeArgs,
    log: LogControl,
    instance_id: Arc<str>,
    /// What serves connections to the S3 listener, if not the runtime itself.
    reactors: Option<Reactors>,
}

/// A gateway that serves.
pub(super) struct Gateway {
    config: Config,
    store: Arc<dyn MetaStore>,
    tokens: Arc<Tokens>,
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
    pub(super) async fn start(config: Config, secrets: &Secrets, live: Live) -> Result<Self, Failure> {
        let mut data_dir = hold(&config)?;
        let (store, tokens) = open_store(&config, secrets, &data_dir).await?;
        let token = match &secrets.admin_token {
            Some(token) => tokens::Secret::new(token.expose().to_owned()),
            None => admin::admin_token(&data_dir.admin_token()).map_err(Failure::of("the admin token"))?,
        };

        // Bound before the root key is made: a start that fails for a taken port must not have shown a key, nor lost one.
        let tls = match config.server.tls_files().map_err(Failure::new)? {
            Some(files) => Some(Arc::new(Tls::load(&files).map_err(Failure::of("TLS"))?)),
            None => None,
        };
        let admin_tls = match listeners::admin_tls(&config).map_err(Failure::new)? {
            Some(files) => Some(Arc::new(Tls::load(&files).map_err(Failure::of("TLS of the admin listener"))?)),
            None => None,
        };
        let proxies = Arc::new(config.server.proxies().map_err(Failure::new)?);
        let (s3_server, admin_server) = listeners::bind(&config).await?;
        let (s3, admin) = (s3_server.address(), admin_server.address());
        let admin_cert = match config.admin.tls_cert.as_str() {
            "" => PathBuf::new(),
            // Whoever asks for it stands elsewhere.
            cert => std::path::absolute(cert).map_err(Failure::of("admin.tls_cert"))?,
        };
        let holder = Holder { pid: std::process::id(), admin: admin.to_string(), admin_cert };
        data_dir.tell(&holder).map_err(Failure::of("the lock of the data directory"))?;
        first_start::root_key(&tokens, secrets, &first_start::endpoint(s3, tls.is_some())).await?;

        mounts::limit_listing_cache(config.mounts.listing_cache_bytes);
        #[cfg(feature = "wasm")]
        mounts::place_plugins(PathBuf::from(&config.mounts.plugin_dir), data_dir.path().join("cache/plugins"));
        let handles = Registry::new(config.handles.clone());
        let sweep = handles.start_sweep();
        let limits = ShieldLimits::from(&config.mounts);
        let namespaces = Namespaces::with_limits(Arc::clone(&store), reload::default_mount(&config), limits);
        let namespaces = Arc::new(namespaces);
        let encryption = encryption(&config, secrets, &data_dir).await?;
        let uploads = Uploads::new(Arc::clone(&store)).with_handles(handles.clone()).with_encryption(Arc::new(encryption));
        let uploads = Arc::new(uploads);
        let objects = Arc::new(Objects::new(Arc::clone(&uploads), handles.clone()));
        let lifecycle =
            Lifecycle::new(Arc::clone(&namespaces), Arc::clone(&objects), Arc::clone(&uploads), config.lifecycle.clone());
        let lease = Lease::new(Arc::clone(&store), RequestId::next().0.to_string(), LIFECYCLE_TERM);
        let lifecycle = Arc::new(lifecycle.with_lease(lease));
        let rates = Rates::new(&config.limits);
        let (drain, admin_drain) = (Drain::new(), Drain::new());
        let front = Arc::new(Front::new(s3::Parts {
            namespaces: Arc::clone(&namespaces),
            objects: Arc::clone(&objects),
            uploads: Arc::clone(&uploads),
            tokens: Arc::clone(&tokens),
            lanes: config.transfer.lanes(),
            rates: rates.clone(),
            drain: drain.clone(),
            settings: config.s3.clone(),
        }));
        let gate = Gate::new(config.server.max_concurrent_requests);
        let instance_id = live.instance_id;
        let reloader = Arc::new(Reloader {
            args: live.args,
            current: Mutex::new(config.clone()),
            log: live.log,
            rates: rates.clone(),
            gate: gate.clone(),
            namespaces: Arc::clone(&namespaces),
            tls: tls.clone(),
            admin_tls: admin_tls.clone(),
        });
        let edge = Edge {
            service: move |request: Request<RequestBody>| {
                let front = Arc::clone(&front);
                async move {
                    match mounts::hops(request.headers()) {
                        None => front.call(request).await,
                        Some(came) => Box::pin(mounts::with_hops(came, front.call(request))).await,
                    }
                }
            },
            fault: s3_fault,
            gate: gate.clone(),
            metrics: Some(metrics()),
            domains: config.s3.domains.clone().into(),
            head_timeout: Some(Duration::from_secs(config.server.request_timeout_secs)),
            instance: HeaderValue::from_str(&instance_id).ok(),
        };
        report_to_metrics(&gate, &handles, &tokens, &store, &rates);
        let service = Admin::new(admin::Parts {
            store: Arc::clone(&store),
            namespaces: Arc::clone(&namespaces),
            lifecycle: Arc::clone(&lifecycle),
            tokens: Arc::clone(&tokens),
            handles: handles.clone(),
            metrics: metrics(),
            drain: drain.clone(),
            reload: Reload::new({
                let reloader = Arc::clone(&reloader);
                move || Arc::clone(&reloader).run("admin API")
            }),
            instance_id: Arc::clone(&instance_id),
            token: Arc::new(token),
            memory_limit: config.admin.memory_limit_bytes,
        });
        let admin_edge = Edge {
            service: move |mut request: Request<RequestBody>| {
                if let Some(peer) = request.extensions().get::<s3::Peer>().map(|peer| admin::Peer(peer.address)) {
                    request.extensions_mut().insert(peer);
                }
                let service = service.clone();
                async move { service.call(request).await }
            },
            fault: admin_fault,
            gate: Gate::new(ADMIN_REQUESTS),
            metrics: None,
            domains: Arc::from([]),
            head_timeout: None,
            instance: None,
        };
        let idle = Duration::from_secs(config.server.idle_timeout_secs);
        let s3_limits = Limits {
            idle,
            connections: config.server.max_connections,
            sendfile: config.server.sendfile,
            tls,
            proxies,
            proxy_protocol: config.server.proxy_protocol,
            reactors: live.reactors,
        };
        let admin_limits = Limits {
            idle,
            connections: ADMIN_CONNECTIONS,
            sendfile: false,
            tls: admin_tls,
            proxies: Arc::default(),
            proxy_protocol: false,
            reactors: None,
        };
        let (expiry, mounted) = (config.uploads.clone(), Arc::clone(&namespaces));
        let (told, follows) = (Arc::clone(&namespaces), Arc::clone(&namespaces));
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
        let (swept, used) = (Arc::clone(&tokens), Arc::clone(&tokens));
        let run_lifecycle = move || {
            let lifecycle = Arc::clone(&lifecycle);
            async move { lifecycle.run_shared().await }
        };
        let mut background = vec![
            runtime::spawn("S3 listener", s3_server.run(edge, s3_limits, drain.clone())),
            runtime::spawn("admin listener", admin_server.run(admin_edge, admin_limits, admin_drain.clone())),
            runtime::every("sweep of uploads", secs(config.uploads.sweep_secs), sweep_uploads),
            runtime::spawn("changes", {
                let tokens = Arc::clone(&tokens);
                tokens.follow_changes(move |bucket| told.note_changed(bucket))
            }),
            runtime::spawn("changes of buckets", async move { follows.follow_changes().await }),
            runtime::every("sweep of identities", SWEEP_IDENTITIES, move || {
                let tokens = Arc::clone(&swept);
                async move {
                    if let Err(error) = tokens.sweep().await {
                        tracing::warn!(%error, "what has ended stays in the metadata store");
                    }
                }
            }),
            runtime::every("use of keys", WRITE_USES, move || {
                let tokens = Arc::clone(&used);
                async move { tokens.write_uses().await }
            }),
            runtime::every("rates of those who are quiet", FORGET_RATES, move || {
                let rates = rates.clone();
                async move { rates.forget_quiet() }
            }),
            runtime::every("sweep of mounts", secs(config.mounts.sweep_secs), sweep_mounts),
        ];
        background.push(runtime::spawn("SIGHUP", Arc::clone(&reloader).on_hangup()));
        if config.server.watch_secs > 0 {
            background.push(runtime::spawn("watch of files", reloader.watch(secs(config.server.watch_secs))));
        }
        if let Some(limit) = sd_notify::watchdog_enabled() {
            background.push(runtime::every("watchdog", limit / 2, || async {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }));
        }
        background.push(runtime::spawn("memory", runtime::give_back_after_start()));
        if config.lifecycle.interval_secs > 0 {
            background.push(runtime::every("lifecycle", secs(config.lifecycle.interval_secs), run_lifecycle));
        }
        let gateway = Self { config, store, tokens, handles, gate, drain, admin_drain, s3, admin, background, sweep, data_dir };
        gateway.tell(&instance_id);
        Ok(gateway)
    }

    /// Where everything lies, and what to do next.
    fn tell(&self, instance_id: &str) {
        let config = &self.config;
        let (tls, admin_tls) = (!config.server.tls_cert.is_empty(), !config.admin.tls_cert.is_empty());
        for (what, address, safe) in [("S3", self.s3, tls), ("admin", self.admin, admin_tls)] {
            if !safe && !address.ip().is_loopback() {
                tracing::warn!(%address, "the {what} listener is open beyond this machine without TLS: put a TLS proxy in front of it");
            }
        }
        tracing::info!(
            instance_id,
            data_dir = %self.data_dir.path().display(),
            store = meta::shown(&config.meta.dsn),
            default_mount = config.default_mount.provider,
            root = config.default_mount.root,
            admin_token = %self.data_dir.admin_token().display(),
            "where everything lies"
        );
        tracing::info!(
            "serving S3 on {} and health, metrics and the admin API on {}; more keys: `sluice key create NAME`; stop: Ctrl+C",
            first_start::endpoint(self.s3, tls),
            first_start::endpoint(self.admin, admin_tls),
        );
    }

    /// Serves until told to stop, and stops. The exit code says whether all requests finished.
    async fn until(self, mut stop: Stop) -> u8 {
        let name = stop.next().await;
        // Whoever balances the load sees it before anybody is refused, and before the log says so.
        self.drain.leave();
        tracing::info!(signal = name, in_flight = self.gate.inside(), "stopping: no new requests; those under way may finish");
        let drain = self.drain.clone();
        let again = runtime::spawn("second signal", async move {
            let name = stop.next().await;
            tracing::warn!(signal = name, "stopping at once");
            drain.abort();
        });
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(self.config.server.drain_delay_secs)) => {}
            () = self.drain.aborting() => {}
        }
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
        self.tokens.write_uses().await;
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

/// What encrypts objects, with the master keys that seal secrets too.
async fn encryption(config: &Config, secrets: &Secrets, data_dir: &DataDir) -> Result<Encryption, Failure> {
    let (keys, source) = master_keys(config, secrets, data_dir).await?;
    let settings = config.encryption.clone();
    let credential = secrets.kms.as_ref().map(|(access_key, secret)| KmsCredential {
        access_key: access_key.clone(),
        secret_key: tokens::Secret::new(secret.expose().to_owned()),
    });
    let made = move || Encryption::new(&settings, Some(Keyring::new(&keys, source)?), credential);
    let made = tokio::task::spawn_blocking(made);
    made.await.map_err(Failure::of("encryption"))?.map_err(Failure::of("encryption"))
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

fn report_to_metrics(gate: &Gate, handles: &Registry, tokens: &Arc<Tokens>, store: &Arc<dyn MetaStore>, rates: &Rates) {
    let rates = rates.clone();
    let (gate, handles, tokens, store) = (gate.clone(), handles.clone(), Arc::clone(tokens), Arc::clone(store));
    metrics().on_scrape(move |metrics| {
        metrics.set_in_flight(gate.inside());
        let (users, buckets) = rates.refused();
        metrics.set_rate_limits(users, buckets, rates.remembered());
        metrics.set_handles(handles.len(), handles.counters().reaped);
        let cache = tokens.cache_counts();
        metrics.set_token_cache(cache.hits, cache.misses, cache.evictions, cache.entries);
        let circuit = store.circuit();
        metrics.set_meta_circuit(circuit.state != CircuitState::Closed, circuit.opened, circuit.refused);
        metrics.set_task_panics(runtime::panics());
        metrics.set_blocking_queue(mounts::waiting_work());
        metrics.set_upstreams(mounts::upstream_counts());
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
