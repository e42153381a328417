//! Bytes that nothing refers to: of a move that was cut short, or of an object that somebody removed without the gateway.

use std::time::{Duration, SystemTime};

use sluice_provider::{DeleteKey, ErrorKind, Key, ListEntry, ListFrom, ListQuery, ReadOptions, Result};

use super::name::KEY_ATTRIBUTE;
use super::{Blob, refers_to};
use crate::mounts::{Mount, MountTable};

/// Bytes that are younger than this are left alone: an object may be about to refer to them.
const AGE: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// Names that are looked at in one step.
const PAGE: usize = 1000;

/// A sweep over the mount of one storage class.
#[derive(Debug)]
pub struct Sweeping {
    from: Option<ListFrom>,
    /// How many names were looked at.
    pub seen: u64,
    /// How many were removed.
    pub removed: u64,
}

impl Default for Sweeping {
    fn default() -> Self {
        Self { from: Some(ListFrom::Start), seen: 0, removed: 0 }
    }
}

impl Sweeping {
    /// Sweeps one page; whether there is another.
    ///
    /// # Errors
    /// Those of the mount of the class, when it cannot be listed. Bytes of which nobody can tell now whose they are stay.
    pub async fn page(&mut self, table: &MountTable, class: &Mount, bucket: &str, now: SystemTime) -> Result<bool> {
        let Some(from) = self.from.take() else { return Ok(false) };
        let query = ListQuery { prefix: Blob::prefix(bucket), delimiter: None, from, limit: PAGE };
        let page = class.provider.list(&query).await?;
        if page.more {
            self.from = page.entries.last().map(|last| ListFrom::After(last.name().to_owned()));
        }
        for entry in page.entries {
            let ListEntry::Object(info) = entry else { continue };
            self.seen += 1;
            if now.duration_since(info.modified).unwrap_or_default() < AGE {
                continue;
            }
            match is_orphan(table, class, bucket, &info.key).await {
                Ok(false) => {}
                Ok(true) => match class.provider.delete(&[DeleteKey::from(info.key.clone())]).await.pop() {
                    Some(Ok(_)) => self.removed += 1,
                    Some(Err(error)) => tracing::debug!(%error, name = %info.key, "orphaned bytes stay"),
                    None => {}
                },
                Err(error) => tracing::debug!(%error, name = %info.key, "nobody can tell whose these bytes are: they stay"),
            }
        }
        Ok(self.from.is_some())
    }
}

/// Whether no object refers to these bytes, on any mount that could have it, hidden behind another one or not.
async fn is_orphan(table: &MountTable, class: &Mount, bucket: &str, name: &Key) -> Result<bool> {
    let Some(blob) = Blob::parse(bucket, name.as_str()) else { return Ok(false) };
    let key = match blob.key {
        Some(key) => key,
        None => {
            let info = class.provider.head(name, &ReadOptions::default()).await?;
            match info.attributes.get(KEY_ATTRIBUTE) {
                Some(key) => key.to_owned(),
                None => return Ok(false),
            }
        }
    };
    for (mount, inner) in table.all_with(&key) {
        let Some(facet) = mount.provider.versions() else { continue };
        match facet.head_version(&inner, Some(&blob.version), &ReadOptions::default()).await {
            Ok(info) if refers_to(&info.attributes, name) => return Ok(false),
            Ok(_) => {}
            Err(error) if *error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
