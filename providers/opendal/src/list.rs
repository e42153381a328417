//! Listing: a walk over directories, depth first, each in the order of its names. Of a directory only so many names are held as the page
//! still wants, whatever order the service tells them in.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt, TryStreamExt};
use opendal::{ErrorKind as Theirs, Metadata};
use sluice_provider::{Error, ErrorKind, Key, ListEntry, ListFrom, ListPage, ListQuery, MAX_KEY_BYTES, Result, end_of_prefix};

use crate::error::failed;
use crate::name::Piece;
use crate::overlay::{Records, info_of};
use crate::provider::Inner;

/// The most entries of a page.
const PAGE: usize = 1000;
/// Looks at the same time, where a listing does not tell what an object is.
const TOGETHER: usize = 16;

/// A line of a page, before its metadata is complete.
enum Line {
    Object { key: String, path: String, meta: Metadata },
    Prefix(String),
}

/// A name in a directory. Sorted by the text that all keys of it begin with.
struct Named {
    path: String,
    /// `None` for a directory.
    meta: Option<Metadata>,
}

/// A directory that the walk is in.
struct Frame {
    path: String,
    /// What all its keys begin with.
    beginning: String,
    /// The names that come next.
    names: BTreeMap<String, Named>,
    /// The last name that was taken.
    after: Option<String>,
    /// Whether no names come after these.
    read_whole: bool,
}

impl Frame {
    fn new(path: String, beginning: String) -> Self {
        Self { path, beginning, names: BTreeMap::new(), after: None, read_whole: false }
    }
}

struct Walk<'a> {
    inner: &'a Inner,
    prefix: &'a str,
    query: &'a ListQuery,
    from: ListFrom,
    lines: Vec<Line>,
    want: usize,
}

impl Inner {
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        if !self.settings.service.lists() {
            let reason = "the service has no listings";
            return Err(Error::new(ErrorKind::Unsupported, "list").with("service", self.settings.service).with("reason", reason));
        }
        let limit = query.limit.min(PAGE);
        let mut from = query.from.clone();
        loop {
            let mut walk = Walk { inner: self, prefix: &query.prefix, query, from, lines: Vec::new(), want: limit + 1 };
            walk.run().await?;
            let Walk { mut lines, .. } = walk;
            let more = lines.len() > limit;
            lines.truncate(limit);
            let last = lines.last().map(|line| match line {
                Line::Object { key, .. } => ListFrom::After(key.clone()),
                Line::Prefix(prefix) => ListFrom::AfterPrefix(prefix.clone()),
            });
            let entries = self.complete_lines(lines).await?;
            match last {
                // All of them went away meanwhile.
                Some(last) if entries.is_empty() && more => from = last,
                _ => return Ok(ListPage { entries, more }),
            }
        }
    }

    async fn complete_lines(&self, lines: Vec<Line>) -> Result<Vec<ListEntry>> {
        let names: Vec<&str> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Object { key, .. } => Some(key.as_str()),
                Line::Prefix(_) => None,
            })
            .collect();
        let mut documents = if self.overlaid() && !names.is_empty() {
            self.overlay.read(&self.settings.space, &names).await?
        } else {
            vec![None; names.len()]
        }
        .into_iter();
        let lines: Vec<_> = lines
            .into_iter()
            .map(|line| match line {
                Line::Object { .. } => (line, documents.next().flatten()),
                Line::Prefix(_) => (line, None),
            })
            .collect();
        let completed = stream::iter(lines).map(|(line, document)| async move {
            match line {
                Line::Prefix(prefix) => Ok(Some(ListEntry::Prefix(prefix))),
                Line::Object { key, path, meta } => {
                    let key = Key::new(&key)?;
                    let records = Records::parse(document)?;
                    if meta.is_file() && (records.of(&meta).is_some() || records.is_empty()) {
                        return Ok(Some(ListEntry::Object(info_of(&key, &meta, records.of(&meta))?)));
                    }
                    // The listing says too little, or the object is being replaced.
                    let seen = self.look(&key, &path).await?;
                    Ok(seen.map(|seen| ListEntry::Object(seen.info)))
                }
            }
        });
        let entries: Vec<Option<ListEntry>> = completed.buffered(TOGETHER).try_collect().await?;
        Ok(entries.into_iter().flatten().collect())
    }
}

