//! Group commit for directories.
//!
//! A new name is durable when its directory was flushed after the name appeared. Writers of one directory share a flush: whoever
//! comes while one is under way waits for the next, which then covers all who came meanwhile.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, RwLock};
use rustix::fs::{fstat, fsync};
use rustix::io::Errno;

use crate::error::Sys;

#[derive(Debug, Default)]
struct Round {
    /// How many flushes have ended.
    ended: u64,
    running: bool,
    /// How many wait for one to end.
    waiting: usize,
    /// The last flush that failed.
    failed: Option<(u64, Errno)>,
}

#[derive(Debug, Default)]
struct Group {
    round: Mutex<Round>,
    /// Those who wait for an even and for an odd one: only they are woken when it ends, and of those who wait for the next, the one
    /// who makes it.
    ended: [Condvar; 2],
}

/// Flushes, or lets the kernel do it when it likes.
#[derive(Debug)]
pub(crate) struct Flush {
    durable: bool,
    groups: Mutex<HashMap<(u64, u64), Arc<Group>>>,
    /// Read while a directory is being made and flushed, so that a writer who found it there can wait until it is durable.
    making: RwLock<()>,
}

impl Flush {
    pub(crate) fn new(durable: bool) -> Self {
        Self { durable, groups: Mutex::default(), making: RwLock::new(()) }
    }

    pub(crate) fn durable(&self) -> bool {
        self.durable
    }

    /// Flushes a file with its attributes.
    pub(crate) fn file(&self, file: BorrowedFd<'_>) -> Sys<()> {
        if self.durable { fsync(file) } else { Ok(()) }
    }

    /// Makes every change of a directory up to now durable.
    pub(crate) fn directory(&self, dir: BorrowedFd<'_>) -> Sys<()> {
        if !self.durable {
            return Ok(());
        }
        drop(self.making.write());
        self.changed(dir)?.together(dir)
    }

    /// Takes note that a directory has changed. Every flush that begins from now on covers that, also one that others make before
    /// [`reach`](Self::reach) asks for it.
    pub(crate) fn changed(&self, dir: BorrowedFd<'_>) -> Sys<Changed<'_>> {
        let stat = fstat(dir)?;
        let id = (stat.st_dev, stat.st_ino);
        let group = Arc::clone(self.groups.lock().entry(id).or_default());
        let wanted = group.next();
        Ok(Changed { flush: self, id, group: Some(group), wanted })
    }

    /// Makes a change of a directory durable that was noted, if nobody has done it meanwhile.
    pub(crate) fn reach(&self, change: Changed<'_>, dir: BorrowedFd<'_>) -> Sys<()> {
        if !self.durable {
            return Ok(());
        }
        drop(self.making.write());
        change.together(dir)
    }

    /// Makes a directory; it is durable before anybody's object in it is acknowledged.
    pub(crate) fn make(&self, parent: BorrowedFd<'_>, make: impl FnOnce() -> Sys<()>) -> Sys<()> {
        if !self.durable {
            return make();
        }
        let _making = self.making.read();
        make()?;
        fsync(parent)
    }

    /// Makes a directory that nobody else finds before this returns: others make theirs in the same parent, and share the flush.
    pub(crate) fn make_own(&self, parent: BorrowedFd<'_>, make: impl FnOnce() -> Sys<()>) -> Sys<()> {
        make()?;
        if self.durable { self.changed(parent)?.together(parent) } else { Ok(()) }
    }
}

/// A change of a directory that is not durable yet.
#[derive(Debug)]
pub(crate) struct Changed<'a> {
    flush: &'a Flush,
    id: (u64, u64),
    /// There until it is dropped.
    group: Option<Arc<Group>>,
    /// The flush that covers it.
    wanted: u64,
}

impl Changed<'_> {
    fn together(self, dir: BorrowedFd<'_>) -> Sys<()> {
        self.group.as_ref().map_or(Ok(()), |group| group.reach(self.wanted, || fsync(dir)))
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        self.group = None;
        let mut groups = self.flush.groups.lock();
        if groups.get(&self.id).is_some_and(|group| Arc::strong_count(group) == 1) {
            groups.remove(&self.id);
        }
    }
}

