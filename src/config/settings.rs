//! The whole.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::default_mount::DefaultMountSettings;
use super::layers::keys_of;
use crate::{admin, encryption, handles, lifecycle, limits, meta, mounts, s3, server, telemetry, tokens, transfer, uploads};

/// The configuration of a gateway.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the gateway keeps what is its own: the metadata store, the master key, the admin token, and, unless configured otherwise,
    /// the objects. Created on the first start, for its owner only. Empty: `$XDG_DATA_HOME/sluice`, or `~/.local/share/sluice`, or
    /// `./sluice-data` where there is no home.
    pub data_dir: String,
    /// The S3 listener.
    pub server: server::Settings,
    /// The admin listener.
    pub admin: admin::Settings,
    /// Rates of users and buckets.
    pub limits: limits::Settings,
    /// The S3 protocol.
    pub s3: s3::Settings,
    /// The metadata store.
    pub meta: meta::Settings,
    /// Access keys and who has them.
    pub tokens: tokens::Settings,
    /// Encryption at rest.
    pub encryption: encryption::Settings,
    /// The upkeep of what is mounted.
    pub mounts: mounts::Settings,
    /// Open handles.
    pub handles: handles::Settings,
    /// Multipart uploads.
    pub uploads: uploads::Settings,
    /// Bodies in motion.
    pub transfer: transfer::Settings,
    /// Lifecycle configurations.
    pub lifecycle: lifecycle::Settings,
    /// Logs.
    pub log: telemetry::Settings,
    /// Where new buckets land.
    pub default_mount: DefaultMountSettings,
}

impl Config {
    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        PathBuf::from(&self.data_dir)
    }

    /// The file of the embedded metadata store; `None` when it is on a server.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        self.meta.dsn.strip_prefix("sqlite:").map(PathBuf::from)
    }

    /// The keys in which another configuration differs.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (keys_of(self).unwrap_or_default(), keys_of(other).unwrap_or_default());
        let all: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        all.into_iter().filter(|key| ours.get(*key) != theirs.get(*key)).cloned().collect()
    }

    /// Puts in what depends on the machine: the data directory, and everything that lies in it.
    pub(super) fn resolve(&mut self, environment: &dyn Fn(&str) -> Option<String>) {
        if self.data_dir.is_empty() {
            let set = |name: &str| environment(name).filter(|value| !value.is_empty());
            let home = || set("HOME").map(|home| PathBuf::from(home).join(".local/share"));
            self.data_dir = match set("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home) {
                Some(base) => base.join("sluice").to_string_lossy().into_owned(),
                None => "sluice-data".to_owned(),
            };
        }
        if let Ok(path) = std::path::absolute(&self.data_dir) {
            self.data_dir = path.to_string_lossy().into_owned();
        }
        if self.meta.dsn.is_empty() {
            "sqlite:{data_dir}/sluice.db".clone_into(&mut self.meta.dsn);
        }
        self.meta.dsn = self.meta.dsn.replace("{data_dir}", &self.data_dir);
        self.mounts.plugin_dir = self.mounts.plugin_dir.replace("{data_dir}", &self.data_dir);
        self.default_mount.resolve(&self.data_dir);
    }
}
