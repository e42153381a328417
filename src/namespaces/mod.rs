//! Bucket ⇄ namespace: loaded once, outside any lock; settings and mounts of each.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::Result;
use crate::meta::{BucketRecord, MetaStore, MountRecord};
use crate::mounts::MountTable;

/// A bucket, loaded.
#[derive(Debug)]
pub struct Namespace {
    /// The bucket's row.
    pub bucket: BucketRecord,
    /// Its mounts; replaced whole when one is added or removed.
    pub mounts: ArcSwap<MountTable>,
}

/// All namespaces.
#[derive(Debug)]
pub struct Namespaces;

/// What a new bucket gets as its mount.
#[derive(Clone, Debug)]
pub struct DefaultMount {
    /// The kind of provider.
    pub provider: String,
    /// Its settings; `{bucket}` in a value becomes the bucket's name.
    pub settings: std::collections::BTreeMap<String, String>,
}

impl Namespaces {
    /// Over a store.
    #[must_use]
    pub fn new(_store: Arc<dyn MetaStore>, _default_mount: DefaultMount) -> Self {
        todo!()
    }
    /// The namespace of a bucket. 100 concurrent first calls load it once. No I/O when it is loaded.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub async fn get(&self, _bucket: &str) -> Result<Arc<Namespace>> {
        todo!()
    }
    /// Creates a bucket with the default mount.
    ///
    /// # Errors
    /// `BucketAlreadyOwnedByYou`, `BucketAlreadyExists`, the provider's error when its mount cannot be opened.
    pub async fn create(&self, _name: &str, _owner: &str, _location: &str) -> Result<Arc<Namespace>> {
        todo!()
    }
    /// Deletes a bucket. The caller has made sure that it is empty; re-checked here under the namespace's gate.
    ///
    /// # Errors
    /// `NoSuchBucket`, `BucketNotEmpty`.
    pub async fn delete(&self, _name: &str) -> Result<()> {
        todo!()
    }
    /// Buckets in name order.
    pub async fn list(&self, _owner: Option<&str>, _prefix: &str, _after: &str, _limit: usize) -> Result<Vec<BucketRecord>> {
        todo!()
    }
    /// Mounts a provider, at once visible to every request that begins afterwards.
    ///
    /// # Errors
    /// `NoSuchBucket`, `EntityExists`, the provider's own.
    pub async fn mount(&self, _mount: MountRecord) -> Result<()> {
        todo!()
    }
    /// Unmounts. Requests under way keep the provider until they end.
    ///
    /// # Errors
    /// `NoSuchBucket`, `NoSuchEntity`.
    pub async fn unmount(&self, _bucket: &str, _prefix: &str) -> Result<()> {
        todo!()
    }
    /// The mounts of a bucket.
    pub async fn mounts(&self, _bucket: &str) -> Result<Vec<MountRecord>> {
        todo!()
    }
    /// Reads a settings document of a bucket (cached).
    pub async fn setting(&self, _bucket: &str, _name: &str) -> Result<Option<Arc<str>>> {
        todo!()
    }
    /// Sets or removes a settings document.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub async fn set_setting(&self, _bucket: &str, _name: &str, _document: Option<&str>) -> Result<()> {
        todo!()
    }
}
