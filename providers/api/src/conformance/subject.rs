//! What is tested, and the verbs that the promises are written in.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::bodies::{body, bytes_of, etag_of};
use crate::{
    Attributes, DeleteOutcome, ErrorKind, Features, Key, ListEntry, ListFrom, ListQuery, Multipart, ObjectInfo, Provider,
    PutOptions, PutWhen, ReadOptions, Result, UploadId,
};

/// A provider to test, fresh and empty, with whatever has to live as long as it does.
pub struct Subject {
    // Dropped in this order: a directory must outlive the provider that works in it.
    instances: Vec<Arc<dyn Provider>>,
    hard_keys: Vec<String>,
    guards: Vec<Box<dyn Any + Send + Sync>>,
}

impl Subject {
    /// This provider.
    #[must_use]
    pub fn new(provider: impl Provider) -> Self {
        Self::shared(Arc::new(provider))
    }

    /// This provider, which is shared already, as a stack of wrappers is.
    #[must_use]
    pub fn shared(provider: Arc<dyn Provider>) -> Self {
        Self { instances: vec![provider], hard_keys: Vec::new(), guards: Vec::new() }
    }

    /// A second instance over the same store, as another process would open it. Racing calls are then spread over both.
    #[must_use]
    pub fn with_peer(mut self, provider: impl Provider) -> Self {
        self.instances.push(Arc::new(provider));
        self
    }

    /// Keys that are hard for this provider, such as its own escape syntax and the name of its hidden space. They are tested
    /// along with those that are hard for everyone.
    #[must_use]
    pub fn with_hard_keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.hard_keys.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Keeps something, such as a temporary directory, until the test is over.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guards.push(Box::new(guard));
        self
    }

    /// Whether it takes writes. What does not is only asked to refuse them.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.features().writable
    }

    pub(super) fn provider(&self) -> &dyn Provider {
        &*self.instances[0]
    }

    /// The instance that the `n`th of several racing callers uses.
    pub(super) fn instance(&self, n: usize) -> Arc<dyn Provider> {
        self.instances[n % self.instances.len()].clone()
    }

    pub(super) fn features(&self) -> Features {
        self.provider().features()
    }

    pub(super) fn hard_keys(&self) -> &[String] {
        &self.hard_keys
    }

    pub(super) fn multipart(&self) -> Option<&dyn Multipart> {
        self.provider().multipart()
    }

    pub(super) fn takes(&self, bytes: u64) -> bool {
        self.features().max_object_bytes.is_none_or(|max| bytes <= max)
    }

    /// These attributes, or none for a provider that keeps none.
    pub(super) fn attributes(&self, pairs: &[(&str, &str)]) -> Attributes {
        if self.features().attributes { pairs.iter().copied().collect() } else { Attributes::new() }
    }

    pub(super) async fn put(&self, name: &str, content: impl Into<Bytes>) -> ObjectInfo {
        self.try_put(name, content, PutWhen::Always).await.unwrap_or_else(|e| panic!("put of {name:?}: {e}"))
    }

    pub(super) async fn try_put(&self, name: &str, content: impl Into<Bytes>, when: PutWhen) -> Result<ObjectInfo> {
        let put = PutOptions { when, attributes: Attributes::new() };
        self.provider().put(&key(name), body(&content.into()), &put).await
    }

    /// The whole object, whose bytes must be the ones that its ETag and size speak of.
    pub(super) async fn read(&self, name: &str) -> Bytes {
        let object = self.provider().get(&key(name), &ReadOptions::default()).await;
        let object = object.unwrap_or_else(|e| panic!("get of {name:?}: {e}"));
        let info = object.info.clone();
        assert_eq!(object.range, 0..info.size, "the range of a whole read of {name:?}");
        let bytes = bytes_of(object).await;
        assert_eq!(info.key.as_str(), name);
        if !info.etag.as_str().contains('-') {
            assert_eq!(info.etag, etag_of(&bytes), "the ETag of {name:?} speaks of other bytes");
        }
        bytes
    }

    pub(super) async fn head(&self, name: &str) -> ObjectInfo {
        let info = self.provider().head(&key(name), &ReadOptions::default()).await;
        info.unwrap_or_else(|e| panic!("head of {name:?}: {e}"))
    }

    pub(super) async fn delete(&self, name: &str) -> DeleteOutcome {
        let outcomes = self.provider().delete(&[key(name).into()]).await;
        let [outcome]: [_; 1] = outcomes.try_into().expect("one outcome for one key");
        outcome.unwrap_or_else(|e| panic!("delete of {name:?}: {e}"))
    }

    /// There is no such object, in whichever way one looks for it.
    pub(super) async fn assert_absent(&self, name: &str) {
        let read = ReadOptions::default();
        assert_eq!(kind(self.provider().head(&key(name), &read).await), ErrorKind::NotFound, "head of {name:?}");
        assert_eq!(kind(self.provider().get(&key(name), &read).await), ErrorKind::NotFound, "get of {name:?}");
        assert!(!self.keys().await.iter().any(|k| k == name), "{name:?} is listed");
    }

    /// All keys in listing order.
    pub(super) async fn keys(&self) -> Vec<String> {
        self.list("", None).await.into_iter().map(|line| line.name).collect()
    }

    /// All entries below a prefix, page after page.
    pub(super) async fn list(&self, prefix: &str, delimiter: Option<&str>) -> Vec<Line> {
        let query =
            ListQuery { prefix: prefix.into(), delimiter: delimiter.map(Into::into), limit: 1000, ..ListQuery::default() };
        self.walk(query).await
    }

    /// All entries from where `query` begins, in pages of its limit.
    pub(super) async fn walk(&self, mut query: ListQuery) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        loop {
            let page = self.provider().list(&query).await.unwrap_or_else(|e| panic!("list {query:?}: {e}"));
            assert!(page.entries.len() <= query.limit, "a page larger than its limit: {query:?}");
            lines.extend(page.entries.iter().map(Line::from));
            let last = page.entries.last();
            match (page.more, last) {
                (false, _) => return lines,
                (true, Some(last)) => query.from = after(last),
                (true, None) => panic!("an empty page with more to come: {query:?}"),
            }
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("instances", &self.instances).finish_non_exhaustive()
    }
}

