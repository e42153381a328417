//! All namespaces.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use sluice_provider as provider;
use sluice_provider::{Key, ListQuery, UploadId};
use tokio::sync::OnceCell;

use super::namespace::{first_entry, first_entry_at};
use super::opening::Opening;
use super::refresh::Changed;
use super::{Namespace, check_bucket_name};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{BucketRecord, MetaStore, MountRecord, UploadCursor, UploadRecord};
use crate::mounts::{self, Blob, MountTable, Opener, ShieldLimits, Upkeep, check_prefix, class_of, opener};
use crate::runtime::unix_millis;

/// How long the last look into a bucket may keep its writers waiting.
const LAST_LOOK: Duration = Duration::from_secs(5);
/// Uploads that are aborted per step when a bucket goes.
const UPLOADS_PER_STEP: usize = 100;

type Cell = Arc<OnceCell<Arc<Namespace>>>;

/// All namespaces.
pub struct Namespaces {
    pub(super) store: Arc<dyn MetaStore>,
    default_mount: ArcSwap<DefaultMount>,
    pub(super) opening: Opening,
    upkeep: Upkeep,
    pub(super) changed: Changed,
    /// Loaded ones, and those that somebody is loading right now.
    cells: DashMap<String, Cell>,
}

/// What a new bucket gets as its mount.
#[derive(Clone, Debug)]
pub struct DefaultMount {
    /// The kind of provider.
    pub provider: String,
    /// Its settings; `{bucket}` in a value becomes the bucket's name.
    pub settings: BTreeMap<String, String>,
}

/// A cell that is being used. When the last user leaves an empty one, it leaves the map: neither a failure nor a name that does
/// not exist is remembered.
struct CellUse<'a> {
    cells: &'a DashMap<String, Cell>,
    name: &'a str,
    cell: Option<Cell>,
}

/// Closes a namespace and forgets it, on drop.
struct Forget<'a> {
    namespaces: &'a Namespaces,
    namespace: &'a Arc<Namespace>,
}

// === impl DefaultMount ===

impl DefaultMount {
    fn record(&self, bucket: &str) -> MountRecord {
        let settings = self.settings.iter().map(|(name, value)| (name.clone(), value.replace("{bucket}", bucket))).collect();
        MountRecord { bucket: bucket.to_owned(), prefix: String::new(), provider: self.provider.clone(), settings }
    }
}

// === impl Namespaces ===

impl Namespaces {
    /// Over a store.
    #[must_use]
    pub fn new(store: Arc<dyn MetaStore>, default_mount: DefaultMount) -> Self {
        Self::with_limits(store, default_mount, ShieldLimits::from(&mounts::Settings::default()))
    }

    /// Over a store, with limits of its own for mounts.
    #[must_use]
    pub fn with_limits(store: Arc<dyn MetaStore>, default_mount: DefaultMount, limits: ShieldLimits) -> Self {
        let upkeep = Upkeep::default();
        let opener = opener(upkeep.clone(), limits, Arc::clone(&store));
        Self { upkeep, ..Self::with_opener(store, default_mount, opener) }
    }

    /// Over a store, opening mounts in a way of its own.
    #[must_use]
    pub fn with_opener(store: Arc<dyn MetaStore>, default_mount: DefaultMount, opener: Opener) -> Self {
        let default_mount = ArcSwap::from_pointee(default_mount);
        Self {
            store,
            default_mount,
            opening: Opening::new(opener),
            upkeep: Upkeep::default(),
            changed: Changed::default(),
            cells: DashMap::new(),
        }
    }

    /// Exchanges what a new bucket gets as its mount. Buckets that are there keep theirs.
    pub fn set_default_mount(&self, default_mount: DefaultMount) {
        self.default_mount.store(Arc::new(default_mount));
    }

    /// Sweeps the providers of all mounts that are open, each once; answers how many. To be called now and then.
    pub async fn sweep_mounts(&self) -> usize {
        self.upkeep.sweep().await
    }

