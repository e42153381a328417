//! What is due, page by page: the same for a plan and for a run.

use std::sync::Arc;
use std::time::SystemTime;

use sluice_provider as provider;
use sluice_provider::{DeleteKey, DeleteWhen, ListEntry, ListFrom, ListQuery, ObjectInfo};

use super::rules::{Configuration, Subject};
use super::{Lifecycle, SETTING};
use crate::error::{ErrorKind, Result};
use crate::meta::UploadCursor;
use crate::namespaces::Namespace;
use crate::objects::{ReadRequest, attribute};

/// Keys or uploads that are looked at in one step: what bounds the memory of a run.
const PAGE: usize = 1000;

/// Something that is due.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// The key.
    pub key: String,
    /// The rule that says so.
    pub rule: String,
    /// Since when it is due.
    pub due: SystemTime,
    /// Bytes of an object; 0 for an upload.
    pub size: u64,
}

/// What is done with it.
#[derive(Clone, Debug)]
pub enum Action {
    /// The object is deleted, if it is still the one that was looked at.
    Expire(DeleteKey),
    /// The upload of this id is aborted.
    AbortUpload(String),
}

enum Place {
    Objects(ListFrom),
    Uploads(UploadCursor),
    End,
}

/// A walk over one bucket.
pub(super) struct Scan {
    pub(super) namespace: Arc<Namespace>,
    configuration: Arc<Configuration>,
    now: SystemTime,
    place: Place,
    /// How many objects and uploads were looked at.
    pub(super) seen: u64,
}

impl Scan {
    /// `None` when the bucket has no configuration.
    pub(super) fn new(namespace: Arc<Namespace>, now: SystemTime) -> Option<Self> {
        let configuration = namespace.compiled(SETTING, Configuration::from_json)?;
        let place = if configuration.expires_objects() {
            Place::Objects(ListFrom::Start)
        } else {
            Place::Uploads(UploadCursor::default())
        };
        Some(Self { namespace, configuration, now, place, seen: 0 })
    }
}

impl Lifecycle {
    /// What is due on the next page; `None` behind the last.
    pub(super) async fn next_page(&self, scan: &mut Scan) -> Result<Option<Vec<Step>>> {
        match std::mem::replace(&mut scan.place, Place::End) {
            Place::Objects(from) => self.objects_due(scan, from).await.map(Some),
            Place::Uploads(cursor) => self.uploads_due(scan, cursor).await.map(Some),
            Place::End => Ok(None),
        }
    }

    async fn objects_due(&self, scan: &mut Scan, from: ListFrom) -> Result<Vec<Step>> {
        let query = ListQuery { prefix: scan.configuration.common_prefix(), delimiter: None, from, limit: PAGE };
        let page = self.objects.list(&scan.namespace, &query).await?;
        scan.place = match page.entries.last() {
            Some(last) if page.more => Place::Objects(ListFrom::After(last.name().to_owned())),
            _ => Place::Uploads(UploadCursor::default()),
        };
        let mut due = Vec::new();
        for entry in page.entries {
            scan.seen += 1;
            let ListEntry::Object(info) = entry else { continue };
            if let Some(step) = self.object_due(scan, info).await? {
                due.push(step);
            }
        }
        Ok(due)
    }

    async fn object_due(&self, scan: &Scan, info: ObjectInfo) -> Result<Option<Step>> {
        let subject = Subject { key: info.key.as_str(), size: info.size, modified: info.modified, tags: None };
        let is_due = |found: Option<(SystemTime, &str)>| found.filter(|(at, _)| *at <= scan.now).is_some();
        if !is_due(scan.configuration.expiry(&subject)) {
            return Ok(None);
        }
        // A listing may leave the attributes out: only what may be due is worth a look of its own.
        let info = if scan.configuration.looks_at_tags() {
            match self.objects.head(&scan.namespace, info.key.as_str(), &ReadRequest::default()).await {
                Ok(found) => found.info,
                Err(error) if matches!(error.kind(), ErrorKind::Provider(provider::ErrorKind::NotFound)) => return Ok(None),
                Err(error) => return Err(error),
            }
        } else {
            info
        };
        let tags = attribute::tags(&info.attributes);
        let subject = Subject { key: info.key.as_str(), size: info.size, modified: info.modified, tags: Some(&tags) };
        let Some((due, rule)) = scan.configuration.expiry(&subject).filter(|(at, _)| *at <= scan.now) else { return Ok(None) };
        let when = DeleteWhen::IfMatch { etag: Some(info.etag.clone()), modified: Some(info.modified), size: Some(info.size) };
        let (rule, key) = (rule.to_owned(), info.key.as_str().to_owned());
        Ok(Some(Step { action: Action::Expire(DeleteKey { key: info.key, when }), key, rule, due, size: info.size }))
    }

    async fn uploads_due(&self, scan: &mut Scan, cursor: UploadCursor) -> Result<Vec<Step>> {
        let page = self.uploads.list(&scan.namespace, "", None, &cursor, PAGE).await?;
        scan.place = page.next.map_or(Place::End, Place::Uploads);
        let mut due = Vec::new();
        for upload in page.uploads {
            scan.seen += 1;
            let begun = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(upload.created).unwrap_or(0));
            if let Some((at, rule)) = scan.configuration.upload_expiry(&upload.key, begun).filter(|(at, _)| *at <= scan.now) {
                let rule = rule.to_owned();
                due.push(Step { action: Action::AbortUpload(upload.upload_id), key: upload.key, rule, due: at, size: 0 });
            }
        }
        Ok(due)
    }
}
