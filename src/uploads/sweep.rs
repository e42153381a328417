//! Aborting what nobody finished.

use std::time::Duration;

use super::sessions::now_millis;
use super::{Settings, Uploads};
use crate::error::{ErrorKind, Result};
use crate::namespaces::Namespaces;

/// Uploads per step.
const STEP: usize = 100;
/// Uploads that could not be aborted, after which the sweep waits for its next turn.
const PATIENCE: usize = 1000;

impl Uploads {
    /// Aborts uploads that began longer ago than `older_than`; answers how many. One that cannot be aborted now is left for the
    /// next sweep. Dropped half way, what is done is done.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn sweep(&self, namespaces: &Namespaces, older_than: Duration) -> Result<usize> {
        let before = now_millis().saturating_sub(i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX));
        let (mut aborted, mut failed) = (0, 0);
        while failed < PATIENCE {
            // Those that failed come first again.
            let uploads = self.store.uploads_before(before, failed + STEP).await?;
            let fresh: Vec<_> = uploads.into_iter().skip(failed).collect();
            if fresh.is_empty() {
                break;
            }
            for upload in fresh {
                let freed = match namespaces.get(&upload.bucket).await {
                    Ok(namespace) => self.free(&namespace, &upload).await,
                    Err(error) if matches!(error.kind(), ErrorKind::NoSuchBucket) => {
                        self.store.delete_upload(&upload.upload_id).await
                    }
                    Err(error) => Err(error),
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

    /// Sweeps as the settings say, until it is dropped. Ends at once when uploads never expire.
    pub async fn sweep_for_ever(&self, namespaces: &Namespaces, settings: &Settings) {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        if settings.expire_days == 0 {
            return;
        }
        loop {
            tokio::time::sleep(Duration::from_secs(settings.sweep_secs.max(1))).await;
            match self.sweep(namespaces, DAY * settings.expire_days).await {
                Ok(0) => {}
                Ok(aborted) => tracing::info!(aborted, "expired uploads were aborted"),
                Err(error) => tracing::warn!(%error, "sweep of expired uploads"),
            }
        }
    }
}
