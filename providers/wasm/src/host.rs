//! The plugins of a gateway, and what they run on.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use sluice_provider::{Error, ErrorKind, Provider, Result};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use wasmtime::{Config, Engine, OptLevel, RegallocAlgorithm};

use crate::cache::Cache;
use crate::filter::Filter;
use crate::objects::Objects;
use crate::plugin::{Plugin, Roles};
use crate::pool::Pool;
use crate::settings::Settings;
use crate::ticker::Ticker;
use crate::watch;

/// The largest plugin.
const MAX_PLUGIN_BYTES: u64 = 64 * 1024 * 1024;
/// Calls of all mounts at once: the threads that plugins may take.
const MAX_BUSY: usize = 64;
/// The stack of a plugin, in bytes. That of a thread of the blocking pool is four times as large.
const MAX_STACK: usize = 512 * 1024;

/// How long a mount waits for its plugin to be compiled. Compiling goes on after that, and the next attempt finds what it has come to.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where plugins lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The directory of the files `NAME.wasm`. Made where it is missing.
    pub plugins: PathBuf,
    /// Where machine code is kept; must be of this user only. Nowhere: it is kept in memory.
    pub cache: Option<PathBuf>,
}

/// What loads and runs plugins. One for all mounts of a gateway; cheap to clone.
#[derive(Clone, Debug)]
pub struct Host(Arc<Owner>);

/// Ends the watch of the directory on drop.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    watch: Mutex<Option<AbortHandle>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    places: Places,
    cache: Cache,
    pub(crate) ticker: Ticker,
    pub(crate) busy: Arc<Semaphore>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    pools: Mutex<Vec<Weak<Pool>>>,
}

/// The place of a plugin: what is in its file now.
#[derive(Debug)]
pub(crate) struct Slot {
    name: String,
    current: ArcSwapOption<Plugin>,
    /// It is loaded once at a time.
    loading: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was loaded, or could not be.
    seen: Option<Stamp>,
    /// What was there at the last look, and is something else.
    next: Option<Option<Stamp>>,
    failure: String,
}

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
}

/// Mounts a plugin, over another provider where it transforms or checks.
///
/// # Errors
/// `Unavailable` with the reason when the plugin is not there or cannot be used, and when it does not fit what it is mounted over.
pub async fn open(host: &Host, settings: Settings, over: Option<Arc<dyn Provider>>) -> Result<Arc<dyn Provider>> {
    host.watched();
    let shared = &host.0.shared;
    let slot = shared.slot(&settings.plugin);
    shared.load_in_time(&slot).await?;
    let pool = Pool::new(Arc::clone(shared), slot, &settings)?;
    let misfit = |what: &'static str| Error::new(ErrorKind::Unavailable, what).with("plugin", &settings.plugin);
    let opened: Arc<dyn Provider> = match (pool.roles(), over) {
        (roles, _) if roles == Roles::default() => {
            return Err(misfit("the plugin decides on requests alone: name it with `authorise` in the settings of any mount"));
        }
        (Roles { objects: true, .. }, None) => Arc::new(Objects::new(Arc::clone(&pool), &settings)),
        (Roles { objects: true, .. }, Some(_)) => return Err(misfit("the plugin keeps objects itself: mount it without `over`")),
        (_, Some(over)) => Arc::new(Filter::new(Arc::clone(&pool), over, &settings)),
        (_, None) => return Err(misfit("the plugin keeps no objects: name the provider below with `over`")),
    };
    shared.tended(&pool);
    pool.load().await?;
    Ok(opened)
}

// === impl Host ===

