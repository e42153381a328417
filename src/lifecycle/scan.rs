//! What is due, page by page: the same for a plan and for a run.

use std::sync::Arc;
use std::time::SystemTime;

use sluice_provider as provider;
use sluice_provider::{DeleteWhen, ListEntry, ListFrom, ListQuery, ObjectInfo, VersionId, Versioning, is_marker, version_of};

use super::rules::{Configuration, Subject};
use super::transitions::DueMove;
use super::{Lifecycle, SETTING};
use crate::error::{ErrorKind, Result};
use crate::meta::UploadCursor;
use crate::mounts::{MountTable, Transition};
use crate::namespaces::Namespace;
use crate::objects::{ReadRequest, Removal, attribute};

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
    /// The object is deleted, if it is still the one that was looked at: a bucket with versions gets a delete marker.
    Expire(Removal),
    /// A noncurrent version is removed for good.
    ExpireVersion(Removal),
    /// A delete marker beneath which nothing is left is removed.
    RemoveMarker(Removal),
    /// The bytes of the object, or of a noncurrent version, move to the mount of a storage class.
    Move(Transition),
    /// The upload of this id is aborted.
    AbortUpload(String),
}

enum Place {
    Objects(ListFrom),
    Versions(ListFrom, Option<Walked>),
    Uploads(UploadCursor),
    End,
}

/// What is known of the versions of a key before the next of them, which is older.
struct Walked {
    key: String,
    /// When the last one was made: when the next one was replaced.
    replaced: SystemTime,
    /// How many noncurrent ones came.
    noncurrent: usize,
    /// The newest, while it is a delete marker and nothing else came.
    marker: Option<ObjectInfo>,
}

/// A walk over one bucket.
pub(super) struct Scan {
    pub(super) namespace: Arc<Namespace>,
    configuration: Arc<Configuration>,
    /// The mounts as they were when the walk began: what classes they keep.
    mounts: Arc<MountTable>,
    now: SystemTime,
    place: Place,
    /// How many objects and uploads were looked at.
    pub(super) seen: u64,
}

impl Scan {
    /// `None` when the bucket has no configuration.
    pub(super) fn new(namespace: Arc<Namespace>, now: SystemTime) -> Option<Self> {
        let configuration = namespace.compiled(SETTING, Configuration::from_json)?;
        let place = if namespace.versioning() != Versioning::Off && configuration.looks_at_versions() {
            Place::Versions(ListFrom::Start, None)
        } else if configuration.expires_objects() || configuration.moves_objects() {
            Place::Objects(ListFrom::Start)
        } else {
            uploads(&configuration)
        };
        let mounts = namespace.mounts.load_full();
        Some(Self { namespace, configuration, mounts, now, place, seen: 0 })
    }

    fn keeps(&self, class: &str) -> bool {
        self.mounts.keeps_class(class)
    }

    /// The step that moves a version.
    fn moving(&self, info: ObjectInfo, to: &DueMove<'_>) -> Step {
        let (version, size, key) = (version_of(&info.attributes), info.size, info.key.as_str().to_owned());
        let transition = Transition { version, etag: info.etag, modified: info.modified, class: to.class.to_owned() };
        Step { action: Action::Move(transition), key, rule: to.rule.to_owned(), due: to.at, size }
    }
}

/// The storage class of an object, as far as its attributes are told.
fn class_of(info: &ObjectInfo) -> Option<&str> {
    info.attributes.get(attribute::STORAGE_CLASS)
}

impl Lifecycle {
    /// What is due on the next page; `None` behind the last.
    pub(super) async fn next_page(&self, scan: &mut Scan) -> Result<Option<Vec<Step>>> {
        match std::mem::replace(&mut scan.place, Place::End) {
            Place::Objects(from) => self.objects_due(scan, from).await.map(Some),
            Place::Versions(from, walked) => self.versions_due(scan, from, walked).await.map(Some),
            Place::Uploads(cursor) => self.uploads_due(scan, cursor).await.map(Some),
            Place::End => Ok(None),
        }
    }

