//! Finding an object and reading what is stored beside it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{FileType, OFlags, fgetxattr, fstat};
use rustix::io::Errno;
use sluice_provider::{Attributes, ETag, Key, ObjectInfo, Result, SIZE_ATTRIBUTE};

use crate::error::{Sys, fault};
use crate::known::{KEPT_BYTES, Version};
use crate::meta::{Beside, Meta, Stamp};
use crate::name::{Form, KeyPath};
use crate::record;
use crate::store::Store;

/// The extended attribute of an object.
pub(crate) const XATTR: &str = "user.sluice";
/// The most that is kept in the inode, in bytes: ext4 gives all attributes of a file one block of 4 KiB.
pub(crate) const INLINE_BYTES: usize = 2048;
/// How often a look-up begins again because a writer got in the way.
const RACES: usize = 16;

/// A regular file that is an object.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: OwnedFd,
    pub(crate) stamp: Stamp,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) changed: (i64, i64),
    /// How many names the inode has.
    pub(crate) links: u64,
    pub(crate) form: Form,
    /// Somebody is appending to it, or died while at it: the stamp is that of the object, and the file may be longer.
    pub(crate) growing: bool,
}

/// What is known of an object's content.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Stored by us, and nobody touched the content since.
    Ours {
        etag: ETag,
        attributes: Attributes,
        /// The record that holds the attributes.
        record: Option<String>,
    },
    /// Somebody else wrote it.
    Foreign,
}

/// How much a reader wants to know, and may wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// What the inode tells.
    Cached,
    /// The ETag and the size; attributes that lie elsewhere are left out.
    Listing {
        /// Whether the caller keeps what it is told where it costs less than in [`crate::known`], of as many objects as it lists.
        keeps: bool,
    },
    Full,
}

/// Why the attributes cannot be told from this open file.
enum Beyond {
    /// The record is not there: it was replaced, or lost.
    RecordGone(Option<ETag>),
    /// It takes more than memory to find out, and the caller wants no more.
    Blocking,
}

impl Opened {
    #[allow(clippy::unnecessary_cast, reason = "the types of stat differ between platforms")]
    pub(crate) fn of(file: OwnedFd, form: Form) -> Sys<Option<Self>> {
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        Ok(Some(Self {
            stamp: Stamp::of(&stat),
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            links: stat.st_nlink as u64,
            file,
            form,
            growing: false,
        }))
    }

    /// Looks at the file again.
    pub(crate) fn refresh(self) -> Sys<Option<Self>> {
        Self::of(self.file, self.form)
    }

    /// What is stored beside the file, which differs from what was seen of it when it was opened: the object, if its file is being appended
    /// to, or was since it was opened; `None` when somebody else wrote it.
    fn grown_into(&mut self, meta: Meta) -> Sys<Option<Meta>> {
        let now = Stamp::of(&fstat(&self.file)?);
        let ours = if meta.growing { meta.stamp.size <= now.size } else { meta.stamp == now };
        if ours {
            (self.stamp, self.growing) = (meta.stamp, meta.growing);
        }
        Ok(ours.then_some(meta))
    }

    /// Whether the bytes of the object that was opened are those that they were: nothing happened to the file, or it has grown.
    pub(crate) fn is_unchanged(&self) -> Sys<bool> {
        let now = Stamp::of(&fstat(&self.file)?);
        if now == self.stamp {
            return Ok(true);
        }
        let mut buffer = [0; INLINE_BYTES + 64];
        let stored = match fgetxattr(&self.file, XATTR, &mut buffer) {
            Ok(bytes) => Meta::decode(&buffer[..bytes]),
            Err(_) => None,
        };
        let Some(meta) = stored.filter(|meta| meta.stamp.size >= self.stamp.size) else { return Ok(false) };
        Ok(if meta.growing { meta.stamp.size <= now.size } else { meta.stamp == Stamp::of(&fstat(&self.file)?) })
    }

    pub(crate) fn version(&self) -> Version {
        Version { device: self.device, inode: self.inode, stamp: self.stamp, changed: self.changed }
    }

    pub(crate) fn info(&self, key: Key, etag: ETag, attributes: Attributes) -> ObjectInfo {
        ObjectInfo { key, size: self.stamp.size, etag, modified: self.stamp.modified(), attributes }
    }
}

