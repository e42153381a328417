//! Reading a log back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{Dir, Mode, OFlags, fsync};
use sluice_provider::{Attributes, ETag, Error, ErrorKind, Key, Result};

use super::Log;
use super::record::{self, LogId, Message, Place, Record};
use super::segment::{self, HEADER, Segment, Stored, fault};

/// The largest file that is taken for a segment.
const LARGEST: u64 = 4 << 30;

/// What is known of a topic, and its messages that are kept, in order.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) life: u64,
    pub(crate) key: Key,
    pub(crate) created: SystemTime,
    pub(crate) modified: SystemTime,
    pub(crate) etag: ETag,
    pub(crate) attributes: Attributes,
    /// The number of the first of the messages.
    pub(crate) start: u64,
    pub(crate) messages: Vec<(Bytes, Stored)>,
}

/// A topic as far as it has been read.
struct Partial {
    last: Message,
    messages: BTreeMap<u64, (Bytes, Stored)>,
}

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directory<'a> {
    pub(crate) path: &'a Path,
    /// Whether what is acknowledged was flushed.
    pub(crate) durable: bool,
    pub(crate) segment_bytes: u64,
    /// How many messages of a topic are kept.
    pub(crate) messages: usize,
    /// How long to wait for another owner.
    pub(crate) patience: Duration,
}

/// All bytes of a segment.
pub(super) fn contents(dir: BorrowedFd<'_>, number: u64) -> std::io::Result<Vec<u8>> {
    let file = segment::open(dir, &segment::name(number), OFlags::RDONLY)?;
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len().min(LARGEST)).unwrap_or(0));
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(std::io::Error::other("it is larger than any segment"));
    }
    Ok(bytes)
}

fn damaged(number: u64, offset: usize, why: &'static str) -> Error {
    let error = Error::new(ErrorKind::Corrupt, "read the log").with("segment", segment::name(number));
    error.with("offset", offset).with("reason", why)
}

