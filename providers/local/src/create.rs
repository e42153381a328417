//! Directories on demand, and objects that step aside for them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, renameat, statat};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Result};

use crate::error::{Sys, fault};
use crate::name::{Form, KeyPath, directory, encoded, split};
use crate::store::Store;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// How often a path is walked again because somebody removed an empty directory on it.
const RACES: usize = 64;

/// A directory that somebody else may own.
pub(crate) enum Dir<'a> {
    Borrowed(BorrowedFd<'a>),
    Owned(OwnedFd),
}

impl Dir<'_> {
    /// The directory, unless somebody else owns it.
    pub(crate) fn owned(self) -> Option<OwnedFd> {
        match self {
            Self::Borrowed(_) => None,
            Self::Owned(fd) => Some(fd),
        }
    }
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Borrowed(fd) => *fd,
            Self::Owned(fd) => fd.as_fd(),
        }
    }
}

enum Step {
    In(OwnedFd),
    /// Something that is not a directory has the name.
    InTheWay,
    /// The directory above is no longer there.
    Gone,
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    Free,
    File,
    Directory,
    Link,
    Other,
}

pub(crate) fn spot(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<Spot> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Spot::File,
            FileType::Directory => Spot::Directory,
            FileType::Symlink => Spot::Link,
            _ => Spot::Other,
        }),
        Err(Errno::NOENT) => Ok(Spot::Free),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn in_the_way(key: &str) -> Error {
    Error::new(ErrorKind::PermissionDenied, "something that is not ours is in the way").with("key", format!("{key:?}"))
}

impl Store {
    /// Opens the directory of a key prefix (empty, or ending with `/`), making what is missing.
    pub(crate) fn create_directory(&self, prefix: &str) -> Result<OwnedFd> {
        let failed = |e| fault("create directory", e);
        match self.tree.directory(self.root(), &directory(prefix)) {
            Ok(dir) => return Ok(dir),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
            Err(errno) => return Err(failed(errno)),
        }
        for _ in 0..RACES {
            if let Some(dir) = self.walk_and_make(prefix)? {
                return Ok(dir);
            }
        }
        Err(Error::new(ErrorKind::Conflict, "create directory").with("prefix", format!("{prefix:?}")))
    }

    /// One walk; `None` when it must begin again.
    fn walk_and_make(&self, prefix: &str) -> Result<Option<OwnedFd>> {
        let failed = |e| fault("create directory", e);
        let mut at = self.tree.directory(self.root(), b"").map_err(failed)?;
        let mut end = 0;
        for segment in prefix.strip_suffix('/').unwrap_or(prefix).split('/') {
            end += segment.len();
            let path = encoded(segment, Form::Plain);
            let mut names = path.split(|&b| b == b'/').peekable();
            while let Some(name) = names.next() {
                at = match self.enter(at.as_fd(), name).map_err(failed)? {
                    Step::In(dir) => dir,
                    Step::Gone => return Ok(None),
                    // Only the last name of a segment can be an object.
                    Step::InTheWay if names.peek().is_some() => return Err(in_the_way(&prefix[..end])),
                    Step::InTheWay => {
                        self.step_aside(&KeyPath::new(&prefix[..end]))?;
                        return Ok(None);
                    }
                };
            }
            end += 1;
        }
        Ok(Some(at))
    }

    fn enter(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Sys<Step> {
        for _ in 0..RACES {
            match openat(parent, name, DIRECTORY, Mode::empty()) {
                Ok(dir) => return Ok(Step::In(dir)),
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Step::InTheWay),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            match self.flush.make(parent, || mkdirat(parent, name, Mode::from_raw_mode(0o777))) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(Step::Gone),
                Err(errno) => return Err(errno),
            }
        }
        Ok(Step::Gone)
    }

    /// Moves the object `a` to its side place, so that the directory `a` can be made. At every moment it is at one of the two,
    /// where every reader looks; it never moves back.
    fn step_aside(&self, key: &KeyPath) -> Result<()> {
        let failed = |e| fault("move an object aside", e);
        let _lock = self.locks.lock(key.key())?;
        let dir = match self.tree.directory(self.root(), &key.dir) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        let (plain, side) = (encoded(key.leaf(), Form::Plain), encoded(key.leaf(), Form::Side));
        let (from, from_name) = match self.leaf_directory(dir.as_fd(), &plain, false) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        match spot(from.as_fd(), from_name).map_err(failed)? {
            Spot::Free | Spot::Directory => return Ok(()),
            Spot::File => {}
            Spot::Link | Spot::Other => return Err(in_the_way(key.key())),
        }
        let (to, to_name) = self.leaf_directory(dir.as_fd(), &side, true).map_err(failed)?;
        // A file that lies there already is older: the plain place counts when both are taken.
        renameat(from.as_fd(), from_name, to.as_fd(), to_name).map_err(failed)?;
        self.flush.directory(to.as_fd()).map_err(failed)?;
        self.flush.directory(from.as_fd()).map_err(failed)
    }

    /// The directory that holds the last name of a segment's path below `dir`, and that name. A long segment has directories of
    /// its own, made when `create`.
    pub(crate) fn leaf_directory<'a>(&self, dir: BorrowedFd<'a>, path: &'a [u8], create: bool) -> Sys<(Dir<'a>, &'a [u8])> {
        let (above, name) = split(path);
        let Some(above) = above else {
            return Ok((Dir::Borrowed(dir), name));
        };
        if !create {
            return Ok((Dir::Owned(self.tree.directory(dir, above)?), name));
        }
        let mut at = Dir::Borrowed(dir);
        for part in above.split(|&b| b == b'/') {
            at = match self.enter(at.as_fd(), part)? {
                Step::In(next) => Dir::Owned(next),
                Step::InTheWay => return Err(Errno::NOTDIR),
                Step::Gone => return Err(Errno::NOENT),
            };
        }
        Ok((at, name))
    }
}
