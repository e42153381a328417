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
        self.together(dir)
    }

    fn together(&self, dir: BorrowedFd<'_>) -> Sys<()> {
        let stat = fstat(dir)?;
        let id = (stat.st_dev, stat.st_ino);
        let group = Arc::clone(self.groups.lock().entry(id).or_default());
        let result = group.join(|| fsync(dir));
        drop(group);
        let mut groups = self.groups.lock();
        if groups.get(&id).is_some_and(|group| Arc::strong_count(group) == 1) {
            groups.remove(&id);
        }
        result
    }

    /// Makes a directory; it is durable before anybody's object in it is acknowledged.
    pub(crate) fn make(&self, parent: BorrowedFd<'_>, make: impl FnOnce() -> Sys<()>) -> Sys<()> {
        if !self.durable {
            return make();
        }
        let _making = self.making.read();
        make()?;
        self.together(parent)
    }
}

impl Group {
    fn turn(&self, number: u64) -> &Condvar {
        let [even, odd] = &self.ended;
        if number.is_multiple_of(2) { even } else { odd }
    }

    fn join(&self, flush: impl FnOnce() -> Sys<()>) -> Sys<()> {
        let mut round = self.round.lock();
        // A flush that is under way may have begun before our change.
        let wanted = round.ended + if round.running { 2 } else { 1 };
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
                group.join(|| {
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
                    group.join(|| {
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
}