    /// The namespace of a bucket. 100 concurrent first calls load it once. No I/O when it is loaded.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub async fn get(&self, bucket: &str) -> Result<Arc<Namespace>> {
        if let Some(namespace) = self.loaded(bucket) {
            return Ok(namespace);
        }
        if check_bucket_name(bucket).is_err() {
            return Err(no_such_bucket(bucket));
        }
        let cell = self.cell(bucket);
        cell.get_or_load(|| self.load(bucket)).await
    }

    /// Creates a bucket with the default mount.
    ///
    /// # Errors
    /// `InvalidBucketName`, `BucketAlreadyOwnedByYou`, `BucketAlreadyExists`, the provider's error when its mount cannot be opened.
    pub async fn create(&self, name: &str, owner: &str, location: &str) -> Result<Arc<Namespace>> {
        check_bucket_name(name)?;
        let mut created = false;
        let cell = self.cell(name);
        let namespace = cell
            .get_or_load(|| async {
                if let Some(bucket) = self.store.bucket(name).await? {
                    return Err(taken(&bucket, owner));
                }
                // Opened before the row is written: a bucket that cannot store anything is not created.
                let record = self.default_mount.load().record(name);
                let mount = self.opening.open(&record).await?;
                let bucket = BucketRecord {
                    name: name.to_owned(),
                    owner: owner.to_owned(),
                    created: unix_millis(),
                    location: location.to_owned(),
                };
                self.store.create_bucket(&bucket, std::slice::from_ref(&record)).await?;
                created = true;
                let namespace = Namespace::new(bucket, MountTable::new(vec![mount]), BTreeMap::new());
                namespace.records.lock().push(record);
                Ok(Arc::new(namespace))
            })
            .await?;
        if created { Ok(namespace) } else { Err(taken(&namespace.bucket, owner)) }
    }

    /// Deletes a bucket. The caller has made sure that it is empty; re-checked here under the namespace's gate. Unfinished uploads go
    /// with it.
    ///
    /// # Errors
    /// `NoSuchBucket`, `BucketNotEmpty`, the provider's when a mount cannot be asked.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let namespace = self.get(name).await?;
        let not_empty = || Error::new(ErrorKind::BucketNotEmpty, "delete bucket").with("bucket", name);
        // A first look without keeping anybody out.
        if !namespace.is_empty().await? {
            return Err(not_empty());
        }
        let _changes = namespace.changes.lock().await;
        let permit = namespace.gate().enter_alone().await?;
        let looked = tokio::time::timeout(LAST_LOOK, namespace.is_empty()).await;
        let slow = |_| Error::new(ErrorKind::Provider(provider::ErrorKind::TimedOut), "look into a bucket").with("bucket", name);
        if !looked.map_err(slow)?? {
            return Err(not_empty());
        }
        self.abort_uploads(&namespace).await?;
        // From here on nobody knows whether the row is still there, until the store has answered: given up half way, the
        // namespace is closed and forgotten, and whoever asks next learns from the store what holds.
        let forget = Forget { namespaces: self, namespace: &namespace };
        let deleted = self.store.delete_bucket(name).await;
        drop(forget);
        drop(permit);
        if deleted? { Ok(()) } else { Err(no_such_bucket(name)) }
    }

    /// Buckets in name order.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn list(&self, owner: Option<&str>, prefix: &str, after: &str, limit: usize) -> Result<Vec<BucketRecord>> {
        self.store.buckets(owner, prefix, after, limit).await
    }

    /// Mounts a provider, at once visible to every request that begins afterwards. It must open: a mount that is broken from the
    /// start is a mistake to be told.
    ///
    /// # Errors
    /// `NoSuchBucket`, `EntityExists`, `InvalidArgument`, the provider's own; `ObjectLocked` when it would hide objects of a bucket with
    /// Object Lock.
    pub async fn mount(&self, mount: MountRecord) -> Result<()> {
        check_prefix(&mount.prefix)?;
        let namespace = self.get(&mount.bucket).await?;
        let _changes = namespace.changes.lock().await;
        if namespace.mounts.load().at(&mount.prefix).is_some() {
            let exists = Error::new(ErrorKind::EntityExists, "mount");
            return Err(exists.with("bucket", &mount.bucket).with("prefix", format!("{:?}", mount.prefix)));
        }
        let opened = self.opening.open(&mount).await?;
        let locks = namespace.setting(Namespace::OBJECT_LOCK).is_some() && class_of(&mount.prefix).is_none();
        // With locks, nothing is written between the look and the end.
        let _permit = if locks { namespace.gate().enter_alone().await? } else { namespace.publishing().await? };
        if locks {
            if opened.provider.versions().is_some_and(|facet| !facet.version_features().locks) {
                let message = "The storage of this mount cannot keep Object Lock, which the bucket has.";
                return Err(Error::new(ErrorKind::NotImplemented(message.into()), "mount"));
            }
            let looked = tokio::time::timeout(LAST_LOOK, hides_objects(&namespace, &mount.prefix)).await;
            let slow = |_| Error::new(ErrorKind::Provider(provider::ErrorKind::TimedOut), "look for locked objects");
            if looked.map_err(slow)?? {
                let error = Error::new(ErrorKind::ObjectLocked, "mount over objects of a bucket with Object Lock");
                return Err(error.with("prefix", format!("{:?}", mount.prefix)));
            }
        }
        self.store.add_mount(&mount).await?;
        let table = namespace.mounts.load().with(opened);
        namespace.mounts.store(Arc::new(table));
        let mut records = namespace.records.lock();
        records.push(mount);
        // As the store lists them.
        records.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        Ok(())
    }

    /// Unmounts. Requests under way keep the provider until they end. In a bucket with Object Lock only what is empty is unmounted:
    /// nothing that is locked goes out of reach.
    ///
    /// # Errors
    /// `NoSuchBucket`, `NoSuchEntity`, `ObjectLocked`; `DeleteConflict` when objects in a storage class would lose their keys or their
    /// bytes; the provider's when it cannot be asked whether it is empty.
    pub async fn unmount(&self, bucket: &str, prefix: &str) -> Result<()> {
        let namespace = self.get(bucket).await?;
        let _changes = namespace.changes.lock().await;
        let mount = namespace.mounts.load().at(prefix).cloned();
        if let Some(mount) = mount.filter(|_| namespace.setting(Namespace::OBJECT_LOCK).is_some())
            && !first_entry(mount.provider).await?.entries.is_empty()
        {
            return Err(Error::new(ErrorKind::ObjectLocked, "unmount").with("bucket", bucket));
        }
        // Nothing moves to a storage class, and nothing is written, between the look and the end.
        let classes = !namespace.mounts.load().classes().is_empty();
        let _alone = if classes { Some(namespace.gate().enter_alone().await?) } else { None };
        let looked = async { if classes { has_moved_objects(&namespace, prefix).await } else { Ok(false) } };
        let slow = |_| Error::new(ErrorKind::Provider(provider::ErrorKind::TimedOut), "look into storage classes");
        if tokio::time::timeout(LAST_LOOK, looked).await.map_err(slow)?? {
            let error = Error::new(ErrorKind::DeleteConflict, "unmount what objects in a storage class need");
            return Err(error.with("bucket", bucket).with("prefix", format!("{prefix:?}")));
        }
        if !self.store.remove_mount(bucket, prefix).await? {
            let unknown = Error::new(ErrorKind::NoSuchEntity, "unmount");
            return Err(unknown.with("bucket", bucket).with("prefix", format!("{prefix:?}")));
        }
        let table = namespace.mounts.load().without(prefix);
        namespace.mounts.store(Arc::new(table));
        namespace.records.lock().retain(|record| record.prefix != prefix);
        self.opening.forget_unused();
        Ok(())
    }

    /// The mounts of a bucket, in prefix order.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub async fn mounts(&self, bucket: &str) -> Result<Vec<MountRecord>> {
        self.get(bucket).await?;
        let mut mounts = self.store.mounts(bucket).await?;
        mounts.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        Ok(mounts)
    }

    /// Reads a settings document of a bucket (cached).
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub async fn setting(&self, bucket: &str, name: &str) -> Result<Option<Arc<str>>> {
        Ok(self.get(bucket).await?.settings.load().get(name).cloned())
    }

    /// Sets or removes a settings document.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    pub async fn set_setting(&self, bucket: &str, name: &str, document: Option<&str>) -> Result<()> {
        let namespace = self.get(bucket).await?;
        let _changes = namespace.changes.lock().await;
        if !self.store.set_bucket_setting(bucket, name, document).await? {
            return Err(no_such_bucket(bucket));
        }
        let mut settings = BTreeMap::clone(&namespace.settings.load());
        match document {
            Some(document) => drop(settings.insert(name.to_owned(), document.into())),
            None => drop(settings.remove(name)),
        }
        namespace.settings.store(Arc::new(settings));
        Ok(())
    }

    /// Whether a bucket is loaded, or being loaded.
    pub(super) fn is_loaded(&self, bucket: &str) -> bool {
        self.cells.contains_key(bucket)
    }

    pub(super) fn loaded_names(&self) -> Vec<String> {
        self.cells.iter().map(|cell| cell.key().clone()).collect()
    }

    /// Closes a namespace that another gateway has deleted, and forgets it.
    pub(super) fn forget(&self, namespace: &Arc<Namespace>) {
        drop(Forget { namespaces: self, namespace });
    }

    pub(super) fn loaded(&self, bucket: &str) -> Option<Arc<Namespace>> {
        self.cells.get(bucket)?.get().cloned()
    }

    fn cell<'a>(&'a self, name: &'a str) -> CellUse<'a> {
        let cell = Arc::clone(self.cells.entry(name.to_owned()).or_default().value());
        CellUse { cells: &self.cells, name, cell: Some(cell) }
    }

    async fn load(&self, name: &str) -> Result<Arc<Namespace>> {
        let bucket = self.store.bucket(name).await?.ok_or_else(|| no_such_bucket(name))?;
        let settings = self.store.bucket_settings(name).await?;
        let settings = settings.into_iter().map(|(name, document)| (name, document.into())).collect();
        let records = self.store.mounts(name).await?;
        let mounts = self.opening.open_all(records.clone()).await;
        let namespace = Namespace::new(bucket, MountTable::new(mounts), settings);
        *namespace.records.lock() = records;
        Ok(Arc::new(namespace))
    }

    /// Frees what unfinished uploads of a bucket hold, and forgets them.
    async fn abort_uploads(&self, namespace: &Namespace) -> Result<()> {
        loop {
            let uploads = self.store.uploads(&namespace.bucket.name, "", &UploadCursor::default(), UPLOADS_PER_STEP).await?;
            if uploads.is_empty() {
                return Ok(());
            }
            for upload in uploads {
                if let Err(error) = free_parts(namespace, &upload).await {
                    // The mount's own sweep finds what is left.
                    tracing::warn!(bucket = upload.bucket, upload = upload.upload_id, %error, "parts of an upload were not freed");
                }
                self.store.delete_upload(&upload.upload_id).await?;
            }
        }
    }
}

