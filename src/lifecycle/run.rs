//! Carrying it out, and saying what would be carried out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use parking_lot::Mutex;
use sluice_provider as provider;

use super::lease::Lease;
use super::scan::{Action, Scan, Step};
use super::settings::Settings;
use crate::error::{ErrorKind, Result};
use crate::namespaces::{Namespace, Namespaces};
use crate::objects::Objects;
use crate::telemetry::metrics;
use crate::uploads::Uploads;

/// Buckets that are asked for in one step.
const BUCKETS: usize = 1000;
/// Objects that move at once.
const MOVES_AT_ONCE: usize = 4;

/// The lifecycle of all buckets.
#[derive(Debug)]
pub struct Lifecycle {
    namespaces: Arc<Namespaces>,
    pub(super) objects: Arc<Objects>,
    pub(super) uploads: Arc<Uploads>,
    settings: Settings,
    lease: Option<Lease>,
    /// When the storage classes of buckets were swept last.
    pub(super) swept: Mutex<HashMap<String, SystemTime>>,
}

/// What a run did, or a plan would do, to a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects and uploads that were looked at.
    pub seen: u64,
    /// Objects that expired.
    pub expired: u64,
    /// Noncurrent versions that were removed.
    pub versions: u64,
    /// Delete markers that were removed.
    pub markers: u64,
    /// The bytes of the objects and versions.
    pub bytes: u64,
    /// Objects and versions that moved to another storage class.
    pub moved: u64,
    /// The bytes of what moved.
    pub moved_bytes: u64,
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
            Action::ExpireVersion(_) => {
                self.versions += 1;
                self.bytes += step.size;
            }
            Action::Move(_) => {
                self.moved += 1;
                self.moved_bytes += step.size;
            }
            Action::RemoveMarker(_) => self.markers += 1,
            Action::AbortUpload(_) => self.aborted += 1,
        }
    }

    fn is_idle(&self) -> bool {
        self.expired + self.versions + self.markers + self.moved + self.aborted + self.left == 0
    }
}

impl Lifecycle {
    /// Over the layers beneath.
    #[must_use]
    pub fn new(namespaces: Arc<Namespaces>, objects: Arc<Objects>, uploads: Arc<Uploads>, settings: Settings) -> Self {
        Self { namespaces, objects, uploads, settings, lease: None, swept: Mutex::default() }
    }