impl Group {
    fn turn(&self, number: u64) -> &Condvar {
        let [even, odd] = &self.ended;
        if number.is_multiple_of(2) { even } else { odd }
    }

    /// The flush that covers a change which was made just now.
    fn next(&self) -> u64 {
        let round = self.round.lock();
        // A flush that is under way may have begun before our change.
        round.ended + if round.running { 2 } else { 1 }
    }

    fn reach(&self, wanted: u64, flush: impl FnOnce() -> Sys<()>) -> Sys<()> {
        let mut round = self.round.lock();
        while round.ended < wanted {
            if round.running {
                round.waiting += 1;
                self.turn(wanted).wait(&mut round);
                round.waiting -= 1;
                continue;
            }
            round.running = true;
            drop(round);
            let result = flush();
            round = self.round.lock();
            round.running = false;
            round.ended += 1;
            if let Err(errno) = result {
                round.failed = Some((round.ended, errno));
            }
            self.turn(round.ended).notify_all();
            self.turn(round.ended + 1).notify_one();
            // Nobody can have begun another one since we found none running, so ours is the one that was wanted, or later.
            return result;
        }
        match round.failed {
            Some((failed, errno)) if failed >= wanted => Err(errno),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    #[test]
    fn those_who_come_during_a_flush_share_the_next() {
        let group = Arc::new(Group::default());
        let flushes = Arc::new(AtomicU64::new(0));
        let (started, begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let leader = std::thread::spawn({
            let (group, flushes) = (Arc::clone(&group), Arc::clone(&flushes));
            move || {
                group.reach(group.next(), || {
                    flushes.fetch_add(1, Ordering::SeqCst);
                    started.send(()).unwrap();
                    released.recv().unwrap();
                    Ok(())
                })
            }
        });
        begun.recv().unwrap();
        let followers: Vec<_> = (0..8)
            .map(|_| {
                let (group, flushes) = (Arc::clone(&group), Arc::clone(&flushes));
                std::thread::spawn(move || {
                    group.reach(group.next(), || {
                        flushes.fetch_add(1, Ordering::SeqCst);
                        Err(Errno::IO)
                    })
                })
            })
            .collect();
        while group.round.lock().waiting < 8 {
            std::thread::yield_now();
        }
        release.send(()).unwrap();
        assert_eq!(leader.join().unwrap(), Ok(()));
        for follower in followers {
            assert_eq!(follower.join().unwrap(), Err(Errno::IO));
        }
        assert_eq!(flushes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_change_is_covered_by_a_flush_that_began_after_it() {
        let group = Group::default();
        let before = group.next();
        let flushed = std::cell::Cell::new(0);
        let flush = || {
            flushed.set(flushed.get() + 1);
            Ok(())
        };
        group.reach(group.next(), flush).unwrap();
        group.reach(before, flush).unwrap();
        assert_eq!(flushed.get(), 1, "somebody else's flush began after the change");
        group.reach(group.next(), flush).unwrap();
        assert_eq!(flushed.get(), 2, "and before this one");
        // A change that comes while a flush is under way is not covered by it, nor by its failure.
        let during = std::cell::Cell::new(0);
        let failed = group.reach(group.next(), || {
            during.set(group.next());
            Err(Errno::IO)
        });
        assert_eq!(failed, Err(Errno::IO));
        group.reach(during.get(), flush).unwrap();
        assert_eq!(flushed.get(), 3);
        // A flush that failed covers nobody.
        let change = group.next();
        let _ = group.reach(group.next(), || Err(Errno::IO));
        assert_eq!(group.reach(change, flush), Err(Errno::IO));
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let (dir, flush) = (tempfile::tempdir().unwrap(), Flush::new(true));
        let dir = std::fs::File::open(dir.path()).unwrap();
        drop(flush.changed(std::os::fd::AsFd::as_fd(&dir)).unwrap());
        let one = flush.changed(std::os::fd::AsFd::as_fd(&dir)).unwrap();
        let other = flush.changed(std::os::fd::AsFd::as_fd(&dir)).unwrap();
        flush.reach(one, std::os::fd::AsFd::as_fd(&dir)).unwrap();
        assert_eq!(flush.groups.lock().len(), 1);
        flush.reach(other, std::os::fd::AsFd::as_fd(&dir)).unwrap();
        assert!(flush.groups.lock().is_empty());
    }
}
