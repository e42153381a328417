//! Buckets that another gateway has changed: their settings, mounts and existence are read anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Namespace;
use super::registry::Namespaces;
use crate::error::Result;
use crate::meta::MountRecord;
use crate::mounts::Mount;

/// The pause after which a store that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// Names of loaded buckets that may have changed. Bounded by what is loaded.
#[derive(Debug, Default)]
pub(super) struct Changed {
    names: Mutex<BTreeSet<String>>,
    wake: Notify,
}

impl Namespaces {
    /// Notes that a bucket was changed, here or elsewhere; `None`: any may have been. [`follow_changes`](Self::follow_changes) reads it
    /// anew.
    pub fn note_changed(&self, bucket: Option<&str>) {
        let names = match bucket {
            Some(name) if self.is_loaded(name) => vec![name.to_owned()],
            // What is not loaded is read when somebody asks for it.
            Some(_) => return,
            None => self.loaded_names(),
        };
        self.changed.names.lock().extend(names);
        self.changed.wake.notify_one();
    }

    /// Reads anew what was changed, for ever.
    pub async fn follow_changes(&self) {
        loop {
            self.changed.wake.notified().await;
            loop {
                let Some(name) = self.changed.names.lock().pop_first() else { break };
                if let Err(error) = self.refresh(&name).await {
                    tracing::debug!(bucket = name, %error, "a changed bucket cannot be read");
                    self.changed.names.lock().insert(name);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reads a loaded bucket anew. What has not changed stays as it is, providers that are open above all.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub(super) async fn refresh(&self, name: &str) -> Result<()> {
        let Some(namespace) = self.loaded(name) else { return Ok(()) };
        // Whoever changes it here has finished, and what is read now is at least as new as what they have put in place.
        let _changes = namespace.changes.lock().await;
        if self.store.bucket(name).await?.as_ref() != Some(&namespace.bucket) {
            self.forget(&namespace);
            return Ok(());
        }
        let documents = self.store.bucket_settings(name).await?;
        let records = self.store.mounts(name).await?;
        take_settings(&namespace, documents);
        let known = namespace.records.lock().clone();
        if records != known {
            let table = namespace.mounts.load_full();
            let (kept, new): (Vec<_>, Vec<_>) = records.iter().cloned().partition(|record| known.contains(record));
            let kept = kept.iter().filter_map(|record: &MountRecord| table.opened(&record.prefix).cloned());
            let kept: Vec<Mount> = kept.collect();
            let opened = self.opening.open_all(new).await;
            namespace.mounts.store(Arc::new(table.renewed(kept.into_iter().chain(opened).collect())));
            *namespace.records.lock() = records;
            self.opening.forget_unused();
            tracing::info!(bucket = name, "the mounts were changed by another gateway");
        }
        Ok(())
    }
}

/// Puts documents in place; one that has not changed stays, with what was understood of it.
fn take_settings(namespace: &Namespace, documents: Vec<(String, String)>) {
    let held = namespace.settings.load();
    let new: BTreeMap<String, Arc<str>> = documents
        .into_iter()
        .map(|(name, document)| {
            let same = held.get(&name).filter(|text| ***text == *document).cloned();
            (name, same.unwrap_or_else(|| document.into()))
        })
        .collect();
    if **held != new {
        namespace.settings.store(Arc::new(new));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::ErrorKind;
    use crate::meta::{MetaStore, SqliteStore};
    use crate::namespaces::DefaultMount;

    fn record(prefix: &str, settings: &[(&str, &str)]) -> MountRecord {
        let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        MountRecord { bucket: "bucket".into(), prefix: prefix.into(), provider: "memory".into(), settings }
    }

    async fn two() -> (Namespaces, Namespaces) {
        let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let mount = || DefaultMount { provider: "memory".to_owned(), settings: BTreeMap::new() };
        let (ours, theirs) = (Namespaces::new(Arc::clone(&store), mount()), Namespaces::new(store, mount()));
        ours.create("bucket", "owner", "").await.unwrap();
        theirs.get("bucket").await.unwrap();
        (ours, theirs)
    }

    #[tokio::test]
    async fn settings_and_mounts_of_the_other_gateway_come_over() {
        let (ours, theirs) = two().await;
        let before = theirs.get("bucket").await.unwrap();
        let root = Arc::clone(&before.mounts.load().at("").unwrap().provider);
        ours.set_setting("bucket", "cors", Some("x")).await.unwrap();
        ours.mount(record("a/", &[])).await.unwrap();
        ours.mount(record("b/", &[])).await.unwrap();
        theirs.refresh("bucket").await.unwrap();
        assert_eq!(theirs.setting("bucket", "cors").await.unwrap().as_deref(), Some("x"));
        assert_eq!(theirs.get("bucket").await.unwrap().mounts.load().len(), 3);
        let held = Arc::clone(&before.mounts.load().at("a/").unwrap().provider);
        ours.unmount("bucket", "b/").await.unwrap();
        ours.set_setting("bucket", "cors", None).await.unwrap();
        theirs.refresh("bucket").await.unwrap();
        assert_eq!(theirs.setting("bucket", "cors").await.unwrap(), None);
        let table = before.mounts.load();
        assert!(table.len() == 2 && table.at("b/").is_none());
        // What did not change is the same provider: a memory mount would have lost its objects.
        assert!(Arc::ptr_eq(&table.at("a/").unwrap().provider, &held) && Arc::ptr_eq(&table.at("").unwrap().provider, &root));
        // The one who made the change finds nothing new.
        let held = Arc::clone(&ours.get("bucket").await.unwrap().mounts.load().at("a/").unwrap().provider);
        ours.refresh("bucket").await.unwrap();
        assert!(Arc::ptr_eq(&ours.get("bucket").await.unwrap().mounts.load().at("a/").unwrap().provider, &held));
    }

    #[tokio::test]
    async fn a_mount_that_was_exchanged_is_opened_anew() {
        let (ours, theirs) = two().await;
        ours.mount(record("a/", &[])).await.unwrap();
        theirs.refresh("bucket").await.unwrap();
        let before = Arc::clone(&theirs.get("bucket").await.unwrap().mounts.load().at("a/").unwrap().provider);
        ours.unmount("bucket", "a/").await.unwrap();
        ours.mount(record("a/", &[("quota_bytes", "5")])).await.unwrap();
        theirs.refresh("bucket").await.unwrap();
        let after = Arc::clone(&theirs.get("bucket").await.unwrap().mounts.load().at("a/").unwrap().provider);
        assert!(!Arc::ptr_eq(&before, &after));
    }

    #[tokio::test]
    async fn a_bucket_that_was_deleted_is_gone_and_its_successor_is_another() {
        let (ours, theirs) = two().await;
        let old = theirs.get("bucket").await.unwrap();
        ours.delete("bucket").await.unwrap();
        theirs.refresh("bucket").await.unwrap();
        assert!(matches!(theirs.get("bucket").await.unwrap_err().kind(), ErrorKind::NoSuchBucket));
        assert!(old.publishing().await.is_err(), "its writers are turned away");
        ours.create("bucket", "another", "").await.unwrap();
        assert_eq!(theirs.get("bucket").await.unwrap().bucket.owner, "another");
    }

    #[tokio::test]
    async fn the_store_tells_of_every_change() {
        let store = SqliteStore::open_in_memory().await.unwrap();
        let store: Arc<dyn MetaStore> = Arc::new(store);
        let mount = DefaultMount { provider: "memory".to_owned(), settings: BTreeMap::new() };
        let namespaces = Namespaces::new(Arc::clone(&store), mount);
        namespaces.create("bucket", "owner", "").await.unwrap();
        let mut last = 0;
        for step in 0..5 {
            match step {
                0 => namespaces.set_setting("bucket", "cors", Some("x")).await.unwrap(),
                1 => namespaces.set_setting("bucket", "cors", Some("y")).await.unwrap(),
                2 => namespaces.set_setting("bucket", "cors", None).await.unwrap(),
                3 => namespaces.mount(record("a/", &[])).await.unwrap(),
                _ => namespaces.unmount("bucket", "a/").await.unwrap(),
            }
            let told = store.changes(last, 100).await.unwrap();
            assert!(told.iter().any(|change| change.subject == "bucket"), "step {step}");
            last = told.last().unwrap().number;
        }
        namespaces.delete("bucket").await.unwrap();
        assert!(!store.changes(last, 100).await.unwrap().is_empty());
    }
}
