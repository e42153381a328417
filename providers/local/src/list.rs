//! Listing: a walk in key order that begins where the page does.
//!
//! Keys are sorted by bytes, so a directory counts as its name with `/`: `a-b` comes before `a/b`. Every directory on the way to
//! the first key of a page is entered by binary search; what lies before it is never looked at. With the delimiter `/` a
//! directory is one entry, for which it is enough to know that some object lies beneath.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;
use sluice_provider::{Key, ListEntry, ListFrom, ListPage, ListQuery, MAX_KEY_BYTES, ObjectInfo, Result};
use tokio::runtime::Handle;

use crate::directory::Place;
use crate::error::{Sys, fault};
use crate::known::Version;
use crate::meta::Stamp;
use crate::name::{directory, encoded, is_plain};
use crate::seen::Seen;
use crate::shelf::Shelf;
use crate::snapshot::{At, Snapshot};
use crate::store::Store;

/// The most entries that room is made for at once.
const LARGEST_PAGE: usize = 1000;

impl Store {
    pub(crate) async fn list(self: &Arc<Self>, query: &ListQuery) -> Result<ListPage> {
        // A page that is at hand costs less than the way to another thread and back, and never waits for the disk.
        if query.limit <= LARGEST_PAGE
            && self.shelf.as_ref().is_some_and(Shelf::is_watching)
            && let Ok(page) = self.list_page(query, true)
        {
            return Ok(page);
        }
        let (store, query, runtime) = (Arc::clone(self), query.clone(), Handle::current());
        let work = move || {
            let page = store.list_page(&query, false);
            // Here, because nobody may wait for the page any more.
            store.forget_in_time(&runtime);
            page
        };
        self.lists.run(work).await
    }

    /// Whether a page of a prefix is at hand.
    #[cfg(test)]
    pub(crate) fn is_seen(&self, prefix: &str) -> bool {
        self.list_page(&ListQuery { prefix: prefix.to_owned(), limit: 10, ..ListQuery::default() }, true).is_ok()
    }

    /// Sees to it that what a listing saw is not held for much longer than it is shown.
    fn forget_in_time(self: &Arc<Self>, runtime: &Handle) {
        let Some(shelf) = self.shelf.as_ref().filter(|shelf| shelf.is_to_forget()) else { return };
        let (store, every) = (Arc::downgrade(self), shelf.holds() / 4);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(store) = store.upgrade() else { return };
                let shelves = Arc::clone(&store);
                // What fails, because there is no room in the pool, is tried again.
                if let Ok(false) = store.lists.run(move || Ok(shelves.shelf.as_ref().is_some_and(Shelf::forget_old))).await {
                    return;
                }
            }
        });
    }

    /// A page; with `at_hand`, EAGAIN as soon as something is needed that is not remembered.
    fn list_page(&self, query: &ListQuery, at_hand: bool) -> Result<ListPage> {
        let entries = Vec::with_capacity(query.limit.clamp(1, LARGEST_PAGE));
        let mut page = ListPage { entries, more: false };
        let mut walk = Walk::new(self, query, at_hand).map_err(|e| fault("list", e))?;
        while let Some(entry) = walk.next_entry()? {
            if page.entries.len() == query.limit.max(1) {
                page.more = true;
                break;
            }
            page.entries.push(entry);
        }
        drop(walk);
        if let Some(shelf) = &self.shelf {
            shelf.trim();
        }
        Ok(page)
    }
}

/// A directory that is being walked.
struct Frame {
    /// What all keys in it begin with.
    prefix: String,
    path: Vec<u8>,
    snapshot: Arc<Snapshot>,
    next: At,
    /// The chunk of the snapshot that the walk came to last.
    chunk: Option<usize>,
    /// Open only while the walk is in this directory, so that a deep tree does not take a descriptor per level.
    dir: Option<OwnedFd>,
}

pub(crate) struct Walk<'a> {
    store: &'a Store,
    /// Where the tree begins, and how long the keys in it may be.
    root: BorrowedFd<'a>,
    longest: usize,
    /// Whether it is the tree of versions, whose shelves are not entered.
    shelves: bool,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    from: ListFrom,
    frames: Vec<Frame>,
    /// The key, or the prefix of keys, that the walk came upon last.
    found: String,
    /// Whether only what is remembered may be used.
    at_hand: bool,
}