    /// Shared with the other gateways of a metadata store: [`Self::run_shared`] runs only when it is this one's turn.
    #[must_use]
    pub fn with_lease(self, lease: Lease) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// One run over all buckets, unless another gateway is at it or has been lately. Given up when the turn is lost.
    pub async fn run_shared(&self) {
        let Some(lease) = &self.lease else { return self.run_all().await };
        let mut turn = match lease.take(Duration::from_secs(self.settings.interval_secs) / 2).await {
            Ok(Some(turn)) => turn,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "no lifecycle run: whose turn it is cannot be told"),
        };
        let _running = Running::begin();
        tokio::select! {
            () = self.run_all() => {}
            () = turn.keep() => return tracing::warn!("a lifecycle run was given up: another gateway has the turn, or may have it"),
        }
        if let Err(error) = turn.give_back().await {
            tracing::warn!(%error, "the turn of the lifecycle was not given back: others wait until it is over");
        }
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
        let namespace = self.namespaces.get(bucket).await?;
        let swept = self.sweep(&namespace, now).await;
        if swept > 0 {
            tracing::info!(bucket, swept, "bytes in storage classes that nothing referred to");
        }
        let Some(mut scan) = Scan::new(namespace, now) else { return Ok(tally) };
        let mut seen = 0;
        while let Some(due) = self.next_page(&mut scan).await? {
            metrics().lifecycle_saw(scan.seen - std::mem::replace(&mut seen, scan.seen));
            // In portions of a tenth of a second, so that no second sees more than its share.
            let portion = usize::try_from(self.settings.removals_per_sec.div_ceil(10)).unwrap_or(usize::MAX).max(1);
            for steps in due.chunks(portion) {
                let began = tokio::time::Instant::now();
                self.carry_out(&scan.namespace, steps, &mut tally).await;
                tokio::time::sleep_until(began + self.share(steps.len() as u64)).await;
            }
        }
        tally.seen = scan.seen;
        Ok(tally)
    }

    /// How long so many steps may take at least.
    pub(super) fn share(&self, steps: u64) -> Duration {
        Duration::from_secs_f64(steps as f64 / f64::from(self.settings.removals_per_sec.max(1)))
    }

    /// One run over all buckets. A bucket that fails is logged and keeps nobody else's from its turn.
    pub async fn run_all(&self) {
        let began = tokio::time::Instant::now();
        let mut after = String::new();
        loop {
            let buckets = match self.namespaces.list(None, "", &after, BUCKETS).await {
                Ok(buckets) => buckets,
                Err(error) => {
                    tracing::warn!(%error, "a lifecycle run ends early: the buckets cannot be listed");
                    return;
                }
            };
            let Some(last) = buckets.last() else { return metrics().lifecycle_ran(began.elapsed()) };
            after.clone_from(&last.name);
            for bucket in buckets {
                match self.run(&bucket.name, SystemTime::now()).await {
                    Ok(tally) if !tally.is_idle() => tracing::info!(
                        bucket = bucket.name,
                        seen = tally.seen,
                        expired = tally.expired,
                        versions = tally.versions,
                        markers = tally.markers,
                        bytes = tally.bytes,
                        moved = tally.moved,
                        moved_bytes = tally.moved_bytes,
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
        let before = *tally;
        let mut removals = Vec::new();
        let mut removed = Vec::new();
        self.move_due(namespace, steps, tally).await;
        for step in steps {
            match &step.action {
                Action::Move(_) => {}
                Action::Expire(removal) | Action::ExpireVersion(removal) | Action::RemoveMarker(removal) => {
                    removals.push(removal.clone());
                    removed.push(step);
                }
                Action::AbortUpload(upload) => match self.uploads.abort(namespace, &step.key, upload).await {
                    Ok(()) => tally.count(step),
                    Err(error) if matches!(error.kind(), ErrorKind::NoSuchUpload) => {}
                    Err(error) => leave(namespace, step, &error, tally),
                },
            }
        }
        // Rules of a bucket override no lock.
        let outcomes = self.objects.remove(namespace, removals, false).await;
        for (step, outcome) in removed.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => tally.count(step),
                Err(error) => leave(namespace, step, &error, tally),
            }
        }
        metrics().lifecycle_did([
            ("expire", tally.expired - before.expired),
            ("expire_version", tally.versions - before.versions),
            ("remove_marker", tally.markers - before.markers),
            ("move", tally.moved - before.moved),
            ("abort_upload", tally.aborted - before.aborted),
            ("left", tally.left - before.left),
        ]);
    }
}

impl Lifecycle {
    /// Moves what is to be moved, several objects at a time.
    async fn move_due(&self, namespace: &Namespace, steps: &[Step], tally: &mut Tally) {
        let moves: Vec<_> = steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::Move(to) => Some((step, to)),
                _ => None,
            })
            .map(|(step, to)| async move { (step, self.objects.transition(namespace, &step.key, to).await) })
            .collect();
        let mut moves = futures::stream::iter(moves).buffer_unordered(MOVES_AT_ONCE);
        while let Some((step, moved)) = moves.next().await {
            match moved {
                Ok(_) => tally.count(step),
                // Deleted meanwhile.
                Err(error) if error.is_provider(provider::ErrorKind::NotFound) => {}
                Err(error) => leave(namespace, step, &error, tally),
            }
        }
    }
}

/// Tells for as long as it lives that this gateway is at a run.
struct Running;

impl Running {
    fn begin() -> Self {
        metrics().set_lifecycle_running(true);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        metrics().set_lifecycle_running(false);
    }
}

fn leave(namespace: &Namespace, step: &Step, error: &crate::error::Error, tally: &mut Tally) {
    tracing::debug!(bucket = namespace.bucket.name, key = step.key, rule = step.rule, %error, "what was due stays");
    tally.left += 1;
}
