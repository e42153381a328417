//! Delete, and the directories that it leaves empty.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{DeleteKey, DeleteOutcome, DeleteWhen, Error, ErrorKind, Result};

use crate::create::{Spot, spot};
use crate::error::{Sys, fault, missing};
use crate::meta::Stamp;
use crate::name::{Form, KeyPath, encoded, is_plain, split};
use crate::store::Store;
use crate::together::{Asked, Together};

/// Deletions that wait for each other: those that come together are made on one thread, one after the other as their directory's
/// lock would have it anyway. They share a look-up of the directory, the look whether it is empty, and its flush.
pub(crate) type Deletions = Together<Vec<DeleteKey>, Vec<Result<DeleteOutcome>>>;

/// A directory of keys that are deleted together.
struct Directory {
    /// `None` when it could not be opened.
    fd: Option<OwnedFd>,
    /// Those of the keys that changed it.
    changed: Vec<usize>,
}

/// How far the quick way led.
enum Quick {
    Deleted {
        size: u64,
    },
    Absent,
    /// It takes a closer look.
    Unsure,
}

impl Store {
    pub(crate) async fn delete(self: &Arc<Self>, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        if self.surely_absent(keys) {
            return keys.iter().map(|_| Ok(DeleteOutcome::Absent)).collect();
        }
        let (asked, answer) = Asked::new(keys.to_vec());
        if self.deletions.join(asked) {
            let store = Arc::clone(self);
            if let Err(error) = self.writes.serve(move || store.deletions.serve(|batch| store.delete_batch(batch))) {
                // Nobody is refused by a pool that is open; whoever waits with us is told too.
                self.deletions.refuse();
                return failed(keys, &error);
            }
        }
        answer.wait().await.unwrap_or_else(|error| failed(keys, &error))
    }

    /// Whether it is one key, and the kernel knows without asking the disk that it is not there.
    fn surely_absent(&self, keys: &[DeleteKey]) -> bool {
        let [DeleteKey { key, when: DeleteWhen::Always }] = keys else { return false };
        let path = KeyPath::new(key.as_str());
        // In the order of every look-up: an object moves from the plain place to the side, never back.
        [Form::Plain, Form::Side].into_iter().all(|form| {
            let found = self.tree.open_cached(self.root(), &path.path(form), OFlags::PATH);
            matches!(found, Err(Errno::NOENT | Errno::NOTDIR))
        })
    }

    fn delete_batch(&self, batch: Vec<Asked<Vec<DeleteKey>, Vec<Result<DeleteOutcome>>>>) {
        let keys: Vec<_> = batch.iter().flat_map(|asked| &asked.work).collect();
        let mut outcomes = self.delete_all(&keys).into_iter();
        for Asked { work, tell } in batch {
            // Whoever is gone does not want it.
            let _ = tell.send(outcomes.by_ref().take(work.len()).collect());
        }
    }

