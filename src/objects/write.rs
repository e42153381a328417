//! Writing and deleting.

use futures::StreamExt;
use sluice_provider as provider;
use sluice_provider::{AttributeChange, DeleteKey, DeleteOutcome, ObjectInfo, Provider, PutBody, PutOptions, Versioning};

use super::layer::with_key;
use super::place::versions;
use super::{Objects, Removal};
use crate::error::{Error, ErrorKind, Result};
use crate::handles::{Guard, Purpose};
use crate::namespaces::{Namespace, watch};

/// How many mounts delete at once.
const MOUNTS_AT_ONCE: usize = 8;

impl Objects {
    /// Stores a body.
    ///
    /// # Errors
    /// The body's own, the condition's, the provider's; `NoSuchBucket` when the bucket went meanwhile, `SlowDown` when another mount
    /// serves the key by now.
    pub async fn put(&self, ns: &Namespace, key: &str, body: PutBody, put: PutOptions) -> Result<ObjectInfo> {
        let guard = self.handle(ns, key, Purpose::Write);
        self.store(ns, key, body, put, guard).await
    }

    /// Stores a body under a handle that is open already.
    pub(super) async fn store(
        &self,
        ns: &Namespace,
        key: &str,
        body: PutBody,
        put: PutOptions,
        guard: Guard,
    ) -> Result<ObjectInfo> {
        let (provider, inner, prefix) = ns.resolve(key)?;
        let (body, passage) = watch(body, Some(guard), Some(ns.gate().clone()));
        let stored = match ns.versioning() {
            Versioning::Off => provider.put(&inner, body, &put).await,
            versioning => versions(&*provider)?.put_version(&inner, body, &put, versioning).await,
        };
        drop(passage);
        match stored {
            Ok(info) => {
                ns.still_serves(key, &provider, &prefix)?;
                with_key(info, key)
            }
            Err(error) if ns.gate().is_closed() => {
                Err(Error::new(ErrorKind::NoSuchBucket, "put into a bucket that was deleted").caused_by(error))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes attributes in one step: tags, retention. Neither the data nor the modification time changes.
    ///
    /// # Errors
    /// The provider's NotFound and PreconditionFailed.
    pub async fn set_attributes(&self, ns: &Namespace, key: &str, change: &AttributeChange) -> Result<ObjectInfo> {
        let (provider, inner, _) = ns.resolve(key)?;
        with_key(provider.set_attributes(&inner, change).await?, key)
    }

    /// Deletes keys; one outcome per key, in order. In a bucket with versions each gets a delete marker.
    pub async fn delete(&self, ns: &Namespace, keys: Vec<DeleteKey>) -> Vec<Result<DeleteOutcome>> {
        if ns.versioning() == Versioning::Off {
            return self.delete_for_good(ns, keys).await;
        }
        let removals = keys.into_iter().map(|DeleteKey { key, when }| Removal { key, version: None, when }).collect();
        let removed = self.remove(ns, removals, false).await;
        removed.into_iter().map(|outcome| outcome.map(|_| DeleteOutcome::Deleted { size: 0 })).collect()
    }

    /// Deletes current objects and keeps nothing of them. Each mount is asked once.
    pub(super) async fn delete_for_good(&self, ns: &Namespace, keys: Vec<DeleteKey>) -> Vec<Result<DeleteOutcome>> {
        let mut outcomes: Vec<Option<Result<DeleteOutcome>>> = Vec::new();
        outcomes.resize_with(keys.len(), || None);
        let mut batches: Vec<Batch> = Vec::new();
        for (index, DeleteKey { key, when }) in keys.into_iter().enumerate() {
            match ns.resolve(key.as_str()) {
                Err(error) => outcomes[index] = Some(Err(error)),
                Ok((provider, inner, prefix)) => {
                    let batch = match batches.iter_mut().position(|batch| batch.prefix == prefix) {
                        Some(at) => &mut batches[at],
                        None => {
                            batches.push(Batch { prefix, provider, indexes: Vec::new(), keys: Vec::new() });
                            let last = batches.len() - 1;
                            &mut batches[last]
                        }
                    };
                    batch.indexes.push(index);
                    batch.keys.push(DeleteKey { key: inner, when });
                }
            }
        }
        let answered = match <[Batch; 1]>::try_from(batches) {
            // Nearly always, and no others to be asked at once.
            Ok([only]) => vec![only.delete().await],
            Err(several) => {
                let deleting: Vec<_> = several.into_iter().map(Batch::delete).collect();
                futures::stream::iter(deleting).buffer_unordered(MOUNTS_AT_ONCE).collect().await
            }
        };
        for (indexes, answers) in answered {
            for (index, answer) in indexes.into_iter().zip(answers) {
                outcomes[index] = Some(answer.map_err(Error::from));
            }
        }
        let unanswered = || Err(Error::new(ErrorKind::Internal, "delete without an outcome"));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unanswered)).collect()
    }
}

/// The keys of one mount.
struct Batch {
    prefix: std::sync::Arc<str>,
    provider: std::sync::Arc<dyn Provider>,
    indexes: Vec<usize>,
    keys: Vec<DeleteKey>,
}

impl Batch {
    async fn delete(self) -> (Vec<usize>, Vec<provider::Result<DeleteOutcome>>) {
        let outcomes = self.provider.delete(&self.keys).await;
        (self.indexes, outcomes)
    }
}