/// What the walk came upon.
enum Found {
    /// An object, at this position of the last frame.
    Object(At),
    /// A directory that the delimiter rolls up.
    Rolled,
}

impl<'a> Walk<'a> {
    fn new(store: &'a Store, query: &'a ListQuery, at_hand: bool) -> Sys<Self> {
        Self::below(store, (store.root(), false), query, MAX_KEY_BYTES, at_hand)
    }

    /// Over the keys of objects.
    pub(crate) fn over_keys(store: &'a Store, query: &'a ListQuery) -> Sys<Self> {
        Self::new(store, query, false)
    }

    /// Over the tree of versions that begins at `root`.
    pub(crate) fn over_shelves(store: &'a Store, root: BorrowedFd<'a>, query: &'a ListQuery, longest: usize) -> Sys<Self> {
        Self::below(store, (root, true), query, longest, false)
    }

    fn below(
        store: &'a Store,
        (root, shelves): (BorrowedFd<'a>, bool),
        query: &'a ListQuery,
        longest: usize,
        at_hand: bool,
    ) -> Sys<Self> {
        let base = &query.prefix[..query.prefix.rfind('/').map_or(0, |at| at + 1)];
        let delimiter = query.delimiter.as_deref().filter(|d| !d.is_empty());
        let mut walk = Self {
            store,
            root,
            longest,
            shelves,
            prefix: &query.prefix,
            delimiter,
            from: query.from.clone(),
            frames: Vec::new(),
            found: String::new(),
            at_hand,
        };
        walk.enter(base.to_owned(), directory(base))?;
        Ok(walk)
    }

    /// Enters a directory at the first entry that counts. One that is not there is skipped.
    fn enter(&mut self, prefix: String, path: Vec<u8>) -> Sys<()> {
        let (tree, root) = (&self.store.tree, self.root);
        let opened = if self.at_hand { tree.directory_cached(root, &path) } else { tree.directory(root, &path) };
        let dir = match opened {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let from = self.lower_bound(&prefix);
        let snapshot = if self.at_hand {
            self.store.snapshot_at_hand(dir.as_fd(), &from)?.ok_or(Errno::AGAIN)?
        } else {
            self.store.snapshot(&Place { dir: dir.as_fd(), path: &path, prefix: &prefix, longest: self.longest }, &from)?
        };
        let next = snapshot.seek(|name| self.skips(&prefix, name));
        if let Some(above) = self.frames.last_mut() {
            above.dir = None;
        }
        self.frames.push(Frame { prefix, path, snapshot, next, chunk: None, dir: Some(dir) });
        Ok(())
    }

    /// Whether an entry, and everything in it if it is a directory, lies before the listing. Holds for the entries up to a point.
    fn skips(&self, prefix: &str, name: &str) -> bool {
        let whole = format!("{prefix}{name}");
        let directory = name.ends_with('/');
        if whole.as_str() < self.prefix && !(directory && self.prefix.starts_with(&whole)) {
            return true;
        }
        match &self.from {
            ListFrom::Start => false,
            ListFrom::After(key) => whole.as_str() <= key.as_str() && !(directory && key.starts_with(&whole)),
            ListFrom::AfterPrefix(before) => {
                whole.starts_with(before.as_str())
                    || (whole.as_str() < before.as_str() && !(directory && before.starts_with(&whole)))
            }
            ListFrom::AfterVersion(key, _) => whole.as_str() < key.as_str() && !(directory && key.starts_with(&whole)),
        }
    }

    /// A name that no entry which counts lies before: what a directory too large to be held is cut at.
    fn lower_bound(&self, prefix: &str) -> String {
        let inside = |key: &str| {
            let rest = key.strip_prefix(prefix)?;
            Some(rest[..rest.find('/').map_or(rest.len(), |at| at + 1)].to_owned())
        };
        let from = match &self.from {
            ListFrom::Start => None,
            ListFrom::After(key) => inside(key),
            ListFrom::AfterPrefix(before) => inside(before),
            ListFrom::AfterVersion(key, _) => inside(key),
        };
        from.max(inside(self.prefix)).unwrap_or_default()
    }

    /// The next entry of the listing.
    fn next_entry(&mut self) -> Result<Option<ListEntry>> {
        while let Some(found) = self.next_found().map_err(|e| fault("list", e))? {
            match found {
                Found::Rolled => {
                    if self.shows(&self.found).map_err(|e| fault("list", e))? {
                        return Ok(Some(ListEntry::Prefix(self.found.clone())));
                    }
                }
                Found::Object(at) => {
                    let Some(info) = self.info(at)? else { continue };
                    // It may have gone since the directory was read; then another key must stand for the prefix.
                    let Some(rolled) = self.rolled(&self.found).map(str::to_owned) else {
                        return Ok(Some(ListEntry::Object(info)));
                    };
                    self.skip_prefix(&rolled);
                    return Ok(Some(ListEntry::Prefix(rolled)));
                }
            }
        }
        Ok(None)
    }

    /// The common prefix that a key is rolled up into.
    fn rolled<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter?;
        let at = self.prefix.len() + key.get(self.prefix.len()..)?.find(delimiter)?;
        key.get(..at + delimiter.len())
    }

    /// Goes on in key order to the next object or rolled-up directory; its name is in `found` then.
    fn next_found(&mut self) -> Sys<Option<Found>> {
        while let Some(frame) = self.frames.last_mut() {
            self.found.clear();
            self.found.push_str(&frame.prefix);
            let Some(at) = frame.snapshot.entry(frame.next, &mut self.found) else {
                match frame.snapshot.end().map(str::to_owned) {
                    Some(end) => self.read_on(&end)?,
                    None => drop(self.frames.pop()),
                }
                continue;
            };
            // Only in the first directory can a name not match any more; nothing after it does.
            if !self.prefix.is_empty() && !self.found.starts_with(self.prefix) {
                self.frames.clear();
                return Ok(None);
            }
            frame.next = at.next();
            let name = self.found.get(frame.prefix.len()..).unwrap_or("");
            if name.as_bytes().last() != Some(&b'/') {
                return Ok(Some(Found::Object(at)));
            }
            let segment = &name[..name.len() - 1];
            if self.delimiter == Some("/") || (self.shelves && segment.ends_with('\0')) {
                return Ok(Some(Found::Rolled));
            }
            let path = below(&frame.path, segment);
            self.enter(self.found.clone(), path)?;
        }
        Ok(None)
    }

    /// The next object's key, or the prefix that was rolled up.
    pub(crate) fn next_name(&mut self) -> Sys<Option<String>> {
        Ok(self.next_found()?.map(|_| self.found.clone()))
    }

    /// Reads the part after `end` of a directory that is too large to be held.
    fn read_on(&mut self, end: &str) -> Sys<()> {
        if self.at_hand {
            return Err(Errno::AGAIN);
        }
        let Some(mut frame) = self.frames.pop() else { return Ok(()) };
        let dir = match frame.dir.take() {
            Some(dir) => dir,
            None => match self.store.tree.directory(self.root, &frame.path) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                Err(errno) => return Err(errno),
            },
        };
        let place = Place { dir: dir.as_fd(), path: &frame.path, prefix: &frame.prefix, longest: self.longest };
        frame.snapshot = self.store.snapshot(&place, end)?;
        // What the listing leaves out may reach beyond the part that was read before.
        frame.next = frame.snapshot.seek(|name| name <= end || self.skips(&frame.prefix, name));
        // It lies further on each time, so that this comes to an end.
        if frame.snapshot.goes_on(frame.next) || frame.snapshot.end().is_some_and(|next| next > end) {
            frame.dir = Some(dir);
            self.frames.push(frame);
        }
        Ok(())
    }

