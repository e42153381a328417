//! What a plugin can import: its settings, the clock, random numbers, and an environment with nothing in it.
//!
//! The runtimes of languages import much of WASI whether or not they use it. Whatever is not here is there by name only, and ends the call
//! that uses it. So there are no files, no network, no processes, and nothing that waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentType, Lift, Linker, LinkerInstance, Lower};
use wasmtime::{StoreContextMut, bail};

use crate::bindings::{PACKAGE, VERSION};
use crate::limits::Limiter;

/// How many random bytes a plugin may ask for at once.
const MAX_RANDOM_BYTES: u64 = 64 * 1024;

/// What belongs to an instance.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) limiter: Limiter,
    pub(crate) config: Arc<BTreeMap<String, String>>,
    pub(crate) began: Instant,
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Context<'a> = StoreContextMut<'a, Guest>;

/// What the component imports, defined or ended with a trap.
///
/// # Errors
/// When it imports an interface of this package that there is not.
pub(crate) fn link(component: &Component) -> wasmtime::Result<Linker<Guest>> {
    let engine = component.engine();
    let mut linker = Linker::new(engine);
    let component_type = component.component_type();
    for (name, item) in component_type.imports(engine) {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        if let Some(ours) = interface.strip_prefix(PACKAGE) {
            if version != VERSION || !["types", "settings"].contains(&ours) {
                bail!("it imports {name}, and there are {PACKAGE}types@{VERSION} and {PACKAGE}settings@{VERSION}");
            }
            if ours == "settings" {
                linker
                    .instance(name)?
                    .func_wrap("get", |store: Context<'_>, (name,): (String,)| Ok((store.data().config.get(&name).cloned(),)))?;
            }
        } else if matches!(item.ty, ComponentItem::ComponentInstance(_)) && version.starts_with("0.2.") {
            wasi(interface, &mut linker.instance(name)?)?;
        }
    }
    linker.define_unknown_imports_as_traps(component)?;
    Ok(linker)
}

fn wasi(interface: &str, instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    match interface {
        "wasi:random/random" => {
            instance.func_wrap("get-random-bytes", |_: Context<'_>, (count,): (u64,)| Ok((random_bytes(count)?,)))?;
            instance.func_wrap("get-random-u64", |_: Context<'_>, (): ()| Ok((random()?,)))
        }
        "wasi:random/insecure" => {
            instance.func_wrap("get-insecure-random-bytes", |_: Context<'_>, (count,): (u64,)| Ok((random_bytes(count)?,)))?;
            instance.func_wrap("get-insecure-random-u64", |_: Context<'_>, (): ()| Ok((random()?,)))
        }
        "wasi:random/insecure-seed" => {
            instance.func_wrap("insecure-seed", |_: Context<'_>, (): ()| Ok(((random()?, random()?),)))
        }
        "wasi:clocks/wall-clock" => {
            instance.func_wrap("now", |_: Context<'_>, (): ()| {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Ok((Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() },))
            })?;
            instance.func_wrap("resolution", |_: Context<'_>, (): ()| Ok((Datetime { seconds: 0, nanoseconds: 1 },)))
        }
        "wasi:clocks/monotonic-clock" => {
            instance.func_wrap("now", |store: Context<'_>, (): ()| {
                Ok((u64::try_from(store.data().began.elapsed().as_nanos()).unwrap_or(u64::MAX),))
            })?;
            instance.func_wrap("resolution", |_: Context<'_>, (): ()| Ok((1_u64,)))
        }
        "wasi:cli/environment" => {
            instance.func_wrap("get-environment", |_: Context<'_>, (): ()| Ok((Vec::<(String, String)>::new(),)))?;
            instance.func_wrap("get-arguments", |_: Context<'_>, (): ()| Ok((Vec::<String>::new(),)))?;
            instance.func_wrap("initial-cwd", |_: Context<'_>, (): ()| Ok((None::<String>,)))
        }
        _ => Ok(()),
    }
}

fn random_bytes(count: u64) -> wasmtime::Result<Vec<u8>> {
    if count > MAX_RANDOM_BYTES {
        bail!("the plugin asks for {count} random bytes at once, and may have {MAX_RANDOM_BYTES}");
    }
    let mut bytes = vec![0; usize::try_from(count)?];
    getrandom::fill(&mut bytes).map_err(|error| wasmtime::format_err!("random numbers: {error}"))?;
    Ok(bytes)
}

fn random() -> wasmtime::Result<u64> {
    getrandom::u64().map_err(|error| wasmtime::format_err!("random numbers: {error}"))
}
