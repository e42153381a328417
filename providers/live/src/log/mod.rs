//! The log of a mount of topics: what is acknowledged is still there when the process was killed or the power was gone.
//!
//! All topics of a mount share one sequence of files, the segments; names of topics are in records only, and never in a path. Records are
//! added at the end of the last segment and flushed, many at a time, before anybody is told of them. What is at the end of the last segment
//! and not whole was never acknowledged: it is cut off when the log is opened. What is not whole elsewhere is damage, and the mount
//! does not open.
//!
//! Not a database: messages are read once, when the mount is opened, and never looked for; what is left is one write and one flush for all who
//! publish at the same time.
//!
//! A message that left its ring, or whose topic was deleted, is dead weight. When the dead outweigh the living, the oldest segment is
//! given up: its living messages are written once more at the end, then it is removed. A deletion can be forgotten with its segment, because
//! every record of the topic before it went with the segments before, or with the same one.

mod record;
mod replay;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{OFlags, fdatasync, fsync};
use sluice_provider::{Key, Result};

use self::record::{FIRST, LogId, Place};
pub(crate) use self::record::{Message, Record};
pub(crate) use self::replay::{Directory, Life};
use self::segment::{HEADER, fault};
pub(crate) use self::segment::{PATIENCE, Segment, Stored};

/// How long a segment gets before the next is begun.
pub(crate) const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;

/// An open log. Everything it does blocks.
#[derive(Debug)]
pub(crate) struct Log {
    dir: OwnedFd,
    _lock: OwnedFd,
    id: LogId,
    durable: bool,
    segment_bytes: u64,
    /// Oldest first.
    segments: VecDeque<Arc<Segment>>,
    /// The last one, which is written to. None before the first record.
    active: Option<File>,
    /// A write or flush failed: what is beyond the length of the last segment is to be cut off before anything is added.
    torn: bool,
}

impl Log {
    fn flush(&self, file: &File) -> std::io::Result<()> {
        if self.durable { Ok(fdatasync(file)?) } else { Ok(()) }
    }

    fn flush_directory(&self) -> std::io::Result<()> {
        if self.durable { Ok(fsync(&self.dir)?) } else { Ok(()) }
    }

    /// Begins the next segment.
    fn rotate(&mut self) -> std::io::Result<Arc<Segment>> {
        let number = self.segments.back().map_or(1, |last| last.number + 1);
        // What is there under that name is what an attempt before left: the directory is ours.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let file = segment::open(self.dir.as_fd(), &segment::name(number), flags)?;
        file.write_all_at(&segment::header(self.id, number), 0)?;
        self.flush(&file)?;
        self.flush_directory()?;
        let segment = Segment::new(number, HEADER as u64);
        self.segments.push_back(Arc::clone(&segment));
        self.active = Some(file);
        Ok(segment)
    }

    /// The segment to be written to.
    fn writable(&mut self) -> std::io::Result<Arc<Segment>> {
        match (&self.active, self.segments.back()) {
            (Some(file), Some(last)) => {
                if self.torn {
                    file.set_len(last.bytes())?;
                    self.flush(file)?;
                }
                let last = Arc::clone(last);
                self.torn = false;
                if last.bytes() < self.segment_bytes { Ok(last) } else { self.rotate() }
            }
            _ => self.rotate(),
        }
    }

    /// Adds records, all or none, and answers where they lie. They are flushed when this returns.
    ///
    /// # Errors
    /// Those of the file system. What was written of them is cut off before anything else is added.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<Vec<Stored>> {
        let segment = self.writable().map_err(|error| fault("prepare the log", error))?;
        let start = segment.bytes();
        let base = Place { log: self.id, segment: segment.number, offset: start };
        let mut bytes = Vec::new();
        let mut lengths = Vec::with_capacity(records.len());
        for record in records {
            let flags = if lengths.is_empty() { FIRST } else { 0 };
            lengths.push(record.encode(&mut bytes, base, flags));
        }
        let Some(file) = &self.active else { return Ok(Vec::new()) };
        let written = file.write_all_at(&bytes, start).and_then(|()| self.flush(file));
        if let Err(error) = written {
            self.torn = true;
            return Err(fault("write the log", error));
        }
        segment.grown(start + bytes.len() as u64);
        // A deletion lies there for nobody to read.
        let stored = records.iter().zip(lengths).map(|(record, bytes)| match record {
            Record::Message(_) => Stored::new(&segment, bytes),
            Record::Deletion { .. } => Stored::new(&segment, 0),
        });
        Ok(stored.collect())
    }

    /// The segment to be given up next, if it is time for that.
    pub(crate) fn outweighed(&self) -> Option<Arc<Segment>> {
        let oldest = self.segments.front().filter(|_| self.segments.len() > 1)?;
        let (bytes, live) = self.weight();
        // One whose messages are all dead costs nothing to give up.
        (oldest.live() == 0 || bytes > live.saturating_mul(2) + 2 * self.segment_bytes).then(|| Arc::clone(oldest))
    }

    /// How many bytes the log has, and how many of them are messages that are kept.
    pub(crate) fn weight(&self) -> (u64, u64) {
        let add = |(bytes, live), segment: &Arc<Segment>| (bytes + segment.bytes(), live + segment.live());
        self.segments.iter().fold((0, 0), add)
    }

    /// The topics that have records in a segment; `None` when it cannot be read.
    pub(crate) fn topics_in(&self, segment: &Segment) -> Option<BTreeSet<Key>> {
        let bytes = replay::contents(self.dir.as_fd(), segment.number).ok()?;
        let mut keys = BTreeSet::new();
        let mut at = HEADER;
        while at < bytes.len() {
            let place = Place { log: self.id, segment: segment.number, offset: at as u64 };
            let (record, length) = record::read(bytes.get(at..)?, place)?;
            if let Record::Message(message) = record {
                keys.insert(message.key);
            }
            at += length;
        }
        Some(keys)
    }

    /// Removes the oldest segment, in which nothing lives any more.
    ///
    /// # Errors
    /// Those of the file system; then it is still to be removed.
    pub(crate) fn remove_oldest(&mut self) -> Result<()> {
        let Some(oldest) = self.segments.front() else { return Ok(()) };
        let removed = segment::remove(self.dir.as_fd(), &segment::name(oldest.number));
        // Durable before the next one goes: a deletion in that one must not be gone before the messages in this one are.
        removed.and_then(|()| self.flush_directory()).map_err(|error| fault("remove a segment of the log", error))?;
        self.segments.pop_front();
        Ok(())
    }
}
