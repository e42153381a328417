//! Being told what changes in directories: inotify(7).
//!
//! The kernel queues an event for every name that comes, goes or changes, whoever does it, before the system call that did it
//! returns; so whoever has read the queue empty knows of every change that ended before. Holds where this kernel itself makes
//! all changes, which is not so on network file systems.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;

use crate::error::Sys;

/// Room for some hundred events a system call.
const BUFFER_BYTES: usize = 16 * 1024;

/// Names that come and go, and files that change: content, attributes, and the end of writing through a mapping.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE);

/// What a queue tells.
pub(crate) enum Told<'a> {
    /// Something is new about a name in a watched directory.
    Name(i32, &'a [u8]),
    /// The directory is not watched any more: it was removed or unmounted.
    Ended(i32),
    /// Events were lost.
    Lost,
}

/// A queue of events.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// EMFILE when the user has too many (`fs.inotify.max_user_instances`).
    pub(crate) fn new() -> Sys<Self> {
        init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map(Self)
    }

    /// Begins to watch an open directory; one that is watched already keeps its number. ENOSPC when the user watches too many
    /// (`fs.inotify.max_user_watches`).
    pub(crate) fn add(&self, dir: BorrowedFd<'_>) -> Sys<i32> {
        // A path that was looked up twice may lead to two directories; this one leads to ours.
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        add_watch(&self.0, path, CHANGES | WatchFlags::ONLYDIR | WatchFlags::EXCL_UNLINK)
    }

    /// Ends a watch. Events of it may still come.
    pub(crate) fn remove(&self, number: i32) {
        // It may have ended by itself.
        let _ = remove_watch(self.0.as_fd(), number);
    }

    /// Hands out all events that are queued.
    pub(crate) fn drain(&self, mut tell: impl FnMut(Told<'_>)) {
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; BUFFER_BYTES];
        let mut events = Reader::new(self.0.as_fd(), &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => tell(Told::Lost),
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => tell(Told::Ended(event.wd())),
                Ok(event) => {
                    if let Some(name) = event.file_name() {
                        tell(Told::Name(event.wd(), name.to_bytes()));
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    tracing::warn!(%errno, "events of directories cannot be read");
                    return tell(Told::Lost);
                }
            }
        }
    }
}
