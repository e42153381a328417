//! What runs the plugins of this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sluice_provider_wasm::{Authoriser, Host, Places, Principal, Request, Settings, Verdict};

use super::{Asking, Authorise};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{Breaker, BreakerLimits};

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

/// Failures in a row after which an authoriser is asked no more, and nothing is let through.
const FAILURES: u32 = 5;
/// For how long.
const REST: Duration = Duration::from_secs(5);

/// An authoriser that is a plugin.
#[derive(Debug)]
struct Plugin {
    settings: Settings,
    opened: OnceLock<Authoriser>,
    breaker: Breaker,
}

/// The authoriser of a mount, by the settings of its plugin.
///
/// # Errors
/// `InvalidArgument` with the setting that is wrong.
pub(super) fn authoriser(settings: &BTreeMap<String, String>) -> Result<Arc<dyn Authorise>> {
    let refuse = |message: String| Error::new(ErrorKind::InvalidArgument(message.into()), "open mount");
    let known = "plugin, config.NAME, instances, timeout_ms, instructions, memory_bytes";
    let settings = Settings::from_map(settings)
        .map_err(|error| refuse(format!("Settings of an authoriser: {error}; known settings: {known}")).caused_by(error))?;
    if settings.over.is_some() {
        return Err(refuse("An authoriser is over its mount already: authorise.over means nothing".to_owned()));
    }
    let breaker = Breaker::new("an authoriser", BreakerLimits { failures: FAILURES, recovery: REST });
    Ok(Arc::new(Plugin { settings, opened: OnceLock::new(), breaker }))
}

impl Plugin {
    /// Tried again with each request until it succeeds: the gateway may have no plugin directory yet.
    fn opened(&self) -> Result<&Authoriser> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let host = host()?;
        Ok(self.opened.get_or_init(|| Authoriser::new(&host, &self.settings)))
    }
}

#[async_trait]
impl Authorise for Plugin {
    async fn permits(&self, asking: &Asking) -> Result<bool> {
        let plugin = self.opened()?;
        let Some(leave) = self.breaker.enter() else {
            let kind = ErrorKind::Provider(sluice_provider::ErrorKind::Unavailable);
            return Err(Error::new(kind, "authorise").with("reason", "the authoriser has failed and is given a rest"));
        };
        let verdict = plugin.decide(request(asking)).await;
        match verdict.as_ref().map_err(sluice_provider::Error::kind) {
            // That all instances are taken says nothing about the plugin.
            Err(sluice_provider::ErrorKind::Busy) => drop(leave),
            Err(_) => drop(leave.failed()),
            Ok(_) => leave.succeeded(),
        }
        Ok(verdict? != Verdict::Deny)
    }

    async fn load(&self) -> Result<()> {
        Ok(self.opened()?.load().await?)
    }
}

fn request(asking: &Asking) -> Request {
    let principal = asking.sender.as_ref().map(|sender| Principal {
        account: sender.account.clone(),
        arn: sender.arn.clone(),
        access_key: sender.access_key.clone(),
    });
    Request {
        principal,
        operation: asking.operation.to_owned(),
        bucket: asking.bucket.clone(),
        key: asking.key.clone(),
        version: asking.version.clone(),
        source_address: asking.address.map(|address| address.to_string()),
        secure: asking.secure,
    }
}
