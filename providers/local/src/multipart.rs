//! Uploads in parts.
//!
//! A part goes where it will be in the object, if that can be told: the first part whose size is declared sets the *unit*, and
//! part N of at most that size belongs at (N - 1) units in the upload's one data file. Whoever creates the *claim* of that place
//! may write there, once; every other part (larger, of unknown size, or sent again) is a file of its own. When all parts lie
//! where the object wants them, completing it copies nothing.
//!
//! ```text
//! .sluice/uploads/<upload>/unit        the unit, in digits
//! .sluice/uploads/<upload>/data        parts at their places
//! .sluice/uploads/<upload>/lock        shared by those who write to data, exclusive for the one who publishes it
//! .sluice/uploads/<upload>/c.N         the claim of a place; not empty once its part was discarded
//! .sluice/uploads/<upload>/p.N.random  a part of its own
//! ```
//! Tokens are `c.N.size` and `p.N.random`.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, fallocate, fdatasync, flock, fstat, ftruncate, linkat, openat, statat,
    unlinkat,
};
use rustix::io::Errno;
use sluice_provider::{
    ETag, Error, ErrorKind, Key, Multipart, ObjectInfo, PartNumber, PutBody, PutOptions, Result, Seal, UploadId,
};

use crate::copy::copy_range;
use crate::create::{Spot, spot};
use crate::error::{Sys, fault};
use crate::provider::Local;
use crate::snapshot::names_in;
use crate::space::{Staged, lock_file, random_id, subdirectory};
use crate::store::Store;
use crate::write::{Target, size_of, write_all};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DATA: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const OBJECT: Mode = Mode::from_raw_mode(0o666);

/// A token, read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// At its place in the data file.
    Placed { number: u16, size: u64 },
    /// A file of its own.
    Own(String),
}

impl Token {
    fn read(token: &str) -> Option<Self> {
        let (kind, rest) = token.split_once('.')?;
        let (number, rest) = rest.split_once('.')?;
        let number = PartNumber::new(number.parse().ok()?)?.get();
        match kind {
            "c" => Some(Self::Placed { number, size: rest.parse().ok()? }),
            "p" if rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()) => Some(Self::Own(token.to_owned())),
            _ => None,
        }
    }
}

/// Where a part is being written. Dropped before it is [`kept`](Self::keep), it gives its place back.
struct Room {
    store: Arc<Store>,
    upload: Arc<OwnedFd>,
    file: File,
    /// The claim, or the part's own file.
    name: String,
    offset: u64,
    /// Held while we may write to the data file.
    _writing: Option<OwnedFd>,
    kept: bool,
}

impl Room {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (store, upload, name) = (Arc::clone(&self.store), Arc::clone(&self.upload), std::mem::take(&mut self.name));
        let give_back = move || {
            let _store = store;
            if let Err(errno) = unlinkat(&*upload, &name, AtFlags::empty())
                && errno != Errno::NOENT
            {
                tracing::warn!(%errno, name, "a part that failed could not be removed; it goes with its upload");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(give_back)),
            Err(_) => give_back(),
        }
    }
}

fn gone(upload: &UploadId) -> Error {
    Error::new(ErrorKind::NotFound, "upload").with("upload", upload)
}

fn part_gone(token: &str) -> Error {
    Error::new(ErrorKind::NotFound, "part").with("token", format!("{token:?}"))
}

