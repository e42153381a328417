//! Digests of large bodies, computed side by side.
//!
//! MD5 is the most expensive thing that a gateway does with a large body, and one body cannot use more than one lane of the
//! processor's vectors. Bodies that are on their way at the same time can use them together: each hands over what it has gathered
//! ([`Lanes::hash`]) and goes on gathering; a thread of the blocking pool takes all of them one step at a time, so that whoever
//! comes during a step joins the next. A body that is alone waits for nobody; one that has company, bodies that handed something
//! over a moment ago and will again, waits a moment for it. With more bodies than lanes there are more threads, up to the number of
//! cores. Checksums are computed in the same step, while the bytes are in the processor's cache.
//!
//! The queue holds one piece of work per body at most, and a body waits for it: the bodies under way bound it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use sluice_md5_lanes::{Kernel, Md5, update_all};
use tokio::sync::oneshot;

use self::batch::Batches;
pub(super) use self::batch::Small;
use super::digests::Digests;

mod batch;

/// Bytes that a body gathers before it hands them over; bodies of up to an eighth of it are hashed where they are received, because
/// another thread costs more than it saves.
const PIECE_BYTES: usize = 512 * 1024;
/// The most bytes of a body in one step: those who wait for the next step wait for 30 to 120 µs.
const STEP_BYTES: usize = 64 * 1024;
/// No step is shorter for the sake of a body that has less: the others would make steps of nothing.
const LEAST_STEP_BYTES: usize = 4 * 1024;

/// Who handed something over this long ago is still expected to come again: at 100 MB/s a piece takes as long.
const COMPANY: Duration = Duration::from_millis(5);
/// How long a piece of work waits for company, all in all. A piece that is hashed alone takes twice to three times as long.
const PATIENCE: Duration = Duration::from_micros(500);

/// Bodies of fewer bytes are hashed at once, in less time than it takes to find company.
const LEAST_BATCHED_BYTES: u64 = 1024;

/// What hashes bodies side by side. Cheap to clone; the clones share threads and lanes.
#[derive(Clone, Debug)]
pub struct Lanes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kernel: Kernel,
    /// The most threads at work.
    threads: usize,
    piece_bytes: usize,
    queue: Mutex<Queue>,
    /// Something was handed over.
    more: Condvar,
    small: Arc<Batches>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Work>,
    /// Pieces of work that threads have taken.
    taken: usize,
    /// Threads at work.
    threads: usize,
    /// Bodies by number, and when they handed something over last; those of a moment ago only.
    company: Vec<(u64, Instant)>,
    next_body: u64,
}

/// A body's place among those that hash side by side. Dropped, nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Body {
    lanes: Lanes,
    number: u64,
}

/// Some bytes of one body.
#[derive(Debug)]
struct Work {
    digests: Box<Digests>,
    chunks: Vec<Bytes>,
    /// The chunk that is next, and how much of it was taken.
    at: (usize, usize),
    done: oneshot::Sender<Box<Digests>>,
    /// When it was handed over.
    since: Instant,
}

impl Lanes {
    /// Lanes of their own.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        Self::with(kernel, threads, PIECE_BYTES)
    }

    /// Lanes with so many threads at most, for pieces of any size.
    pub(super) fn with(kernel: Kernel, threads: usize, piece_bytes: usize) -> Self {
        Self(Arc::new(Shared {
            kernel,
            threads,
            piece_bytes,
            queue: Mutex::default(),
            more: Condvar::new(),
            small: Arc::new(Batches::new(kernel)),
        }))
    }

    /// How much a body gathers before it hands it over, in bytes.
    pub(super) fn piece_bytes(&self) -> usize {
        self.0.piece_bytes
    }

    /// Up to how many bytes are hashed where they are received.
    pub(super) fn at_once_bytes(&self) -> usize {
        self.0.piece_bytes / 8
    }

    /// A place for one more small body of `bytes` bytes; `None` when it is better off alone, or is not small.
    pub(super) fn small(&self, bytes: u64) -> Option<Small> {
        (LEAST_BATCHED_BYTES..=self.at_once_bytes() as u64).contains(&bytes).then(|| self.0.small.enter())
    }

    /// A place for one more large body.
    pub(super) fn body(&self) -> Body {
        let mut queue = self.0.queue.lock();
        queue.next_body += 1;
        Body { lanes: self.clone(), number: queue.next_body }
    }
}

impl Body {
    pub(super) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Hands chunks over; the digests come back when they have taken them. When the answer is dropped, the rest is not hashed.
    pub(super) fn hash(&self, digests: Box<Digests>, chunks: Vec<Bytes>) -> oneshot::Receiver<Box<Digests>> {
        let (done, told) = oneshot::channel();
        let (shared, since) = (&self.lanes.0, Instant::now());
        let another = {
            let mut queue = shared.queue.lock();
            queue.company.retain(|(number, last)| *number != self.number && since.duration_since(*last) < COMPANY);
            queue.company.push((self.number, since));
            queue.waiting.push_back(Work { digests, chunks, at: (0, 0), done, since });
            let another = queue.threads < shared.threads_for(queue.waiting.len() + queue.taken);
            queue.threads += usize::from(another);
            another
        };
        if another {
            let thread = Thread { shared: Arc::clone(shared), works: Vec::new(), left: false };
            tokio::task::spawn_blocking(move || thread.run());
        } else {
            shared.more.notify_one();
        }
        told
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.lanes.0.queue.lock().company.retain(|(number, _)| *number != self.number);
    }
}

