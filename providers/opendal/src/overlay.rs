//! What a service cannot keep: records of objects, beside it.
//!
//! A record tells of one state of an object, which it names by a tag: the service's ETag, or the size and the time. It counts as long as the
//! service tells of that state. A key has up to two records: the next one is stored before what it tells of is published.
//!
//! Where the service tells no ETag, two states of one size and one time have the same tag. Whoever looks then sees to it that nobody of
//! this process is between an object and its record, and each publication has a number of its own, by which readers know it again.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use opendal::Metadata;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sluice_provider::{Attributes, ETag, Error, ErrorKind, Key, ObjectInfo, Result};

/// Records that are kept for a key.
const KEPT: usize = 2;

/// Where records are kept: named documents, in spaces. The gateway brings one over its metadata store.
#[async_trait]
pub trait Overlay: fmt::Debug + Send + Sync + 'static {
    /// The documents of these names, in their order.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store cannot be asked.
    async fn read(&self, space: &str, names: &[&str]) -> Result<Vec<Option<String>>>;

    /// Replaces a document if it is still `from`, where `None` stands for no document, in one step; false when it is not.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store cannot be asked.
    async fn swap(&self, space: &str, name: &str, from: Option<&str>, to: Option<&str>) -> Result<bool>;
}

/// Documents in memory. For tests.
#[derive(Default)]
pub struct MemoryOverlay(Mutex<BTreeMap<(String, String), String>>);

impl fmt::Debug for MemoryOverlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryOverlay").field(&self.0.lock().len()).finish()
    }
}

#[async_trait]
impl Overlay for MemoryOverlay {
    async fn read(&self, space: &str, names: &[&str]) -> Result<Vec<Option<String>>> {
        let all = self.0.lock();
        Ok(names.iter().map(|name| all.get(&(space.to_owned(), (*name).to_owned())).cloned()).collect())
    }

    async fn swap(&self, space: &str, name: &str, from: Option<&str>, to: Option<&str>) -> Result<bool> {
        let (mut all, name) = (self.0.lock(), (space.to_owned(), name.to_owned()));
        if all.get(&name).map(String::as_str) != from {
            return Ok(false);
        }
        match to {
            Some(to) => drop(all.insert(name, to.to_owned())),
            None => drop(all.remove(&name)),
        }
        Ok(true)
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(rename = "t")]
    pub(crate) tag: String,
    #[serde(rename = "e")]
    pub(crate) etag: String,
    /// Of this publication alone; an attribute that changes leaves it.
    #[serde(rename = "p", default)]
    pub(crate) publication: u64,
    /// Nanoseconds since the epoch, where the service has no time of its own.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(crate) modified: Option<u64>,
    #[serde(rename = "a", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Record {
    /// Of a new publication.
    pub(crate) fn new(meta: &Metadata, etag: &ETag, attributes: &Attributes) -> Self {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            tag: tag_of(meta),
            etag: etag.as_str().to_owned(),
            publication: RandomState::new().hash_one(tag_of(meta)),
            modified: meta.last_modified().is_none().then(|| u64::try_from(now().as_nanos()).unwrap_or(u64::MAX)),
            attributes: attributes.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        }
    }
}

/// The records of a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    document: Option<String>,
    records: Vec<Record>,
}

