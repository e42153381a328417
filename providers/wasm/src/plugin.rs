//! A plugin that is loaded, and an instance of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{self, Component, InstancePre};
use wasmtime::{Store, bail};

use crate::bindings::{PACKAGE, VERSION, authorise, objects, read_transform, write_check};
use crate::imports::{Guest, link};
use crate::limits::Limiter;
use crate::settings::Settings;
use crate::ticker::TICK;

/// What the host may hold of one call's values beside the body: names, attributes, a page of a listing.
const BESIDE_THE_BODY: usize = 4 * 1024 * 1024;
/// The most that a call may begin with and that [`Budget`] holds for loading: what a plugin needs to start at all.
const LOADING: Budget =
    Budget { instructions: 10_000_000_000, ticks: 1000, memory_bytes: 1024 * 1024 * 1024, answer_bytes: BESIDE_THE_BODY };

/// What a plugin exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) objects: bool,
    pub(crate) transform: bool,
    pub(crate) check: bool,
    pub(crate) authorise: bool,
}

/// What a plugin is mounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Objects: as a provider, or over one.
    Objects,
    /// Decisions on requests.
    Requests,
}

impl Roles {
    /// Those of an authoriser.
    pub(crate) const AUTHORISER: Self = Self { objects: false, transform: false, check: false, authorise: true };

    /// Those that count for a purpose: what else the plugin exports is for other mounts.
    pub(crate) fn for_purpose(self, purpose: Purpose) -> Self {
        match purpose {
            Purpose::Objects => Self { authorise: false, ..self },
            Purpose::Requests => Self { authorise: self.authorise, ..Self::default() },
        }
    }
}

/// What one call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    instructions: u64,
    ticks: u64,
    memory_bytes: usize,
    answer_bytes: usize,
}

/// A component that can be instantiated.
pub(crate) struct Plugin {
    pub(crate) hash: [u8; 32],
    pub(crate) roles: Roles,
    pre: InstancePre<Guest>,
    objects: Option<objects::GuestIndices>,
    transform: Option<read_transform::GuestIndices>,
    check: Option<write_check::GuestIndices>,
    authorise: Option<authorise::GuestIndices>,
}

/// A running plugin: its memory, and what it exports.
pub(crate) struct Instance {
    pub(crate) store: Store<Guest>,
    budget: Budget,
    pub(crate) objects: Option<objects::Guest>,
    pub(crate) transform: Option<read_transform::Guest>,
    pub(crate) check: Option<write_check::Guest>,
    pub(crate) authorise: Option<authorise::Guest>,
}

impl From<&Settings> for Budget {
    fn from(settings: &Settings) -> Self {
        Self {
            instructions: settings.instructions,
            // The tick that is under way does not count.
            ticks: (settings.timeout.as_millis().div_ceil(TICK.as_millis()) as u64).saturating_add(1),
            memory_bytes: settings.memory_bytes,
            answer_bytes: settings.max_body_bytes.saturating_add(BESIDE_THE_BODY),
        }
    }
}

impl Plugin {
    /// Takes a component. One instance of it is made, so that what cannot start is refused now.
    ///
    /// # Errors
    /// When it exports nothing that is known here, or not as `wit/provider.wit` has it, or does not start.
    pub(crate) fn new(component: &Component, hash: [u8; 32]) -> wasmtime::Result<Self> {
        let pre = link(component)?.instantiate_pre(component)?;
        let exported = |interface: &str| component.get_export_index(None, format!("{PACKAGE}{interface}@{VERSION}")).is_some();
        let roles = Roles {
            objects: exported("objects"),
            transform: exported("read-transform"),
            check: exported("write-check"),
            authorise: exported("authorise"),
        };
        if roles == Roles::default() {
            let engine = component.engine();
            let named: Vec<String> = component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect();
            bail!(
                "it exports none of {PACKAGE}objects, read-transform, write-check and authorise of version {VERSION}, but [{}]",
                named.join(", ")
            );
        }
        let objects = roles.objects.then(|| objects::GuestIndices::new(&pre)).transpose()?;
        let transform = roles.transform.then(|| read_transform::GuestIndices::new(&pre)).transpose()?;
        let check = roles.check.then(|| write_check::GuestIndices::new(&pre)).transpose()?;
        let authorise = roles.authorise.then(|| authorise::GuestIndices::new(&pre)).transpose()?;
        let plugin = Self { hash, roles, pre, objects, transform, check, authorise };
        plugin.instance(LOADING, &Arc::default()).map_err(|(error, _)| error)?;
        Ok(plugin)
    }

    /// Starts an instance.
    ///
    /// # Errors
    /// What ended it, and whether that was for its memory.
    pub(crate) fn instance(
        &self,
        budget: Budget,
        config: &Arc<BTreeMap<String, String>>,
    ) -> Result<Instance, (wasmtime::Error, bool)> {
        let guest = Guest { limiter: Limiter::new(budget.memory_bytes), config: Arc::clone(config), began: Instant::now() };
        let mut store = Store::new(self.pre.engine(), guest);
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(budget.answer_bytes);
        match self.start(&mut store, budget) {
            Ok(instance) => self.loaded(store, budget, &instance).map_err(|error| (error, false)),
            Err(error) => Err((error, store.data().limiter.refused)),
        }
    }

    fn start(&self, store: &mut Store<Guest>, budget: Budget) -> wasmtime::Result<component::Instance> {
        grant(store, budget)?;
        self.pre.instantiate(store)
    }

    /// What an instance exports, found once for all its calls.
    fn loaded(&self, mut store: Store<Guest>, budget: Budget, instance: &component::Instance) -> wasmtime::Result<Instance> {
        let objects = self.objects.as_ref().map(|indices| indices.load(&mut store, instance)).transpose()?;
        let transform = self.transform.as_ref().map(|indices| indices.load(&mut store, instance)).transpose()?;
        let check = self.check.as_ref().map(|indices| indices.load(&mut store, instance)).transpose()?;
        let authorise = self.authorise.as_ref().map(|indices| indices.load(&mut store, instance)).transpose()?;
        Ok(Instance { store, budget, objects, transform, check, authorise })
    }
}

fn grant(store: &mut Store<Guest>, budget: Budget) -> wasmtime::Result<()> {
    store.set_fuel(budget.instructions)?;
    store.set_epoch_deadline(budget.ticks);
    Ok(())
}

impl Instance {
    /// Gives it what one call may take.
    ///
    /// # Errors
    /// None that can be thought of.
    pub(crate) fn begin(&mut self) -> wasmtime::Result<()> {
        grant(&mut self.store, self.budget)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("hash", &hex::encode(self.hash)).field("roles", &self.roles).finish_non_exhaustive()
    }
}
