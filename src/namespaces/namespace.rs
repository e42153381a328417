//! One bucket, loaded.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use sluice_provider as provider;
use sluice_provider::{Key, ListPage, ListQuery, Provider};

use super::{Gate, Permit};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{BucketRecord, MountRecord};
use crate::mounts::MountTable;

/// How many mounts are asked at once.
const MOUNTS_AT_ONCE: usize = 16;

/// A bucket, loaded.
#[derive(Debug)]
pub struct Namespace {
    /// The bucket's row.
    pub bucket: BucketRecord,
    /// Its mounts; replaced whole when one is added or removed.
    pub mounts: ArcSwap<MountTable>,
    /// Its settings documents; replaced whole when one changes.
    pub(super) settings: ArcSwap<BTreeMap<String, Arc<str>>>,
    /// The rows that its mounts were made from.
    pub(super) records: Mutex<Vec<MountRecord>>,
    /// Held while row and table (or row and document) change, so that they change in the same order.
    pub(super) changes: tokio::sync::Mutex<()>,
    /// What documents mean, once somebody has asked: each beside the text that it was made from.
    compiled: ArcSwap<Vec<Compiled>>,
    gate: Gate,
}

/// A settings document that has been understood.
#[derive(Clone, Debug)]
struct Compiled {
    text: Arc<str>,
    meaning: Arc<dyn Any + Send + Sync>,
}

impl Namespace {
    /// A bucket with its mounts and settings documents.
    #[must_use]
    pub fn new(bucket: BucketRecord, mounts: MountTable, settings: BTreeMap<String, Arc<str>>) -> Self {
        Self {
            bucket,
            mounts: ArcSwap::from_pointee(mounts),
            settings: ArcSwap::from_pointee(settings),
            records: Mutex::default(),
            changes: tokio::sync::Mutex::new(()),
            compiled: ArcSwap::default(),
            gate: Gate::new(),
        }
    }

    /// A settings document, understood by `compile`; `None` when the bucket has none of this name. Done once for each text and type,
    /// however often it is asked for: `compile` must depend on the text alone.
    pub fn compiled<T: Send + Sync + 'static>(&self, name: &str, compile: impl FnOnce(&str) -> T) -> Option<Arc<T>> {
        let settings = self.settings.load();
        let text = settings.get(name)?;
        let known = |c: &Compiled| if Arc::ptr_eq(&c.text, text) { c.meaning.clone().downcast::<T>().ok() } else { None };
        if let Some(meaning) = self.compiled.load().iter().find_map(known) {
            return Some(meaning);
        }
        let meaning = Arc::new(compile(text));
        let new = Compiled { text: text.clone(), meaning: meaning.clone() };
        self.compiled.rcu(|all| {
            // Texts that are no longer the bucket's go at the next chance.
            let settings = self.settings.load();
            let kept = all.iter().filter(|c| settings.values().any(|text| Arc::ptr_eq(text, &c.text)));
            kept.cloned().chain([new.clone()]).collect::<Vec<_>>()
        });
        Some(meaning)
    }

    /// The gate that writers pass when they publish.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Takes the gate for one publication. See [`Gate::enter`].
    ///
    /// # Errors
    /// `NoSuchBucket` when the bucket is gone.
    pub async fn publishing(&self) -> Result<Permit> {
        self.gate.enter().await
    }

    /// The provider of a key, the key without the mount's prefix, and that prefix.
    ///
    /// # Errors
    /// The provider's InvalidKey for what cannot be a key; `NoSuchBucket` when no mount serves it.
    pub fn resolve(&self, key: &str) -> Result<(Arc<dyn Provider>, Key, Arc<str>)> {
        let table = self.mounts.load();
        match table.resolve(key) {
            Some((mount, inner)) => Ok((Arc::clone(&mount.provider), inner, Arc::clone(&mount.prefix))),
            None => {
                Key::new(key)?;
                Err(Error::new(ErrorKind::NoSuchBucket, "resolve a key without a mount").with("bucket", &self.bucket.name))
            }
        }
    }

    /// Makes sure, after something was published, that its key is still served from where it was resolved to. Mounts can come and go
    /// meanwhile, and nobody would find it: then it must not be acknowledged, and a second try goes to the right place.
    ///
    /// # Errors
    /// `SlowDown`.
    pub fn still_serves(&self, key: &str, provider: &Arc<dyn Provider>, prefix: &str) -> Result<()> {
        match self.mounts.load().resolve(key) {
            Some((mount, _)) if *mount.prefix == *prefix && Arc::ptr_eq(&mount.provider, provider) => Ok(()),
            _ => Err(Error::new(ErrorKind::SlowDown, "publish under a mount that went").with("bucket", &self.bucket.name)),
        }
    }

    /// A settings document. No I/O.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<Arc<str>> {
        self.settings.load().get(name).cloned()
    }

    /// Whether no mount holds any object, hidden behind another mount or not.
    ///
    /// # Errors
    /// The provider's, when a mount cannot be asked.
    pub async fn is_empty(&self) -> Result<bool> {
        let table = self.mounts.load_full();
        let asked: Vec<_> = table.iter().map(|mount| first_entry(Arc::clone(&mount.provider))).collect();
        let mut pages = futures::stream::iter(asked).buffer_unordered(MOUNTS_AT_ONCE);
        while let Some(page) = pages.try_next().await? {
            if !page.entries.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Anything that the mount holds; an older version or a delete marker is something.
pub(super) async fn first_entry(provider: Arc<dyn Provider>) -> provider::Result<ListPage> {
    first_entry_at(provider, String::new()).await
}

/// Anything that the mount holds at keys that begin like this.
pub(super) async fn first_entry_at(provider: Arc<dyn Provider>, prefix: String) -> provider::Result<ListPage> {
    let query = ListQuery { prefix, limit: 1, ..ListQuery::default() };
    let page = provider.list(&query).await?;
    match provider.versions() {
        Some(versions) if page.entries.is_empty() => versions.list_versions(&query).await,
        _ => Ok(page),
    }
}
