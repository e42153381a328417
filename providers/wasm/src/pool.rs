//! The instances of a mount: so many that wait for a call, and so many at most.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sluice_provider::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bindings::Failure;
use crate::call::{broken, failed};
use crate::host::{Shared, Slot};
use crate::plugin::{Budget, Instance, Plugin, Purpose, Roles};
use crate::settings::Settings;

/// How many instances wait when nothing was asked for a while.
const WARM: usize = 2;
/// How long more of them wait.
const IDLE: Duration = Duration::from_secs(300);

/// The instances of one mount.
pub(crate) struct Pool {
    host: Arc<Shared>,
    slot: Arc<Slot>,
    purpose: Purpose,
    roles: Roles,
    budget: Budget,
    patience: Duration,
    config: Arc<BTreeMap<String, String>>,
    instances: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

/// Leave to run one instance, given back on drop.
struct Turn {
    _ours: OwnedSemaphorePermit,
    _everybodys: OwnedSemaphorePermit,
}

struct Idle {
    plugin: Arc<Plugin>,
    instance: Instance,
    since: Instant,
}

impl Pool {
    /// Of a plugin that is loaded.
    ///
    /// # Errors
    /// `Unavailable` when it is not.
    pub(crate) fn new(host: Arc<Shared>, slot: Arc<Slot>, settings: &Settings) -> Result<Arc<Self>> {
        let roles = slot.plugin()?.roles.for_purpose(Purpose::Objects);
        Ok(Self::expecting(host, slot, settings, Purpose::Objects, roles))
    }

    /// Of a plugin that decides on requests, and may not be loaded yet.
    pub(crate) fn authoriser(host: Arc<Shared>, slot: Arc<Slot>, settings: &Settings) -> Arc<Self> {
        Self::expecting(host, slot, settings, Purpose::Requests, Roles::AUTHORISER)
    }

    fn expecting(host: Arc<Shared>, slot: Arc<Slot>, settings: &Settings, purpose: Purpose, roles: Roles) -> Arc<Self> {
        Arc::new(Self {
            host,
            slot,
            purpose,
            roles,
            budget: Budget::from(settings),
            patience: settings.timeout,
            config: Arc::new(settings.config.clone()),
            instances: settings.instances,
            permits: Arc::new(Semaphore::new(settings.instances)),
            idle: Mutex::default(),
        })
    }

    /// Loads the plugin, and makes the instances that wait.
    ///
    /// # Errors
    /// As [`plugin`](Self::plugin).
    pub(crate) async fn load(self: &Arc<Self>) -> Result<()> {
        self.host.load_in_time(&self.slot).await?;
        self.plugin()?;
        let pool = Arc::clone(self);
        let tended = tokio::task::spawn_blocking(move || pool.tend());
        tended.await.map_err(|error| Error::new(ErrorKind::Internal, "start a plugin").caused_by(error))
    }

    /// What the plugin exported when it was mounted, and has to go on to.
    pub(crate) fn roles(&self) -> Roles {
        self.roles
    }

    /// The plugin as it is now.
    ///
    /// # Errors
    /// `Unavailable` when it is gone, or has become something else than what was mounted: a check that is not there any more must not
    /// let everything through.
    pub(crate) fn plugin(&self) -> Result<Arc<Plugin>> {
        let plugin = self.slot.plugin()?;
        if plugin.roles.for_purpose(self.purpose) != self.roles {
            let what = match self.purpose {
                Purpose::Objects => "the plugin exports other interfaces than when it was mounted",
                Purpose::Requests => "the plugin is no authoriser: it does not export authorise",
            };
            let error = Error::new(ErrorKind::Unavailable, what);
            return Err(error.with("plugin", self.slot.name()));
        }
        Ok(plugin)
    }

    /// Makes a call of the plugin as it is when the call begins, in an instance of its own. It runs to its end, or to that of its time,
    /// also when nobody waits for it any more.
    ///
    /// # Errors
    /// What the plugin answers; `Busy` when all instances are for as long as a call may take; what broke the call; those of
    /// [`plugin`](Self::plugin).
    pub(crate) async fn call<T, F>(self: &Arc<Self>, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Instance) -> wasmtime::Result<Result<T, Failure>> + Send + 'static,
    {
        let turn = self.turn(operation).await?;
        self.call_within(turn, self.plugin()?, operation, work).await
    }