impl Host {
    /// With nothing loaded yet.
    ///
    /// # Errors
    /// `Unavailable` when this machine cannot run plugins, or the directory cannot be made.
    pub fn new(places: Places) -> Result<Self> {
        let failed = |what: &'static str| move |error: io::Error| Error::new(ErrorKind::Unavailable, what).caused_by(error);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&places.plugins);
        made.map_err(|error| failed("make the plugin directory")(error).with("path", places.plugins.display()))?;
        let unfit = |error: wasmtime::Error| Error::new(ErrorKind::Unavailable, "start the plugin host").with("because", error);
        let engine = Engine::new(&config()).map_err(unfit)?;
        let ticker = Ticker::start(&engine).map_err(failed("start the clock of plugins"))?;
        let shared = Shared {
            cache: Cache::new(&engine, places.cache.clone()),
            places,
            ticker,
            busy: Arc::new(Semaphore::new(MAX_BUSY)),
            slots: Mutex::default(),
            pools: Mutex::default(),
        };
        Ok(Self(Arc::new(Owner { shared: Arc::new(shared), watch: Mutex::new(None) })))
    }

    /// The instances of an authoriser.
    pub(crate) fn authoriser(&self, settings: &Settings) -> Arc<Pool> {
        self.watched();
        let shared = &self.0.shared;
        let pool = Pool::authoriser(Arc::clone(shared), shared.slot(&settings.plugin), settings);
        shared.tended(&pool);
        pool
    }

