//! Moving the bytes of a version to the mount of a storage class, in two steps: they are carried there, then the version lets go of its own.

use std::sync::Arc;
use std::time::SystemTime;

use futures::StreamExt;
use sluice_provider::{
    AttributeChange, Attributes, Body, ETag, Error, ErrorKind, Guard, Key, ObjectInfo, PutOptions, ReadOptions, Result,
    SIZE_ATTRIBUTE, VersionId, known_size,
};

use super::{CLASS_ATTRIBUTE, TIER_ATTRIBUTE, Tier, Tiered, name};
use crate::transfer::{Declared, Frames, frames, md5_of_etag, verify};

/// What is to be moved where. A version that is another one by now is not touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Which version.
    pub version: VersionId,
    /// Its ETag.
    pub etag: ETag,
    /// When it was made.
    pub modified: SystemTime,
    /// The storage class.
    pub class: String,
}

/// Bytes that lie on the mount of a class, and that nothing refers to yet.
#[derive(Debug)]
pub struct Carried {
    tiered: Arc<Tiered>,
    key: Key,
    version: VersionId,
    /// What was copied.
    info: ObjectInfo,
    old: Option<Tier>,
    new: Tier,
}

impl Tiered {
    /// Writes the bytes of a version to the mount of a class. `at` are the bucket and the key in it.
    ///
    /// # Errors
    /// NotFound and PreconditionFailed when the version is gone or another one; Unsupported where the mount of the key cannot let go of
    /// bytes; Unavailable when no mount keeps the class; those of both mounts.
    pub async fn carry(self: &Arc<Self>, key: &Key, at: (&str, &str), to: &Transition) -> Result<Carried> {
        let facet = self.facet()?;
        if !facet.version_features().own_names {
            return Err(Error::new(ErrorKind::Unsupported, "move to a storage class"));
        }
        let class = self.class(&to.class)?;
        let object = facet.get_version(key, &to.version, &ReadOptions { range: None, if_match: Some(to.etag.clone()) }).await?;
        let info = object.info;
        let another = |what| Error::new(ErrorKind::PreconditionFailed, "move to a storage class").with("what", what);
        if info.modified != to.modified || sluice_provider::is_marker(&info) {
            return Err(another("replaced"));
        }
        let old = Tier::of(&info.attributes);
        let (size, body) = match &old {
            None => (info.size, object.body),
            Some(old) if old.class == to.class => return Err(another("there already")),
            Some(old) => {
                let moved = self.class(&old.class)?.get(&old.name, &ReadOptions::default()).await?;
                if moved.info.size != old.size {
                    return Err(Error::new(ErrorKind::Unavailable, "the bytes of a moved object are not what was moved"));
                }
                (old.size, moved.body)
            }
        };
        // What is stored is what was sent only where nothing says that it is known by another size: then it must still have its MD5.
        let plain = old.is_none() && info.attributes.get(SIZE_ATTRIBUTE).is_none();
        let md5 = if plain { md5_of_etag(info.etag.as_str()) } else { None };
        let declared = Declared { size: Some(size), md5, ..Declared::default() };
        let body = verify(stream(body, size).await?, declared);
        let (name, cut) = name::new(at.0, at.1, to.version)?;
        let attributes: Attributes = cut.then_some((name::KEY_ATTRIBUTE, at.1)).into_iter().collect();
        let new = Tier { class: to.class.clone(), size, name };
        let stored = class.put(&new.name, body, &PutOptions { attributes, ..PutOptions::default() }).await;
        match stored {
            Ok(stored) if stored.size == size => {}
            Ok(stored) => {
                self.free(&new).await;
                return Err(Error::new(ErrorKind::Internal, "move to a storage class").with("stored", stored.size));
            }
            Err(error) => return Err(error),
        }
        Ok(Carried { tiered: Arc::clone(self), key: key.clone(), version: to.version, info, old, new })
    }
}

impl Carried {
    /// Has the version let go of its own bytes; how many they are.
    ///
    /// # Errors
    /// PreconditionFailed when it is another one by now, NotFound when it is gone: what was carried is freed. Any other leaves open what it
    /// refers to, and what nothing refers to is swept.
    pub async fn settle(self) -> Result<u64> {
        let Self { tiered, key, version, info, old, new } = self;
        let set = [
            (TIER_ATTRIBUTE, new.to_attribute()),
            (CLASS_ATTRIBUTE, new.class.clone()),
            (SIZE_ATTRIBUTE, known_size(&info).to_string()),
        ];
        let set = set.into_iter().map(|(name, value)| (name.to_owned(), Some(value))).collect();
        let change = AttributeChange { if_match: Some(info.etag.clone()), set };
        let (modified, size, from) = (info.modified, info.size, old.clone());
        // Tags and locks may have changed meanwhile, and stay as they are: the bytes may not.
        let guard = Guard::new(move |now| now.modified == modified && now.size == size && Tier::of(&now.attributes) == from);
        match tiered.facet()?.hollow_version(&key, &version, &change, &guard).await {
            Ok(_) => {
                if let Some(old) = old {
                    tiered.free_unless_kept(&key, &version, &old).await;
                }
                Ok(new.size)
            }
            Err(error) => {
                let another = match error.kind() {
                    ErrorKind::Guarded | ErrorKind::PreconditionFailed => {
                        Some(Error::new(ErrorKind::PreconditionFailed, "move to a storage class").caused_by(error))
                    }
                    ErrorKind::NotFound | ErrorKind::Unsupported => Some(error),
                    _ => return Err(error),
                };
                tiered.free(&new).await;
                Err(another.unwrap_or_else(|| Error::new(ErrorKind::Internal, "move to a storage class")))
            }
        }
    }

    /// Gives it up: frees what was carried.
    pub async fn give_up(self) {
        self.tiered.free(&self.new).await;
    }
}

async fn stream(body: Body, bytes: u64) -> Result<sluice_provider::ByteStream> {
    Ok(match frames(body, bytes).await? {
        Frames::Full(bytes) => futures::stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed(),
        Frames::Stream(stream) => stream,
    })
}
