//! `[default_mount]`

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The mount that a new bucket gets. Keys beyond these are settings of the provider, in which `{data_dir}` and `{bucket}` stand for what they
/// say: `space = "{bucket}"`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DefaultMountSettings {
    /// The kind of provider: `local`, `memory`, or another of `sluice provider ls`. `s3`, `opendal`, `page` and `kv` need `{bucket}` in a
    /// setting, else all buckets would be the same one.
    pub provider: String,
    /// For `local`: the directory of a bucket's objects. `{data_dir}` and `{bucket}` stand for what they say.
    pub root: String,
    /// Other settings of the provider.
    #[serde(flatten)]
    pub others: BTreeMap<String, String>,
}

impl Default for DefaultMountSettings {
    fn default() -> Self {
        Self { provider: "local".to_owned(), root: "{data_dir}/buckets/{bucket}".to_owned(), others: BTreeMap::new() }
    }
}

impl DefaultMountSettings {
    /// The provider's settings: the default root concerns `local` alone.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.others.clone();
        if !self.root.is_empty() {
            settings.insert("root".to_owned(), self.root.clone());
        }
        settings
    }

    /// Whether each bucket gets objects of its own. What lies in memory is nobody else's anyway.
    pub(super) fn tells_buckets_apart(&self) -> bool {
        let shared = ["s3", "opendal", "page", "kv"].contains(&self.provider.as_str());
        !shared || self.others.values().any(|value| value.contains("{bucket}"))
    }

    pub(super) fn resolve(&mut self, data_dir: &str) {
        if self.provider != "local" && self.root == Self::default().root {
            self.root.clear();
        }
        for value in std::iter::once(&mut self.root).chain(self.others.values_mut()) {
            *value = value.replace("{data_dir}", data_dir);
        }
    }
}