    /// Begins to watch the files, once.
    fn watched(&self) {
        let mut watch = self.0.watch.lock();
        if watch.is_none() {
            let shared = &self.0.shared;
            *watch = Some(watch::start(Arc::downgrade(shared)));
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.lock().take() {
            watch.abort();
        }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.consume_fuel(true);
    config.max_wasm_stack(MAX_STACK);
    config.wasm_backtrace_max_frames(None);
    if cfg!(debug_assertions) {
        // A compiler that is itself not optimised takes ten times as long: here it had better do less.
        config.cranelift_opt_level(OptLevel::None);
        config.cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    }
    config
}

// === impl Shared ===

impl Shared {
    fn slot(&self, name: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        Arc::clone(slots.entry(name.to_owned()).or_insert_with(|| Arc::new(Slot::new(name))))
    }

    /// Loads what is in the file of a slot, if that is something else than before, unless it takes long and there is nothing yet.
    ///
    /// # Errors
    /// `Unavailable` while it is being compiled.
    pub(crate) async fn load_in_time(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<()> {
        if tokio::time::timeout(PATIENCE, self.load(slot)).await.is_err() && slot.current.load().is_none() {
            let error = Error::new(ErrorKind::Unavailable, "the plugin is being compiled; try again when that is done");
            return Err(error.with("plugin", slot.name()));
        }
        Ok(())
    }

    /// Puts a mount on the list of those that are tended to.
    fn tended(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// Loads what is in the file of a slot, if that is something else than before.
    async fn load(self: &Arc<Self>, slot: &Arc<Slot>) {
        let Ok(permit) = Arc::clone(&slot.loading).acquire_owned().await else { return };
        let (shared, slot) = (Arc::clone(self), Arc::clone(slot));
        let loading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            shared.load_now(&slot);
        });
        if let Err(error) = loading.await {
            tracing::error!(%error, "a plugin was not loaded");
        }
    }

    fn load_now(&self, slot: &Slot) {
        let path = self.path(slot);
        let stamp = match Stamp::of(&path) {
            Ok(stamp) => stamp,
            Err(error) => {
                let failure = format!("{}: {error}", path.display());
                if slot.current.swap(None).is_some() {
                    tracing::warn!(plugin = slot.name, failure, "a plugin is gone; its mounts answer 503");
                }
                *slot.state.lock() = State { seen: None, next: None, failure };
                return;
            }
        };
        if slot.state.lock().seen == Some(stamp) {
            return;
        }
        let began = std::time::Instant::now();
        let read = read(&path).map(|bytes| (<[u8; 32]>::from(Sha256::digest(&bytes)), bytes));
        let current = slot.current.load_full();
        let same = |hash| current.as_ref().is_some_and(|plugin| plugin.hash == hash);
        let failure = if read.as_ref().is_ok_and(|(hash, _)| same(*hash)) {
            String::new()
        } else {
            match read.map_err(wasmtime::Error::from).and_then(|(hash, bytes)| self.plugin(&bytes, hash)) {
                Ok((plugin, source)) => {
                    let took = began.elapsed();
                    tracing::info!(plugin = slot.name, ?source, ?took, swapped = current.is_some(), "a plugin is loaded");
                    slot.current.store(Some(Arc::new(plugin)));
                    String::new()
                }
                Err(error) => {
                    let failure = format!("{}: {error:#}", path.display());
                    let kept = current.is_some();
                    tracing::warn!(plugin = slot.name, failure, kept, "a plugin cannot be used; one that was loaded stays");
                    failure
                }
            }
        };
        *slot.state.lock() = State { seen: Some(stamp), next: None, failure };
    }

    fn plugin(&self, wasm: &[u8], hash: [u8; 32]) -> wasmtime::Result<(Plugin, crate::cache::Source)> {
        let (component, source) = self.cache.component(wasm, hash)?;
        let _running = self.ticker.running();
        Ok((Plugin::new(&component, hash)?, source))
    }

    fn path(&self, slot: &Slot) -> PathBuf {
        self.places.plugins.join(format!("{}.wasm", slot.name))
    }

    /// Looks at the files of all plugins that are mounted, and loads those that are others since before the last look. Answers whether
    /// there were any.
    pub(crate) async fn look(self: &Arc<Self>) -> bool {
        let slots: Vec<Arc<Slot>> = {
            let mut slots = self.slots.lock();
            // Held by the list alone: nothing is mounted of it.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            slots.values().cloned().collect()
        };
        if slots.is_empty() {
            return false;
        }
        let shared = Arc::clone(self);
        let looking = tokio::task::spawn_blocking(move || {
            slots.into_iter().filter(|slot| slot.is_other(Stamp::of(&shared.path(slot)).ok())).collect::<Vec<_>>()
        });
        let Ok(others) = looking.await else { return false };
        // Side by side: one that is compiled for long does not keep the others.
        futures::future::join_all(others.iter().map(|slot| self.load(slot))).await;
        !others.is_empty()
    }

    /// Tends to the instances of all mounts.
    pub(crate) async fn tend(&self) {
        let pools: Vec<Arc<Pool>> = {
            let mut pools = self.pools.lock();
            pools.retain(|pool| pool.strong_count() > 0);
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        let tending = tokio::task::spawn_blocking(move || pools.iter().for_each(|pool| pool.tend()));
        if let Err(error) = tending.await {
            tracing::error!(%error, "the instances of plugins were not tended to");
        }
    }
}

// === impl Slot ===

impl Slot {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            current: ArcSwapOption::empty(),
            loading: Arc::new(Semaphore::new(1)),
            state: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is loaded.
    ///
    /// # Errors
    /// `Unavailable` with the reason.
    pub(crate) fn plugin(&self) -> Result<Arc<Plugin>> {
        self.current.load_full().ok_or_else(|| {
            let reason = self.state.lock().failure.clone();
            Error::new(ErrorKind::Unavailable, "the plugin is not loaded").with("plugin", &self.name).with("reason", reason)
        })
    }

    /// Whether the file is another one than what was loaded, and has been since the last look.
    fn is_other(&self, found: Option<Stamp>) -> bool {
        let mut state = self.state.lock();
        if found == state.seen {
            state.next = None;
            return false;
        }
        state.next.replace(found) == Some(found)
    }

    pub(crate) fn is_current(&self, plugin: &Arc<Plugin>) -> bool {
        self.current.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, plugin))
    }
}

impl Stamp {
    fn of(path: &std::path::Path) -> io::Result<Self> {
        let told = std::fs::metadata(path)?;
        Ok(Self {
            size: told.size(),
            modified: (told.mtime(), told.mtime_nsec()),
            changed: (told.ctime(), told.ctime_nsec()),
            inode: told.ino(),
        })
    }
}

fn read(path: &std::path::Path) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // A pipe would hang the one who opens it.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let told = file.metadata()?;
    if !told.is_file() || told.len() > MAX_PLUGIN_BYTES {
        let message = format!("a plugin is a file of at most {MAX_PLUGIN_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut bytes = Vec::new();
    file.take(MAX_PLUGIN_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
