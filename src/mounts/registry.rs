//! The provider kinds. A new provider is one line here.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use sluice_provider as provider;
use sluice_provider::{MAX_KEY_BYTES, Provider};
#[cfg(feature = "database")]
use sluice_provider_database as database;
#[cfg(feature = "live")]
use sluice_provider_live as live;
use sluice_provider_local as local;
use sluice_provider_memory as memory;
#[cfg(feature = "opendal")]
use sluice_provider_opendal as remote;
#[cfg(feature = "s3")]
use sluice_provider_s3 as s3;
#[cfg(feature = "wasm")]
use sluice_provider_wasm as wasm;

use tokio::sync::Semaphore;

use super::tiers::{CLASS_PREFIX, CLASSES, class_of};
use super::{Shield, ShieldLimits, Sweep, Upkeep};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{MetaStore, MountRecord};
use crate::telemetry::{UpstreamCounts, metrics};

/// Opens the provider of a mount. Injected, so that a test can count and fail.
pub type Opener = Arc<dyn Fn(MountRecord) -> BoxFuture<'static, Result<Arc<dyn Provider>>> + Send + Sync>;

/// The longest mount prefix in bytes: one byte of the key must be left to the provider.
pub const MAX_PREFIX_BYTES: usize = MAX_KEY_BYTES - 1;

/// A kind of provider, as it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Kind {
    /// Its name in mounts and in metrics.
    pub name: &'static str,
    /// What a mount of it is.
    pub about: &'static str,
    /// The names of its settings.
    pub settings: &'static str,
    /// Whether this build has it.
    pub built: bool,
}

/// All kinds.
pub const KINDS: [Kind; 9] = [
    Kind {
        name: "kv",
        about: "small values in SQLite or PostgreSQL, each in a row",
        settings: "url, space, password_file, durability, connections, max_value_bytes",
        built: cfg!(feature = "database"),
    },
    Kind {
        name: "local",
        about: "plain files of a directory",
        settings: "root, durability, follow_symlinks, xattrs, openat2, snapshots",
        built: true,
    },
    Kind { name: "memory", about: "objects in memory, gone with the process", settings: "quota_bytes", built: true },
    Kind {
        name: "opendal",
        about: "Azure Blob, GCS, B2, WebDAV, SFTP, FTP or HTTP, through Apache OpenDAL",
        settings: "service, endpoint, root, credentials_file, and more: docs/providers/opendal.md",
        built: cfg!(feature = "opendal"),
    },
    Kind {
        name: "page",
        about: "objects in pages in SQLite or PostgreSQL",
        settings: "url, space, password_file, durability, connections, page_bytes, keep_secs",
        built: cfg!(feature = "database"),
    },
    Kind {
        name: "pubsub",
        about: "topics, in memory or with a log on disk: a PUT publishes a message, a GET is the last ones",
        settings: "messages, max_message_bytes, quota_bytes, max_objects, max_followers, log, durability",
        built: cfg!(feature = "live"),
    },
    Kind {
        name: "s3",
        about: "a bucket of any S3 endpoint",
        settings: "bucket, endpoint, region, prefix, profile, credentials_file, and more: docs/providers/s3.md",
        built: cfg!(feature = "s3"),
    },
    Kind {
        name: "stream",
        about: "growing objects in memory that can be followed",
        settings: "window_bytes, window_seconds, quota_bytes, max_objects, max_followers",
        built: cfg!(feature = "live"),
    },
    Kind {
        name: "wasm",
        about: "a plugin that keeps objects, or transforms or checks those of another provider",
        settings: "plugin, over, over.SETTING, config.NAME, instances, timeout_ms, and more: docs/providers/wasm.md",
        built: cfg!(feature = "wasm"),
    },
];

/// The kinds of this build, for messages.
fn known_kinds() -> String {
    KINDS.iter().filter(|kind| kind.built).map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}

/// Mounts that are being opened on the blocking pool. One on a dead file system hangs there, whether or not anybody still waits for it:
/// however often it is tried, threads are left for others.
static OPENING: Semaphore = Semaphore::const_new(16);