impl Store {
    fn open_upload(&self, upload: &UploadId) -> Result<OwnedFd> {
        match openat(&self.space.uploads, upload.as_str(), DIRECTORY, Mode::empty()) {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT) => Err(gone(upload)),
            Err(errno) => Err(fault("open upload", errno)),
        }
    }

    fn create_upload(&self, upload: &UploadId) -> Result<()> {
        let made = subdirectory(self.space.uploads.as_fd(), upload.as_str()).and_then(|dir| {
            let flags = DATA | OFlags::CREATE;
            openat(&dir, "data", flags, OBJECT)?;
            lock_file(dir.as_fd(), "lock")?;
            self.flush.directory(dir.as_fd())?;
            self.flush.directory(self.space.uploads.as_fd())
        });
        made.map_err(|e| fault("create upload", e))
    }

    /// Finds a place for a part.
    fn room(self: &Arc<Self>, upload: &UploadId, part: PartNumber, size: Option<u64>) -> Result<Room> {
        let failed = |e| fault("store part", e);
        let dir = Arc::new(self.open_upload(upload)?);
        if let Some(size) = size.filter(|size| *size > 0)
            && let Some(unit) = self.unit(dir.as_fd(), size).map_err(failed)?
            && size <= unit
            && let Some(offset) = unit.checked_mul(u64::from(part.get()) - 1)
            && let Some(room) = self.claim(&dir, part, offset).map_err(failed)?
        {
            return Ok(room);
        }
        let name = format!("p.{part}.{}", hex::encode(random_id()?));
        let flags = DATA | OFlags::CREATE | OFlags::EXCL;
        let file = match openat(&*dir, &name, flags, OBJECT) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Err(gone(upload)),
            Err(errno) => return Err(failed(errno)),
        };
        Ok(Room { store: Arc::clone(self), upload: dir, file, name, offset: 0, _writing: None, kept: false })
    }

    /// The unit of an upload; `size` becomes it when there is none.
    fn unit(&self, dir: BorrowedFd<'_>, size: u64) -> Sys<Option<u64>> {
        for _ in 0..2 {
            match openat(dir, "unit", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => {
                    let mut digits = [0; 20];
                    let read = crate::read::read_exact(file.as_fd(), &mut digits, 0)?;
                    return Ok(std::str::from_utf8(&digits[..read]).ok().and_then(|digits| digits.parse().ok()));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            // Written whole before it has its name, so that nobody reads half of it.
            let mut staged = self.space.stage()?;
            let digits = size.to_string();
            let named = write_all(staged.fd(), &[digits.as_bytes()], 0)
                .and_then(|()| self.flush.file(staged.fd()))
                .and_then(|()| linkat(staged.dir(), staged.name(), dir, "unit", AtFlags::empty()));
            staged.record = None;
            staged.discard();
            match named {
                Ok(()) | Err(Errno::EXIST) => {}
                // A file system without links: every part is a file of its own.
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    /// Claims the place of a part in the data file; `None` when it is taken, or being published.
    fn claim(self: &Arc<Self>, dir: &Arc<OwnedFd>, part: PartNumber, offset: u64) -> Sys<Option<Room>> {
        let writing = lock_file(dir.as_fd(), "lock")?;
        match flock(&writing, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        // Only now, and only while it is nobody's object: a published file is never modified.
        let data = match openat(&**dir, "data", DATA, Mode::empty()) {
            Ok(data) => data,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        if fstat(&data)?.st_nlink != 1 {
            return Ok(None);
        }
        let name = format!("c.{part}");
        match openat(&**dir, &name, DATA | OFlags::CREATE | OFlags::EXCL, OBJECT) {
            Ok(_) => {}
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let (store, upload) = (Arc::clone(self), Arc::clone(dir));
        let room = Room { store, upload, file: File::from(data), name, offset, _writing: Some(writing), kept: false };
        Ok(Some(room))
    }

    fn keep_part(&self, room: Room, size: u64) -> Result<String> {
        let failed = |e| fault("flush part", e);
        if self.flush.durable() {
            fdatasync(&room.file).map_err(failed)?;
            self.flush.directory(room.upload.as_fd()).map_err(failed)?;
        }
        let token = if room.name.starts_with('c') { format!("{}.{size}", room.name) } else { room.name.clone() };
        // An abort may have come while we wrote: nobody would ever free what we keep now.
        match spot(room.upload.as_fd(), room.name.as_bytes()).map_err(failed)? {
            Spot::File => {}
            _ => return Err(Error::new(ErrorKind::NotFound, "upload")),
        }
        room.keep();
        Ok(token)
    }

    fn discard_part(&self, upload: &UploadId, token: &str) -> Result<()> {
        let Some(token) = Token::read(token) else { return Ok(()) };
        let dir = match self.open_upload(upload) {
            Ok(dir) => dir,
            Err(error) if *error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let discarded = match token {
            Token::Own(name) => unlinkat(&dir, &name, AtFlags::empty()),
            // The place stays claimed: whoever still holds the token must not find another part there.
            Token::Placed { number, size } => openat(&dir, format!("c.{number}"), DATA, Mode::empty()).and_then(|claim| {
                write_all(claim.as_fd(), &[b"discarded"], 0)?;
                self.flush.file(claim.as_fd())?;
                self.free_place(dir.as_fd(), number, size)
            }),
        };
        match discarded {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fault("discard part", errno)),
        }
    }

    /// Gives the blocks of a discarded part back, if the file system can and the data file is still only the upload's.
    fn free_place(&self, dir: BorrowedFd<'_>, number: u16, size: u64) -> Sys<()> {
        let lock = lock_file(dir, "lock")?;
        if flock(&lock, FlockOperation::NonBlockingLockShared).is_err() {
            return Ok(());
        }
        let data = openat(dir, "data", DATA, Mode::empty())?;
        if let Some(unit) = self.unit(dir, 0)?
            && size <= unit
            && fstat(&data)?.st_nlink == 1
        {
            let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Only room is lost where this fails, until the upload ends.
            let _ = fallocate(&data, how, unit * (u64::from(number) - 1), size);
        }
        Ok(())
    }

    fn remove_upload(&self, upload: &UploadId) -> Result<()> {
        let failed = |e| fault("remove upload", e);
        for _ in 0..16 {
            let dir = match self.open_upload(upload) {
                Ok(dir) => dir,
                Err(error) if *error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            for name in names_in(dir.as_fd()).map_err(failed)? {
                match unlinkat(&dir, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(failed(errno)),
                }
            }
            match unlinkat(&self.space.uploads, upload.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // A part came in between.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Err(Error::new(ErrorKind::Conflict, "remove upload").with("upload", upload))
    }

    fn complete_upload(
        self: &Arc<Self>,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        // Somebody else completed or aborted it meanwhile.
        let failed = |e| if e == Errno::NOENT { gone(upload) } else { fault("complete upload", e) };
        let dir = self.open_upload(upload)?;
        let parts = self.check_parts(dir.as_fd(), parts)?;
        let total = parts.last().map_or(0, |part| part.target + part.size);
        let lock = lock_file(dir.as_fd(), "lock").map_err(failed)?;
        // Somebody may still be writing to the data file; then the object is assembled elsewhere.
        let exclusive = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        let staged = if exclusive && self.in_place(dir.as_fd(), &parts).map_err(failed)? {
            self.fill(dir.as_fd(), &parts, total).map_err(failed)?
        } else {
            None
        };
        let staged = match staged {
            Some(staged) => staged,
            None => self.assemble(dir.as_fd(), &parts).map_err(failed)?,
        };
        let seal = Seal { etag: etag.clone(), attributes: sluice_provider::Attributes::new() };
        let info = self.finish(key, staged, seal, put.attributes.clone(), &put.when)?;
        if let Err(error) = self.remove_upload(upload) {
            tracing::warn!(%error, %upload, "a completed upload could not be removed");
        }
        // Until here, so that no late part is written to what is an object now.
        drop(lock);
        Ok(info)
    }

    /// The parts with their sources, after making sure that each is there and as long as it is said to be.
    fn check_parts(&self, dir: BorrowedFd<'_>, parts: &[(String, u64)]) -> Result<Vec<Part>> {
        let failed = |e| fault("complete upload", e);
        let unit = match openat(dir, "unit", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(_) => self.unit(dir, 0).map_err(failed)?,
            Err(_) => None,
        };
        let mut target = 0;
        let mut checked = Vec::with_capacity(parts.len());
        for (token, size) in parts {
            let source = match Token::read(token).ok_or_else(|| part_gone(token))? {
                Token::Placed { number, size: stored } => {
                    let claimed = claimed(dir, number).map_err(failed)?;
                    let unit = unit.filter(|_| claimed && stored == *size).ok_or_else(|| part_gone(token))?;
                    Source::Data { number, offset: unit * (u64::from(number) - 1) }
                }
                Token::Own(name) => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let file = match openat(dir, &name, flags, Mode::empty()) {
                        Ok(file) => file,
                        Err(Errno::NOENT) => return Err(part_gone(token)),
                        Err(errno) => return Err(failed(errno)),
                    };
                    if size_of(file.as_fd()).map_err(failed)? != *size {
                        return Err(part_gone(token));
                    }
                    Source::Own(name)
                }
            };
            checked.push(Part { source, target, size: *size });
            target += size;
        }
        Ok(checked)
    }

    /// Whether the data file can become the object: every claimed place is used, and where the object wants it. What is not
    /// listed would be overwritten or cut off, and must still be there if the completion fails.
    fn in_place(&self, dir: BorrowedFd<'_>, parts: &[Part]) -> Sys<bool> {
        let placed = |part: &&Part| matches!(part.source, Source::Data { offset, .. } if offset == part.target);
        let used: std::collections::HashSet<u16> = parts.iter().filter(placed).filter_map(Part::number).collect();
        let all_placed = parts.iter().all(|part| part.number().is_none() || placed(&part));
        let claims = names_in(dir)?;
        for number in claims.iter().filter_map(|name| name.strip_prefix("c.")?.parse::<u16>().ok()) {
            if !used.contains(&number) && claimed(dir, number)? {
                return Ok(false);
            }
        }
        Ok(!used.is_empty() && all_placed)
    }

    /// Copies the parts with files of their own to their places in the data file and links it into the staging directory. The
    /// upload keeps the file, so that a completion cut short by a crash can be repeated. `None` without links.
    fn fill(&self, dir: BorrowedFd<'_>, parts: &[Part], total: u64) -> Sys<Option<Staged>> {
        let data = openat(dir, "data", DATA, Mode::empty())?;
        if fstat(&data)?.st_nlink != 1 {
            // An earlier completion was cut short after it had published the file: it is not ours to touch any more.
            return Ok(None);
        }
        for part in parts {
            if let Source::Own(name) = &part.source {
                copy_own(dir, name, data.as_fd(), part)?;
            }
        }
        ftruncate(&data, total)?;
        let staged = self.space.reserve(Arc::new(File::from(data)));
        match linkat(dir, "data", staged.dir(), staged.name(), AtFlags::empty()) {
            Ok(()) => Ok(Some(staged)),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Copies all parts to a new file.
    fn assemble(self: &Arc<Self>, dir: BorrowedFd<'_>, parts: &[Part]) -> Sys<Staged> {
        let staged = self.space.stage()?;
        let copied = (|| {
            let data = openat(dir, "data", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            for part in parts {
                match &part.source {
                    Source::Own(name) => copy_own(dir, name, staged.fd(), part)?,
                    Source::Data { offset, .. } => {
                        let copied = copy_range(data.as_fd(), *offset, staged.fd(), part.target, part.size)?;
                        whole(copied, part)?;
                    }
                }
            }
            Ok(())
        })();
        match copied {
            Ok(()) => Ok(staged),
            Err(errno) => {
                staged.discard();
                Err(errno)
            }
        }
    }
}

/// A listed part: where it is, and where the object wants it.
struct Part {
    source: Source,
    target: u64,
    size: u64,
}

enum Source {
    Data { number: u16, offset: u64 },
    Own(String),
}

impl Part {
    fn number(&self) -> Option<u16> {
        match self.source {
            Source::Data { number, .. } => Some(number),
            Source::Own(_) => None,
        }
    }
}

/// Whether a part lies at its place, and was not discarded.
fn claimed(dir: BorrowedFd<'_>, number: u16) -> Sys<bool> {
    match statat(dir, format!("c.{number}"), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(stat.st_size == 0),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn copy_own(dir: BorrowedFd<'_>, name: &str, to: BorrowedFd<'_>, part: &Part) -> Sys<()> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    whole(copy_range(file.as_fd(), 0, to, part.target, part.size)?, part)
}

fn whole(copied: u64, part: &Part) -> Sys<()> {
    if copied == part.size { Ok(()) } else { Err(Errno::IO) }
}

#[async_trait]
impl Multipart for Local {
    async fn create(&self, _key: &Key, upload: &UploadId) -> Result<()> {
        let (store, upload) = (Arc::clone(&self.0), upload.clone());
        self.0.writes.run(move || store.create_upload(&upload)).await
    }

    async fn put_part(&self, _key: &Key, upload: &UploadId, part: PartNumber, mut body: PutBody) -> Result<String> {
        let (store, upload, size) = (Arc::clone(&self.0), upload.clone(), body.size());
        let room = self.0.writes.run(move || store.room(&upload, part, size).map(Arc::new)).await?;
        let target = Target { file: Arc::clone(&room), offset: room.offset, room: size.unwrap_or(u64::MAX) };
        let written =
            self.0.write_rest(&mut body, target, |room, chunks, offset| write_all(room.file.as_fd(), chunks, offset)).await?;
        body.seal()?;
        let room = Arc::into_inner(room).ok_or_else(|| Error::new(ErrorKind::Internal, "a write is still under way"))?;
        let store = Arc::clone(&self.0);
        self.0.writes.run(move || store.keep_part(room, written)).await
    }

    async fn discard_part(&self, _key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        let (store, upload, token) = (Arc::clone(&self.0), upload.clone(), token.to_owned());
        self.0.writes.run(move || store.discard_part(&upload, &token)).await
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        let (store, key, upload) = (Arc::clone(&self.0), key.clone(), upload.clone());
        let (parts, etag, put) = (parts.to_vec(), etag.clone(), put.clone());
        self.0.writes.run(move || store.complete_upload(&key, &upload, &parts, &etag, &put)).await
    }

    async fn abort(&self, _key: &Key, upload: &UploadId) -> Result<()> {
        let (store, upload) = (Arc::clone(&self.0), upload.clone());
        self.0.writes.run(move || store.remove_upload(&upload)).await
    }
}
