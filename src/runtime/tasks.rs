//! Background tasks that nobody awaits. A panic in one is told and counted; the process and the other tasks go on.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::{JoinError, JoinHandle};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// A running task, stopped on drop.
#[derive(Debug)]
#[must_use = "the task stops when this is dropped"]
pub struct Task(JoinHandle<()>);

impl Task {
    /// Resolves when the task has ended by itself.
    pub async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How many panics supervised tasks have caught since the process began.
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Runs a future in the background.
pub fn spawn(name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(async move {
        if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
            tell(name, panic.as_ref());
        }
    }))
}

/// Does work where it keeps nobody waiting if it takes long: on the blocking pool.
///
/// # Errors
/// It panicked there, or the runtime is ending.
pub async fn aside<T: Send + 'static>(long: bool, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if long { tokio::task::spawn_blocking(work).await } else { Ok(work()) }
}

/// Runs `work` every `period`, the first time after one period. A round that panics is told, and the next one comes all the same;
/// a round that takes longer than the period delays the next.
pub fn every<F, W>(name: &'static str, period: Duration, mut work: F) -> Task
where
    F: FnMut() -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    Task(tokio::spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            if let Err(panic) = AssertUnwindSafe(async { work().await }).catch_unwind().await {
                tell(name, panic.as_ref());
            }
        }
    }))
}

fn tell(name: &'static str, panic: &(dyn Any + Send)) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let why = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(task = name, why = why.unwrap_or("no message"), "a background task panicked");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test may panic")]

    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_round_is_counted_and_the_next_round_comes() {
        let (told, mut rounds) = tokio::sync::mpsc::unbounded_channel();
        let before = panics();
        let mut round = 0;
        let task = every("test", Duration::from_millis(1), move || {
            round += 1;
            let (round, told) = (round, told.clone());
            async move {
                let _ = told.send(round);
                assert!(round > 1, "the first round fails");
            }
        });
        assert_eq!(rounds.recv().await, Some(1));
        assert_eq!(rounds.recv().await, Some(2));
        assert!(panics() > before);
        drop(task);
        // Stopped on drop: the sender inside is gone, so the channel ends.
        while rounds.recv().await.is_some() {}
    }

    #[tokio::test]
    async fn a_task_that_panics_ends_alone() {
        let mut task = spawn("test", async { panic!("on purpose") });
        task.ended().await;
    }
}
