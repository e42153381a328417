//! Digests of small bodies, computed in batches.
//!
//! A small body is hashed on the thread that received it: another thread costs more than the hash. The first body that is complete
//! lets the other tasks of its thread run once; the bodies that these have completed by then are hashed together with it. A body
//! that is alone on its way waits for nobody.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sluice_md5_lanes::{Kernel, MAX_LANES, Md5, update_all};
use tokio::sync::oneshot;

use crate::transfer::digests::Digests;

/// The most bodies that one turn of one task hashes: with 64 KiB each, it takes a millisecond at most.
const BATCH: usize = MAX_LANES;

/// The small bodies of a gateway.
#[derive(Debug)]
pub(super) struct Batches {
    kernel: Kernel,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bodies on their way.
    bodies: usize,
    waiting: Vec<Waiting>,
    /// Some body hashes, or is about to, what waits.
    led: bool,
}

#[derive(Debug)]
struct Waiting {
    digests: Box<Digests>,
    chunks: Vec<Bytes>,
    done: oneshot::Sender<Box<Digests>>,
}

/// A small body on its way, until it is dropped.
#[derive(Debug)]
pub(in crate::transfer) struct Small(Arc<Batches>);

impl Batches {
    pub(super) fn new(kernel: Kernel) -> Self {
        Self { kernel, state: Mutex::default() }
    }

    pub(super) fn enter(self: &Arc<Self>) -> Small {
        self.state.lock().bodies += 1;
        Small(Arc::clone(self))
    }

    /// Hashes a batch of what waits; whether there is more.
    fn hash_some(&self) -> bool {
        let mut batch: Vec<Waiting> = {
            let mut state = self.state.lock();
            let rest = state.waiting.len().saturating_sub(BATCH);
            let batch = state.waiting.split_off(rest);
            state.led = rest > 0;
            batch
        };
        let more = batch.len() == BATCH && self.state.lock().led;
        // Bodies have one or two chunks: the first of all, then the second.
        let most = batch.iter().map(|body| body.chunks.len()).max().unwrap_or(0);
        for at in 0..most {
            let mut streams: Vec<(&mut Md5, &[u8])> = Vec::with_capacity(batch.len());
            for body in &mut batch {
                if let Some(chunk) = body.chunks.get(at) {
                    body.digests.update_sums(chunk);
                    streams.push((&mut body.digests.md5, chunk));
                }
            }
            update_all(self.kernel, &mut streams);
        }
        for body in batch {
            // A body that is gone does not want it.
            let _ = body.done.send(body.digests);
        }
        more
    }
}

impl Small {
    /// Hashes the chunks of the whole body; `None` when whoever was to do it is gone.
    pub(in crate::transfer) async fn hash(&self, mut digests: Box<Digests>, chunks: &[Bytes]) -> Option<Box<Digests>> {
        let (done, told) = oneshot::channel();
        let leads = {
            let mut state = self.0.state.lock();
            if state.bodies < self.0.kernel.pays_from() {
                drop(state);
                chunks.iter().for_each(|chunk| digests.update(chunk));
                return Some(digests);
            }
            state.waiting.push(Waiting { digests, chunks: chunks.to_vec(), done });
            !std::mem::replace(&mut state.led, true)
        };
        if leads {
            let mut lead = Lead { batches: &self.0, more: true };
            while lead.more {
                tokio::task::yield_now().await;
                lead.more = self.0.hash_some();
            }
        }
        told.await.ok()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.0.state.lock().bodies -= 1;
    }
}

/// Whoever leads must not leave others waiting: given up in its turn, it does the rest at once.
struct Lead<'b> {
    batches: &'b Batches,
    more: bool,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        while self.more {
            self.more = self.batches.hash_some();
        }
    }
}
