//! Directories, read once and sorted by key.
//!
//! The entries of a directory come in no useful order, so a page in the middle would cost reading all of them. A sorted snapshot
//! is kept instead, as long as the directory's change times stay what they were; every creation, removal and rename in it moves
//! them, whoever does it. Change times have ticks, so a snapshot of a directory that changed within the last few is used once
//! and not kept.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, statat};
use rustix::io::Errno;
use sluice_provider::MAX_KEY_BYTES;

use crate::error::Sys;
use crate::meta::Stamp;
use crate::name::{Form, Piece, RESERVED, decode, encoded};
use crate::store::Store;

const BUFFER_BYTES: usize = 256 * 1024;
/// Enough to find out that a directory is not empty.
const PEEK_BYTES: usize = 8 * 1024;
/// A directory that changed this recently may change again without moving its times: the kernel's clock ticks up to every 10 ms.
const SETTLED: Duration = Duration::from_millis(20);
/// The same where the clock of the file system counts whole seconds.
const SETTLED_COARSE: Duration = Duration::from_secs(2);
/// The most entries of one directory that are held at once; of a larger one, those that the page needs next.
const WINDOW: usize = 1 << 20;
/// What all kept snapshots may weigh together, in bytes.
const CACHE_BYTES: usize = 64 << 20;
const CACHE_COUNT: usize = 1024;
/// How often a directory that changes while it is read is read again.
const TRIES: usize = 4;

/// An entry: part of [`Snapshot::names`].
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u32,
    end: u32,
    form: Form,
}

/// The entries of a directory as parts of keys: `name` for an object, `name/` for a directory, sorted by bytes.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    names: String,
    slots: Vec<Slot>,
    /// Of a directory too large to be held: the last name up to which it is complete. Further ones follow.
    end: Option<String>,
    /// Parts of it lie in directories of their own, whose changes its times do not show.
    composed: bool,
}

impl Snapshot {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The name at a position, ending with `/` for a directory.
    pub(crate) fn name(&self, at: usize) -> Option<&str> {
        self.slots.get(at).map(|slot| self.text(slot))
    }

    /// The first position whose name `before` denies; it must hold for all names up to there.
    pub(crate) fn seek(&self, mut before: impl FnMut(&str) -> bool) -> usize {
        self.slots.partition_point(|slot| before(self.text(slot)))
    }

    /// Where to read on, when the directory is too large to be held.
    pub(crate) fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    fn text(&self, slot: &Slot) -> &str {
        &self.names[slot.start as usize..slot.end as usize]
    }

    fn push(&mut self, name: &str, directory: bool, form: Form) {
        let start = self.names.len();
        self.names.push_str(name);
        if directory {
            self.names.push('/');
        }
        // A window is far smaller than 4 GiB: it holds at most 2^20 names of at most 1025 bytes.
        if self.end.as_ref().is_some_and(|end| self.names[start..] > **end) {
            self.names.truncate(start);
        } else if let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(self.names.len())) {
            self.slots.push(Slot { start, end, form });
        }
    }

    /// Sorts, and of an object that lies at both places keeps one.
    fn sort(&mut self) {
        let names = std::mem::take(&mut self.names);
        let text = |slot: &Slot| &names.as_bytes()[slot.start as usize..slot.end as usize];
        self.slots.sort_unstable_by(|a, b| text(a).cmp(text(b)).then((a.form == Form::Side).cmp(&(b.form == Form::Side))));
        self.slots.dedup_by(|b, a| text(a) == text(b));
        self.names = names;
    }

    /// Keeps the smaller half of what is not before `from`.
    fn shrink(&mut self, from: &str, window: usize) {
        self.sort();
        let begin = self.seek(|name| name < from);
        let end = self.slots.len().min(begin + (window / 2).max(1));
        let last = if end < self.slots.len() { self.slots.get(end - 1).map(|slot| self.text(slot).to_owned()) } else { None };
        let mut kept = Self { end: last.or(self.end.take()), composed: self.composed, ..Self::default() };
        for slot in &self.slots[begin..end] {
            let name = self.text(slot);
            let (name, directory) = name.strip_suffix('/').map_or((name, false), |name| (name, true));
            kept.push(name, directory, slot.form);
        }
        *self = kept;
    }

    fn weight(&self) -> usize {
        self.names.capacity() + self.slots.capacity() * size_of::<Slot>() + 128
    }
}

/// When a directory last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: Stamp,
    changed: (i64, i64),
}

impl Version {
    #[allow(clippy::unnecessary_cast, reason = "the types of stat differ between platforms")]
    fn of(stat: &Stat) -> Self {
        Self { modified: Stamp::of(stat), changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64) }
    }
}

/// Device and inode of a directory.
type Inode = (u64, u64);

#[derive(Debug)]
struct Kept {
    snapshot: Arc<Snapshot>,
    version: Version,
    used: u64,
}

#[derive(Debug, Default)]
struct Shelf {
    kept: HashMap<Inode, Kept>,
    weight: usize,
}

/// Snapshots that are still true.
#[derive(Debug)]
pub(crate) struct SnapshotCache {
    kept: Mutex<Shelf>,
    clock: AtomicU64,
    /// How often the kernel was asked for entries (getdents64), the measure of what a listing costs.
    pub(crate) calls: AtomicU64,
    pub(crate) window: AtomicUsize,
}

impl Default for SnapshotCache {
    fn default() -> Self {
        Self { kept: Mutex::default(), clock: AtomicU64::new(0), calls: AtomicU64::new(0), window: AtomicUsize::new(WINDOW) }
    }
}

