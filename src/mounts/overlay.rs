//! What services cannot keep of their objects, in the metadata store.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use sluice_provider as provider;
use sluice_provider_opendal::Overlay;

use crate::error::Error;
use crate::meta::MetaStore;

/// The overlay of all mounts of this installation.
#[derive(Clone, Debug)]
pub(super) struct StoredOverlay(pub(super) Arc<dyn MetaStore>);

fn failed(error: Error) -> provider::Error {
    provider::Error::new(provider::ErrorKind::Unavailable, "overlay").caused_by(error)
}

#[async_trait]
impl Overlay for StoredOverlay {
    async fn read(&self, space: &str, names: &[&str]) -> provider::Result<Vec<Option<String>>> {
        let asked: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let found = self.0.overlay(space, &asked).await.map_err(failed)?;
        let mut found: HashMap<String, String> = found.into_iter().collect();
        Ok(asked.iter().map(|name| found.remove(name)).collect())
    }

    async fn swap(&self, space: &str, name: &str, from: Option<&str>, to: Option<&str>) -> provider::Result<bool> {
        self.0.swap_overlay(space, name, from, to).await.map_err(failed)
    }
}
