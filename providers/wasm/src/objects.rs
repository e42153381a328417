//! A plugin that keeps objects.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sluice_provider::{
    Append, AttributeChange, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ETag, Error, ErrorKind, Features, Follow, Key,
    ListEntry, ListPage, ListQuery, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, PutWhen, ReadOptions, Rename,
    Result, Versions, end_of_prefix,
};
use std::ops::Bound;
use std::sync::Arc;

use crate::answer;
use crate::bindings::{self, Failure, objects};
use crate::imports;
use crate::plugin::{Instance, Plugin};
use crate::pool::Pool;
use crate::settings::Settings;

type Store = wasmtime::Store<imports::Guest>;

/// The most keys that a plugin is asked for at once.
const PAGE: usize = 1000;

/// A mount that is a plugin.
#[derive(Debug)]
pub(crate) struct Objects {
    pool: Arc<Pool>,
    most: usize,
}

fn unsupported(what: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, what)
}

fn matching(info: &ObjectInfo, wanted: Option<&ETag>) -> Result<()> {
    match wanted {
        Some(etag) if *etag != info.etag => Err(Error::new(ErrorKind::PreconditionFailed, "condition").with("etag", &info.etag)),
        _ => Ok(()),
    }
}

fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "list").with("the plugin answers", what)
}

fn within<T>(
    instance: &mut Instance,
    work: impl FnOnce(&objects::Guest, &mut Store) -> wasmtime::Result<Result<T, Failure>>,
) -> wasmtime::Result<Result<T, Failure>> {
    match &instance.objects {
        Some(guest) => work(guest, &mut instance.store),
        None => Ok(Err(Failure::Unsupported)),
    }
}

impl Objects {
    pub(crate) fn new(pool: Arc<Pool>, settings: &Settings) -> Self {
        Self { pool, most: settings.max_body_bytes }
    }

    async fn call<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&objects::Guest, &mut Store) -> wasmtime::Result<Result<T, Failure>> + Send + 'static,
    {
        self.pool.call(operation, |instance| within(instance, work)).await
    }

    /// Keeps bytes under a key.
    async fn keep(&self, key: &Key, bytes: Vec<u8>, etag: ETag, put: &PutOptions) -> Result<ObjectInfo> {
        if put.when != PutWhen::Always {
            return Err(unsupported("a write under a condition to a plugin"));
        }
        let attributes = answer::kept(&put.attributes, "put")?;
        // To the second, as the plugin is told.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let info = ObjectInfo { key: key.clone(), size: bytes.len() as u64, etag, modified, attributes: put.attributes.clone() };
        let object = bindings::Object { info: answer::told(&info, attributes), body: bytes };
        let name = key.to_string();
        self.call("put", move |guest, store| guest.call_put(store, &name, &object)).await?;
        Ok(info)
    }

    async fn remove(&self, DeleteKey { key, when }: &DeleteKey) -> Result<DeleteOutcome> {
        if *when != DeleteWhen::Always {
            return Err(unsupported("a delete under a condition on a plugin"));
        }
        let name = key.to_string();
        match self.call("delete", move |guest, store| guest.call_delete(store, &name)).await {
            Ok(Some(size)) => Ok(DeleteOutcome::Deleted { size }),
            Ok(None) => Ok(DeleteOutcome::Absent),
            Err(error) if *error.kind() == ErrorKind::NotFound => Ok(DeleteOutcome::Absent),
            Err(error) => Err(error),
        }
    }

    /// Keys from `start` on, in their order, and whether there are more.
    async fn keys(&self, plugin: &Arc<Plugin>, prefix: &str, start: &str, limit: usize) -> Result<(Vec<ObjectInfo>, bool)> {
        let (prefix_told, start_told) = (prefix.to_owned(), start.to_owned());
        let asked = u32::try_from(limit).unwrap_or(u32::MAX);
        let list = move |guest: &objects::Guest, store: &mut Store| guest.call_list(store, &prefix_told, &start_told, asked);
        let page = self.pool.call_of(plugin, "list", |instance| within(instance, list)).await?;
        if page.entries.len() > limit {
            return Err(corrupt("more keys than were asked for"));
        }
        if page.more && page.entries.is_empty() {
            return Err(corrupt("that there are more keys, and none"));
        }
        let mut entries: Vec<ObjectInfo> = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            let key = Key::new(&entry.key).map_err(|_| corrupt("a key that is none"))?;
            let name = key.as_str();
            if !name.starts_with(prefix) || name < start || entries.last().is_some_and(|last| last.key >= key) {
                return Err(corrupt("keys that were not asked for, or are not in order"));
            }
            let told = bindings::Info { size: entry.size, etag: entry.etag, modified: entry.modified, attributes: Vec::new() };
            entries.push(answer::info(&key, told, "list")?);
        }
        Ok((entries, page.more))
    }
}

