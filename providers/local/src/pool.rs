//! Where blocking work runs, and how much of it at once.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use sluice_provider::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

/// A share of the runtime's blocking threads. What is begun runs to its end and counts until then, also when nobody waits for
/// it any more.
///
/// A thread that has done its work takes the next from the queue: under load nobody is woken for it. The queue holds what callers
/// wait for, so the requests under way bound it.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Mutex<Share>>);

/// Work that waits for a thread, over all pools.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// How much work waits for a thread, over all mounts.
#[must_use]
pub fn waiting_work() -> usize {
    WAITING.load(Ordering::Relaxed)
}

type Work = Box<dyn FnOnce() + Send>;

struct Share {
    free: usize,
    waiting: VecDeque<Work>,
    closed: bool,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("free", &self.free).field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(threads: usize) -> Self {
        Self(Arc::new(Mutex::new(Share { free: threads, waiting: VecDeque::new(), closed: false })))
    }

    /// Refuses all work from now on.
    #[cfg(test)]
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
    }

    /// Starts the work, as soon as there is a thread for it. When the answer is dropped before that, it is never done.
    pub(crate) fn start<T, F>(&self, work: F) -> Result<Running<T>>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.serve(move || {
            if !tell.is_closed() {
                let _ = tell.send(work());
            }
        })?;
        Ok(Running(told))
    }

    /// Does the work as soon as there is a thread for it, whoever waits.
    pub(crate) fn serve(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let work: Work = Box::new(work);
        let first = {
            let mut share = self.0.lock();
            if share.closed {
                return Err(Error::new(ErrorKind::Unavailable, "blocking pool"));
            }
            if share.free > 0 {
                share.free -= 1;
                Some(work)
            } else {
                share.waiting.push_back(work);
                WAITING.fetch_add(1, Ordering::Relaxed);
                None
            }
        };
        if let Some(work) = first {
            let share = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || serve(&share, work));
        }
        Ok(())
    }

    /// Starts the work and waits for its end.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        self.start(work)?.wait().await
    }
}

/// One thread at work, until nothing waits.
fn serve(share: &Mutex<Share>, first: Work) {
    let mut next = Some(first);
    while let Some(work) = next {
        // A panic is logged by the hook, and told to who waits by the end of the channel.
        let _ = catch_unwind(AssertUnwindSafe(work));
        let mut share = share.lock();
        next = share.waiting.pop_front();
        if next.is_none() {
            share.free += 1;
        } else {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Work under way.
pub(crate) struct Running<T>(oneshot::Receiver<Result<T>>);

impl<T> Running<T> {
    pub(crate) async fn wait(self) -> Result<T> {
        self.0.await.map_err(|e| Error::new(ErrorKind::Internal, "blocking work").caused_by(e))?
    }
}

/// Lets a bounded number of threads through: those that use a processor, while others wait for the disk.
#[derive(Debug)]
pub(crate) struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Gate {
    pub(crate) fn new(width: usize) -> Self {
        Self { free: Mutex::new(width), freed: Condvar::new() }
    }

    pub(crate) fn enter(&self) -> Entered<'_> {
        let mut free = self.free.lock();
        while *free == 0 {
            self.freed.wait(&mut free);
        }
        *free -= 1;
        Entered(self)
    }
}

/// Leaves the gate when dropped.
pub(crate) struct Entered<'a>(&'a Gate);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[tokio::test]
    async fn so_many_threads_work_and_the_rest_waits_its_turn() {
        let pool = Pool::new(2);
        let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let works: Vec<_> = (0..50)
            .map(|number| {
                let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
                pool.start(move || {
                    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    busy.fetch_sub(1, Ordering::SeqCst);
                    Ok(number)
                })
                .unwrap()
            })
            .collect();
        for (number, work) in works.into_iter().enumerate() {
            assert_eq!(work.wait().await.unwrap(), number);
        }
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn a_panic_costs_no_thread_and_what_nobody_waits_for_is_not_begun() {
        let pool = Pool::new(1);
        let failed: Result<()> = pool.run(|| panic!("on purpose")).await;
        assert_eq!(*failed.unwrap_err().kind(), ErrorKind::Internal);
        let (release, released) = mpsc::channel::<()>();
        let work = move || {
            released.recv().unwrap();
            Ok(())
        };
        let held = pool.start(work).unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let count = |begun: &Arc<AtomicUsize>| {
            let begun = Arc::clone(begun);
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        };
        drop(pool.start(count(&begun)).unwrap());
        let last = pool.start(count(&begun)).unwrap();
        release.send(()).unwrap();
        held.wait().await.unwrap();
        last.wait().await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        pool.close();
        assert_eq!(*pool.run(|| Ok(())).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
