//! What a store denies is asserted to be refused, and the rest of the contract holds for it all the same.

use async_trait::async_trait;
use sluice_provider::conformance::Subject;
use sluice_provider::{
    Append, AttributeChange, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, Error, ErrorKind, Features, Follow, Key,
    ListPage, ListQuery, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, PutWhen, ReadOptions, Rename, Result,
    Versions,
};
use sluice_provider_memory::{Memory, Settings};

/// A store that keeps no conditions, no attributes and takes no parts, and says so.
#[derive(Debug)]
struct Plain(Memory);

/// A store that takes no writes.
#[derive(Debug)]
struct ReadOnly(Memory);

fn refusal<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "a plain store"))
}

#[async_trait]
impl Provider for Plain {
    fn features(&self) -> Features {
        Features { conditions: false, attributes: false, max_object_bytes: Some(4 << 20), ..self.0.features() }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.0.head(key, read).await
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        self.0.get(key, read).await
    }

    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        if put.when != PutWhen::Always || !put.attributes.is_empty() {
            return refusal();
        }
        if body.size().is_some_and(|size| size > 4 << 20) {
            return Err(Error::new(ErrorKind::TooLarge, "a plain store"));
        }
        self.0.put(key, body, put).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let mut outcomes = Vec::new();
        for key in keys {
            match key.when {
                DeleteWhen::Always => outcomes.extend(self.0.delete(std::slice::from_ref(key)).await),
                DeleteWhen::IfMatch { .. } => outcomes.push(refusal()),
            }
        }
        outcomes
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        if copy.when != PutWhen::Always || copy.attributes.as_ref().is_some_and(|a| !a.is_empty()) {
            return refusal();
        }
        self.0.copy(from, to, copy).await
    }

    async fn set_attributes(&self, _: &Key, _: &AttributeChange) -> Result<ObjectInfo> {
        refusal()
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        // Shorter pages than asked for are a provider's right.
        self.0.list(&ListQuery { limit: query.limit.min(3), ..query.clone() }).await
    }

    async fn check(&self) -> Result<()> {
        self.0.check().await
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

#[async_trait]
impl Provider for ReadOnly {
    fn features(&self) -> Features {
        Features { writable: false, ..self.0.features() }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.0.head(key, read).await
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        self.0.get(key, read).await
    }

    async fn put(&self, _: &Key, _: PutBody, _: &PutOptions) -> Result<ObjectInfo> {
        refusal()
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        keys.iter().map(|_| refusal()).collect()
    }

    async fn copy(&self, _: &Key, _: &Key, _: &CopyOptions) -> Result<ObjectInfo> {
        refusal()
    }

    async fn set_attributes(&self, _: &Key, _: &AttributeChange) -> Result<ObjectInfo> {
        refusal()
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.0.list(query).await
    }

    async fn check(&self) -> Result<()> {
        self.0.check().await
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

/// What a plain store denies is asserted to be refused, and the rest holds.
mod plain {
    use super::*;

    async fn fresh() -> Subject {
        Subject::new(Plain(Memory::new(Settings::default())))
    }

    sluice_provider::conformance!(fresh);
}

/// A store without writes is asked for nothing but its refusals.
mod read_only {
    use super::*;

    async fn fresh() -> Subject {
        Subject::new(ReadOnly(Memory::new(Settings::default())))
    }

    sluice_provider::conformance!(fresh);
}