impl Shared {
    /// How many threads so many pieces of work are for.
    fn threads_for(&self, works: usize) -> usize {
        let side_by_side = if works < self.kernel.pays_from() { 1 } else { self.kernel.lanes() };
        works.div_ceil(side_by_side).min(self.threads)
    }
}

/// One thread at work. Counts as one until it leaves, or is dropped, however it ends.
struct Thread {
    shared: Arc<Shared>,
    works: Vec<Work>,
    left: bool,
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut queue = self.shared.queue.lock();
        queue.threads -= 1;
        queue.taken -= self.works.len();
        if queue.threads == 0 && thread::panicking() {
            // Nobody would take what waits before another body comes: they are told now that it will not be hashed.
            queue.waiting.clear();
        }
    }
}

impl Thread {
    fn run(mut self) {
        while self.take() {
            self.step();
            self.tell();
        }
    }

    /// Does not count any more, from the same moment on in which there was nothing to do: whoever hands something over after it has to start
    /// another thread.
    fn leave(&mut self, queue: &mut Queue) {
        queue.threads -= 1;
        self.left = true;
    }

    /// Takes what waits, as far as there are lanes; whether there is anything to do. If there is nothing, this thread has left.
    fn take(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.queue.lock();
        self.wait_for_company(&shared, &mut queue);
        let all = queue.waiting.len() + queue.taken;
        if queue.threads > shared.threads_for(all).max(1) {
            // The others can take ours side by side with theirs.
            queue.taken -= self.works.len();
            queue.waiting.extend(self.works.drain(..));
            self.leave(&mut queue);
            return false;
        }
        let share = all.div_ceil(queue.threads.max(1)).clamp(1, shared.kernel.lanes());
        while self.works.len() < share
            && let Some(work) = queue.waiting.pop_front()
        {
            // Nobody waits for it any more.
            if !work.done.is_closed() {
                queue.taken += 1;
                self.works.push(work);
            }
        }
        if self.works.is_empty() {
            self.leave(&mut queue);
        }
        !self.left
    }

    /// Waits while others are expected, and no piece of work has waited long.
    fn wait_for_company(&self, shared: &Shared, queue: &mut MutexGuard<'_, Queue>) {
        let lanes = shared.kernel.lanes();
        if shared.kernel.pays_from() > lanes {
            return;
        }
        loop {
            let here = self.works.len() + queue.waiting.len();
            let oldest = self.works.iter().chain(queue.waiting.front()).map(|work| work.since).min();
            let Some(until) = oldest.map(|since| since + PATIENCE) else { return };
            let now = Instant::now();
            let expected = queue.company.iter().filter(|(_, last)| now.duration_since(*last) < COMPANY).count();
            if here >= expected.min(lanes) || now >= until {
                return;
            }
            shared.more.wait_until(queue, until);
        }
    }

    /// One step of all.
    fn step(&mut self) {
        let shortest = self.works.iter().map(|work| work.rest().len()).min().unwrap_or(0);
        let most = shortest.clamp(LEAST_STEP_BYTES, STEP_BYTES);
        let mut streams: Vec<(&mut Md5, &[u8])> = Vec::with_capacity(self.works.len());
        for work in &mut self.works {
            let bytes = rest(&work.chunks, work.at);
            streams.push((&mut work.digests.md5, &bytes[..bytes.len().min(most)]));
        }
        update_all(self.shared.kernel, &mut streams);
        for work in &mut self.works {
            let bytes = rest(&work.chunks, work.at);
            let bytes = &bytes[..bytes.len().min(most)];
            work.digests.update_sums(bytes);
            work.at.1 += bytes.len();
            while work.chunks.get(work.at.0).is_some_and(|chunk| chunk.len() == work.at.1) {
                work.at = (work.at.0 + 1, 0);
            }
        }
    }

    /// Gives back what is done.
    fn tell(&mut self) {
        let before = self.works.len();
        for work in self.works.extract_if(.., |work| work.at.0 >= work.chunks.len()) {
            // A body that is gone does not want it.
            let _ = work.done.send(work.digests);
        }
        let done = before - self.works.len();
        if done > 0 {
            self.shared.queue.lock().taken -= done;
        }
    }
}

impl Work {
    fn rest(&self) -> &[u8] {
        rest(&self.chunks, self.at)
    }
}

/// What was not taken of a chunk.
fn rest(chunks: &[Bytes], (chunk, taken): (usize, usize)) -> &[u8] {
    chunks.get(chunk).and_then(|chunk| chunk.get(taken..)).unwrap_or(&[])
}

#[cfg(test)]
mod tests;
