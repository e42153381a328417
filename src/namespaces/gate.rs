//! The gate between writers and the end of the bucket.
//!
//! A write that is published after DeleteBucket looked for objects and before the bucket is gone would be an object that nobody can
//! reach. So each write takes a permit for the moment of publication (not while its body arrives: a slow upload must not hold up
//! anybody), the delete takes all permits, looks, and closes the gate for good when the bucket is gone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, ErrorKind, Result};

/// More than there can be writers at once.
const PERMITS: u32 = 1 << 24;

/// The gate of one namespace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

/// The right to publish, given back on drop.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(PERMITS as usize)))
    }

    /// Waits while the bucket is being deleted. To be held from before the publication until after it.
    ///
    /// # Errors
    /// `NoSuchBucket` when the bucket is gone.
    pub async fn enter(&self) -> Result<Permit> {
        self.take(1).await
    }

    /// Waits until no writer is publishing, and keeps new ones out.
    ///
    /// # Errors
    /// `NoSuchBucket` when the bucket is gone already.
    pub(super) async fn enter_alone(&self) -> Result<Permit> {
        self.take(PERMITS).await
    }

    async fn take(&self, permits: u32) -> Result<Permit> {
        let permit = Arc::clone(&self.0).acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| Error::new(ErrorKind::NoSuchBucket, "enter a bucket that was deleted"))?;
        Ok(Permit { _permit: permit })
    }

    /// The bucket is gone: nobody publishes any more.
    pub(super) fn close(&self) {
        self.0.close();
    }

    /// Whether the bucket is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}