#[async_trait]
impl Provider for Objects {
    fn features(&self) -> Features {
        let max_object_bytes = Some(self.most as u64);
        Features { conditions: false, attributes: false, persistent: false, writable: true, max_object_bytes }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        let name = key.to_string();
        let told = self.call("head", move |guest, store| guest.call_head(store, &name)).await?;
        let info = answer::info(key, told, "head")?;
        matching(&info, read.if_match.as_ref())?;
        Ok(info)
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        let name = key.to_string();
        let told = self.call("get", move |guest, store| guest.call_get(store, &name)).await?;
        let object = answer::object(key, told, self.most, None, "get")?;
        matching(&object.info, read.if_match.as_ref())?;
        match (read.range, object.body) {
            (Some(range), sluice_provider::Body::Bytes(bytes)) => answer::part(object.info, bytes, Some(range)),
            (_, body) => Ok(Object { body, ..object }),
        }
    }

    async fn put(&self, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        let bytes = answer::gather(&mut body, self.most, "put").await?;
        let seal = body.seal()?;
        let mut put = put.clone();
        put.attributes.extend(seal.attributes.iter());
        self.keep(key, bytes.to_vec(), seal.etag, &put).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let mut outcomes = Vec::with_capacity(keys.len());
        for key in keys {
            outcomes.push(self.remove(key).await);
        }
        outcomes
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        let read = ReadOptions { range: None, if_match: copy.source_if_match.clone() };
        let source = self.get(from, &read).await?;
        let etag = source.info.etag.clone();
        let attributes = copy.attributes.clone().unwrap_or_else(|| source.info.attributes.clone());
        let bytes = answer::bytes_of(source, self.most, "copy").await?;
        self.keep(to, bytes, etag, &PutOptions { when: copy.when.clone(), attributes }).await
    }

    async fn set_attributes(&self, _: &Key, _: &AttributeChange) -> Result<ObjectInfo> {
        Err(unsupported("change what is told of an object of a plugin"))
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = ListPage::default();
        let mut start = match query.begin() {
            None => return Ok(page),
            Some(Bound::Excluded(name)) => name + "\0",
            Some(Bound::Included(name)) => name,
            Some(Bound::Unbounded) => String::new(),
        };
        // One listing is one plugin's, however often that is asked for more.
        let plugin = self.pool.plugin()?;
        'pages: loop {
            // One more tells whether there are more.
            let wanted = (query.limit - page.entries.len()).saturating_add(1).min(PAGE);
            let (entries, more) = self.keys(&plugin, &query.prefix, &start, wanted).await?;
            let last = entries.last().map(|info| info.key.to_string());
            let mut below: Option<String> = None;
            for info in entries {
                if below.as_deref().is_some_and(|rolled| info.key.as_str().starts_with(rolled)) {
                    continue;
                }
                if page.entries.len() >= query.limit {
                    page.more = true;
                    break 'pages;
                }
                let rolled = query.rolled_up(info.key.as_str()).map(str::to_owned);
                page.entries.push(match &rolled {
                    Some(rolled) => ListEntry::Prefix(rolled.clone()),
                    None => ListEntry::Object(info),
                });
                below = rolled;
            }
            start = match (more, below.as_deref().map(end_of_prefix), last) {
                (false, ..) | (true, Some(None), _) | (true, None, None) => break,
                (true, Some(Some(end)), _) => end,
                (true, None, Some(last)) => last + "\0",
            };
        }
        Ok(page)
    }

    async fn check(&self) -> Result<()> {
        self.pool.plugin().map(drop)
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        None
    }

    fn versions(&self) -> Option<&dyn Versions> {
        None
    }

    fn appends(&self) -> Option<&dyn Append> {
        None
    }

    fn renames(&self) -> Option<&dyn Rename> {
        None
    }

    fn follows(&self) -> Option<&dyn Follow> {
        None
    }
}
