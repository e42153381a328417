//! A log writer that never makes its caller wait: a bounded queue and a thread. A line that finds the queue full is dropped and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait.
const QUEUE: usize = 8192;
/// How many bytes are written at once.
const BATCH_BYTES: usize = 64 * 1024;
/// How long the end of the process waits for a reader that does not read.
const FLUSH: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    End,
}

/// The writer. Clones feed the same thread.
#[derive(Clone)]
pub(super) struct Lines {
    queue: SyncSender<Message>,
    dropped: &'static AtomicU64,
}

/// Writes what is queued when dropped.
pub(super) struct Flush {
    queue: SyncSender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
    done: Arc<(Mutex<bool>, std::sync::Condvar)>,
}

impl Lines {
    /// Starts the thread over `out`.
    pub(super) fn start(out: impl Write + Send + 'static, dropped: &'static AtomicU64) -> io::Result<(Self, Flush)> {
        let (queue, lines) = sync_channel(QUEUE);
        let done = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
        let told = Arc::clone(&done);
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            copy(&lines, out);
            if let Ok(mut done) = told.0.lock() {
                *done = true;
            }
            told.1.notify_all();
        })?;
        Ok((Self { queue: queue.clone(), dropped }, Flush { queue, thread: Mutex::new(Some(thread)), done }))
    }
}

fn copy(lines: &Receiver<Message>, mut out: impl Write) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    while let Ok(first) = lines.recv() {
        let mut next = Ok(first);
        let mut end = false;
        loop {
            match next {
                Ok(Message::Line(line)) => batch.extend_from_slice(&line),
                Ok(Message::End) | Err(TryRecvError::Disconnected) => {
                    end = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
            if batch.len() >= BATCH_BYTES {
                break;
            }
            next = lines.try_recv();
        }
        // A log that cannot be written has nobody to tell.
        let _ = out.write_all(&batch).and_then(|()| out.flush());
        batch.clear();
        if end {
            return;
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        // A queue that is full may be a busy moment or a log that nobody reads: both get the same bounded time.
        let deadline = Instant::now() + FLUSH;
        loop {
            match self.queue.try_send(Message::End) {
                Ok(()) => break,
                Err(TrySendError::Full(_)) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return,
            }
        }
        let Ok(done) = self.done.0.lock() else { return };
        let finished = self.done.1.wait_timeout_while(done, FLUSH, |done| !*done).is_ok_and(|(done, _)| *done);
        if finished && let Ok(mut thread) = self.thread.lock() {
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.queue.try_send(Message::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// A reader that does not read until it is let.
    struct Blocked {
        gate: Receiver<()>,
        seen: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.gate.recv();
            self.seen.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_drops_lines_and_never_blocks() {
        static DROPPED: AtomicU64 = AtomicU64::new(0);
        let (open, gate) = std::sync::mpsc::channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut lines, flush) = Lines::start(Blocked { gate, seen: Arc::clone(&seen) }, &DROPPED).unwrap();
        for _ in 0..3 * QUEUE {
            lines.write_all(b"line\n").unwrap();
        }
        let dropped = usize::try_from(DROPPED.load(Ordering::Relaxed)).unwrap();
        assert!(dropped > 0 && dropped < 3 * QUEUE);
        drop(open);
        drop(flush);
        assert_eq!(seen.lock().unwrap().len(), (3 * QUEUE - dropped) * 5);
    }
}