#[async_trait]
impl Sweep for local::Local {
    async fn sweep(&self) -> provider::Result<()> {
        Self::sweep(self).await.map(drop)
    }
}

#[cfg(feature = "database")]
#[async_trait]
impl Sweep for database::Database {
    async fn sweep(&self) -> provider::Result<()> {
        Self::sweep(self).await
    }
}

#[cfg(feature = "opendal")]
#[async_trait]
impl Sweep for remote::OpenDal {
    async fn sweep(&self) -> provider::Result<()> {
        Self::sweep(self).await
    }
}

#[cfg(feature = "s3")]
#[async_trait]
impl Sweep for s3::S3 {
    async fn sweep(&self) -> provider::Result<()> {
        Self::sweep(self).await
    }
}

/// Opens the provider of a mount, and puts it on the list of those to be swept. The store keeps what services cannot.
///
/// # Errors
/// `InvalidArgument` for an unknown kind or setting, the provider's own error when it cannot start.
pub async fn open(mount: &MountRecord, upkeep: &Upkeep, store: &Arc<dyn MetaStore>) -> Result<Arc<dyn Provider>> {
    #[cfg(not(feature = "opendal"))]
    let _ = store;
    match mount.provider.as_str() {
        "memory" => {
            let settings = memory::Settings::from_map(&mount.settings).map_err(|e| refused(mount, "quota_bytes", e))?;
            Ok(Arc::new(memory::Memory::new(settings)))
        }
        "local" => {
            let known = "root, durability, follow_symlinks, xattrs, openat2, snapshots";
            let settings = local::Settings::from_map(&mount.settings).map_err(|e| refused(mount, known, e))?;
            let opened = Arc::new(opening(move || local::Local::open(settings)).await?);
            upkeep.tend(&opened);
            Ok(opened)
        }
        #[cfg(feature = "database")]
        kind @ ("kv" | "page") => {
            let kind = if kind == "kv" { database::Kind::Values } else { database::Kind::Pages };
            let settings = database::Settings::from_map(kind, &mount.settings);
            let settings = settings.map_err(|e| refused(mount, database::KNOWN_SETTINGS, e))?;
            let opened = Arc::new(database::Database::open(settings).await?);
            upkeep.tend(&opened);
            Ok(opened)
        }
        #[cfg(feature = "opendal")]
        "opendal" => {
            let settings = remote::Settings::from_map(&mount.settings);
            let settings = settings.map_err(|e| refused(mount, remote::KNOWN_SETTINGS, e))?;
            let overlay = Arc::new(super::overlay::StoredOverlay(Arc::clone(store)));
            let opened = Arc::new(remote::OpenDal::open(settings, overlay).await?);
            upkeep.tend(&opened);
            Ok(opened)
        }
        #[cfg(feature = "live")]
        "pubsub" => {
            let settings = live::Settings::from_map(live::TOPIC_SETTINGS, &mount.settings);
            let settings = settings.map_err(|e| refused(mount, live::TOPIC_SETTINGS, e))?;
            Ok(Arc::new(opening(move || live::Topics::open(settings)).await?))
        }
        #[cfg(feature = "live")]
        "stream" => {
            let settings = live::Settings::from_map(live::STREAM_SETTINGS, &mount.settings);
            Ok(Arc::new(live::Streams::new(settings.map_err(|e| refused(mount, live::STREAM_SETTINGS, e))?)))
        }
        #[cfg(feature = "s3")]
        "s3" => {
            let settings = s3::Settings::from_map(&mount.settings).map_err(|e| refused(mount, s3::KNOWN_SETTINGS, e))?;
            let opened = Arc::new(s3::S3::open(settings).await?);
            upkeep.tend(&opened);
            Ok(opened)
        }
        #[cfg(feature = "wasm")]
        "wasm" => {
            let settings = wasm::Settings::from_map(&mount.settings).map_err(|e| refused(mount, wasm::KNOWN_SETTINGS, e))?;
            let over = match &settings.over {
                // Each has fewer settings than the one above it, so this ends.
                Some((kind, settings)) => {
                    let below = MountRecord { provider: kind.clone(), settings: settings.clone(), ..mount.clone() };
                    Some(Box::pin(open(&below, upkeep, store)).await?)
                }
                None => None,
            };
            Ok(wasm::open(&super::plugins::host()?, settings, over).await?)
        }
        other => Err(Error::new(
            ErrorKind::InvalidArgument(format!("Unknown provider kind {other:?}; known kinds: {}", known_kinds()).into()),
            "open mount",
        )
        .with("bucket", &mount.bucket)
        .with("prefix", &mount.prefix)),
    }
}