    /// Deletes all keys, removes the directories that are empty then, and flushes each directory that changed once.
    fn delete_all(&self, keys: &[&DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let mut directories: HashMap<Vec<u8>, Directory> = HashMap::new();
        let mut flushed = Flushed::new(self);
        let mut outcomes = Vec::with_capacity(keys.len());
        for (number, wanted) in keys.iter().enumerate() {
            let path = KeyPath::new(wanted.key.as_str());
            let quick = match wanted.when {
                DeleteWhen::IfMatch { .. } => Ok(Quick::Unsure),
                DeleteWhen::Always => {
                    let directory = directories.entry(path.dir.clone()).or_insert_with(|| {
                        // One that is opened now had all that was acknowledged before these requests came, and is not removed before that.
                        let fd = self.tree.directory(self.root(), &path.dir).ok();
                        Directory { fd, changed: Vec::new() }
                    });
                    let quick = directory.fd.as_ref().map_or(Ok(Quick::Unsure), |dir| self.delete_quickly(dir, &path));
                    if matches!(quick, Ok(Quick::Deleted { .. })) {
                        directory.changed.push(number);
                    }
                    quick
                }
            };
            outcomes.push(match quick {
                Ok(Quick::Deleted { size }) => Ok(DeleteOutcome::Deleted { size }),
                Ok(Quick::Absent) => Ok(DeleteOutcome::Absent),
                Ok(Quick::Unsure) => self.delete_one(wanted, &path).map(|(outcome, dir)| {
                    if let Some(dir) = dir {
                        flushed.needs(dir, [number]);
                    }
                    outcome
                }),
                Err(error) => Err(error),
            });
        }
        for (dir, Directory { fd, changed }) in directories {
            if changed.is_empty() {
                continue;
            }
            if let Some(stays) = self.prune_directory(&dir, fd) {
                flushed.needs(stays, changed);
            }
        }
        for (number, error) in flushed.failures() {
            if let Some(outcome) = outcomes.get_mut(number) {
                *outcome = Err(error);
            }
        }
        outcomes
    }

    /// Deletes a regular file that has no record and nothing at its side, without opening it. Its size is the object's, unless somebody
    /// died while appending to it.
    fn delete_quickly(&self, dir: &OwnedFd, path: &KeyPath) -> Result<Quick> {
        let failed = |e| fault("delete", e);
        let (name, side) = (path.leaf().as_bytes(), encoded(path.leaf(), Form::Side));
        if !is_plain(path.leaf()) || side.contains(&b'/') {
            return Ok(Quick::Unsure);
        }
        let _lock = self.locks.lock(path.key())?;
        if !self.no_records() {
            return Ok(Quick::Unsure);
        }
        let found = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Some(stat),
            Ok(_) => return Ok(Quick::Unsure),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed(errno)),
        };
        // An older state may lie at the side, when another program made the plain file. It would come back.
        if spot(dir.as_fd(), &side).map_err(failed)? != Spot::Free {
            return Ok(Quick::Unsure);
        }
        let Some(stat) = found else { return Ok(Quick::Absent) };
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) => {}
            // Another program was faster.
            Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Ok(Quick::Unsure),
            Err(errno) => return Err(failed(errno)),
        }
        self.changed();
        Ok(Quick::Deleted { size: Stamp::of(&stat).size })
    }

    /// Removes the directory of keys and those above it that are empty. The lowest that stays.
    fn prune_directory(&self, dir: &[u8], fd: Option<OwnedFd>) -> Option<OwnedFd> {
        if dir.is_empty() {
            return fd;
        }
        // As above any name in it.
        let inside = [dir, b"/-"].concat();
        self.prune_above(&inside, fd.map(|fd| (dir, fd)))
    }

    fn delete_one(&self, wanted: &DeleteKey, path: &KeyPath) -> Result<(DeleteOutcome, Option<OwnedFd>)> {
        let DeleteKey { key, when } = wanted;
        if *when != DeleteWhen::Always
            && let Some((opened, known)) = self.load_key(path)?
        {
            // The ETag of a foreign file is computed before the lock is taken, not under it.
            self.info(key, opened, known, false)?;
        }
        let _lock = self.locks.lock(key.as_str())?;
        let Some((opened, known)) = self.load_key(path)? else {
            return match when {
                DeleteWhen::Always => Ok((DeleteOutcome::Absent, None)),
                DeleteWhen::IfMatch { .. } => Err(missing("delete", key)),
            };
        };
        let record = self.record_to_remove(&opened, &known);
        let size = opened.stamp.size;
        let form = opened.form;
        if *when != DeleteWhen::Always {
            let (_, info) = self.info(key, opened, known, true)?;
            if !when.holds(Some(&info)) {
                return Err(Error::new(ErrorKind::PreconditionFailed, "delete").with("key", format!("{key:?}")));
            }
        }
        let dir = self.remove_object(path, form, record)?;
        Ok((DeleteOutcome::Deleted { size }, self.prune_from(path, form, dir)))
    }

    /// Removes the object of a key, and what lies at its side. Under the lock of the key; answers its directory, if there is one.
    pub(crate) fn remove_object(&self, path: &KeyPath, form: Form, record: Option<String>) -> Result<Option<OwnedFd>> {
        let dir = match self.tree.directory(self.root(), &path.dir) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(fault("delete", errno)),
        };
        if form == Form::Plain {
            // An older state may lie at the side, when another program made the plain file. It goes first, or it would come back.
            self.unlink(dir.as_fd(), path, Form::Side, None)?;
        }
        self.unlink(dir.as_fd(), path, form, record)?;
        self.changed();
        Ok(Some(dir))
    }

    /// Removes a file and its record. With a record it is moved to the staging directory first, which is when the object is gone
    /// for readers; then the record is removed, and the inode last: once it is free, another object may get it, and a record of
    /// the same name.
    pub(crate) fn unlink_with(&self, dir: BorrowedFd<'_>, name: &[u8], record: Option<String>) -> Sys<()> {
        let Some(record) = record else { return unlinkat(dir, name, AtFlags::empty()) };
        // No new file is needed for that: on a full disk there could be none, and deleting is what helps.
        let file = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let mut going = self.space.reserve(Arc::new(File::from(file)));
        let moved = renameat(dir, name, going.dir(), going.name());
        match moved {
            Ok(()) => {
                going.record = Some(record);
                going.discard();
            }
            Err(_) => going.published(),
        }
        moved
    }

    /// Removes an object of that form, if it is there, and its record.
    pub(crate) fn unlink(&self, dir: BorrowedFd<'_>, path: &KeyPath, form: Form, record: Option<String>) -> Result<()> {
        let failed = |e| fault("delete", e);
        let leaf = encoded(path.leaf(), form);
        let (dir, name) = match self.leaf_directory(dir, &leaf, false) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        // To look takes no lock of the directory; nearly always there is nothing at the side.
        if form == Form::Side && spot(dir.as_fd(), name).is_ok_and(|spot| spot == Spot::Free) {
            return Ok(());
        }
        let removed = self.unlink_with(dir.as_fd(), name, record);
        match removed {
            // Another program was faster, or a directory has the name that we look at the side of.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Removes the directories above a key that are empty, from the lowest up. The lowest that stays above `form` is returned.
    pub(crate) fn prune(&self, path: &KeyPath, form: Form) -> Option<OwnedFd> {
        self.prune_from(path, form, None)
    }

    /// The same with the directory of the key at hand, if it is open.
    fn prune_from(&self, path: &KeyPath, form: Form, dir: Option<OwnedFd>) -> Option<OwnedFd> {
        let (plain, side) = (path.path(Form::Plain), path.path(Form::Side));
        let (this, other) = if form == Form::Plain { (plain, side) } else { (side, plain) };
        // They differ where a long last segment has directories of its own.
        if split(&this).0 != split(&other).0 {
            self.prune_above(&other, None);
        }
        self.prune_above(&this, dir.map(|dir| (path.dir.as_slice(), dir)))
    }

    fn prune_above(&self, path: &[u8], mut open: Option<(&[u8], OwnedFd)>) -> Option<OwnedFd> {
        let mut opened = |path: &[u8]| match open.take() {
            Some((known, dir)) if known == path => Some(dir),
            _ => self.tree.directory(self.root(), path).ok(),
        };
        let (mut above, _) = split(path);
        while let Some(dir) = above {
            let (parent, name) = split(dir);
            let removed = match parent {
                None => unlinkat(self.root(), name, AtFlags::REMOVEDIR),
                Some(parent) => match self.tree.directory(self.root(), parent) {
                    Ok(fd) => unlinkat(&fd, name, AtFlags::REMOVEDIR),
                    Err(Errno::NOENT) => Err(Errno::NOENT),
                    Err(_) => return None,
                },
            };
            match removed {
                Ok(()) | Err(Errno::NOENT) => {}
                // Not empty, or a mount point, or not ours to remove.
                Err(_) => return opened(dir),
            }
            above = split(dir).0;
        }
        opened(b"")
    }
}

/// Directories that are to be flushed, each once, and who needs it.
struct Flushed<'a> {
    store: &'a Store,
    directories: HashMap<(u64, u64), (OwnedFd, Vec<usize>)>,
    failures: Vec<(usize, Error)>,
}