impl fmt::Debug for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespaces").field("loaded", &self.cells.len()).finish_non_exhaustive()
    }
}

// === impl CellUse ===

impl CellUse<'_> {
    async fn get_or_load<F>(&self, load: impl FnOnce() -> F) -> Result<Arc<Namespace>>
    where
        F: Future<Output = Result<Arc<Namespace>>>,
    {
        let lost = || Error::new(ErrorKind::Internal, "cell of a namespace");
        self.cell.as_ref().ok_or_else(lost)?.get_or_try_init(load).await.cloned()
    }
}

impl Drop for CellUse<'_> {
    fn drop(&mut self) {
        let Some(cell) = self.cell.take() else { return };
        if cell.initialized() {
            return;
        }
        // Given up before looking: of several that leave at once, the last to look sees the map's reference alone. One that comes
        // in between is counted, and looks itself when it leaves. A cell in use must stay: two cells of one name would be two
        // namespaces of one bucket.
        drop(cell);
        self.cells.remove_if(self.name, |_, cell| Arc::strong_count(cell) == 1 && !cell.initialized());
    }
}

// === impl Forget ===

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.namespace.gate().close();
        let this = |cell: &Cell| cell.get().is_some_and(|other| Arc::ptr_eq(other, self.namespace));
        self.namespaces.cells.remove_if(&self.namespace.bucket.name, |_, cell| this(cell));
        self.namespaces.opening.forget_unused();
    }
}