/// Opens what makes directories, looks at the file system and may hang on a dead one.
async fn opening<T: Send + 'static>(open: impl FnOnce() -> provider::Result<T> + Send + 'static) -> Result<T> {
    let permit = OPENING.acquire().await.map_err(|e| Error::new(ErrorKind::Internal, "open mount").caused_by(e))?;
    let opened = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        open()
    });
    Ok(opened.await.map_err(|e| Error::new(ErrorKind::Internal, "open mount").caused_by(e))??)
}

/// A setting that the provider does not understand.
fn refused(mount: &MountRecord, known: &str, error: provider::Error) -> Error {
    let message = format!("Mount settings of provider {:?}: {error}; known settings: {known}", mount.provider);
    Error::new(ErrorKind::InvalidArgument(message.into()), "open mount").caused_by(error)
}

/// What listings remember of directories: how many, how large, how often they were read and how often that was spared.
#[must_use]
pub fn listing_cache() -> local::SnapshotUsage {
    local::snapshot_usage()
}

/// What mounts with several upstreams did, over all of them.
#[must_use]
pub fn upstream_counts() -> UpstreamCounts {
    #[cfg(feature = "s3")]
    let counts = {
        let usage = s3::upstream_usage();
        UpstreamCounts { primary: usage.primary, replicas: usage.replicas, failovers: usage.failovers, out: usage.out }
    };
    #[cfg(not(feature = "s3"))]
    let counts = UpstreamCounts::default();
    counts
}

/// How much work of local mounts waits for a thread.
#[must_use]
pub fn waiting_work() -> usize {
    local::waiting_work()
}

/// Bounds what listings remember, over all mounts, in bytes.
pub fn limit_listing_cache(bytes: usize) {
    local::limit_snapshots(bytes);
}

/// [`open`] as an [`Opener`], each provider behind a [`Shield`] of its own.
#[must_use]
pub fn opener(upkeep: Upkeep, limits: ShieldLimits, store: Arc<dyn MetaStore>) -> Opener {
    Arc::new(move |mount| {
        let (upkeep, limits, store) = (upkeep.clone(), limits.clone(), Arc::clone(&store));
        Box::pin(async move {
            let opened = open(&mount, &upkeep, &store).await?;
            let kind = KINDS.iter().find(|kind| kind.name == mount.provider).map_or("other", |kind| kind.name);
            Ok(Arc::new(Shield::new(opened, limits, metrics().mount_meter(kind))) as Arc<dyn Provider>)
        })
    })
}

/// Whether another mount of the same kind with the same settings is the same storage, so that they can share one provider. What is in
/// memory never is: each mount of it is a store of its own. Topics with a log are in a place, and only one provider can have it open.
/// Plugins never are: what one has in its memory is of one mount.
#[must_use]
pub fn shareable(mount: &MountRecord) -> bool {
    match mount.provider.as_str() {
        "memory" | "stream" | "wasm" => false,
        "pubsub" => mount.settings.contains_key("log"),
        _ => true,
    }
}

