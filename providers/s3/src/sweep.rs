//! Upkeep: records whose object is gone or has another one. A PUT over an object with a record does not look for it, which would
//! cost every PUT a request.

use std::time::{Duration, SystemTime};

use sluice_provider::{ErrorKind, Result};

use crate::provider::S3;

/// A record is written before its object: a young one may still get it.
const YOUNG: Duration = Duration::from_secs(24 * 3600);

impl S3 {
    /// Looks at up to a thousand records, beginning where the last sweep ended, and removes those that no object names.
    ///
    /// # Errors
    /// The remote's.
    pub async fn sweep(&self) -> Result<()> {
        if self.inner.settings.read_only {
            return Ok(());
        }
        self.sweep_records(YOUNG).await.map(drop)
    }

    /// As [`sweep`](Self::sweep), of records of at least this age; answers how many were removed. An age that is shorter than a write
    /// takes removes the record of one that is under way.
    ///
    /// # Errors
    /// The remote's.
    pub async fn sweep_records(&self, age: Duration) -> Result<usize> {
        let inner = &self.inner;
        let after = inner.swept.lock().take();
        let page = inner.records(after.as_deref().unwrap_or_default()).await?;
        *inner.swept.lock() = page.last().map(|(name, _)| name.clone());
        let mut removed = 0;
        for (name, modified) in page {
            let old = SystemTime::now().duration_since(modified).is_ok_and(|since| since >= age);
            let Some(id) = name.rsplit('/').next().filter(|_| old) else { continue };
            let record = match inner.remote.read_record(id).await {
                Ok((record, _)) => record,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => continue,
                Err(error) => return Err(error),
            };
            if !inner.remote.names_record(&record.key, id).await? {
                inner.remote.erase(&inner.remote.record_name(id)).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