    async fn objects_due(&self, scan: &mut Scan, from: ListFrom) -> Result<Vec<Step>> {
        let query = ListQuery { prefix: scan.configuration.common_prefix(), delimiter: None, from, limit: PAGE };
        let page = self.objects.list(&scan.namespace, &query).await?;
        scan.place = match page.entries.last() {
            Some(last) if page.more => Place::Objects(ListFrom::After(last.name().to_owned())),
            _ => uploads(&scan.configuration),
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
        let expires = scan.configuration.expiry(&subject).is_some_and(|(at, _)| at <= scan.now);
        let moves = scan.configuration.due_move(&subject, class_of(&info), scan.now, |class| scan.keeps(class)).is_some();
        if !expires && !moves {
            return Ok(None);
        }
        // A listing may leave the attributes out: only what may be due is worth a look of its own.
        let info = if moves || scan.configuration.looks_at_tags() {
            match self.whole(scan, &info, None).await? {
                Some(info) => info,
                None => return Ok(None),
            }
        } else {
            info
        };
        let tags = attribute::tags(&info.attributes);
        let subject = Subject { key: info.key.as_str(), size: info.size, modified: info.modified, tags: Some(&tags) };
        let Some((due, rule)) = scan.configuration.expiry(&subject).filter(|(at, _)| *at <= scan.now) else {
            let to = scan.configuration.due_move(&subject, class_of(&info), scan.now, |class| scan.keeps(class));
            return Ok(to.map(|to| scan.moving(info.clone(), &to)));
        };
        let when = DeleteWhen::IfMatch { etag: Some(info.etag.clone()), modified: Some(info.modified), size: Some(info.size) };
        let (rule, key) = (rule.to_owned(), info.key.as_str().to_owned());
        let removal = Removal { key: info.key, version: None, when };
        Ok(Some(Step { action: Action::Expire(removal), key, rule, due, size: info.size }))
    }

    /// An object with all its attributes; `None` when it is gone.
    async fn whole(&self, scan: &Scan, info: &ObjectInfo, version: Option<VersionId>) -> Result<Option<ObjectInfo>> {
        match self.objects.head(&scan.namespace, info.key.as_str(), &ReadRequest { version, ..ReadRequest::default() }).await {
            Ok(found) => Ok(Some(found.info)),
            Err(error) => match error.kind() {
                ErrorKind::Provider(provider::ErrorKind::NotFound)
                | ErrorKind::NoSuchVersion(_)
                | ErrorKind::DeleteMarker { .. } => Ok(None),
                _ => Err(error),
            },
        }
    }

    async fn versions_due(&self, scan: &mut Scan, from: ListFrom, mut walked: Option<Walked>) -> Result<Vec<Step>> {
        let query = ListQuery { prefix: scan.configuration.common_prefix(), delimiter: None, from, limit: PAGE };
        let page = self.objects.list_versions(&scan.namespace, &query).await?;
        let mut due = Vec::new();
        let mut last = None;
        for entry in page.entries {
            let ListEntry::Object(info) = entry else { continue };
            scan.seen += 1;
            last = Some((info.key.as_str().to_owned(), version_of(&info.attributes)));
            match walked.as_mut().filter(|walked| walked.key == info.key.as_str()) {
                Some(walked) => {
                    walked.marker = None;
                    let (since, newer) = (walked.replaced, walked.noncurrent);
                    walked.replaced = info.modified;
                    walked.noncurrent += 1;
                    due.extend(noncurrent_due(scan, info, since, newer));
                }
                None => {
                    due.extend(walked.take().and_then(|walked| lone_marker_due(scan, walked)));
                    let marker = is_marker(&info).then(|| info.clone());
                    walked = Some(Walked { key: info.key.as_str().to_owned(), replaced: info.modified, noncurrent: 0, marker });
                    if !is_marker(&info) {
                        due.extend(self.object_due(scan, info).await?);
                    }
                }
            }
        }
        scan.place = match last {
            Some((key, version)) if page.more => Place::Versions(ListFrom::AfterVersion(key, version), walked),
            _ => {
                due.extend(walked.and_then(|walked| lone_marker_due(scan, walked)));
                uploads(&scan.configuration)
            }
        };
        Ok(due)
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

/// The step for a noncurrent version. `newer` noncurrent ones of its key are younger, and it was replaced or deleted at `since`.
fn noncurrent_due(scan: &Scan, info: ObjectInfo, since: SystemTime, newer: usize) -> Option<Step> {
    let version = version_of(&info.attributes);
    let subject = Subject { key: info.key.as_str(), size: info.size, modified: info.modified, tags: None };
    let expires = scan.configuration.noncurrent_expiry(&subject, since, newer).is_some_and(|(at, _)| at <= scan.now);
    let due_move = |subject: &Subject<'_>, info: &ObjectInfo| {
        // A marker has nothing that could move.
        if is_marker(info) {
            return None;
        }
        let kept = |class: &str| scan.keeps(class);
        scan.configuration.due_noncurrent_move(subject, (since, newer), class_of(info), scan.now, kept)
    };
    if !expires && due_move(&subject, &info).is_none() {
        return None;
    }
    // A listing of versions carries their attributes.
    let tags = attribute::tags(&info.attributes);
    let subject = Subject { key: info.key.as_str(), size: info.size, modified: info.modified, tags: Some(&tags) };
    let Some((due, rule)) = scan.configuration.noncurrent_expiry(&subject, since, newer).filter(|(at, _)| *at <= scan.now) else {
        return due_move(&subject, &info).map(|to| scan.moving(info.clone(), &to));
    };
    let (rule, key, size) = (rule.to_owned(), info.key.as_str().to_owned(), info.size);
    let removal = Removal { key: info.key, version: Some(version), when: DeleteWhen::Always };
    Some(Step { action: Action::ExpireVersion(removal), key, rule, due, size })
}

/// Where a walk goes on behind the objects: the uploads are nobody's business where no rule aborts any.
fn uploads(configuration: &Configuration) -> Place {
    if configuration.aborts_uploads() { Place::Uploads(UploadCursor::default()) } else { Place::End }
}

/// The step for a key of which a delete marker is all that is left.
fn lone_marker_due(scan: &Scan, walked: Walked) -> Option<Step> {
    let marker = walked.marker?;
    let (due, rule) = scan.configuration.marker_expiry(&walked.key, marker.modified).filter(|(at, _)| *at <= scan.now)?;
    let rule = rule.to_owned();
    let removal = Removal { key: marker.key, version: Some(version_of(&marker.attributes)), when: DeleteWhen::Always };
    Some(Step { action: Action::RemoveMarker(removal), key: walked.key, rule, due, size: 0 })
}
