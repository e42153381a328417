//! Reading directories: which names on disk are which keys.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, fstat, openat, statat};
use rustix::io::Errno;

use crate::error::Sys;
use crate::meta::Stamp;
use crate::name::{Form, Piece, RESERVED, decode, encoded};
use crate::shelf::{Ended, Version};
use crate::snapshot::{Reading, Snapshot};
use crate::store::Store;

const BUFFER_BYTES: usize = 256 * 1024;
/// Enough to find out that a directory is not empty.
const PEEK_BYTES: usize = 8 * 1024;
/// What changed this recently may change again without moving its times: the kernel's clock ticks up to every 10 ms.
const SETTLED: Duration = Duration::from_millis(20);
/// The same where the clock of the file system counts whole seconds.
const SETTLED_COARSE: Duration = Duration::from_secs(2);
/// Without a place to keep snapshots, the names that are held at once.
const UNKEPT_NAMES: usize = 1 << 20;
/// How often a directory that changes while it is read is read again.
const TRIES: usize = 4;

/// Where a directory is: below the root, and in the keys.
pub(crate) struct Place<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) path: &'a [u8],
    pub(crate) prefix: &'a str,
    /// The longest key that counts, in bytes.
    pub(crate) longest: usize,
}

/// What an entry is.
enum Entry {
    Object(String),
    Directory(String),
    Continued(String),
}

impl Store {
    /// The sorted entries of a directory. Of one that is too large, those from `from` on.
    pub(crate) fn snapshot(&self, place: &Place<'_>, from: &str) -> Sys<Arc<Snapshot>> {
        let Some(shelf) = &self.shelf else { return self.read_whole(place, from).map(|(snapshot, _)| Arc::new(snapshot)) };
        let mut tries = 0;
        loop {
            let stat = fstat(place.dir)?;
            let (id, version) = ((stat.st_dev, stat.st_ino), Version::of(&stat));
            if let Some(snapshot) = shelf.get(id, version, from, |snapshot, name| self.look_again(place, snapshot, name))? {
                return Ok(snapshot);
            }
            let Some(turn) = shelf.begin(id, place.dir) else { continue };
            tries += 1;
            if turn.is_told() {
                let snapshot = self.read_once(place, from)?;
                match turn.finish_told(snapshot, |snapshot, name| self.look_again(place, snapshot, name))? {
                    Ended::True(snapshot) => return Ok(snapshot),
                    Ended::Again(snapshot) if tries == TRIES => return Ok(Arc::new(snapshot)),
                    Ended::Again(_) => {}
                }
            } else {
                let (snapshot, sure) = self.read_whole(place, from)?;
                return Ok(match sure {
                    Some(version) if !snapshot.unsteady => turn.finish_timed(snapshot, version),
                    _ => Arc::new(snapshot),
                });
            }
        }
    }

    /// A snapshot with what follows `from`, if it is remembered and nothing changed since. Does not wait, for the disk or anybody.
    pub(crate) fn snapshot_at_hand(&self, dir: BorrowedFd<'_>, from: &str) -> Sys<Option<Arc<Snapshot>>> {
        let Some(shelf) = &self.shelf else { return Ok(None) };
        let stat = fstat(dir)?;
        Ok(shelf.at_hand((stat.st_dev, stat.st_ino), from))
    }

    /// Reads a directory until it does not change meanwhile. Its version, if any later change is sure to move it.
    fn read_whole(&self, place: &Place<'_>, from: &str) -> Sys<(Snapshot, Option<Version>)> {
        let mut tries = 0;
        loop {
            let version = Version::of(&fstat(place.dir)?);
            let now = SystemTime::now();
            let snapshot = self.read_once(place, from)?;
            let unchanged = Version::of(&fstat(place.dir)?) == version;
            tries += 1;
            if !unchanged && tries < TRIES {
                // An object that moves to its side place while we read may be missed at both.
                continue;
            }
            let modified = (version.modified.seconds, version.modified.nanoseconds.into());
            let sure = unchanged && settled(modified, now) && settled(version.changed, now);
            return Ok((snapshot, sure.then_some(version)));
        }
    }

    fn read_once(&self, place: &Place<'_>, from: &str) -> Sys<Snapshot> {
        let (window, bytes) = match &self.shelf {
            Some(shelf) => (shelf.window.load(Ordering::Relaxed), shelf.most_bytes()),
            None => (UNKEPT_NAMES, usize::MAX),
        };
        let mut reading = Reading::new(from, window, bytes);
        self.read(place.dir, place, &mut Vec::new(), "", &mut reading)?;
        Ok(reading.finish())
    }

