//! What the parts of a connection tell each other: its stream, the request on it, the answer's body.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tokio::time::{Duration, Instant};

use super::files::Files;
use super::streams::Streams;

/// What times are counted from.
pub(super) static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The state of a connection. HTTP/1 has one request on it at a time; of HTTP/2 it is one stream.
#[derive(Debug)]
pub(super) struct Connection {
    busy: AtomicBool,
    blocked: AtomicBool,
    awaits_body: AtomicBool,
    unread: AtomicBool,
    received: AtomicU64,
    moved: AtomicU64,
    sends_files: bool,
    files: Files,
    /// The connection that it is a stream of.
    streams: Option<Arc<Streams>>,
    /// Whether a piece of the answer waits for the client; of streams only.
    owed: AtomicBool,
    /// Whether the client waits for a 100 (Continue) that hyper does not send.
    interim: AtomicBool,
}

impl Connection {
    /// A new connection. `sends_files` where its stream is the socket itself, with nothing between that would have to see the bytes.
    pub(super) fn new(sends_files: bool) -> Self {
        Self::with(sends_files, None)
    }

    /// A stream of an HTTP/2 connection.
    pub(super) fn of_streams(streams: Arc<Streams>) -> Self {
        Self::with(false, Some(streams))
    }

    fn with(sends_files: bool, streams: Option<Arc<Streams>>) -> Self {
        Self {
            busy: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            awaits_body: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            received: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            sends_files,
            files: Files::default(),
            streams,
            owed: AtomicBool::new(false),
            interim: AtomicBool::new(false),
        }
    }

    /// Whether its stream has the kernel send files.
    pub(super) fn sends_files(&self) -> bool {
        self.sends_files
    }

    /// The files that are queued on it.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.received.store(0, Ordering::Relaxed);
        self.unread.store(false, Ordering::Release);
        self.note_moved();
        let before = self.busy.swap(true, Ordering::AcqRel);
        if let Some(streams) = self.streams.as_ref().filter(|_| !before) {
            streams.begin();
        }
    }

    /// Its answer has been handed over, or was dropped.
    pub(super) fn end(&self) {
        let before = self.busy.swap(false, Ordering::AcqRel);
        if let Some(streams) = self.streams.as_ref().filter(|_| before) {
            self.set_owed(false);
            streams.end();
        }
    }

    /// Notes, of a stream, whether a piece of its answer waits for the client.
    pub(super) fn set_owed(&self, owed: bool) {
        if let Some(streams) = &self.streams
            && self.owed.swap(owed, Ordering::AcqRel) != owed
        {
            streams.owe(owed);
        }
    }

    /// Notes that the answer is to begin with a 100 (Continue).
    pub(super) fn owe_interim(&self) {
        self.interim.store(true, Ordering::Release);
    }

    /// Whether it is, once.
    pub(super) fn take_interim(&self) -> bool {
        self.interim.load(Ordering::Acquire) && self.interim.swap(false, Ordering::AcqRel)
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Notes whether the peer does not take what is written.
    pub(super) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Release);
    }

    /// Whether closing now would take something from the client.
    pub(super) fn in_the_middle(&self) -> bool {
        self.is_busy() || self.blocked.load(Ordering::Acquire)
    }

    /// Notes whether the service waits for bytes of the request's body.
    pub(super) fn set_awaits_body(&self, awaits: bool) {
        self.awaits_body.store(awaits, Ordering::Release);
    }

    /// Whether it is the client's turn.
    pub(super) fn awaits_body(&self) -> bool {
        self.awaits_body.load(Ordering::Acquire)
    }

    /// Notes that the rest of the request's body is not wanted.
    pub(super) fn note_unread(&self) {
        self.unread.store(true, Ordering::Release);
    }

    /// Whether the client may still be sending what nobody reads.
    pub(super) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Acquire)
    }

    /// Notes bytes of a request body.
    pub(super) fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.note_moved();
    }

    /// Bytes of the current request's body.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// When the current request last moved.
    pub(super) fn last_moved(&self) -> Instant {
        *EPOCH + Duration::from_micros(self.moved.load(Ordering::Relaxed))
    }

    /// The time of the current request starts anew.
    pub(super) fn note_moved(&self) {
        let now = u64::try_from(EPOCH.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A stream that the client gave up before there was an answer.
        self.end();
    }
}
