//! Look-ups that cannot leave a directory.
//!
//! Names come from [`crate::name`] and hold no `..`; what remains to defend against are symbolic links that others plant, also
//! while a look-up is under way. `openat2(2)` refuses them in the kernel; without it every component is opened by itself with
//! `O_NOFOLLOW`. A path beyond PATH_MAX (a key of 1024 slashes) is walked in hops.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::error::Sys;

/// The longest path given to one system call, in bytes; PATH_MAX is 4096 with its NUL.
const HOP_BYTES: usize = 4000;
/// `openat2` answers EAGAIN when a rename raced with a `..`-free look-up it cannot rule on; the man page says to try again.
const RACES: usize = 16;

/// Readable, because fsync(2) and getdents(2) take no O_PATH descriptor.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// How to resolve paths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    openat2: bool,
}

impl Tree {
    /// Finds out whether the kernel has `openat2`, unless it shall not be used.
    pub(crate) fn new(wanted: bool) -> Self {
        let has = || openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS).is_ok();
        Self { openat2: wanted && has() }
    }

    /// Opens a path below `base`. An empty path is `base` itself. Symbolic links end in ELOOP (or ENOTDIR).
    pub(crate) fn open(self, base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Sys<OwnedFd> {
        self.resolve(base, path, flags | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)
    }

    /// Opens a directory below `base` as an anchor for further look-ups.
    pub(crate) fn directory(self, base: BorrowedFd<'_>, path: &[u8]) -> Sys<OwnedFd> {
        self.open(base, path, DIRECTORY)
    }

    /// Like [`open`](Self::open), but only if every name is known to the kernel without asking the disk; EAGAIN otherwise.
    pub(crate) fn open_cached(self, base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Sys<OwnedFd> {
        if !self.openat2 || path.len() > HOP_BYTES || path.is_empty() {
            return Err(Errno::AGAIN);
        }
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
        openat2(base, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), how)
    }

    /// Like [`directory`](Self::directory), but only if every name is known to the kernel without asking the disk.
    pub(crate) fn directory_cached(self, base: BorrowedFd<'_>, path: &[u8]) -> Sys<OwnedFd> {
        if path.is_empty() { self.directory(base, path) } else { self.open_cached(base, path, DIRECTORY) }
    }

    /// Opens a path whose last name is a symbolic link that leads to a place below `base`. Needs `openat2`.
    pub(crate) fn open_followed(self, base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Sys<OwnedFd> {
        if !self.openat2 || path.len() > HOP_BYTES {
            return Err(Errno::LOOP);
        }
        // The directories above must be real: a link to a directory could make a cycle of keys.
        if let (Some(above), _) = crate::name::split(path) {
            self.directory(base, above)?;
        }
        self.resolve(base, path, flags, ResolveFlags::empty())
    }

    fn resolve(self, base: BorrowedFd<'_>, path: &[u8], flags: OFlags, how: ResolveFlags) -> Sys<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if path.is_empty() {
            return openat(base, ".", flags, Mode::empty());
        }
        if path.len() > HOP_BYTES {
            let cut = path[..HOP_BYTES].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
            let next = self.directory(base, &path[..cut])?;
            return self.resolve(next.as_fd(), &path[cut + 1..], flags, how);
        }
        if !self.openat2 {
            return walk(base, path, flags);
        }
        let how = how | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut races = 0;
        loop {
            match openat2(base, path, flags, Mode::empty(), how) {
                Err(Errno::AGAIN) if races < RACES => races += 1,
                Err(Errno::INTR) => {}
                answer => return answer,
            }
        }
    }
}

fn walk(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Sys<OwnedFd> {
    let mut names = path.split(|&b| b == b'/').peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let here = at.as_ref().map_or(base, |fd| fd.as_fd());
        // O_PATH|O_NOFOLLOW opens a link itself, so a directory must be asked for by name; the caller's flags end the walk.
        let step = if names.peek().is_some() { DIRECTORY | OFlags::CLOEXEC } else { flags | OFlags::NOFOLLOW };
        at = Some(openat(here, name, step, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_is_followed_with_and_without_openat2() {
        let dir = tempfile::tempdir().unwrap();
        let (root, out) = (dir.path().join("root"), dir.path().join("out"));
        std::fs::create_dir_all(root.join("d")).unwrap();
        std::fs::create_dir(&out).unwrap();
        std::fs::write(out.join("secret"), "x").unwrap();
        std::fs::write(root.join("d/f"), "x").unwrap();
        symlink(&out, root.join("away")).unwrap();
        symlink("../out/secret", root.join("file")).unwrap();
        symlink("d", root.join("inside")).unwrap();
        let base = std::fs::File::open(&root).unwrap();
        for tree in [Tree::new(true), Tree::new(false)] {
            assert!(tree.open(base.as_fd(), b"d/f", OFlags::RDONLY).is_ok());
            for path in [&b"away/secret"[..], b"file", b"inside/f"] {
                let errno = tree.open(base.as_fd(), path, OFlags::RDONLY).unwrap_err();
                assert!(matches!(errno, Errno::LOOP | Errno::NOTDIR | Errno::XDEV), "{errno:?}");
            }
        }
        assert_eq!(Tree::new(true).open_followed(base.as_fd(), b"file", OFlags::RDONLY).unwrap_err(), Errno::XDEV);
    }
}