impl Walk<'_> {
    fn full(&self) -> bool {
        self.lines.len() >= self.want
    }

    /// Whether any key that begins with this may be on the page.
    fn may_hold(&self, beginning: &str) -> bool {
        if !(beginning.starts_with(self.prefix) || self.prefix.starts_with(beginning)) {
            return false;
        }
        match &self.from {
            ListFrom::Start => true,
            ListFrom::AfterPrefix(prefix) if beginning.starts_with(prefix.as_str()) => false,
            ListFrom::AfterPrefix(at) | ListFrom::After(at) | ListFrom::AfterVersion(at, _) => {
                at.starts_with(beginning) || end_of_prefix(beginning).is_none_or(|end| end.as_str() > at.as_str())
            }
        }
    }

    fn holds(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && !self.from.skips(key)
    }

    /// Walks. Directories lie on a stack of their own: keys may be hundreds of them deep.
    async fn run(&mut self) -> Result<()> {
        let mut stack = vec![Frame::new(String::new(), String::new())];
        // What the directories from this depth on are rolled up into, if there is anything in them.
        let mut rolling: Option<(String, usize)> = None;
        while !self.full() {
            let depth = stack.len();
            let Some(frame) = stack.last_mut() else { break };
            match frame.names.pop_first() {
                None if frame.read_whole => {
                    stack.pop();
                    rolling = rolling.filter(|(_, from)| stack.len() > *from);
                }
                None => {
                    let most = (self.want - self.lines.len()).max(16);
                    (frame.names, frame.read_whole) = self.names(frame, most).await?;
                }
                Some((name, Named { path, meta: Some(meta) })) => {
                    frame.after = Some(name.clone());
                    match &rolling {
                        Some((rolled, from)) if self.holds(&name) => {
                            self.roll_up(rolled.clone());
                            stack.truncate(*from);
                            rolling = None;
                        }
                        Some(_) => {}
                        None => self.object(&name, path, meta),
                    }
                }
                Some((name, Named { path, meta: None })) => {
                    frame.after = Some(name.clone());
                    if !self.may_hold(&name) {
                        continue;
                    }
                    if rolling.is_none() && name.starts_with(self.prefix) {
                        rolling = self.query.rolled_up(&name).map(|rolled| (rolled.to_owned(), depth));
                    }
                    stack.push(Frame::new(path, name));
                }
            }
        }
        Ok(())
    }

    fn object(&mut self, key: &str, path: String, meta: Metadata) {
        // What was rolled up meanwhile may have taken it along.
        if !self.holds(key) {
            return;
        }
        match self.query.rolled_up(key) {
            Some(prefix) => self.roll_up(prefix.to_owned()),
            None => self.lines.push(Line::Object { key: key.to_owned(), path, meta }),
        }
    }

    fn roll_up(&mut self, prefix: String) {
        self.from = ListFrom::AfterPrefix(prefix.clone());
        self.lines.push(Line::Prefix(prefix));
    }

    /// The first names of a directory that may be on the page, at most so many; answers whether these are all.
    async fn names(&self, frame: &Frame, most: usize) -> Result<(BTreeMap<String, Named>, bool)> {
        let Frame { path, beginning, after, .. } = frame;
        let (mut names, mut all) = (BTreeMap::new(), true);
        // Long segments go on in directories of their own, whose names belong to this one.
        let mut directories = vec![(path.clone(), String::new())];
        while let Some((directory, before)) = directories.pop() {
            let at = if directory.is_empty() { "/" } else { directory.as_str() };
            let mut lister = match self.inner.operator.lister(at).await {
                Ok(lister) => lister,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(failed("list", &error)),
            };
            loop {
                let entry = match lister.try_next().await {
                    Ok(Some(entry)) => entry,
                    Ok(None) => break,
                    // It went away.
                    Err(error) if is_gone(&error) => break,
                    Err(error) => return Err(failed("list", &error)),
                };
                let (path, meta) = entry.into_parts();
                let Some(name) = path.strip_prefix(directory.as_str()) else { continue };
                let is_directory = name.ends_with('/');
                let name = name.trim_end_matches('/');
                if name.is_empty() || name.contains('/') {
                    continue;
                }
                let sorted = match self.inner.names.read(name, is_directory, &before) {
                    Some(Piece::Continued(text)) => {
                        if text.len() <= MAX_KEY_BYTES && self.may_hold(&format!("{beginning}{text}")) {
                            directories.push((path, text));
                        }
                        continue;
                    }
                    Some(Piece::Whole(text)) if is_directory => format!("{beginning}{text}/"),
                    Some(Piece::Whole(text)) => format!("{beginning}{text}"),
                    None => continue,
                };
                if sorted.len() > MAX_KEY_BYTES + 1 || sorted.is_empty() {
                    continue;
                }
                let wanted = if is_directory { self.may_hold(&sorted) } else { self.holds(&sorted) };
                if !wanted || after.as_ref().is_some_and(|after| sorted <= *after) {
                    continue;
                }
                names.insert(sorted, Named { path, meta: (!is_directory).then_some(meta) });
                if names.len() > most {
                    names.pop_last();
                    all = false;
                }
            }
        }
        Ok((names, all))
    }
}

fn is_gone(error: &opendal::Error) -> bool {
    matches!(error.kind(), Theirs::NotFound | Theirs::NotADirectory)
}