    /// Brings a snapshot up to what a name on disk is now. False when it takes reading the directory again.
    fn look_again(&self, place: &Place<'_>, snapshot: &mut Snapshot, name: &[u8]) -> Sys<bool> {
        if name == RESERVED.as_bytes() && place.prefix.is_empty() {
            return Ok(true);
        }
        let text = match decode(name) {
            None => return Ok(true),
            Some(Piece::Continued(_)) => return Ok(false),
            Some(Piece::Plain(text) | Piece::Side(text)) => text,
        };
        let (mut object, mut inside) = (false, false);
        for form in [Form::Plain, Form::Side] {
            let path = encoded(&text, form);
            let kind = match statat(place.dir, &path, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => continue,
                Err(errno) => return Err(errno),
            };
            if kind == FileType::Symlink && self.settings.follow_symlinks {
                return Ok(false);
            }
            match self.entry(place.dir, &path, kind, place, &[], "")? {
                Some(Entry::Object(_)) => object = true,
                Some(Entry::Directory(_)) => inside = true,
                Some(Entry::Continued(_)) | None => {}
            }
            if object {
                break;
            }
        }
        snapshot.set(&text, object);
        snapshot.set(&format!("{text}/"), inside);
        Ok(true)
    }

    /// A snapshot of the directory, if one is at hand.
    fn kept(&self, place: &Place<'_>) -> Option<Arc<Snapshot>> {
        let stat = fstat(place.dir).ok()?;
        let look = |snapshot: &mut Snapshot, name: &[u8]| self.look_again(place, snapshot, name);
        let kept = self.shelf.as_ref()?.get((stat.st_dev, stat.st_ino), Version::of(&stat), "", look).ok()??;
        // Of a part it can only be said what is there.
        (kept.end().is_none()).then_some(kept)
    }

