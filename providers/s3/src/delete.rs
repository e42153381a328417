//! DELETE. S3 does not tell what a delete found, so the object is looked at and the delete tied to what was seen.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use sluice_provider::{DeleteKey, DeleteOutcome, DeleteWhen, Error, ErrorKind, Result};

use crate::provider::{ABREAST, Inner, TRIES, detached};

impl Inner {
    pub(crate) async fn delete(self: &Arc<Self>, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let deletes = keys.iter().cloned().map(|key| {
            let this = Arc::clone(self);
            detached(async move { this.delete_one(&key).await })
        });
        stream::iter(deletes.collect::<Vec<_>>()).buffered(ABREAST).collect().await
    }

    async fn delete_one(&self, DeleteKey { key, when }: &DeleteKey) -> Result<DeleteOutcome> {
        if self.settings.read_only {
            return Err(Error::new(ErrorKind::Unsupported, "delete from a read-only s3 mount"));
        }
        if *when != DeleteWhen::Always && !self.conditions() {
            return Err(Error::new(ErrorKind::Unsupported, "delete under a condition at a remote that keeps none"));
        }
        let absent = || match when {
            DeleteWhen::Always => Ok(DeleteOutcome::Absent),
            DeleteWhen::IfMatch { .. } => Err(Error::new(ErrorKind::NotFound, "delete under a condition").with("key", key)),
        };
        if self.readable(key).is_err() {
            return absent();
        }
        let _turn = self.turn(key).await;
        let name = self.remote.name(key);
        for _ in 0..TRIES {
            let found = match when {
                DeleteWhen::Always => self.remote.head(&name, None).await,
                DeleteWhen::IfMatch { .. } => match self.look(key).await {
                    Ok((found, record)) if !when.holds(Some(&found.info(key, record.as_ref())?)) => {
                        return Err(Error::new(ErrorKind::PreconditionFailed, "delete").with("key", key));
                    }
                    other => other.map(|(found, _)| found),
                },
            };
            let found = match found {
                Ok(found) => found,
                Err(error) if *error.kind() == ErrorKind::NotFound => return absent(),
                Err(error) => return Err(error),
            };
            match self.remote.delete(&name, self.able.deletes.then_some(&found.tag)).await {
                Ok(()) => {
                    // What the remote keeps of it still needs its record.
                    if let Some(id) = found.record().filter(|_| !self.remote.versions) {
                        self.drop_record(id).await;
                    }
                    return Ok(DeleteOutcome::Deleted { size: found.size });
                }
                // It is another one now, or gone.
                Err(error)
                    if matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::NotFound | ErrorKind::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Conflict, "delete").with("key", key))
    }
}
