//! The configuration, taken over while the gateway runs: on SIGHUP, by the admin API, and when its file or a certificate changes.
//!
//! All of it is read and looked at before any of it holds, so that one that makes no sense changes nothing. Requests under way keep what
//! they began with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::Reloaded;
use crate::config::{Config, ServeArgs};
use crate::limits::Rates;
use crate::namespaces::{DefaultMount, Namespaces};
use crate::runtime::Gate;
use crate::server::{Tls, TlsFiles};
use crate::telemetry::{self, LogControl};

/// Keys, or sections of keys, that are taken over while the gateway runs.
const LIVE: [&str; 13] = [
    "admin.tls_cert",
    "admin.tls_key",
    "default_mount.",
    "limits.",
    "log.access",
    "log.audit",
    "log.level",
    "log.op_stats",
    "log.slow_ms",
    "server.max_concurrent_requests",
    "server.tls_cert",
    "server.tls_client_ca",
    "server.tls_key",
];

/// What a configuration reaches.
pub(super) struct Reloader {
    pub(super) args: ServeArgs,
    pub(super) current: Mutex<Config>,
    pub(super) log: LogControl,
    pub(super) rates: Rates,
    pub(super) gate: Gate,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) admin_tls: Option<Arc<Tls>>,
}

/// When a file was last changed, and which it is.
type Stamp = Option<(SystemTime, u64)>;

impl Reloader {
    /// Reads the configuration and takes over what can be. Blocks on files.
    fn reload(&self) -> Result<Reloaded, String> {
        let loaded = self.args.sources().and_then(|sources| sources.load()).map_err(|error| error.to_string())?;
        let (new, mut current) = (loaded.config, self.current.lock());
        let (files, admin_files) = (new.server.tls_files()?, super::listeners::admin_tls(&new)?);
        new.server.proxies()?;
        // With or without TLS is decided at the start.
        let toggled = self.tls.is_some() != files.is_some();
        let admin_toggled = self.admin_tls.is_some() != admin_files.is_some();
        // The certificates may have changed though their names have not.
        let read = |held: &Option<Arc<Tls>>, files: Option<TlsFiles>| match (held, files) {
            (Some(_), Some(files)) => Tls::load(&files).map(Some).map_err(|error| error.to_string()),
            _ => Ok(None),
        };
        let (tls, admin_tls) = (read(&self.tls, files)?, read(&self.admin_tls, admin_files)?);
        self.log.set(&new.log)?;
        // From here on nothing fails.
        for (held, read) in [(&self.tls, tls), (&self.admin_tls, admin_tls)] {
            if let (Some(held), Some(read)) = (held, read) {
                held.exchange(read);
            }
        }
        if new.limits != current.limits {
            // Exchanged only when they differ: everybody begins with a full second's worth again.
            self.rates.set(&new.limits);
        }
        self.gate.set_limit(new.server.max_concurrent_requests);
        self.namespaces.set_default_mount(default_mount(&new));
        let live = |key: &String| {
            let waits = toggled && key.starts_with("server.tls_") || admin_toggled && key.starts_with("admin.tls_");
            !waits && LIVE.iter().any(|name| key == name || (name.ends_with('.') && key.starts_with(name)))
        };
        let (applied, restart) = current.differences(&new).into_iter().partition(live);
        // What waits for the next start is still a difference at the next reload.
        let held = current.clone();
        *current = taken_over(held, new);
        Ok(Reloaded { applied, restart })
    }

    /// As [`reload`](Self::reload), off the reactor, and told in the log.
    pub(super) async fn run(self: Arc<Self>, why: &'static str) -> Result<Reloaded, String> {
        let _ = sd_notify::NotifyState::monotonic_usec_now().and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]));
        let done = tokio::task::spawn_blocking(move || self.reload()).await.unwrap_or_else(|error| Err(error.to_string()));
        match &done {
            Ok(done) => {
                let (applied, restart) = (done.applied.join(", "), done.restart.join(", "));
                tracing::info!(why, applied, "the configuration was read again");
                if !restart.is_empty() {
                    tracing::warn!(keys = restart, "these keys hold from the next start on");
                }
            }
            Err(error) => tracing::error!(why, error, "the configuration is refused: the one before still holds"),
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        done
    }

    /// Reloads whenever SIGHUP comes.
    pub(super) async fn on_hangup(self: Arc<Self>) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        while hangup.recv().await.is_some() {
            let _ = Arc::clone(&self).run("SIGHUP").await;
        }
    }

    /// Reloads when a file has changed, once it has been left alone for a whole period. It looks instead of being told: that works on every
    /// file system, and where a file is exchanged together with its directory.
    pub(super) async fn watch(self: Arc<Self>, period: Duration) {
        let look = |this: &Arc<Self>| {
            let this = Arc::clone(this);
            tokio::task::spawn_blocking(move || this.stamps())
        };
        let Ok(mut taken) = look(&self).await else { return };
        let mut seen = taken.clone();
        loop {
            tokio::time::sleep(period).await;
            let Ok(now) = look(&self).await else { return };
            let settled = now == seen;
            seen = now;
            if settled && seen != taken {
                taken.clone_from(&seen);
                let _ = Arc::clone(&self).run("a file has changed").await;
            }
        }
    }

    fn stamps(&self) -> BTreeMap<PathBuf, Stamp> {
        let current = self.current.lock().clone();
        let (server, admin) = (&current.server, &current.admin);
        let tls = self.tls.iter().flat_map(|_| [&server.tls_cert, &server.tls_key, &server.tls_client_ca]);
        let tls = tls.chain(self.admin_tls.iter().flat_map(|_| [&admin.tls_cert, &admin.tls_key]));
        let files = tls.filter(|name| !name.is_empty()).map(PathBuf::from).chain(self.args.file());
        files.map(|path| (stamp(&path), path)).map(|(stamp, path)| (path, stamp)).collect()
    }
}

fn stamp(path: &std::path::Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.ino() ^ found.len().rotate_left(32)))
}

/// What new buckets get.
pub(super) fn default_mount(config: &Config) -> DefaultMount {
    DefaultMount { provider: config.default_mount.provider.clone(), settings: config.default_mount.settings() }
}

/// The configuration that holds now: of the old one what waits for the next start.
fn taken_over(mut held: Config, new: Config) -> Config {
    held.limits = new.limits;
    held.default_mount = new.default_mount;
    held.log = telemetry::Settings { format: held.log.format, ..new.log };
    if !held.admin.tls_cert.is_empty() && !new.admin.tls_cert.is_empty() {
        (held.admin.tls_cert, held.admin.tls_key) = (new.admin.tls_cert, new.admin.tls_key);
    }
    let (ours, theirs) = (&mut held.server, new.server);
    ours.max_concurrent_requests = theirs.max_concurrent_requests;
    if !ours.tls_cert.is_empty() && !theirs.tls_cert.is_empty() {
        (ours.tls_cert, ours.tls_key, ours.tls_client_ca) = (theirs.tls_cert, theirs.tls_key, theirs.tls_client_ca);
    }
    held
}
