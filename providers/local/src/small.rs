//! Small bodies, put together.
//!
//! What a small object costs is not its bytes: it is the flushes, the directory, the locks that threads fight for, and waking them.
//! Small puts that come while others are under way are therefore made by one thread, step by step: all are written, all are
//! flushed, all are published, and their directories are flushed once. Each is published by itself as ever, and nobody is told
//! before what was put is as durable as was promised.
//!
//! Nobody is kept waiting by another's trouble: what needs more than a look and a rename (a directory that is to be made, a key
//! that somebody has locked) goes on by itself, on a thread of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use sluice_provider::{Attributes, Error, ErrorKind, Key, ObjectInfo, PutBody, PutWhen, Result, Seal, Versioning};
use tokio::sync::oneshot;

use crate::error::fault;
use crate::name::KeyPath;
use crate::object::INLINE_BYTES;
use crate::publish::Placed;
use crate::space::Staged;
use crate::store::Store;
use crate::together::{Asked, Together};
use crate::versions::Newcomer;
use crate::write::write_all;
use crate::writeback;

/// Larger bodies take longer to write than to change threads for.
pub(crate) const MOST_BYTES: usize = 64 * 1024;

/// Small puts that wait for each other.
pub(crate) type Puts = Together<Small, Result<ObjectInfo>>;

/// A put whose body is in memory, whole and verified.
#[derive(Debug)]
pub(crate) struct Small {
    pub(crate) key: Key,
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) bytes: usize,
    pub(crate) seal: Seal,
    pub(crate) attributes: Attributes,
    pub(crate) when: PutWhen,
    /// Kept until the put has ended: whoever made it may have put into it what must last as long.
    pub(crate) body: PutBody,
}

/// A put under way.
struct Putting {
    key: Key,
    when: PutWhen,
    body: PutBody,
    tell: oneshot::Sender<Result<ObjectInfo>>,
    state: State,
}

enum State {
    /// Written and sealed, not published.
    Staged(Box<Staged>, ObjectInfo),
    /// Published, and not told.
    Published(ObjectInfo),
    Failed(Error),
    /// Being changed.
    Taken,
}

impl Small {
    /// Whether a put can be made together with others.
    pub(crate) fn fits(bytes: usize, attributes: &Attributes, when: &PutWhen, versioning: Versioning) -> bool {
        // More would go to a record, which is flushed when it is written.
        let stored: usize = attributes.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        bytes <= MOST_BYTES
            && stored <= INLINE_BYTES / 2
            && versioning == Versioning::Off
            && matches!(when, PutWhen::Always | PutWhen::IfAbsent)
    }
}

impl Store {
    pub(crate) async fn put_together(self: &Arc<Self>, small: Small) -> Result<ObjectInfo> {
        let (answer, start) = self.puts.join(small);
        if start {
            let store = Arc::clone(self);
            if let Err(error) = self.writes.serve(move || store.puts.serve(|batch| store.put_all(batch))) {
                self.puts.refuse();
                return Err(error);
            }
        }
        answer.wait().await?
    }

    fn put_all(self: &Arc<Self>, batch: Vec<Asked<Small, Result<ObjectInfo>>>) {
        let mut all: Vec<Putting> = {
            let _busy = self.busy.enter();
            batch.into_iter().map(|asked| self.stage_small(asked)).collect()
        };
        self.flush_all(&mut all);
        for Putting { body, tell, state, .. } in self.publish_all(all) {
            let answer = match state {
                State::Published(info) => Ok(info),
                State::Failed(error) => Err(error),
                State::Staged(..) | State::Taken => Err(Error::new(ErrorKind::Internal, "a put that was not published")),
            };
            drop(body);
            // Whoever is gone does not want it.
            let _ = tell.send(answer);
        }
    }

    fn stage_small(&self, Asked { work: small, tell }: Asked<Small, Result<ObjectInfo>>) -> Putting {
        let Small { key, chunks, bytes, seal, attributes, when, body } = small;
        let state = match self.write_small(&key, &chunks, bytes, seal, attributes) {
            Ok((staged, info)) => State::Staged(Box::new(staged), info),
            Err(error) => State::Failed(error),
        };
        Putting { key, when, body, tell, state }
    }

    /// Stages and seals a body that is in memory.
    pub(crate) fn write_small(
        &self,
        key: &Key,
        chunks: &[Bytes],
        bytes: usize,
        seal: Seal,
        attributes: Attributes,
    ) -> Result<(Staged, ObjectInfo)> {
        let mut staged = self.space.stage().map_err(|e| fault("stage", e))?;
        let written = write_all(staged.fd(), chunks, 0).map_err(|e| fault("write", e));
        let sealed = written.and_then(|()| self.seal_new(&mut staged, key, (seal.etag, attributes), bytes as u64));
        match sealed {
            Ok(info) => Ok((staged, info)),
            Err(error) => {
                staged.discard();
                Err(error)
            }
        }
    }

