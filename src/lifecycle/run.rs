//! Carrying it out, and saying what would be carried out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sluice_provider::DeleteOutcome;

use super::scan::{Action, Scan, Step};
use super::settings::Settings;
use crate::error::{ErrorKind, Result};
use crate::namespaces::{Namespace, Namespaces};
use crate::objects::Objects;
use crate::uploads::Uploads;

/// Buckets that are asked for in one step.
const BUCKETS: usize = 1000;

/// The lifecycle of all buckets.
#[derive(Debug)]
pub struct Lifecycle {
    namespaces: Arc<Namespaces>,
    pub(super) objects: Arc<Objects>,
    pub(super) uploads: Arc<Uploads>,
    settings: Settings,
}

/// What a run did, or a plan would do, to a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects and uploads that were looked at.
    pub seen: u64,
    /// Objects that expired.
    pub expired: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that were aborted.
    pub aborted: u64,
    /// What was due and stays, since it could not be removed or was changed meanwhile: the next run looks at it again.
    pub left: u64,
}

impl Tally {
    fn count(&mut self, step: &Step) {
        match step.action {
            Action::Expire(_) => {
                self.expired += 1;
                self.bytes += step.size;
            }
            Action::AbortUpload(_) => self.aborted += 1,
        }
    }
}

impl Lifecycle {
    /// Over the layers beneath.
    #[must_use]
    pub fn new(namespaces: Arc<Namespaces>, objects: Arc<Objects>, uploads: Arc<Uploads>, settings: Settings) -> Self {
        Self { namespaces, objects, uploads, settings }
    }

    /// What a run at `now` would do to a bucket, each step told to `tell` in the order of a run. Changes nothing.
    ///
    /// # Errors
    /// `NoSuchBucket`; the provider's of a mount that cannot be listed.
    pub async fn plan(&self, bucket: &str, now: SystemTime, mut tell: impl FnMut(&Step) + Send) -> Result<Tally> {
        let mut tally = Tally::default();
        let Some(mut scan) = Scan::new(self.namespaces.get(bucket).await?, now) else { return Ok(tally) };
        while let Some(due) = self.next_page(&mut scan).await? {
            for step in &due {
                tally.count(step);
                tell(step);
            }
        }
        tally.seen = scan.seen;
        Ok(tally)
    }

    /// Does to a bucket what is due at `now`, no faster than the settings allow. Dropped half way, what is done is done.
    ///
    /// # Errors
    /// As [`Self::plan`]. What cannot be removed is no error: it is logged, counted and left to the next run.
    pub async fn run(&self, bucket: &str, now: SystemTime) -> Result<Tally> {
        let mut tally = Tally::default();
        let Some(mut scan) = Scan::new(self.namespaces.get(bucket).await?, now) else { return Ok(tally) };
        while let Some(due) = self.next_page(&mut scan).await? {
            // In portions of a tenth of a second, so that no second sees more than its share.
            let portion = usize::try_from(self.settings.removals_per_sec.div_ceil(10)).unwrap_or(usize::MAX).max(1);
            for steps in due.chunks(portion) {
                let began = tokio::time::Instant::now();
                self.carry_out(&scan.namespace, steps, &mut tally).await;
                let share = Duration::from_secs_f64(steps.len() as f64 / f64::from(self.settings.removals_per_sec.max(1)));
                tokio::time::sleep_until(began + share).await;
            }
        }
        tally.seen = scan.seen;
        Ok(tally)
    }

    /// One run over all buckets. A bucket that fails is logged and keeps nobody else's from its turn.
    pub async fn run_all(&self) {
        let mut after = String::new();
        loop {
            let buckets = match self.namespaces.list(None, "", &after, BUCKETS).await {
                Ok(buckets) => buckets,
                Err(error) => {
                    tracing::warn!(%error, "a lifecycle run ends early: the buckets cannot be listed");
                    return;
                }
            };
            let Some(last) = buckets.last() else { return };
            after.clone_from(&last.name);
            for bucket in buckets {
                match self.run(&bucket.name, SystemTime::now()).await {
                    Ok(tally) if tally.expired + tally.aborted + tally.left > 0 => tracing::info!(
                        bucket = bucket.name,
                        seen = tally.seen,
                        expired = tally.expired,
                        bytes = tally.bytes,
                        aborted = tally.aborted,
                        left = tally.left,
                        "lifecycle"
                    ),
                    Ok(_) => {}
                    // Removed since it was listed.
                    Err(error) if matches!(error.kind(), ErrorKind::NoSuchBucket) => {}
                    Err(error) => tracing::warn!(bucket = bucket.name, %error, "lifecycle"),
                }
            }
        }
    }

    pub(super) async fn carry_out(&self, namespace: &Namespace, steps: &[Step], tally: &mut Tally) {
        let mut deletes = Vec::new();
        let mut expiring = Vec::new();
        for step in steps {
            match &step.action {
                Action::Expire(delete) => {
                    deletes.push(delete.clone());
                    expiring.push(step);
                }
                Action::AbortUpload(upload) => match self.uploads.abort(namespace, &step.key, upload).await {
                    Ok(()) => tally.count(step),
                    Err(error) if matches!(error.kind(), ErrorKind::NoSuchUpload) => {}
                    Err(error) => leave(namespace, step, &error, tally),
                },
            }
        }
        let outcomes = self.objects.delete(namespace, deletes).await;
        for (step, outcome) in expiring.into_iter().zip(outcomes) {
            match outcome {
                Ok(DeleteOutcome::Deleted { .. }) => tally.count(step),
                Ok(DeleteOutcome::Absent) => {}
                Err(error) => leave(namespace, step, &error, tally),
            }
        }
    }
}

fn leave(namespace: &Namespace, step: &Step, error: &crate::error::Error, tally: &mut Tally) {
    tracing::debug!(bucket = namespace.bucket.name, key = step.key, rule = step.rule, %error, "what was due stays");
    tally.left += 1;
}
