//! Delete, and the directories that it leaves empty.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{DeleteKey, DeleteOutcome, DeleteWhen, Error, ErrorKind, Key, Result};
use tokio::sync::oneshot;

use crate::create::{Spot, spot};
use crate::error::{Sys, fault, missing};
use crate::name::{Form, KeyPath, encoded, split};
use crate::store::Store;

/// How many deletions are made in one go at most. Whoever comes meanwhile waits for the next.
const BATCH: usize = 64;
/// How many such goes may be under way: one makes its changes while others wait for the disk.
const DURABLE_BATCHES: usize = 4;

/// Deletions that wait for each other: those that come together are made on one thread, one after the other as their directory's
/// lock would have it anyway, and share the flush of the directory. The requests under way bound what waits.
#[derive(Debug)]
pub(crate) struct Deletions(Mutex<Queue>);

#[derive(Debug)]
struct Queue {
    free: usize,
    waiting: VecDeque<Asked>,
}

#[derive(Debug)]
struct Asked {
    keys: Vec<DeleteKey>,
    tell: oneshot::Sender<Vec<Result<DeleteOutcome>>>,
}

impl Deletions {
    pub(crate) fn new(durable: bool) -> Self {
        Self(Mutex::new(Queue { free: if durable { DURABLE_BATCHES } else { 1 }, waiting: VecDeque::new() }))
    }

    /// Puts a request in the queue; whether a thread is to be started for it.
    fn join(&self, asked: Asked) -> bool {
        let mut queue = self.0.lock();
        queue.waiting.push_back(asked);
        let start = queue.free > 0;
        queue.free -= usize::from(start);
        start
    }

    /// What is to be made next. `None` ends a thread: its place is free again, and the next who joins starts another.
    fn next(&self) -> Option<Vec<Asked>> {
        let mut queue = self.0.lock();
        if queue.waiting.is_empty() {
            queue.free += 1;
            return None;
        }
        let count = queue.waiting.len().min(BATCH);
        // Nothing is begun for those who do not wait any more.
        Some(queue.waiting.drain(..count).filter(|asked| !asked.tell.is_closed()).collect())
    }
}

impl Store {
    pub(crate) async fn delete(self: &Arc<Self>, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        if self.surely_absent(keys) {
            return keys.iter().map(|_| Ok(DeleteOutcome::Absent)).collect();
        }
        let (tell, told) = oneshot::channel();
        if self.deletions.join(Asked { keys: keys.to_vec(), tell }) {
            let store = Arc::clone(self);
            if let Err(error) = self.writes.serve(move || store.delete_waiting()) {
                // Nobody is refused by a pool that is open; whoever waits with us is told the same.
                while self.deletions.next().is_some() {}
                return failed(keys, &error);
            }
        }
        told.await.unwrap_or_else(|gone| failed(keys, &Error::new(ErrorKind::Internal, "delete").caused_by(gone)))
    }

    /// Whether it is one key, and the kernel knows without asking the disk that it is not there.
    fn surely_absent(&self, keys: &[DeleteKey]) -> bool {
        let [DeleteKey { key, when: DeleteWhen::Always }] = keys else { return false };
        matches!(self.load_cached(&KeyPath::new(key.as_str())), Ok(Some(None)))
    }

    /// Makes the deletions that wait, until there are none.
    fn delete_waiting(&self) {
        while let Some(batch) = self.deletions.next() {
            let keys: Vec<_> = batch.iter().flat_map(|asked| &asked.keys).collect();
            // A panic is logged by the hook, and told to those who wait by the end of their channels. The others have to be served.
            let Ok(outcomes) = catch_unwind(AssertUnwindSafe(|| self.delete_all(&keys))) else { continue };
            let mut outcomes = outcomes.into_iter();
            for Asked { keys, tell } in batch {
                let _ = tell.send(outcomes.by_ref().take(keys.len()).collect());
            }
        }
    }

    /// Deletes all keys, then flushes each directory that changed once.
    fn delete_all(&self, keys: &[&DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let mut changed: HashMap<(u64, u64), (OwnedFd, Vec<usize>)> = HashMap::new();
        let mut outcomes = Vec::with_capacity(keys.len());
        for (number, wanted) in keys.iter().enumerate() {
            outcomes.push(self.delete_one(&wanted.key, &wanted.when).and_then(|(outcome, dir)| {
                if let Some(dir) = dir.filter(|_| self.flush.durable()) {
                    let stat = fstat(&dir).map_err(|e| fault("flush a deletion", e))?;
                    changed.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| (dir, Vec::new())).1.push(number);
                }
                Ok(outcome)
            }));
        }
        for (dir, numbers) in changed.into_values() {
            if let Err(errno) = self.flush.directory(dir.as_fd()) {
                // None of these is surely gone.
                for number in numbers {
                    if let Some(outcome) = outcomes.get_mut(number) {
                        *outcome = Err(fault("flush a deletion", errno));
                    }
                }
            }
        }
        outcomes
    }

    fn delete_one(&self, key: &Key, when: &DeleteWhen) -> Result<(DeleteOutcome, Option<OwnedFd>)> {
        let path = KeyPath::new(key.as_str());
        if *when != DeleteWhen::Always
            && let Some((opened, known)) = self.load_key(&path)?
        {
            // The ETag of a foreign file is computed before the lock is taken, not under it.
            self.info(key, opened, known, false)?;
        }
        let _lock = self.locks.lock(key.as_str())?;
        let Some((opened, known)) = self.load_key(&path)? else {
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
        let dir = self.remove_object(&path, form, record)?;
        Ok((DeleteOutcome::Deleted { size }, self.prune_from(&path, form, dir)))
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

fn failed(keys: &[DeleteKey], error: &Error) -> Vec<Result<DeleteOutcome>> {
    keys.iter().map(|_| Err(Error::new(*error.kind(), "delete").with("cause", error))).collect()
}
