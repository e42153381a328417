//! Listing: a walk in key order that begins where the page does.
//!
//! Keys are sorted by bytes, so a directory counts as its name with `/`: `a-b` comes before `a/b`. Every directory on the way to
//! the first key of a page is entered by binary search; what lies before it is never looked at. With the delimiter `/` a
//! directory is one entry, for which it is enough to know that some object lies beneath.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use sluice_provider::{Key, ListEntry, ListFrom, ListPage, ListQuery, MAX_KEY_BYTES, ObjectInfo, Result};

use crate::directory::Place;
use crate::error::{Sys, fault};
use crate::name::{directory, encoded};
use crate::snapshot::Snapshot;
use crate::store::Store;

impl Store {
    pub(crate) async fn list(self: &Arc<Self>, query: &ListQuery) -> Result<ListPage> {
        let (store, query) = (Arc::clone(self), query.clone());
        self.lists.run(move || store.list_page(&query)).await
    }

    fn list_page(&self, query: &ListQuery) -> Result<ListPage> {
        let mut page = ListPage::default();
        let mut walk = Walk::new(self, query).map_err(|e| fault("list", e))?;
        while let Some(entry) = walk.next_entry()? {
            if page.entries.len() == query.limit.max(1) {
                page.more = true;
                break;
            }
            page.entries.push(entry);
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
    next: usize,
    /// Open only while the walk is in this directory, so that a deep tree does not take a descriptor per level.
    dir: Option<OwnedFd>,
}

pub(crate) struct Walk<'a> {
    store: &'a Store,
    /// Where the tree begins, and how long the keys in it may be.
    root: BorrowedFd<'a>,
    longest: usize,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    from: ListFrom,
    frames: Vec<Frame>,
}

/// What the walk came upon.
pub(crate) enum Found {
    Object(String),
    /// A directory that the delimiter rolls up.
    Rolled(String),
}

impl<'a> Walk<'a> {
    fn new(store: &'a Store, query: &'a ListQuery) -> Sys<Self> {
        Self::below(store, store.root(), query, MAX_KEY_BYTES)
    }

    /// Over a tree of its own that lies elsewhere.
    pub(crate) fn below(store: &'a Store, root: BorrowedFd<'a>, query: &'a ListQuery, longest: usize) -> Sys<Self> {
        let base = &query.prefix[..query.prefix.rfind('/').map_or(0, |at| at + 1)];
        let delimiter = query.delimiter.as_deref().filter(|d| !d.is_empty());
        let mut walk =
            Self { store, root, longest, prefix: &query.prefix, delimiter, from: query.from.clone(), frames: Vec::new() };
        walk.enter(base.to_owned(), directory(base))?;
        Ok(walk)
    }

    /// Enters a directory at the first entry that counts. One that is not there is skipped.
    fn enter(&mut self, prefix: String, path: Vec<u8>) -> Sys<()> {
        let dir = match self.store.tree.directory(self.root, &path) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let from = self.lower_bound(&prefix);
        let snapshot =
            self.store.snapshot(&Place { dir: dir.as_fd(), path: &path, prefix: &prefix, longest: self.longest }, &from)?;
        let next = snapshot.seek(|name| self.skips(&prefix, name));
        if let Some(above) = self.frames.last_mut() {
            above.dir = None;
        }
        self.frames.push(Frame { prefix, path, snapshot, next, dir: Some(dir) });
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
                Found::Rolled(prefix) => {
                    if self.shows(&prefix).map_err(|e| fault("list", e))? {
                        return Ok(Some(ListEntry::Prefix(prefix)));
                    }
                }
                Found::Object(key) => {
                    if let Some(rolled) = self.rolled(&key) {
                        let rolled = rolled.to_owned();
                        // It may have gone since the directory was read; then another key must stand for the prefix.
                        if self.info(&key)?.is_some() {
                            self.skip_prefix(&rolled);
                            return Ok(Some(ListEntry::Prefix(rolled)));
                        }
                    } else if let Some(info) = self.info(&key)? {
                        return Ok(Some(ListEntry::Object(info)));
                    }
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

    /// Goes on in key order to the next object or rolled-up directory.
    pub(crate) fn next_found(&mut self) -> Sys<Option<Found>> {
        while let Some(frame) = self.frames.last_mut() {
            let Some(name) = frame.snapshot.name(frame.next) else {
                match frame.snapshot.end().map(str::to_owned) {
                    Some(end) => self.read_on(&end)?,
                    None => drop(self.frames.pop()),
                }
                continue;
            };
            let whole = format!("{}{name}", frame.prefix);
            // Only in the first directory can a name not match any more; nothing after it does.
            if !whole.starts_with(self.prefix) {
                self.frames.clear();
                return Ok(None);
            }
            frame.next += 1;
            let Some(segment) = name.strip_suffix('/') else {
                return Ok(Some(Found::Object(whole)));
            };
            if self.delimiter == Some("/") {
                return Ok(Some(Found::Rolled(whole)));
            }
            let path = below(&frame.path, segment);
            self.enter(whole, path)?;
        }
        Ok(None)
    }

    /// Reads the part after `end` of a directory that is too large to be held.
    fn read_on(&mut self, end: &str) -> Sys<()> {
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
        frame.next = frame.snapshot.seek(|name| name <= end);
        // It lies further on each time, so that this comes to an end.
        if frame.next < frame.snapshot.len() || frame.snapshot.end().is_some_and(|next| next > end) {
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
            return Ok(Walk::new(self.store, &query)?.next_found()?.is_some());
        }
        let path = directory(prefix);
        match self.store.tree.directory(self.store.root(), &path) {
            Ok(dir) => self.store.any_object(&Place { dir: dir.as_fd(), path: &path, prefix, longest: self.longest }),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// The metadata of an object in the current directory; `None` when it has gone since the directory was read.
    fn info(&mut self, name: &str) -> Result<Option<ObjectInfo>> {
        let Ok(key) = Key::new(name) else { return Ok(None) };
        let store = self.store;
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        if frame.dir.is_none() {
            match store.tree.directory(store.root(), &frame.path) {
                Ok(dir) => frame.dir = Some(dir),
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(errno) => return Err(fault("list", errno)),
            }
        }
        let leaf = &name[frame.prefix.len()..];
        // A followed link may lead anywhere below the root, so it is resolved from there.
        let base = match &frame.dir {
            Some(dir) if !store.settings.follow_symlinks => Some(dir.as_fd()),
            _ => None,
        };
        let found = match base {
            Some(dir) => store.load_listed(dir, |form| encoded(leaf, form))?,
            None => {
                let path = crate::name::KeyPath::new(name);
                store.load_listed(store.root(), |form| path.path(form))?
            }
        };
        match found {
            Some((opened, known)) => Ok(Some(store.info(&key, opened, known, false)?.1)),
            None => Ok(None),
        }
    }
}

fn below(path: &[u8], segment: &str) -> Vec<u8> {
    let mut below = path.to_vec();
    if !below.is_empty() {
        below.push(b'/');
    }
    crate::name::encode(segment, crate::name::Form::Plain, &mut below);
    below
}