impl Store {
    fn open_file(&self, base: BorrowedFd<'_>, path: &[u8], form: Form, cached: bool) -> Sys<Option<Opened>> {
        // Opening a FIFO for reading would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = if cached { self.tree.open_cached(base, path, flags) } else { self.tree.open(base, path, flags) };
        let opened = match opened {
            Err(Errno::LOOP) if cached && self.settings.follow_symlinks => Err(Errno::AGAIN),
            Err(Errno::LOOP) if self.settings.follow_symlinks => self.tree.open_followed(base, path, flags),
            answer => answer,
        };
        match opened {
            Ok(file) => Opened::of(file, form),
            // A link that is not followed, a socket, a file where a directory would have to be: no object.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens the object at either of its two places below `base`. It moves from the plain place to the side, never back, and the
    /// plain place counts when both are taken; so looking there first cannot miss it.
    pub(crate) fn open_either(&self, base: BorrowedFd<'_>, path: impl Fn(Form) -> Vec<u8>, cached: bool) -> Sys<Option<Opened>> {
        match self.open_file(base, &path(Form::Plain), Form::Plain, cached)? {
            Some(opened) => Ok(Some(opened)),
            None => self.open_file(base, &path(Form::Side), Form::Side, cached),
        }
    }

    /// What is stored beside an open file.
    fn beside(&self, opened: &mut Opened, depth: Depth) -> Result<std::result::Result<Known, Beyond>> {
        let failed = |e| fault("read attributes", e);
        if self.xattrs {
            let version = opened.version();
            let cache = self.known();
            if let Some((etag, attributes)) = cache.and_then(|cache| cache.get(&version)) {
                return Ok(Ok(Known::Ours { etag, attributes, record: None }));
            }
            // A listing is not told of what changes through another name.
            let kept = depth == Depth::Listing { keeps: true } && opened.links < 2;
            // To be kept here, it must have been settled before the attribute is read.
            let settled =
                || version.settled(SystemTime::now()) && fstat(&opened.file).is_ok_and(|stat| Version::of(&stat) == version);
            let cache = cache.filter(|_| !kept && settled());
            let mut buffer = [0; INLINE_BYTES + 64];
            let mut short = false;
            let stored = match fgetxattr(&opened.file, XATTR, &mut buffer) {
                Ok(bytes) => {
                    short = bytes <= KEPT_BYTES;
                    match Meta::decode(&buffer[..bytes]) {
                        Some(meta) if meta.stamp == opened.stamp => Some(meta),
                        Some(meta) => opened.grown_into(meta).map_err(failed)?,
                        None => None,
                    }
                }
                Err(Errno::NODATA | Errno::OPNOTSUPP) => None,
                // Longer than anything we write.
                Err(Errno::RANGE) => None,
                Err(errno) => return Err(failed(errno)),
            };
            match stored {
                Some(Meta { etag, beside: Beside::Here(attributes), .. }) => {
                    if let Some(cache) = cache.filter(|_| short && opened.stamp == version.stamp) {
                        cache.put(version, &etag, &attributes);
                    }
                    return Ok(Ok(Known::Ours { etag, attributes, record: None }));
                }
                Some(Meta { etag, beside: Beside::Record(id, size), .. }) => {
                    match depth {
                        Depth::Cached => return Ok(Err(Beyond::Blocking)),
                        Depth::Listing { .. } => {
                            let attributes = size.map(|size| (SIZE_ATTRIBUTE, size.to_string())).into_iter().collect();
                            return Ok(Ok(Known::Ours { etag, attributes, record: None }));
                        }
                        Depth::Full => {}
                    }
                    let name = record::named(&id);
                    return Ok(match record::read(&self.space, &name).map_err(failed)? {
                        Some((_, Meta { beside: Beside::Here(attributes), .. })) => {
                            Ok(Known::Ours { etag, attributes, record: Some(name) })
                        }
                        _ => Err(Beyond::RecordGone(Some(etag))),
                    });
                }
                None => {}
            }
        }
        if depth == Depth::Cached {
            return Ok(Err(Beyond::Blocking));
        }
        // Also with extended attributes: the root may have lived on a file system without.
        let name = record::of_inode(opened.inode);
        Ok(match record::read(&self.space, &name).map_err(failed)? {
            Some((_, Meta { stamp, etag, beside: Beside::Here(attributes), .. })) if stamp == opened.stamp => {
                Ok(Known::Ours { etag, attributes, record: Some(name) })
            }
            Some(_) => Ok(Known::Foreign),
            None if self.xattrs => Ok(Known::Foreign),
            None => Err(Beyond::RecordGone(None)),
        })
    }

    /// Opens an object with what is stored beside it, of one and the same moment.
    fn load(&self, base: BorrowedFd<'_>, path: impl Fn(Form) -> Vec<u8>, depth: Depth) -> Result<Option<(Opened, Known)>> {
        let mut seen = None;
        for _ in 0..RACES {
            let Some(mut opened) = self.open_either(base, &path, false).map_err(|e| fault("open object", e))? else {
                return Ok(None);
            };
            match self.beside(&mut opened, depth)? {
                Ok(known) => return Ok(Some((opened, known))),
                // A writer replaces the object (or its attributes) first and removes the record then: look again. What does not
                // change any more is lost, or was never there.
                Err(Beyond::RecordGone(etag)) if seen == Some((opened.inode, opened.changed)) => {
                    let known = match etag {
                        Some(etag) => {
                            tracing::warn!(inode = opened.inode, "the record of an object is lost, and its attributes with it");
                            Known::Ours { etag, attributes: Attributes::new(), record: None }
                        }
                        None => Known::Foreign,
                    };
                    return Ok(Some((opened, known)));
                }
                Err(_) => seen = Some((opened.inode, opened.changed)),
            }
        }
        Err(sluice_provider::Error::new(sluice_provider::ErrorKind::Conflict, "read an object that keeps changing"))
    }

    /// Opens the object of a key.
    pub(crate) fn load_key(&self, path: &KeyPath) -> Result<Option<(Opened, Known)>> {
        self.load(self.root(), |form| path.path(form), Depth::Full)
    }

    /// Opens an object below another directory than the root.
    pub(crate) fn load_whole(&self, base: BorrowedFd<'_>, path: impl Fn(Form) -> Vec<u8>) -> Result<Option<(Opened, Known)>> {
        self.load(base, path, Depth::Full)
    }

    /// Opens an object for a listing, which `keeps` what it is told or not.
    pub(crate) fn load_listed(
        &self,
        base: BorrowedFd<'_>,
        path: impl Fn(Form) -> Vec<u8>,
        keeps: bool,
    ) -> Result<Option<(Opened, Known)>> {
        self.load(base, path, Depth::Listing { keeps })
    }

    /// Opens the object of a key, if memory holds all it takes; the outer `None` otherwise.
    pub(crate) fn load_cached(&self, path: &KeyPath) -> Result<Option<Option<(Opened, Known)>>> {
        match self.open_either(self.root(), |form| path.path(form), true) {
            Ok(Some(mut opened)) => Ok(match self.beside(&mut opened, Depth::Cached)? {
                Ok(known @ Known::Ours { .. }) => Some(Some((opened, known))),
                _ => None,
            }),
            Ok(None) => Ok(Some(None)),
            // Not in memory, or too many files open for now: the pool finds out which.
            Err(_) => Ok(None),
        }
    }

    /// The record of an object that is about to be deleted.
    pub(crate) fn record_to_remove(&self, opened: &Opened, known: &Known) -> Option<String> {
        match known {
            // Another name of the inode still needs it.
            _ if opened.links > 1 => None,
            Known::Ours { record, .. } => record.clone(),
            Known::Foreign if !self.xattrs => Some(record::of_inode(opened.inode)),
            Known::Foreign => None,
        }
    }

    /// The record of a file that is about to go. An inode with another name stays, and its record too.
    pub(crate) fn record_of(&self, file: OwnedFd) -> Option<String> {
        let mut opened = Opened::of(file, Form::Plain).ok().flatten().filter(|opened| opened.links < 2)?;
        match self.beside(&mut opened, Depth::Full).ok()? {
            Ok(Known::Ours { record, .. }) => record,
            // An outside edit makes the record stale, not ours any less.
            Ok(Known::Foreign) if !self.xattrs => Some(record::of_inode(opened.inode)),
            _ => None,
        }
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