impl Records {
    pub(crate) fn parse(document: Option<String>) -> Result<Self> {
        let records = match &document {
            Some(text) => {
                serde_json::from_str(text).map_err(|e| Error::new(ErrorKind::Corrupt, "record of an object").caused_by(e))?
            }
            None => Vec::new(),
        };
        Ok(Self { document, records })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record of a state.
    pub(crate) fn of(&self, meta: &Metadata) -> Option<&Record> {
        let tag = tag_of(meta);
        self.records.iter().rev().find(|record| record.tag == tag)
    }

    /// With one more record, as a document, and the document that it replaces.
    pub(crate) fn with(&self, record: Record) -> Result<(Option<&str>, String)> {
        let mut records: Vec<_> = self.records.iter().filter(|old| old.tag != record.tag).cloned().collect();
        records.push(record);
        let first = records.len().saturating_sub(KEPT);
        let document = serde_json::to_string(&records[first..]);
        let document = document.map_err(|e| Error::new(ErrorKind::Internal, "record of an object").caused_by(e))?;
        Ok((self.document.as_deref(), document))
    }

    pub(crate) fn document(&self) -> Option<&str> {
        self.document.as_deref()
    }
}

/// What tells one state of an object from another.
pub(crate) fn tag_of(meta: &Metadata) -> String {
    match (meta.etag().map(bare), meta.last_modified()) {
        (Some(etag), _) if !etag.is_empty() => format!("e{etag}"),
        (_, Some(modified)) => format!("m{}.{}", meta.content_length(), modified.into_inner().as_nanosecond()),
        _ => format!("s{}", meta.content_length()),
    }
}

/// Whether the tag tells a state from all others.
pub(crate) fn is_exact(meta: &Metadata) -> bool {
    meta.etag().map(bare).is_some_and(|etag| !etag.is_empty())
}

/// An ETag without what is around it: services write it differently in headers and in listings.
fn bare(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

/// The first half of a SHA-256 in hexadecimal digits.
pub(crate) fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

/// What is told of an object, by the service and by the record of its state.
pub(crate) fn info_of(key: &Key, meta: &Metadata, record: Option<&Record>) -> Result<ObjectInfo> {
    let modified = match (meta.last_modified(), record.and_then(|record| record.modified)) {
        (Some(modified), _) => SystemTime::from(modified),
        (None, Some(nanos)) => SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos),
        (None, None) => SystemTime::UNIX_EPOCH,
    };
    let (etag, attributes) = match record {
        Some(record) => {
            let attributes = record.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            (ETag::new(&record.etag)?, attributes)
        }
        // The dash tells clients that it is no MD5.
        None => (ETag::new(format!("{}-1", digest(&tag_of(meta))))?, foreign(meta)),
    };
    Ok(ObjectInfo { key: key.clone(), size: meta.content_length(), etag, modified, attributes })
}

/// What the service itself tells of an object that somebody else wrote.
fn foreign(meta: &Metadata) -> Attributes {
    let mut attributes = Attributes::new();
    let fields = [
        ("cache-control", meta.cache_control()),
        ("content-disposition", meta.content_disposition()),
        ("content-encoding", meta.content_encoding()),
        ("content-type", meta.content_type()),
    ];
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            attributes.set(name, value);
        }
    }
    if let Some(pairs) = meta.user_metadata() {
        for (name, value) in pairs {
            attributes.set(format!("meta.{}", name.to_ascii_lowercase()), value);
        }
    }
    attributes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use opendal::MetadataBuilder;

    use super::*;

    fn meta(etag: &str, size: u64) -> Metadata {
        let mut meta = MetadataBuilder::file(size);
        meta.etag(etag);
        meta.build()
    }

    #[test]
    fn a_record_counts_for_one_state() {
        let (old, new) = (meta("\"1\"", 5), meta("2", 5));
        let etag = ETag::new("abc").unwrap();
        let attributes: Attributes = [("a", "\0")].into_iter().collect();
        let (_, one) = Records::default().with(Record::new(&old, &etag, &attributes)).unwrap();
        let records = Records::parse(Some(one)).unwrap();
        assert!(records.of(&meta("W/\"1\"", 5)).is_some() && records.of(&new).is_none());
        let (_, two) = records.with(Record::new(&new, &etag, &attributes)).unwrap();
        let records = Records::parse(Some(two)).unwrap();
        assert!(records.of(&old).is_some() && records.of(&new).is_some());
        let (_, three) = records.with(Record::new(&meta("3", 5), &etag, &attributes)).unwrap();
        let records = Records::parse(Some(three)).unwrap();
        assert!(records.of(&old).is_none() && records.of(&new).is_some());
        let info = info_of(&Key::new("k").unwrap(), &new, records.of(&new)).unwrap();
        assert_eq!((info.etag, info.attributes), (etag, attributes));
        let foreign = info_of(&Key::new("k").unwrap(), &old, None).unwrap();
        assert!(foreign.etag.as_str().ends_with("-1") && foreign.attributes.is_empty());
    }
}
