//! Small bodies, put together, where nothing is flushed.
//!
//! What a small object costs then is not its bytes: it is the locks of directories that threads fight for, and waking them. Small
//! puts that come while others are under way are therefore written and published by one thread, a batch at a time. Each is
//! published by itself as ever.
//!
//! Nobody is kept waiting by another's trouble: what needs more than a look and a rename (a directory that is to be made, a key
//! that somebody has locked) goes on by itself, on a thread of its own.
//!
//! Where every write is flushed, each has its own thread: a disk does in one go what it is asked for at the same time, and flushes (or
//! the removal of what was replaced, where the blocks that it frees are discarded at once) that are made one after the other take
//! longer than the threads cost.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use sluice_provider::{Attributes, ETag, Error, ErrorKind, Key, ObjectInfo, PutBody, PutWhen, Result, Versioning};

use crate::error::fault;
use crate::name::KeyPath;
use crate::object::INLINE_BYTES;
use crate::publish::Placed;
use crate::space::Staged;
use crate::store::Store;
use crate::together::{Asked, Together};
use crate::versions::Newcomer;
use crate::write::write_all;

/// Larger bodies take longer to write than to change threads for.
pub(crate) const MOST_BYTES: usize = 64 * 1024;

/// Small puts that wait for each other.
pub(crate) type Puts = Together<Putting, Result<ObjectInfo>>;

/// A small put.
#[derive(Debug)]
pub(crate) struct Putting {
    key: Key,
    when: PutWhen,
    /// Kept until the put has ended: whoever made it may have put into it what must last as long.
    body: PutBody,
    state: State,
}

#[derive(Debug)]
enum State {
    /// In memory, whole and verified.
    Received {
        chunks: Vec<Bytes>,
        bytes: usize,
        etag: ETag,
        attributes: Attributes,
    },
    /// Written and sealed.
    Staged(Box<Staged>, ObjectInfo),
    /// At its place, and nobody was told.
    Published(ObjectInfo),
    Failed(Error),
    /// Being changed.
    Taken,
}

/// Whether a put can be made together with others.
pub(crate) fn fits(bytes: usize, attributes: &Attributes, when: &PutWhen, versioning: Versioning) -> bool {
    // More would go to a record, which is flushed when it is written.
    let stored: usize = attributes.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    bytes <= MOST_BYTES
        && stored <= INLINE_BYTES / 2
        && versioning == Versioning::Off
        && matches!(when, PutWhen::Always | PutWhen::IfAbsent)
}

impl Store {
    /// Makes a put with those that come at the same time. Not where writes are flushed.
    pub(crate) async fn put_together(self: &Arc<Self>, putting: Putting) -> Result<ObjectInfo> {
        let (asked, answer) = Asked::new(putting);
        let store = Arc::clone(self);
        if self.puts.join(asked)
            && let Err(error) = self.writes.serve(move || store.puts.serve(|batch| store.put_all(batch)))
        {
            self.puts.refuse();
            return Err(error);
        }
        answer.wait().await?
    }

    /// Writes all, publishes all, and tells their callers.
    pub(crate) fn put_all(self: &Arc<Self>, mut batch: Vec<Asked<Putting, Result<ObjectInfo>>>) {
        {
            let _busy = self.busy.enter();
            batch.iter_mut().for_each(|asked| asked.work.stage(self));
        }
        for Asked { work: Putting { body, state, .. }, tell } in self.publish_all(batch) {
            let answer = match state {
                State::Published(info) => Ok(info),
                State::Failed(error) => Err(error),
                State::Received { .. } | State::Staged(..) | State::Taken => {
                    Err(Error::new(ErrorKind::Internal, "a put that was not published"))
                }
            };
            drop(body);
            // Whoever is gone does not want it.
            let _ = tell.send(answer);
        }
    }

    /// Stages and seals a body that is in memory.
    fn write_small(
        &self,
        key: &Key,
        chunks: &[Bytes],
        bytes: usize,
        content: (ETag, Attributes),
    ) -> Result<(Staged, ObjectInfo)> {
        let mut staged = self.space.stage().map_err(|e| fault("stage", e))?;
        let written = write_all(staged.fd(), chunks, 0).map_err(|e| fault("write", e));
        match written.and_then(|()| self.seal_new(&mut staged, key, content, bytes as u64)) {
            Ok(info) => Ok((staged, info)),
            Err(error) => {
                staged.discard();
                Err(error)
            }
        }
    }

    /// Publishes what was staged. What cannot be published at once goes on by itself, and is not among those that come back.
    fn publish_all(self: &Arc<Self>, all: Vec<Asked<Putting, Result<ObjectInfo>>>) -> Vec<Asked<Putting, Result<ObjectInfo>>> {
        let mut directories: HashMap<Vec<u8>, Option<OwnedFd>> = HashMap::new();
        let mut ended = Vec::with_capacity(all.len());
        for mut asked in all {
            let putting = &mut asked.work;
            let State::Staged(staged, _) = &mut putting.state else {
                ended.push(asked);
                continue;
            };
            let path = KeyPath::new(putting.key.as_str());
            let open = || self.tree.directory(self.root(), &path.dir).ok();
            let Some(directory) = directories.entry(path.dir.clone()).or_insert_with(open) else {
                self.publish_apart(asked);
                continue;
            };
            match self.publish_at_once(directory, &path, staged, &putting.when) {
                Ok(true) => putting.publish(),
                Ok(false) => {
                    self.publish_apart(asked);
                    continue;
                }
                Err(error) => putting.fail(error),
            }
            ended.push(asked);
        }
        ended
    }

    /// One attempt to publish in an open directory; false when it takes more than that.
    fn publish_at_once(&self, dir: &OwnedFd, path: &KeyPath, staged: &mut Staged, when: &PutWhen) -> Result<bool> {
        let Some(_lock) = self.locks.lock_soon(path.key())? else { return Ok(false) };
        // Whether what is there is in the way is found out, and told, by the ordinary way.
        if *when != PutWhen::Always && self.load_key(path)?.is_some() {
            return Ok(false);
        }
        let _busy = self.busy.enter();
        let placed = matches!(self.place(dir, path, staged)?, Placed::In(_));
        if placed {
            self.changed();
        }
        Ok(placed)
    }

    /// Publishes one that takes longer, and tells its caller.
    fn publish_apart(self: &Arc<Self>, asked: Asked<Putting, Result<ObjectInfo>>) {
        let Asked { work: Putting { key, when, body, state }, tell } = asked;
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

impl Putting {
    /// A put whose body has ended cleanly, in these chunks.
    pub(crate) fn new(
        key: Key,
        (chunks, bytes): (Vec<Bytes>, usize),
        etag: ETag,
        attributes: Attributes,
        when: PutWhen,
        body: PutBody,
    ) -> Self {
        Self { key, when, body, state: State::Received { chunks, bytes, etag, attributes } }
    }

    /// Writes it.
    fn stage(&mut self, store: &Store) {
        self.state = match std::mem::replace(&mut self.state, State::Taken) {
            State::Received { chunks, bytes, etag, attributes } => {
                match store.write_small(&self.key, &chunks, bytes, (etag, attributes)) {
                    Ok((staged, info)) => State::Staged(Box::new(staged), info),
                    Err(error) => State::Failed(error),
                }
            }
            other => other,
        };
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
