//! Where blocking work runs, and how much of it at once.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use sluice_provider::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A share of the runtime's blocking threads. The permit stays with the work, not with the future that waits for it: work whose
/// future was dropped still counts until it has ended.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Semaphore>);

impl Pool {
    pub(crate) fn new(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(threads)))
    }

    /// Refuses all work from now on.
    #[cfg(test)]
    pub(crate) fn close(&self) {
        self.0.close();
    }

    /// Waits for a thread and starts the work on it.
    pub(crate) async fn start<T, F>(&self, work: F) -> Result<Running<T>>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let permit = permit.map_err(|e| Error::new(ErrorKind::Unavailable, "blocking pool").caused_by(e))?;
        Ok(Running(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })))
    }

    /// Starts the work and waits for its end.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        self.start(work).await?.wait().await
    }
}

/// Work under way.
pub(crate) struct Running<T>(JoinHandle<Result<T>>);

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