    /// As [`call`](Self::call), of a plugin that was taken for a whole request: also when it has been replaced since.
    ///
    /// # Errors
    /// What the plugin answers; `Busy` when all instances are for as long as a call may take; what broke the call.
    pub(crate) async fn call_of<T, F>(self: &Arc<Self>, plugin: &Arc<Plugin>, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Instance) -> wasmtime::Result<Result<T, Failure>> + Send + 'static,
    {
        let turn = self.turn(operation).await?;
        self.call_within(turn, Arc::clone(plugin), operation, work).await
    }

    /// Waits until an instance of this mount may run.
    async fn turn(&self, operation: &'static str) -> Result<Turn> {
        let busy = || Error::new(ErrorKind::Busy, operation).with("plugin", self.slot.name());
        let (ours, everybodys) = (Arc::clone(&self.permits), Arc::clone(&self.host.busy));
        let permits =
            tokio::time::timeout(self.patience, async { (ours.acquire_owned().await, everybodys.acquire_owned().await) });
        let (Ok(ours), Ok(everybodys)) = permits.await.map_err(|_| busy())? else { return Err(busy()) };
        Ok(Turn { _ours: ours, _everybodys: everybodys })
    }

    async fn call_within<T, F>(self: &Arc<Self>, turn: Turn, plugin: Arc<Plugin>, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Instance) -> wasmtime::Result<Result<T, Failure>> + Send + 'static,
    {
        let pool = Arc::clone(self);
        let call = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let _running = pool.host.ticker.running();
            pool.run(&plugin, operation, work)
        });
        call.await.map_err(|error| Error::new(ErrorKind::Internal, operation).caused_by(error))?
    }

    fn run<T>(
        &self,
        plugin: &Arc<Plugin>,
        operation: &'static str,
        work: impl FnOnce(&mut Instance) -> wasmtime::Result<Result<T, Failure>>,
    ) -> Result<T> {
        let name = self.slot.name();
        let broke = |(error, out_of_memory): (wasmtime::Error, bool)| broken(error, out_of_memory, operation, name);
        let mut instance = match self.take(plugin) {
            Some(instance) => instance,
            None => plugin.instance(self.budget, &self.config).map_err(broke)?,
        };
        match instance.begin().and_then(|()| work(&mut instance)) {
            Ok(answer) => {
                self.give_back(plugin, instance);
                answer.map_err(|failure| failed(&failure, operation, name))
            }
            // Its memory is in no known state: it is dropped, and the next call gets another.
            Err(error) => Err(broke((error, instance.store.data().limiter.refused))),
        }
    }

    fn take(&self, plugin: &Arc<Plugin>) -> Option<Instance> {
        let mut idle = self.idle.lock();
        // A call of a plugin that was replaced must not take their instances from those of the new one.
        let wanted = |idle: &Idle| Arc::ptr_eq(&idle.plugin, plugin) || self.slot.is_current(&idle.plugin);
        let (kept, old): (Vec<Idle>, Vec<Idle>) = std::mem::take(&mut *idle).into_iter().partition(wanted);
        *idle = kept;
        let at = idle.iter().rposition(|idle| Arc::ptr_eq(&idle.plugin, plugin));
        let taken = at.map(|at| idle.remove(at).instance);
        drop(idle);
        drop(old);
        taken
    }

    fn give_back(&self, plugin: &Arc<Plugin>, instance: Instance) {
        if !self.slot.is_current(plugin) {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.instances {
            idle.push(Idle { plugin: Arc::clone(plugin), instance, since: Instant::now() });
        }
    }

    /// Lets go of instances that waited for long or are of a plugin that was replaced, and makes some where there are none. Blocks.
    pub(crate) fn tend(&self) {
        let Ok(plugin) = self.plugin() else {
            let gone = std::mem::take(&mut *self.idle.lock());
            drop(gone);
            return;
        };
        let mut gone = Vec::new();
        let kept = {
            let mut idle = self.idle.lock();
            let mut left = idle.len();
            let (over, kept): (Vec<Idle>, Vec<Idle>) = std::mem::take(&mut *idle).into_iter().partition(|idle| {
                let over = !Arc::ptr_eq(&idle.plugin, &plugin) || left > WARM && idle.since.elapsed() >= IDLE;
                left -= usize::from(over);
                over
            });
            *idle = kept;
            gone.extend(over);
            idle.len()
        };
        drop(gone);
        for _ in kept..WARM.min(self.instances) {
            let _running = self.host.ticker.running();
            match plugin.instance(self.budget, &self.config) {
                Ok(instance) => self.give_back(&plugin, instance),
                Err((error, out_of_memory)) => {
                    drop(broken(error, out_of_memory, "start", self.slot.name()));
                    return;
                }
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("plugin", &self.slot.name()).field("roles", &self.roles).finish_non_exhaustive()
    }
}
