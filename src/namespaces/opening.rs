//! Opening the mounts of a namespace.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures::StreamExt;
use sluice_provider as provider;
use sluice_provider::Provider;

use crate::error::{Error, ErrorKind, Result};
use crate::meta::MountRecord;
use crate::mounts::{Authorise, LateMount, Mount, Opener, authoriser, refusing, shareable};

/// How long a mount may take to open.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after a failure it is tried again.
const PAUSE: Duration = Duration::from_secs(5);
/// How many mounts of a namespace open at once.
const AT_ONCE: usize = 16;

type Kind = (String, BTreeMap<String, String>);

/// Opens mounts; those that are the same storage share one provider.
pub(super) struct Opening {
    opener: Opener,
    shared: Arc<DashMap<Kind, Weak<dyn Provider>>>,
}

// === impl Opening ===

impl Opening {
    pub(super) fn new(opener: Opener) -> Self {
        Self { opener, shared: Arc::default() }
    }

    /// Opens a mount, or says why not.
    pub(super) async fn open(&self, record: &MountRecord) -> Result<Mount> {
        let (bare, authoriser) = authoriser(record)?;
        if let Some(authoriser) = &authoriser {
            authoriser.load().await?;
        }
        self.open_bare(&bare, authoriser).await
    }

    /// Opens what is left of a mount without its authoriser, and gives it that.
    async fn open_bare(&self, record: &MountRecord, authoriser: Option<Arc<dyn Authorise>>) -> Result<Mount> {
        let opener = self.sharing_opener();
        let opened = tokio::time::timeout(PATIENCE, opener(record.clone())).await;
        let late =
            |_| Error::new(ErrorKind::Provider(provider::ErrorKind::TimedOut), "open mount").with("prefix", &record.prefix);
        Ok(mount(record, opened.map_err(late)??, authoriser))
    }

    /// Opens all mounts of a namespace. One that does not open becomes a mount that says so.
    pub(super) async fn open_all(&self, records: Vec<MountRecord>) -> Vec<Mount> {
        let opening: Vec<_> = records.into_iter().map(|record| self.open_or_late(record)).collect();
        futures::stream::iter(opening).buffer_unordered(AT_ONCE).collect().await
    }

    async fn open_or_late(&self, record: MountRecord) -> Mount {
        // One that cannot be asked yet is asked with each request, and lets nothing through until it answers.
        let (record, authoriser) = match authoriser(&record) {
            Ok(parted) => parted,
            Err(error) => {
                tracing::warn!(bucket = record.bucket, prefix = record.prefix, %error, "the authoriser of a mount cannot be");
                let stands_in = refusing(&error.to_string());
                (record, Some(stands_in))
            }
        };
        if let Some(authoriser) = &authoriser
            && let Err(error) = authoriser.load().await
        {
            tracing::warn!(bucket = record.bucket, prefix = record.prefix, %error, "an authoriser is not there: all is refused");
        }
        match self.open_bare(&record, authoriser.clone()).await {
            Ok(mount) => mount,
            Err(error) => {
                tracing::warn!(bucket = record.bucket, prefix = record.prefix, %error, "mount does not open");
                let late = LateMount::new(record.clone(), self.sharing_opener(), error.to_string(), PAUSE, PATIENCE);
                mount(&record, Arc::new(late), authoriser)
            }
        }
    }

    /// Forgets providers that nobody uses any more.
    pub(super) fn forget_unused(&self) {
        self.shared.retain(|_, provider| provider.strong_count() > 0);
    }

    /// The opener that looks for a provider of the same storage first, and shares what it opens.
    fn sharing_opener(&self) -> Opener {
        let (opener, shared) = (Arc::clone(&self.opener), Arc::clone(&self.shared));
        Arc::new(move |record| {
            let (opener, shared) = (Arc::clone(&opener), Arc::clone(&shared));
            Box::pin(async move {
                if !shareable(&record) {
                    return opener(record).await;
                }
                let kind = (record.provider.clone(), record.settings.clone());
                if let Some(provider) = shared.get(&kind).and_then(|p| p.upgrade()) {
                    return Ok(provider);
                }
                let opened = match opener(record).await {
                    Ok(opened) => opened,
                    // What only one may have open, somebody else opened meanwhile.
                    Err(error) => return shared.get(&kind).and_then(|p| p.upgrade()).ok_or(error),
                };
                match shared.entry(kind) {
                    Entry::Occupied(mut slot) => match slot.get().upgrade() {
                        // Somebody opened the same meanwhile.
                        Some(provider) => Ok(provider),
                        None => {
                            slot.insert(Arc::downgrade(&opened));
                            Ok(opened)
                        }
                    },
                    Entry::Vacant(slot) => {
                        slot.insert(Arc::downgrade(&opened));
                        Ok(opened)
                    }
                }
            })
        })
    }
}

fn mount(record: &MountRecord, provider: Arc<dyn Provider>, authoriser: Option<Arc<dyn Authorise>>) -> Mount {
    Mount { prefix: record.prefix.as_str().into(), kind: record.provider.as_str().into(), provider, authoriser }
}
