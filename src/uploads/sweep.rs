//! Aborting what nobody finished.

use std::collections::HashSet;
use std::time::Duration;

use sluice_provider as provider;

use super::{Settings, Uploads};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::UploadRecord;
use crate::namespaces::Namespaces;
use crate::runtime::unix_millis;

/// Uploads per step.
const STEP: usize = 100;
/// Uploads that could not be aborted, after which the sweep waits for its next turn.
const PATIENCE: usize = 1000;
/// How long a mount may take to free an upload of 10 000 parts before the sweep goes on without it.
const PER_UPLOAD: Duration = Duration::from_secs(60);

impl Uploads {
    /// Aborts uploads that began longer ago than `older_than`; answers how many. One that cannot be aborted now is left for the
    /// next sweep. Dropped half way, what is done is done.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn sweep(&self, namespaces: &Namespaces, older_than: Duration) -> Result<usize> {
        self.sweep_with(namespaces, older_than, PER_UPLOAD).await
    }

    pub(super) async fn sweep_with(&self, namespaces: &Namespaces, older_than: Duration, patience: Duration) -> Result<usize> {
        let before = unix_millis().saturating_sub(i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX));
        let (mut aborted, mut failed) = (0, 0);
        // Mounts that do not answer: one try is enough to know.
        let mut silent: HashSet<(String, String)> = HashSet::new();
        while failed < PATIENCE {
            // Those that failed come first again.
            let uploads = self.store.uploads_before(before, failed + STEP).await?;
            let fresh: Vec<_> = uploads.into_iter().skip(failed).collect();
            if fresh.is_empty() {
                break;
            }
            for upload in fresh {
                let mount = (upload.bucket.clone(), upload.mount_prefix.clone());
                let freed = if silent.contains(&mount) {
                    Err(no_answer())
                } else {
                    let freed = tokio::time::timeout(patience, self.expire(namespaces, &upload)).await;
                    freed.unwrap_or_else(|_| {
                        silent.insert(mount);
                        Err(no_answer())
                    })
                };
                match freed {
                    Ok(_) => aborted += 1,
                    Err(error) => {
                        tracing::warn!(bucket = upload.bucket, upload = upload.upload_id, %error, "expired upload stays");
                        failed += 1;
                    }
                }
            }
        }
        Ok(aborted)
    }

    /// One sweep as the settings say. Nothing when uploads never expire.
    pub async fn sweep_expired(&self, namespaces: &Namespaces, settings: &Settings) {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        if settings.expire_days == 0 {
            return;
        }
        match self.sweep(namespaces, DAY * settings.expire_days).await {
            Ok(0) => {}
            Ok(aborted) => tracing::info!(aborted, "expired uploads were aborted"),
            Err(error) => tracing::warn!(%error, "sweep of expired uploads"),
        }
    }

    async fn expire(&self, namespaces: &Namespaces, upload: &UploadRecord) -> Result<bool> {
        match namespaces.get(&upload.bucket).await {
            Ok(namespace) => self.free(&namespace, upload).await,
            Err(error) if matches!(error.kind(), ErrorKind::NoSuchBucket) => self.store.delete_upload(&upload.upload_id).await,
            Err(error) => Err(error),
        }
    }
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Provider(provider::ErrorKind::TimedOut), "free an upload")
}