impl Directory<'_> {
    /// Opens a log, makes one where there is none; answers the topics that it has and the first life that no topic has had.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] where somebody else has it open, [`ErrorKind::Corrupt`] for damage, and those of the file system.
    pub(crate) fn open(&self) -> Result<(Log, Vec<Life>, u64)> {
        let failed = |operation| move |error| fault(operation, error);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(self.path);
        made.map_err(failed("make the directory of the log"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::open(self.path, flags, Mode::empty()).map_err(|e| fault("open the directory of the log", e.into()))?;
        let lock = segment::lock(dir.as_fd(), self.patience)?;
        let mut numbers = Vec::new();
        for entry in Dir::read_from(&dir).map_err(|e| fault("list the log", e.into()))? {
            let entry = entry.map_err(|e| fault("list the log", e.into()))?;
            numbers.extend(entry.file_name().to_str().ok().and_then(segment::number));
        }
        numbers.sort_unstable();
        if self.durable && numbers.is_empty() {
            self.flush_names(&dir).map_err(failed("flush the directory of the log"))?;
        }
        let mut found = Found { id: None, lives: HashMap::new(), next_life: 1, messages: self.messages.max(1) };
        let mut segments: VecDeque<Arc<Segment>> = VecDeque::new();
        for (index, number) in numbers.iter().copied().enumerate() {
            if self.durable && segments.back().is_some_and(|before| before.number + 1 != number) {
                return Err(damaged(number, 0, "the segment before it is missing"));
            }
            let last = index + 1 == numbers.len();
            let bytes =
                contents(dir.as_fd(), number).map_err(|error| damaged(number, 0, "it cannot be read").caused_by(error))?;
            match segment::identity(&bytes) {
                Some((id, told)) if told == number && *found.id.get_or_insert(id) == id => {}
                // The process ended while it was being made; or nothing was flushed, and the power was gone.
                None if !self.durable || (last && bytes.len() <= HEADER) => {
                    segment::remove(dir.as_fd(), &segment::name(number))
                        .map_err(failed("remove a segment that was not begun"))?;
                    continue;
                }
                _ => return Err(damaged(number, 0, "its beginning is not one of this log")),
            }
            let segment = Segment::new(number, bytes.len() as u64);
            let end = found.read(&segment, &bytes);
            if end < bytes.len() {
                self.cut(dir.as_fd(), &segment, &bytes, end, (last, found.id))?;
            }
            segments.push_back(segment);
        }
        let id = match found.id {
            Some(id) => id,
            None => {
                let mut id = [0; 16];
                getrandom::fill(&mut id).map_err(|e| Error::new(ErrorKind::Unavailable, "random").with("cause", e))?;
                LogId(id)
            }
        };
        let active = match segments.back() {
            Some(last) => {
                let opened = segment::open(dir.as_fd(), &segment::name(last.number), OFlags::RDWR);
                let opened = opened.map_err(failed("open the log to write"))?;
                if self.durable {
                    // What a process wrote that was killed before it had flushed it will be told of from now on.
                    opened.sync_data().map_err(failed("flush the log"))?;
                }
                Some(opened)
            }
            None => None,
        };
        let next_life = found.next_life;
        let lives = found.into_lives();
        let (durable, segment_bytes) = (self.durable, self.segment_bytes);
        Ok((Log { dir, _lock: lock, id, durable, segment_bytes, segments, active, torn: false }, lives, next_life))
    }

    /// The names of the directory and those above it, which may have been made just now.
    fn flush_names(&self, dir: &OwnedFd) -> std::io::Result<()> {
        fsync(dir)?;
        for above in self.path.ancestors().skip(1) {
            // One that may not be read was not made by this process.
            if let Ok(above) = File::open(above) {
                above.sync_all()?;
            }
        }
        Ok(())
    }

    /// Cuts off what is not whole at the end of a segment, if that is all that it can be.
    fn cut(
        &self,
        dir: BorrowedFd<'_>,
        segment: &Segment,
        bytes: &[u8],
        end: usize,
        (last, id): (bool, Option<LogId>),
    ) -> Result<()> {
        let number = segment.number;
        let place = Place { log: id.unwrap_or(LogId([0; 16])), segment: number, offset: end as u64 };
        if self.durable && (!last || record::flushed_before(&bytes[end..], place)) {
            return Err(damaged(number, end, "a record is damaged, and what was written after it is not"));
        }
        let cut = bytes.len() - end;
        tracing::warn!(
            segment = segment::name(number),
            offset = end,
            bytes = cut,
            "the end of the log is not whole and is cut off"
        );
        let shortened = segment::open(dir, &segment::name(number), OFlags::RDWR).and_then(|file| {
            file.set_len(end as u64)?;
            file.sync_all()
        });
        shortened.map_err(|error| fault("cut off the end of the log", error))?;
        segment.grown(end as u64);
        Ok(())
    }
}

/// What was read so far.
struct Found {
    id: Option<LogId>,
    lives: HashMap<u64, Partial>,
    next_life: u64,
    messages: usize,
}

impl Found {
    /// Reads the records of a segment; answers where the last whole one ends.
    fn read(&mut self, segment: &Arc<Segment>, bytes: &[u8]) -> usize {
        let mut at = HEADER;
        let Some(log) = self.id else { return at };
        while at < bytes.len() {
            let place = Place { log, segment: segment.number, offset: at as u64 };
            let Some((record, length)) = bytes.get(at..).and_then(|rest| record::read(rest, place)) else { break };
            match record {
                Record::Deletion { life } => drop(self.lives.remove(&life)),
                Record::Message(message) => self.take(message, Stored::new(segment, length as u64)),
            }
            at += length;
        }
        at
    }

    fn take(&mut self, message: Message, stored: Stored) {
        self.next_life = self.next_life.max(message.life.saturating_add(1));
        let (sequence, bytes) = (message.sequence, message.bytes.clone());
        let life = self.lives.entry(message.life);
        let partial = life.or_insert_with(|| Partial { last: message.clone(), messages: BTreeMap::new() });
        if sequence >= partial.last.sequence {
            partial.last = message;
        }
        // One that was written once more while its segment was given up is the same again.
        partial.messages.insert(sequence, (bytes, stored));
        while partial.messages.len() > self.messages {
            partial.messages.pop_first();
        }
    }

    fn into_lives(self) -> Vec<Life> {
        let mut by_key: HashMap<Key, Life> = HashMap::new();
        for (life, partial) in self.lives {
            let last = partial.last;
            // Of those that had left the ring some may be there still, and with a larger ring there would be gaps among them.
            let (mut start, mut messages) = (last.sequence + 1, VecDeque::new());
            for (sequence, message) in partial.messages.into_iter().rev() {
                if sequence + 1 != start {
                    break;
                }
                start = sequence;
                messages.push_front(message);
            }
            let Message { key, created, modified, etag, attributes, .. } = last;
            let messages = messages.into();
            let one = Life { life, key: key.clone(), created, modified, etag, attributes, start, messages };
            // Where deletions were not flushed, there may be two.
            if by_key.get(&key).is_none_or(|other| other.life < life) {
                by_key.insert(key, one);
            }
        }
        by_key.into_values().collect()
    }
}