    /// Leaves out everything else that begins with `rolled`.
    pub(crate) fn skip_prefix(&mut self, rolled: &str) {
        self.from = ListFrom::AfterPrefix(rolled.to_owned());
        while self.frames.last().is_some_and(|frame| frame.prefix.starts_with(rolled)) {
            self.frames.pop();
        }
        let mut frames = std::mem::take(&mut self.frames);
        for frame in &mut frames {
            let next = frame.snapshot.seek(|name| self.skips(&frame.prefix, name));
            // The directories we are in are behind us, although keys in them may still follow.
            frame.next = frame.next.max(next);
        }
        self.frames = frames;
    }

    /// Whether a rolled-up directory holds an object that the listing selects.
    fn shows(&self, prefix: &str) -> Sys<bool> {
        let cut = match &self.from {
            ListFrom::Start => false,
            ListFrom::After(key) | ListFrom::AfterPrefix(key) | ListFrom::AfterVersion(key, _) => key.starts_with(prefix),
        };
        if cut {
            let query = ListQuery { prefix: prefix.to_owned(), delimiter: None, from: self.from.clone(), limit: 1 };
            return Ok(Walk::new(self.store, &query, self.at_hand)?.next_found()?.is_some());
        }
        if self.at_hand {
            return Err(Errno::AGAIN);
        }
        let path = directory(prefix);
        match self.store.tree.directory(self.store.root(), &path) {
            Ok(dir) => self.store.any_object(&Place { dir: dir.as_fd(), path: &path, prefix, longest: self.longest }),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// The metadata of the object in `found`, at a position of the current directory; `None` when it has gone since the directory
    /// was read.
    fn info(&mut self, at: At) -> Result<Option<ObjectInfo>> {
        let Ok(key) = Key::new(&self.found) else { return Ok(None) };
        let store = self.store;
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        if frame.chunk.is_none_or(|chunk| at.is_beyond(chunk)) {
            frame.chunk = Some(frame.snapshot.touch(at));
        }
        if let Some(seen) = frame.snapshot.seen(at, Seen::clone) {
            return Ok(Some(seen.info(key)));
        }
        if self.at_hand {
            return Err(fault("list", Errno::AGAIN));
        }
        if frame.dir.is_none() {
            match store.tree.directory(store.root(), &frame.path) {
                Ok(dir) => frame.dir = Some(dir),
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(errno) => return Err(fault("list", errno)),
            }
        }
        let leaf = &self.found[frame.prefix.len()..];
        // A followed link may lead anywhere below the root, so it is resolved from there.
        let base = match &frame.dir {
            Some(dir) if !store.settings.follow_symlinks => Some(dir.as_fd()),
            _ => None,
        };
        if let Some(cache) = store.known()
            && let Some((version, links)) = base.and_then(|dir| listed(dir, leaf))
            && let Some((etag, attributes)) = cache.get(&version)
        {
            let Version { stamp, .. } = version;
            let info = ObjectInfo { key, size: stamp.size, etag, modified: stamp.modified(), attributes };
            frame.see(store, at, stamp, links, &info);
            return Ok(Some(info));
        }
        // One that the shelf does not hold as well goes with this walk.
        let keeps = store.xattrs && frame.snapshot.told && Arc::strong_count(&frame.snapshot) > 1;
        let found = match base {
            Some(dir) => store.load_listed(dir, |form| encoded(leaf, form), keeps)?,
            None => {
                let path = crate::name::KeyPath::new(&self.found);
                store.load_listed(store.root(), |form| path.path(form), keeps)?
            }
        };
        let Some((opened, known)) = found else { return Ok(None) };
        let (opened, info) = store.info(&key, opened, known, false)?;
        frame.see(store, at, opened.stamp, opened.links, &info);
        Ok(Some(info))
    }
}

impl Frame {
    /// Remembers what was seen of an object, if every change of it will be told. A change of a record is not.
    fn see(&self, store: &Store, at: At, stamp: Stamp, links: u64, info: &ObjectInfo) {
        if links < 2
            && store.xattrs
            && let Some(seen) = Seen::new(stamp, info)
        {
            self.snapshot.see(at, seen);
        }
    }
}

/// The version of the object at its plain place, by a look that does not open it, and how many names it has. `None` when that does not tell enough.
#[allow(clippy::unnecessary_cast, reason = "the type of st_nlink differs between platforms")]
fn listed(dir: BorrowedFd<'_>, leaf: &str) -> Option<(Version, u64)> {
    if !is_plain(leaf) {
        return None;
    }
    let stat = statat(dir, leaf, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| (Version::of(&stat), stat.st_nlink as u64))
}

fn below(path: &[u8], segment: &str) -> Vec<u8> {
    let mut below = path.to_vec();
    if !below.is_empty() {
        below.push(b'/');
    }
    crate::name::encode(segment, crate::name::Form::Plain, &mut below);
    below
}
