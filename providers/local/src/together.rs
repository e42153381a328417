//! Requests that are served together.
//!
//! Those that come while others are being served wait, and are then served all at once by one thread: it pays for a directory, a
//! flush and a change of threads once for all of them. Whoever comes alone waits for nobody. The requests under way bound what waits.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;
use sluice_provider::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

/// How many requests are served in one go at most.
const MOST: usize = 64;

/// Requests that wait for a thread.
#[derive(Debug)]
pub(crate) struct Together<W, T>(Mutex<Queue<W, T>>);

#[derive(Debug)]
struct Queue<W, T> {
    /// How many more threads may be started.
    free: usize,
    waiting: VecDeque<Asked<W, T>>,
}

/// A request, and who waits for its answer.
#[derive(Debug)]
pub(crate) struct Asked<W, T> {
    pub(crate) work: W,
    pub(crate) tell: oneshot::Sender<T>,
}

impl<W, T> Asked<W, T> {
    pub(crate) fn new(work: W) -> (Self, Answer<T>) {
        let (tell, told) = oneshot::channel();
        (Self { work, tell }, Answer(told))
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.tell.is_closed()
    }
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer<T>(oneshot::Receiver<T>);

impl<T> Answer<T> {
    pub(crate) async fn wait(self) -> Result<T> {
        self.0.await.map_err(|gone| Error::new(ErrorKind::Internal, "requests that were served together").caused_by(gone))
    }
}

impl<W, T> Together<W, T> {
    /// So many threads serve at most.
    pub(crate) fn new(threads: usize) -> Self {
        Self(Mutex::new(Queue { free: threads, waiting: VecDeque::new() }))
    }

    /// Puts a request in the queue, and says whether a thread is needed for it, which calls [`serve`](Self::serve).
    pub(crate) fn join(&self, asked: Asked<W, T>) -> bool {
        let mut queue = self.0.lock();
        queue.waiting.push_back(asked);
        let start = queue.free > 0;
        queue.free -= usize::from(start);
        start
    }

    /// One thread at work, until nothing waits.
    pub(crate) fn serve(&self, mut together: impl FnMut(Vec<Asked<W, T>>)) {
        while let Some(batch) = self.next() {
            // A panic is logged by the hook, and told to those who wait by the end of their channels. The others have to be served.
            let _ = catch_unwind(AssertUnwindSafe(|| together(batch)));
        }
    }

    /// No thread could be started: whoever waits is told by the end of the channel.
    pub(crate) fn refuse(&self) {
        while self.next().is_some() {}
    }

    /// What is to be served next. `None` ends a thread: its place is free again, and the next who joins starts another.
    fn next(&self) -> Option<Vec<Asked<W, T>>> {
        let mut batch: Vec<_> = {
            let mut queue = self.0.lock();
            if queue.waiting.is_empty() {
                queue.free += 1;
                return None;
            }
            let count = queue.waiting.len().min(MOST);
            queue.waiting.drain(..count).collect()
        };
        // Nothing is begun for those who do not wait any more.
        batch.retain(|asked| !asked.is_given_up());
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use super::*;

    fn join<W, T>(queue: &Together<W, T>, work: W) -> (Answer<T>, bool) {
        let (asked, answer) = Asked::new(work);
        (answer, queue.join(asked))
    }

    #[tokio::test]
    async fn those_who_come_meanwhile_are_served_in_one_go() {
        let queue = Together::<u32, u32>::new(1);
        let (first, start) = join(&queue, 1);
        assert!(start);
        let mut later = Vec::new();
        let mut sizes = Vec::new();
        queue.serve(|batch| {
            sizes.push(batch.len());
            if later.is_empty() {
                for number in 2..=4 {
                    let (answer, start) = join(&queue, number);
                    assert!(!start, "the one thread there is takes it");
                    later.push(answer);
                }
                // Gave up before anything was begun.
                drop(join(&queue, 9));
            }
            for Asked { work, tell } in batch {
                assert_ne!(work, 9);
                let _ = tell.send(work * 10);
            }
        });
        assert_eq!(sizes, [1, 3]);
        assert_eq!(first.wait().await.unwrap(), 10);
        for (number, answer) in later.into_iter().enumerate() {
            assert_eq!(answer.wait().await.unwrap(), 20 + 10 * u32::try_from(number).unwrap());
        }
        assert!(join(&queue, 5).1, "the thread has ended");
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_batch_only() {
        let queue = Together::<bool, ()>::new(1);
        let (bad, _) = join(&queue, true);
        let mut good = None;
        queue.serve(|batch| {
            for Asked { work, tell } in batch {
                if work {
                    good = Some(join(&queue, false).0);
                    panic!("on purpose");
                }
                tell.send(()).unwrap();
            }
        });
        assert_eq!(*bad.wait().await.unwrap_err().kind(), ErrorKind::Internal);
        good.unwrap().wait().await.unwrap();
        let (refused, start) = join(&queue, false);
        assert!(start);
        queue.refuse();
        refused.wait().await.unwrap_err();
        assert!(join(&queue, false).1);
    }
}