    /// Flushes what was staged.
    fn flush_all(&self, all: &mut [Putting]) {
        if !self.flush.durable() {
            return;
        }
        let staged = || all.iter().filter_map(Putting::staged);
        if staged().nth(1).is_some() {
            staged().for_each(|staged| writeback::begin(staged.fd()));
        }
        for putting in all {
            if let Some(staged) = putting.staged()
                && let Err(errno) = self.flush.file(staged.fd())
            {
                putting.fail(fault("flush", errno));
            }
        }
    }

    /// Publishes what was flushed, and flushes its directories. What cannot be published at once goes on by itself, and is not among
    /// those that come back.
    fn publish_all(self: &Arc<Self>, all: Vec<Putting>) -> Vec<Putting> {
        let mut directories: HashMap<Vec<u8>, Option<Directory>> = HashMap::new();
        let mut ended = Vec::with_capacity(all.len());
        for mut putting in all {
            let State::Staged(staged, _) = &mut putting.state else {
                ended.push(putting);
                continue;
            };
            let path = KeyPath::new(putting.key.as_str());
            let directory = match directories.entry(path.dir.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let opened = self.tree.directory(self.root(), &path.dir).ok();
                    new.insert(opened.map(|fd| Directory { fd, changed: Vec::new() }))
                }
            };
            let Some(directory) = directory else {
                self.publish_apart(putting);
                continue;
            };
            match self.publish_at_once(&directory.fd, &path, staged, &putting.when) {
                Ok(Some(elsewhere)) => {
                    putting.publish();
                    match elsewhere {
                        None => directory.changed.push(ended.len()),
                        Some(elsewhere) => {
                            if let Err(errno) = self.flush.directory(elsewhere.as_fd()) {
                                putting.fail(fault("publish", errno));
                            }
                        }
                    }
                    ended.push(putting);
                }
                Ok(None) => self.publish_apart(putting),
                Err(error) => {
                    putting.fail(error);
                    ended.push(putting);
                }
            }
        }
        for Directory { fd, changed } in directories.into_values().flatten().filter(|directory| !directory.changed.is_empty()) {
            if let Err(errno) = self.flush.directory(fd.as_fd()) {
                for number in changed {
                    if let Some(putting) = ended.get_mut(number) {
                        putting.fail(fault("publish", errno));
                    }
                }
            }
        }
        ended
    }

    /// One attempt to publish in an open directory; `None` when it takes more than that. The directory that has the name, when it is
    /// not the one of the key.
    fn publish_at_once(
        &self,
        dir: &OwnedFd,
        path: &KeyPath,
        staged: &mut Staged,
        when: &PutWhen,
    ) -> Result<Option<Option<OwnedFd>>> {
        let Some(_lock) = self.locks.lock_soon(path.key())? else { return Ok(None) };
        // Whether what is there is in the way is found out, and told, by the ordinary way.
        if *when != PutWhen::Always && self.load_key(path)?.is_some() {
            return Ok(None);
        }
        let _busy = self.busy.enter();
        match self.place(dir, path, staged)? {
            Placed::In(elsewhere) => {
                self.changed();
                Ok(Some(elsewhere))
            }
            Placed::Again => Ok(None),
        }
    }

    /// Publishes one that takes longer, and tells its caller.
    fn publish_apart(self: &Arc<Self>, putting: Putting) {
        let Putting { key, when, body, tell, state } = putting;
        let State::Staged(staged, info) = state else { return };
        let store = Arc::clone(self);
        let publish = move || {
            let stored = store.publish(&key, *staged, &when, Newcomer { versioning: Versioning::Off, info, flushed: true });
            drop(body);
            let _ = tell.send(stored);
        };
        if let Err(error) = self.writes.serve(publish) {
            tracing::debug!(%error, "a put was given up");
        }
    }
}

/// A directory that puts of a batch publish in.
struct Directory {
    fd: OwnedFd,
    /// Those that changed it.
    changed: Vec<usize>,
}

impl Putting {
    fn staged(&self) -> Option<&Staged> {
        if let State::Staged(staged, _) = &self.state { Some(staged) } else { None }
    }

    /// It is at its place now.
    fn publish(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Taken) {
            State::Staged(_, info) => State::Published(info),
            other => other,
        };
    }

    /// It has failed. What was staged goes.
    fn fail(&mut self, error: Error) {
        if let State::Staged(staged, _) = std::mem::replace(&mut self.state, State::Failed(error)) {
            staged.discard();
        }
    }
}
