//! The contract, delegated.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_provider::{
    Append, AttributeChange, CopyOptions, DeleteKey, DeleteOutcome, Features, Follow, Key, ListPage, ListQuery, Multipart,
    Object, ObjectInfo, Provider, PutBody, PutOptions, ReadOptions, Rename, Result, Versioning, Versions,
};

use crate::error::fault;
use crate::settings::Settings;
use crate::store::Store;
use crate::sweep::Swept;

/// Objects as plain files below a root. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Local(pub(crate) Arc<Store>);

impl Local {
    /// Opens a root, creating it when missing, and sweeps what ended processes left in it. Blocks.
    ///
    /// # Errors
    /// [`Unsupported`](sluice_provider::ErrorKind::Unsupported) for a file system that merges names (by case or Unicode
    /// normalisation) or has only short ones; what the file system answers otherwise.
    pub fn open(settings: Settings) -> Result<Self> {
        Store::open(settings).map(|store| Self(Arc::new(store)))
    }

    /// Removes what processes that have ended left behind: call it now and then on a root that several processes share.
    ///
    /// # Errors
    /// What the file system answers.
    pub async fn sweep(&self) -> Result<Swept> {
        let store = Arc::clone(&self.0);
        self.0
            .lists
            .run(move || {
                let swept = store.sweep()?;
                store.settle_spares()?;
                store.recover_spares(false)?;
                let keys = store.settle_all()?;
                if keys > 0 {
                    tracing::info!(keys, "brought the versions of keys in order after calls that were cut short");
                }
                Ok(Swept { keys, ..swept })
            })
            .await
    }
}

#[async_trait]
impl Provider for Local {
    fn features(&self) -> Features {
        Features { conditions: true, attributes: true, persistent: true, writable: true, max_object_bytes: None }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.0.head(key, read).await
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        self.0.get(key, read).await
    }

    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        self.0.put(key, body, put, Versioning::Off).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        self.0.delete(keys).await
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        self.0.copy((from, None), to, copy, Versioning::Off).await
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        self.0.set_attributes(key, change).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.0.list(query).await
    }

    async fn check(&self) -> Result<()> {
        let store = Arc::clone(&self.0);
        let looked = self.0.lists.run(move || {
            // Through the path, so that a root that was unmounted or replaced is noticed.
            let path = store.settings.root.join(crate::name::RESERVED).join("staging").join(store.space.process());
            std::fs::metadata(path).map(drop).map_err(|e| {
                let errno = rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO);
                fault("check", errno).with("root", store.settings.root.display())
            })
        });
        looked.await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        Some(self)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        // An older version is kept by a second name of its file.
        self.0.links.then_some(self)
    }

    fn appends(&self) -> Option<&dyn Append> {
        Some(self)
    }

    fn renames(&self) -> Option<&dyn Rename> {
        Some(self)
    }

    fn follows(&self) -> Option<&dyn Follow> {
        None
    }
}
