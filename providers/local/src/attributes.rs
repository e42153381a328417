//! Changing attributes without touching the content.

use std::os::fd::AsFd;
use std::sync::Arc;

use sluice_provider::{AttributeChange, Error, ErrorKind, Guard, Key, ObjectInfo, Result, VersionId};

use crate::error::{fault, missing};
use crate::meta::{Beside, Meta};
use crate::name::KeyPath;
use crate::object::Known;
use crate::record;
use crate::store::Store;
use crate::versions::Held;

impl Store {
    pub(crate) async fn set_attributes(self: &Arc<Self>, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        let (store, key, change) = (Arc::clone(self), key.clone(), change.clone());
        self.writes.run(move || store.change_attributes(&key, None, &change, &Guard::none())).await
    }

    /// Of a version, or of the current object.
    pub(crate) fn change_attributes(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        let path = KeyPath::new(key.as_str());
        let load = || {
            let held = match version {
                None => self.load_key(&path)?.map(|(opened, known)| Held { opened, known, shelved: None }),
                Some(version) => self.find_version(key, version)?,
            };
            // A marker has no attributes of its own.
            let held = held.filter(|held| held.shelved.as_ref().is_none_or(|(_, slot)| !slot.marker));
            held.ok_or_else(|| missing("set attributes", key))
        };
        if let held @ Held { known: Known::Foreign, .. } = load()? {
            // Compute and store its ETag before the lock is taken, not under it.
            self.version_info(key, held, false)?;
        }
        let _lock = self.locks.lock(key.as_str())?;
        let held = load()?;
        let old = match &held.known {
            Known::Ours { record, .. } => record.clone(),
            Known::Foreign => None,
        };
        let (opened, mut info) = self.version_info(key, held, true)?;
        guard.check(&info)?;
        if change.if_match.as_ref().is_some_and(|etag| *etag != info.etag) {
            return Err(Error::new(ErrorKind::PreconditionFailed, "set attributes").with("etag", &info.etag));
        }
        info.attributes.apply(change);
        let beside = Beside::Here(info.attributes.clone());
        let meta = Meta { stamp: opened.stamp, etag: info.etag.clone(), beside, growing: opened.growing };
        // One system call swaps the attribute (or the record named by the inode), so that a reader sees all of it or none.
        let new = self.attach(opened.as_fd(), opened.inode, key, meta)?;
        self.flush.file(opened.as_fd()).map_err(|e| fault("flush attributes", e))?;
        if let Some(old) = old.filter(|old| new.as_ref() != Some(old)) {
            record::remove(&self.space, &old);
        }
        Ok(info)
    }
}
