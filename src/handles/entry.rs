//! One open handle: its name and a word of state.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// What a handle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A GET.
    Read,
    /// A PUT, copy or complete.
    Write,
    /// A part.
    Part,
}

impl Purpose {
    /// `read`, `write` or `part`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Part => "part",
        }
    }
}

// The word: the sweep decides about activity, I/O under way and closing in one compare-and-swap, so that a handle which moves
// at the last moment survives. Bits 0–39 milliseconds of the last activity (since the registry began, 34 years), 40–61 I/O
// under way, 62 released by its owner, 63 closed from outside.
const MOVED: u64 = (1 << 40) - 1;
const ONE_BUSY: u64 = 1 << 40;
const BUSY: u64 = ((1 << 22) - 1) << 40;
const RELEASED: u64 = 1 << 62;
const CLOSED: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Entry {
    word: AtomicU64,
    /// Wakes the owner when it was closed, and the sweep when it was released.
    changed: Notify,
    /// Bucket and key in one allocation.
    name: Box<str>,
    bucket_bytes: u16,
    pub(super) purpose: Purpose,
    /// Milliseconds since the registry began.
    pub(super) opened: u64,
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(bucket: &str, key: &str, purpose: Purpose, now: u64) -> Self {
        // A bucket name has at most 63 bytes; what is longer is cut for the display.
        let end = (0..=bucket.len().min(255)).rev().find(|end| bucket.is_char_boundary(*end)).unwrap_or(0);
        let mut name = String::with_capacity(end + key.len());
        name.push_str(&bucket[..end]);
        name.push_str(key);
        Self {
            word: AtomicU64::new(now & MOVED),
            changed: Notify::new(),
            name: name.into_boxed_str(),
            bucket_bytes: end as u16,
            purpose,
            opened: now,
        }
    }

    pub(super) fn bucket_and_key(&self) -> (&str, &str) {
        self.name.split_at(usize::from(self.bucket_bytes))
    }

    /// Bytes of this entry with its name and the two counts of its `Arc`.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> usize {
        size_of::<Self>() + self.name.len() + 2 * size_of::<usize>()
    }

    pub(super) fn touch(&self, now: u64) {
        self.change(|word| (word & !MOVED) | (now & MOVED));
    }

    pub(super) fn begin(&self, now: u64) {
        self.change(|word| ((word & !MOVED) | (now & MOVED)) + ONE_BUSY);
    }

    pub(super) fn end(&self, now: u64) {
        self.change(|word| ((word & !MOVED) | (now & MOVED)) - ONE_BUSY);
    }

    /// Whether nothing has moved for `idle` milliseconds and no I/O is under way.
    pub(super) fn is_idle(&self, now: u64, idle: u64) -> bool {
        Self::idle(self.word(), now, idle)
    }

    fn idle(word: u64, now: u64, idle: u64) -> bool {
        word & (BUSY | RELEASED | CLOSED) == 0 && now.saturating_sub(word & MOVED) >= idle
    }

    /// Closes it if it is idle at this very moment.
    pub(super) fn close_if_idle(&self, now: u64, idle: u64) -> bool {
        let word = self.word();
        Self::idle(word, now, idle) && self.close_if(word)
    }

    pub(super) fn word(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    /// Closes it if nothing has changed since its word was this.
    pub(super) fn close_if(&self, word: u64) -> bool {
        self.word.compare_exchange(word, word | CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Closes it in any case. The owner hears of it with [`wake`](Self::wake).
    pub(super) fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// The owner has let go.
    pub(super) fn release(&self) {
        let word = self.word.fetch_or(RELEASED, Ordering::AcqRel);
        if word & CLOSED != 0 {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.word() & CLOSED != 0
    }

    pub(super) async fn closed(&self) {
        self.until(CLOSED).await;
    }

    pub(super) async fn released(&self) {
        self.until(RELEASED).await;
    }

    async fn until(&self, bit: u64) {
        loop {
            // Registered before the look, so that a change between the two is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.word() & bit != 0 {
                return;
            }
            changed.await;
        }
    }

    fn change(&self, next: impl Fn(u64) -> u64) {
        let mut word = self.word.load(Ordering::Relaxed);
        while let Err(now) = self.word.compare_exchange_weak(word, next(word), Ordering::AcqRel, Ordering::Relaxed) {
            word = now;
        }
    }
}