/// Refuses what cannot be a mount's prefix.
///
/// # Errors
/// `InvalidArgument` when it is longer than [`MAX_PREFIX_BYTES`], or means a storage class that there is none of.
pub fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.len() > MAX_PREFIX_BYTES {
        let message = format!("A mount prefix has at most {MAX_PREFIX_BYTES} bytes, this one has {}", prefix.len());
        return Err(Error::new(ErrorKind::InvalidArgument(message.into()), "mount prefix"));
    }
    if prefix.starts_with(CLASS_PREFIX) && class_of(prefix).is_none() {
        let known = CLASSES.join(", ");
        let message = format!("A mount at a prefix that begins with {CLASS_PREFIX:?} keeps a storage class; those are {known}");
        return Err(Error::new(ErrorKind::InvalidArgument(message.into()), "mount prefix"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn record(provider: &str, settings: &[(&str, &str)]) -> MountRecord {
        let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        MountRecord { bucket: "bucket".into(), prefix: String::new(), provider: provider.into(), settings }
    }

    async fn store() -> Arc<dyn MetaStore> {
        Arc::new(crate::meta::SqliteStore::open_in_memory().await.unwrap())
    }

    #[tokio::test]
    async fn kinds_and_settings_that_nobody_knows_are_named() {
        let store = store().await;
        for (mount, named, known) in [
            (record("memroy", &[]), "memroy", "local, memory"),
            #[cfg(feature = "database")]
            (record("kv", &[("url", "sqlite:/x"), ("spaec", "s")]), "spaec", "space"),
            #[cfg(feature = "live")]
            (record("pubsub", &[("mesages", "1")]), "mesages", "messages"),
            (record("memory", &[("qouta", "1")]), "qouta", "quota_bytes"),
            (record("local", &[("root", "/x"), ("rooot", "/y")]), "rooot", "durability"),
            #[cfg(feature = "opendal")]
            (record("opendal", &[("service", "webdav"), ("endpoint", "http://h"), ("rott", "/")]), "rott", "attributes"),
            #[cfg(feature = "s3")]
            (record("s3", &[("bucket", "b"), ("bukket", "b")]), "bukket", "endpoint"),
            #[cfg(feature = "wasm")]
            (record("wasm", &[("plugin", "p"), ("plugni", "p")]), "plugni", "instances"),
            #[cfg(feature = "wasm")]
            (record("wasm", &[("plugin", "p"), ("over", "memory"), ("over.qouta", "1")]), "qouta", "quota_bytes"),
        ] {
            let error = open(&mount, &Upkeep::default(), &store).await.unwrap_err();
            let ErrorKind::InvalidArgument(message) = error.kind() else { unreachable!("{error}") };
            assert!(message.contains(named) && message.contains(known), "{message}");
        }
    }

    #[tokio::test]
    async fn both_kinds_open() {
        let upkeep = Upkeep::default();
        let store = store().await;
        open(&record("memory", &[("quota_bytes", "1000")]), &upkeep, &store).await.unwrap().check().await.unwrap();
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("new");
        let local = open(&record("local", &[("root", root.to_str().unwrap())]), &upkeep, &store).await.unwrap();
        local.check().await.unwrap();
        // What a process that has ended left behind goes with the next sweep.
        let left = root.join(".sluice/staging/dead");
        std::fs::create_dir(&left).unwrap();
        assert_eq!(upkeep.sweep().await, 1);
        assert!(!left.exists());
        drop(local);
        assert_eq!(upkeep.sweep().await, 0);
    }

    #[cfg(feature = "live")]
    #[tokio::test]
    async fn topics_are_in_memory_or_in_a_log() {
        let (upkeep, store, dir) = (Upkeep::default(), store().await, tempfile::tempdir().unwrap());
        let log = dir.path().join("log");
        let (memory, logged) = (record("pubsub", &[]), record("pubsub", &[("log", log.to_str().unwrap())]));
        assert!(!shareable(&memory) && shareable(&logged));
        assert!(!open(&memory, &upkeep, &store).await.unwrap().features().persistent);
        assert!(open(&logged, &upkeep, &store).await.unwrap().features().persistent);
        std::fs::write(dir.path().join("file"), "").unwrap();
        let below = dir.path().join("file/log");
        let error = open(&record("pubsub", &[("log", below.to_str().unwrap())]), &upkeep, &store).await.unwrap_err();
        assert!(error.to_string().contains("file/log"), "{error}");
    }

    #[test]
    fn a_prefix_leaves_a_byte_of_the_key() {
        assert!(check_prefix(&"x".repeat(1023)).is_ok() && check_prefix("").is_ok());
        assert!(check_prefix(&"x".repeat(1024)).is_err());
        assert!(check_prefix("storage-class:GLACIER").is_ok() && check_prefix("storage-class:STANDARD").is_err());
    }
}