    /// Reads a directory into a snapshot. `above` is the path from the place's directory to `dir`, and `text` what it says, when
    /// `dir` continues a long segment.
    fn read(&self, dir: BorrowedFd<'_>, place: &Place<'_>, above: &mut Vec<u8>, text: &str, into: &mut Reading) -> Sys<()> {
        let mut continued = Vec::new();
        self.each(dir, BUFFER_BYTES, |name, kind| {
            if kind == FileType::Symlink && self.settings.follow_symlinks {
                into.unsteady();
            }
            match self.entry(dir, name, kind, place, above, text)? {
                Some(Entry::Object(name)) => into.push(&name, false),
                Some(Entry::Directory(name)) => into.push(&name, true),
                Some(Entry::Continued(more)) => continued.push((name.to_vec(), more)),
                None => {}
            }
            Ok(true)
        })?;
        for (name, more) in continued {
            into.unsteady();
            let depth = above.len();
            above.extend_from_slice(&name);
            above.push(b'/');
            match self.tree.directory(dir, &name) {
                Ok(inside) => self.read(inside.as_fd(), place, above, &format!("{text}{more}"), into)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno),
            }
            above.truncate(depth);
        }
        Ok(())
    }

    /// What a name on disk is in the keys; `None` when it is nothing.
    fn entry(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        kind: FileType,
        place: &Place<'_>,
        above: &[u8],
        text: &str,
    ) -> Sys<Option<Entry>> {
        if name == RESERVED.as_bytes() && place.prefix.is_empty() && above.is_empty() {
            return Ok(None);
        }
        let Some(piece) = decode(name) else { return Ok(None) };
        let kind = match kind {
            FileType::Unknown => match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(errno),
            },
            kind => kind,
        };
        let kind = if kind == FileType::Symlink { self.linked(place, above, name) } else { kind };
        let (end, form) = match (piece, kind) {
            (Piece::Continued(more), FileType::Directory) if place.prefix.len() + text.len() + more.len() <= place.longest => {
                return Ok(Some(Entry::Continued(more)));
            }
            (Piece::Plain(end), FileType::RegularFile | FileType::Directory) => (end, Form::Plain),
            (Piece::Side(end), FileType::RegularFile) => (end, Form::Side),
            _ => return Ok(None),
        };
        let whole = format!("{text}{end}");
        if name.starts_with(RESERVED.as_bytes()) || !above.is_empty() {
            // Only the one form that we write counts, or a key could be listed that no look-up finds.
            let wanted = encoded(&whole, form);
            if wanted.strip_prefix(above) != Some(name) {
                return Ok(None);
            }
        }
        let bytes = place.prefix.len() + whole.len();
        Ok(match kind {
            FileType::Directory if bytes < place.longest => Some(Entry::Directory(whole)),
            FileType::RegularFile if (1..=place.longest).contains(&bytes) => Some(Entry::Object(whole)),
            _ => None,
        })
    }

    /// What a symbolic link counts as.
    fn linked(&self, place: &Place<'_>, above: &[u8], name: &[u8]) -> FileType {
        if !self.settings.follow_symlinks {
            return FileType::Symlink;
        }
        let mut path = place.path.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(above);
        path.extend_from_slice(name);
        let followed = self.tree.open_followed(self.root(), &path, OFlags::PATH).and_then(fstat);
        match followed.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::RegularFile) => FileType::RegularFile,
            _ => FileType::Symlink,
        }
    }

    /// Whether at least one object lies in a directory or beneath it. Reads no more than it takes to find one.
    pub(crate) fn any_object(&self, place: &Place<'_>) -> Sys<bool> {
        let mut below: Vec<(Vec<u8>, String)> = Vec::new();
        match self.kept(place) {
            Some(snapshot) => {
                for name in snapshot.names() {
                    match name.strip_suffix('/') {
                        Some(name) => below.push((encoded(name, Form::Plain), format!("{}{name}/", place.prefix))),
                        None => return Ok(true),
                    }
                }
            }
            None => {
                let mut found = false;
                let mut composed = false;
                self.each(place.dir, PEEK_BYTES, |name, kind| {
                    match self.entry(place.dir, name, kind, place, &[], "")? {
                        Some(Entry::Object(_)) => found = true,
                        Some(Entry::Directory(text)) => below.push((name.to_vec(), format!("{}{text}/", place.prefix))),
                        Some(Entry::Continued(_)) => composed = true,
                        None => {}
                    }
                    Ok(!found)
                })?;
                if found {
                    return Ok(true);
                }
                if composed {
                    let snapshot = self.snapshot(place, "")?;
                    if snapshot.names().any(|name| !name.ends_with('/')) {
                        return Ok(true);
                    }
                    below = snapshot
                        .names()
                        .filter_map(|name| {
                            Some((encoded(name.strip_suffix('/')?, Form::Plain), format!("{}{name}", place.prefix)))
                        })
                        .collect();
                }
            }
        }
        for (name, prefix) in below {
            let dir = match self.tree.directory(place.dir, &name) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(errno),
            };
            let mut path = place.path.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            if self.any_object(&Place { dir: dir.as_fd(), path: &path, prefix: &prefix, longest: place.longest })? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Calls `visit` for every entry until it answers `false`, asking for `bytes` of entries at a time.
    fn each(&self, dir: BorrowedFd<'_>, bytes: usize, mut visit: impl FnMut(&[u8], FileType) -> Sys<bool>) -> Sys<()> {
        // Reading moves the offset of the open directory, which others may share.
        let own = reopen(dir)?;
        let mut buffer = Vec::<u8>::with_capacity(bytes);
        let mut entries = RawDir::new(&own, buffer.spare_capacity_mut());
        loop {
            if entries.is_buffer_empty() {
                self.reads_of_directories.fetch_add(1, Ordering::Relaxed);
            }
            let Some(entry) = entries.next() else { return Ok(()) };
            let entry = match entry {
                Ok(entry) => entry,
                // The directory was removed while we read it: it is empty.
                Err(Errno::NOENT) => return Ok(()),
                Err(errno) => return Err(errno),
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && !visit(name, entry.file_type())? {
                return Ok(());
            }
        }
    }
}

/// Whether a time of an inode, in seconds and nanoseconds, is so long ago that the next change cannot leave it as it is.
pub(crate) fn settled((seconds, nanoseconds): (i64, i64), now: SystemTime) -> bool {
    let least = if nanoseconds == 0 { SETTLED_COARSE } else { SETTLED };
    let at = Stamp { size: 0, seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
    now.duration_since(at.modified()).is_ok_and(|age| age >= least)
}

fn reopen(dir: BorrowedFd<'_>) -> Sys<OwnedFd> {
    openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The names in a directory of the hidden space, where all names are ASCII.
pub(crate) fn names_in(dir: BorrowedFd<'_>) -> Sys<Vec<String>> {
    let own = reopen(dir)?;
    let mut buffer = Vec::<u8>::with_capacity(PEEK_BYTES);
    let mut entries = RawDir::new(&own, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