async fn free_parts(namespace: &Namespace, upload: &UploadRecord) -> provider::Result<()> {
    let mount = namespace.mounts.load().at(&upload.mount_prefix).cloned();
    let Some((mount, key)) = mount.zip(upload.key.strip_prefix(&upload.mount_prefix)) else { return Ok(()) };
    match mount.provider.multipart() {
        Some(multipart) => multipart.abort(&Key::new(key)?, &UploadId::new(upload.upload_id.as_str())?).await,
        None => Ok(()),
    }
}

/// Whether a mount at this prefix would hide anything that another one holds.
async fn hides_objects(namespace: &Namespace, prefix: &str) -> Result<bool> {
    let table = namespace.mounts.load_full();
    for mount in table.iter() {
        let Some(rest) = prefix.strip_prefix(&*mount.prefix) else { continue };
        if !first_entry_at(Arc::clone(&mount.provider), rest.to_owned()).await?.entries.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the bytes of any object lie on the mount of a storage class whose key is at this prefix; or, when the prefix is such a mount,
/// whether any lie there.
async fn has_moved_objects(namespace: &Namespace, prefix: &str) -> Result<bool> {
    let table = namespace.mounts.load_full();
    let bucket = Blob::prefix(&namespace.bucket.name);
    let (asked, begins) = match class_of(prefix) {
        Some(_) => (table.at(prefix).into_iter().collect::<Vec<_>>(), bucket),
        None => (table.classes().iter().collect(), format!("{bucket}{prefix}")),
    };
    for mount in asked {
        let query = ListQuery { prefix: begins.clone(), limit: 1, ..ListQuery::default() };
        if !mount.provider.list(&query).await?.entries.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn no_such_bucket(name: &str) -> Error {
    Error::new(ErrorKind::NoSuchBucket, "bucket").with("name", format!("{name:?}"))
}

fn taken(bucket: &BucketRecord, owner: &str) -> Error {
    let kind = if bucket.owner == owner { ErrorKind::BucketAlreadyOwnedByYou } else { ErrorKind::BucketAlreadyExists };
    Error::new(kind, "create bucket").with("name", &bucket.name)
}

#[cfg(test)]
mod tests;
