//! The moment in which an object becomes visible, with its record.

use std::sync::Arc;

use futures::TryStreamExt;
use opendal::options::WriteOptions;
use opendal::{Buffer, ErrorKind as Theirs, Metadata, Writer};
use sluice_provider::{Attributes, ETag, Error, ErrorKind, Key, ObjectInfo, Result};

use crate::error::failed;
use crate::overlay::{Record, info_of, tag_of};
use crate::provider::{Inner, missing};
use crate::write::{Staged, told};

/// How often a rename is tried while others remove the directories that it needs.
const TRIES: usize = 4;
/// How many empty directories are removed to make room for an object.
const MOST_DIRECTORIES: usize = 1000;

/// What is to become visible.
pub(crate) struct Publication {
    pub(crate) key: Key,
    pub(crate) path: String,
    pub(crate) etag: ETag,
    pub(crate) attributes: Attributes,
    pub(crate) size: u64,
    pub(crate) finish: Finish,
}

/// The last step.
pub(crate) enum Finish {
    /// The end is told.
    Close(Box<Writer>),
    /// All of it is sent.
    Write(Buffer, Box<WriteOptions>),
    /// It gets its name.
    Rename(Staged),
}

impl Inner {
    /// Publishes. Once begun it goes on, whether or not anybody waits; whoever began first is first.
    pub(crate) async fn publish(self: &Arc<Self>, publication: Publication) -> Result<ObjectInfo> {
        let held = self.locks.change(&publication.path, self.names.tree).await;
        let inner = Arc::clone(self);
        let work = tokio::spawn(async move {
            let outcome = inner.publish_held(publication).await;
            drop(held);
            outcome
        });
        work.await.map_err(|e| Error::new(ErrorKind::Internal, "publish").caused_by(e))?
    }

    async fn publish_held(&self, publication: Publication) -> Result<ObjectInfo> {
        let Publication { key, path, etag, attributes, size, finish } = publication;
        let meta = match finish {
            Finish::Close(mut writer) => {
                let meta = writer.close().await.map_err(|e| failed("write", &e))?;
                told(meta, size)
            }
            Finish::Write(bytes, options) => {
                let meta = self.operator.write_options(&path, bytes, *options).await.map_err(|e| failed("write", &e))?;
                told(meta, size)
            }
            Finish::Rename(mut staged) => {
                let before = self.stat(&staged.path).await?.ok_or_else(|| missing(&key))?;
                if before.content_length() != size {
                    return Err(Error::new(ErrorKind::Unavailable, "write").with("reason", "the service stored another size"));
                }
                if self.overlaid() {
                    self.record(&key, Record::new(&before, &etag, &attributes)).await?;
                }
                self.give_name(&key, &path, &mut staged).await?;
                let after = self.stat(&path).await?.ok_or_else(|| missing(&key))?;
                if tag_of(&after) == tag_of(&before) {
                    return self.published(&key, &after, &etag, &attributes);
                }
                Some(after)
            }
        };
        let meta = match meta {
            Some(meta) => meta,
            None => self.stat(&path).await?.ok_or_else(|| missing(&key))?,
        };
        if self.overlaid() {
            let record = Record::new(&meta, &etag, &attributes);
            self.record(&key, record.clone()).await?;
            return info_of(&key, &meta, Some(&record));
        }
        self.published(&key, &meta, &etag, &attributes)
    }

    fn published(&self, key: &Key, meta: &Metadata, etag: &ETag, attributes: &Attributes) -> Result<ObjectInfo> {
        let record = self.overlaid().then(|| Record::new(meta, etag, attributes));
        let mut info = info_of(key, meta, record.as_ref())?;
        if !self.overlaid() {
            // The service may tell more than was given.
            info.attributes = Attributes::new();
        }
        Ok(info)
    }

    /// Removes a directory, if there is nothing in it but directories with nothing in them. The caller holds its path, so that nobody of
    /// this process puts anything there; answers whether it is gone.
    async fn removed_empty(&self, path: &str) -> Result<bool> {
        let mut directories = vec![format!("{path}/")];
        let mut at = 0;
        while let Some(directory) = directories.get(at).cloned() {
            let mut lister = self.operator.lister(&directory).await.map_err(|e| failed("look into a directory", &e))?;
            while let Some(entry) = lister.try_next().await.map_err(|e| failed("look into a directory", &e))? {
                if entry.path() == directory {
                    continue;
                }
                if !entry.path().ends_with('/') || directories.len() >= MOST_DIRECTORIES {
                    return Ok(false);
                }
                directories.push(entry.path().to_owned());
            }
            at += 1;
        }
        for directory in directories.iter().rev() {
            self.operator.delete(directory).await.map_err(|e| failed("remove an empty directory", &e))?;
        }
        Ok(true)
    }

    /// Renames what was staged. Whatever has the name must be an object: WebDAV would replace a directory with all that is in it.
    async fn give_name(&self, key: &Key, path: &str, staged: &mut Staged) -> Result<()> {
        if self.collides() {
            let directory = match self.operator.stat(path).await {
                Ok(meta) => meta.is_dir(),
                Err(error) if error.kind() == Theirs::IsADirectory => true,
                Err(error) if matches!(error.kind(), Theirs::NotFound | Theirs::NotADirectory) => false,
                Err(error) => return Err(failed("look at an object", &error)),
            };
            if directory && !self.removed_empty(path).await? {
                return Err(Error::new(ErrorKind::InvalidKey, "a directory has this name").with("key", format!("{key:?}")));
            }
            for (at, _) in path.match_indices('/') {
                if self.stat(&path[..at]).await?.is_some() {
                    let reason = format!("an object has the name of the directory {:?}", &path[..at]);
                    return Err(Error::new(ErrorKind::InvalidKey, "key").with("reason", reason));
                }
            }
        }
        for left in (0..TRIES).rev() {
            match self.operator.rename(&staged.path, path).await {
                Ok(()) => {
                    staged.published();
                    return Ok(());
                }
                // A directory went away between its making and its use.
                Err(error) if left > 0 && matches!(error.kind(), Theirs::NotFound) => {}
                Err(error) => return Err(failed("publish", &error)),
            }
        }
        Ok(())
    }
}
