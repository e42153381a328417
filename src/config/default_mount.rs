//! `[default_mount]`

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The mount that a new bucket gets. Keys beyond these are settings of the provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct DefaultMountSettings {
    /// The kind of provider: `local` or `memory`.
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

    pub(super) fn resolve(&mut self, data_dir: &str) {
        if self.provider != "local" && self.root == Self::default().root {
            self.root.clear();
        }
        for value in std::iter::once(&mut self.root).chain(self.others.values_mut()) {
            *value = value.replace("{data_dir}", data_dir);
        }
    }
}