/// An entry of a listing, reduced to what can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) rolled_up: bool,
}

impl Line {
    pub(super) fn object(name: impl Into<String>) -> Self {
        Self { name: name.into(), rolled_up: false }
    }

    pub(super) fn prefix(name: impl Into<String>) -> Self {
        Self { name: name.into(), rolled_up: true }
    }

    /// Where the page after this line begins.
    pub(super) fn after(&self) -> ListFrom {
        if self.rolled_up { ListFrom::AfterPrefix(self.name.clone()) } else { ListFrom::After(self.name.clone()) }
    }
}

impl From<&ListEntry> for Line {
    fn from(entry: &ListEntry) -> Self {
        Self { name: entry.name().into(), rolled_up: matches!(entry, ListEntry::Prefix(_)) }
    }
}

fn after(entry: &ListEntry) -> ListFrom {
    Line::from(entry).after()
}

pub(super) fn key(name: &str) -> Key {
    Key::new(name).unwrap_or_else(|e| panic!("{name:?} is no key: {e}"))
}

pub(super) fn upload_id(name: &str) -> UploadId {
    UploadId::new(name).unwrap_or_else(|e| panic!("{name:?} is no upload id: {e}"))
}

/// The kind of the error that `result` must be.
#[track_caller]
pub(super) fn kind<T: fmt::Debug>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(answer) => panic!("a refusal was due, but the answer is {answer:?}"),
        Err(error) => *error.kind(),
    }
}

/// Whether two answers tell of the same object in the same state.
#[track_caller]
pub(super) fn assert_same(left: &ObjectInfo, right: &ObjectInfo) {
    assert_eq!(left.key, right.key);
    assert_eq!(left.size, right.size, "sizes of {:?}", left.key);
    assert_eq!(left.etag, right.etag, "ETags of {:?}", left.key);
    assert_eq!(left.modified, right.modified, "modification times of {:?}", left.key);
}
