//! What runs the plugins of this process.

use std::path::PathBuf;

use parking_lot::Mutex;
use sluice_provider_wasm::{Host, Places};

use crate::error::{Error, ErrorKind, Result};

/// One for the process: the machine code of a plugin is shared by all mounts of it, and so are the threads that it runs on. It is made
/// when the first plugin is mounted.
static PLUGINS: Mutex<Plugins> = Mutex::new(Plugins { places: None, host: None });

struct Plugins {
    places: Option<Places>,
    host: Option<Host>,
}

/// Says where plugins lie: the directory of their files, and that of what they were compiled to. Before the first of them is mounted.
pub fn place_plugins(plugins: PathBuf, cache: PathBuf) {
    PLUGINS.lock().places = Some(Places { plugins, cache: Some(cache) });
}

/// The host.
///
/// # Errors
/// `InvalidArgument` where nobody said where plugins lie; the host's own when it does not start.
pub(super) fn host() -> Result<Host> {
    let mut plugins = PLUGINS.lock();
    if let Some(host) = &plugins.host {
        return Ok(host.clone());
    }
    let places = plugins
        .places
        .clone()
        .ok_or_else(|| Error::new(ErrorKind::InvalidArgument("This gateway has no plugin directory".into()), "open mount"))?;
    let host = Host::new(places)?;
    plugins.host = Some(host.clone());
    Ok(host)
}