impl SnapshotCache {
    fn get(&self, id: Inode, version: Version) -> Option<Arc<Snapshot>> {
        let mut shelf = self.kept.lock();
        let entry = shelf.kept.get_mut(&id).filter(|entry| entry.version == version)?;
        entry.used = self.clock.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&entry.snapshot))
    }

    fn put(&self, id: Inode, version: Version, snapshot: &Arc<Snapshot>) {
        if snapshot.weight() > CACHE_BYTES {
            return;
        }
        let mut shelf = self.kept.lock();
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        shelf.weight += snapshot.weight();
        if let Some(old) = shelf.kept.insert(id, Kept { snapshot: Arc::clone(snapshot), version, used }) {
            shelf.weight -= old.snapshot.weight();
        }
        while shelf.kept.len() > CACHE_COUNT || shelf.weight > CACHE_BYTES {
            let Some(oldest) = shelf.kept.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id) else { break };
            if let Some(old) = shelf.kept.remove(&oldest) {
                shelf.weight -= old.snapshot.weight();
            }
        }
    }
}

/// Where a directory is: below the root, and in the keys.
pub(crate) struct Place<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) path: &'a [u8],
    pub(crate) prefix: &'a str,
}

/// What an entry is.
enum Entry {
    Object(String, Form),
    Directory(String),
    Continued(String),
}

impl Store {
    /// The sorted entries of a directory. Of one that is too large, those from `from` on.
    pub(crate) fn snapshot(&self, place: &Place<'_>, from: &str) -> Sys<Arc<Snapshot>> {
        let mut tries = 0;
        loop {
            let stat = fstat(place.dir)?;
            let (id, version) = ((stat.st_dev, stat.st_ino), Version::of(&stat));
            if let Some(snapshot) = self.snapshots.get(id, version) {
                return Ok(snapshot);
            }
            let now = SystemTime::now();
            let mut snapshot = Snapshot::default();
            self.read(place.dir, place, &mut Vec::new(), "", from, &mut snapshot)?;
            snapshot.sort();
            let unchanged = Version::of(&fstat(place.dir)?) == version;
            tries += 1;
            if !unchanged && tries < TRIES {
                // An object that moves to its side place while we read may be missed at both.
                continue;
            }
            let snapshot = Arc::new(snapshot);
            let settled = |at: Stamp| {
                let least = if at.nanoseconds == 0 { SETTLED_COARSE } else { SETTLED };
                now.duration_since(at.modified()).is_ok_and(|age| age >= least)
            };
            let changed = Stamp { size: 0, seconds: version.changed.0, nanoseconds: version.changed.1 as u32 };
            let sure = unchanged && settled(version.modified) && settled(changed);
            if sure && snapshot.end.is_none() && !snapshot.composed {
                self.snapshots.put(id, version, &snapshot);
            }
            return Ok(snapshot);
        }
    }

    /// Whether a snapshot of the directory is at hand.
    fn kept(&self, dir: BorrowedFd<'_>) -> Option<Arc<Snapshot>> {
        let stat = fstat(dir).ok()?;
        self.snapshots.get((stat.st_dev, stat.st_ino), Version::of(&stat))
    }

    /// Reads a directory into a snapshot. `above` is the path from the place's directory to `dir`, and `text` what it says, when
    /// `dir` continues a long segment.
    fn read(
        &self,
        dir: BorrowedFd<'_>,
        place: &Place<'_>,
        above: &mut Vec<u8>,
        text: &str,
        from: &str,
        into: &mut Snapshot,
    ) -> Sys<()> {
        let mut continued = Vec::new();
        let window = self.snapshots.window.load(Ordering::Relaxed);
        self.each(dir, BUFFER_BYTES, |name, kind| {
            match self.entry(dir, name, kind, place, above, text)? {
                Some(Entry::Object(name, form)) => into.push(&name, false, form),
                Some(Entry::Directory(name)) => into.push(&name, true, Form::Plain),
                Some(Entry::Continued(more)) => continued.push((name.to_vec(), more)),
                None => {}
            }
            if into.slots.len() > window {
                into.shrink(from, window);
            }
            Ok(true)
        })?;
        for (name, more) in continued {
            into.composed = true;
            let depth = above.len();
            above.extend_from_slice(&name);
            above.push(b'/');
            match self.tree.directory(dir, &name) {
                Ok(inside) => self.read(inside.as_fd(), place, above, &format!("{text}{more}"), from, into)?,
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
            (Piece::Continued(more), FileType::Directory) if place.prefix.len() + text.len() + more.len() <= MAX_KEY_BYTES => {
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
            FileType::Directory if bytes < MAX_KEY_BYTES => Some(Entry::Directory(whole)),
            FileType::RegularFile if (1..=MAX_KEY_BYTES).contains(&bytes) => Some(Entry::Object(whole, form)),
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
        match self.kept(place.dir) {
            Some(snapshot) => {
                for at in 0..snapshot.len() {
                    match snapshot.name(at).and_then(|name| name.strip_suffix('/')) {
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
                        Some(Entry::Object(..)) => found = true,
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
                    if (0..snapshot.len()).any(|at| snapshot.name(at).is_some_and(|name| !name.ends_with('/'))) {
                        return Ok(true);
                    }
                    below = (0..snapshot.len())
                        .filter_map(|at| snapshot.name(at)?.strip_suffix('/'))
                        .map(|name| (encoded(name, Form::Plain), format!("{}{name}/", place.prefix)))
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
            if self.any_object(&Place { dir: dir.as_fd(), path: &path, prefix: &prefix })? {
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
                self.snapshots.calls.fetch_add(1, Ordering::Relaxed);
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