impl<'a> Flushed<'a> {
    fn new(store: &'a Store) -> Self {
        Self { store, directories: HashMap::new(), failures: Vec::new() }
    }

    #[allow(clippy::unnecessary_cast, reason = "the types of stat differ between platforms")]
    fn needs(&mut self, dir: OwnedFd, numbers: impl IntoIterator<Item = usize>) {
        if !self.store.flush.durable() {
            return;
        }
        match fstat(&dir) {
            Ok(stat) => {
                let id = (stat.st_dev as u64, stat.st_ino as u64);
                self.directories.entry(id).or_insert_with(|| (dir, Vec::new())).1.extend(numbers);
            }
            Err(errno) => self.fail(numbers, errno),
        }
    }

    fn fail(&mut self, numbers: impl IntoIterator<Item = usize>, errno: Errno) {
        self.failures.extend(numbers.into_iter().map(|number| (number, fault("flush a deletion", errno))));
    }

    /// Flushes them. None of those that are named is surely gone.
    fn failures(mut self) -> Vec<(usize, Error)> {
        for (dir, numbers) in std::mem::take(&mut self.directories).into_values() {
            if let Err(errno) = self.store.flush.directory(dir.as_fd()) {
                self.fail(numbers, errno);
            }
        }
        self.failures
    }
}

fn failed(keys: &[DeleteKey], error: &Error) -> Vec<Result<DeleteOutcome>> {
    keys.iter().map(|_| Err(Error::new(*error.kind(), "delete").with("cause", error))).collect()
}
