//! Reactors: threads that serve connections of their own, each near to where the packets of its connections arrive.
//!
//! A task of the shared runtime runs on whichever thread is free, so a connection goes from processor to processor, and what the kernel holds for
//! it (socket, buffers, the pages of the file that it sends) with it. A connection that stays where its packets are processed finds all that
//! in the caches of one processor; see docs/adr/0012-reactors.md for what that saves. The price is that nobody takes work off a thread that is
//! busy, so no reactor gets many more connections than the others.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use futures::FutureExt as _;
use rustix::thread::{CpuSet, sched_getaffinity};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

/// How many more connections than another a reactor may have in any case, all reactors together, beside half as many again. A client opens its
/// connections one after the other, so those that belong to one processor arrive in a row, and those of the next only then.
const AHEAD: usize = 32;

/// The reactors, to place connections on. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Reactors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// At least one.
    all: Vec<Reactor>,
    /// The processors that this process may run on.
    cpus: Vec<usize>,
}

#[derive(Debug)]
struct Reactor {
    runtime: Handle,
    connections: AtomicUsize,
}

/// The threads of the reactors. They end when this is [stopped](Self::stop) or dropped.
#[derive(Debug)]
pub struct ReactorThreads {
    reactors: Reactors,
    /// What tells each to end.
    stops: Vec<oneshot::Sender<Duration>>,
    /// Disconnected when all have ended.
    ended: Receiver<()>,
}

/// The place of a connection on a reactor, given back on drop.
#[derive(Debug)]
pub struct Place {
    reactors: Reactors,
    index: usize,
}

impl ReactorThreads {
    /// Starts `count` reactors, at least one; `build` makes their runtimes, which have one thread each.
    ///
    /// # Errors
    /// A runtime or a thread cannot be made; those that were end.
    pub fn start(count: usize, build: impl Fn() -> io::Result<Runtime>) -> io::Result<Self> {
        let (mut all, mut stops) = (Vec::new(), Vec::new());
        let (runs, ended) = mpsc::channel();
        for _ in 0..count.max(1) {
            let runtime = build()?;
            all.push(Reactor { runtime: runtime.handle().clone(), connections: AtomicUsize::new(0) });
            let (stop, stopped) = oneshot::channel();
            let runs: Sender<()> = runs.clone();
            thread::Builder::new().name("reactor".to_owned()).spawn(move || {
                let grace = runtime.block_on(stopped).unwrap_or_default();
                runtime.shutdown_timeout(grace);
                drop(runs);
            })?;
            stops.push(stop);
        }
        // In a set of more processors than the mask has room for, the numbers themselves have to do.
        let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        Ok(Self { reactors: Reactors(Arc::new(Inner { all, cpus })), stops, ended })
    }

    /// Where connections are placed.
    #[must_use]
    pub fn reactors(&self) -> Reactors {
        self.reactors.clone()
    }

    /// Ends the threads with all that they still serve. Blocking work may take as long as `grace` to end; a thread that does not come back from
    /// what it does is left behind after twice that.
    pub fn stop(self, grace: Duration) {
        for stop in self.stops {
            // One that has ended already is what is wanted.
            let _ = stop.send(grace);
        }
        if self.ended.recv_timeout(grace * 2) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a thread of connections does not end");
        }
    }
}

impl Reactors {
    /// A place for a connection whose packets are processed on the processor `cpu`: on the reactor that stands for that processor, unless it has
    /// too many more than another. Where all packets arrive on one processor, connections are spread nevertheless.
    #[must_use]
    pub fn place(&self, cpu: Option<usize>) -> Place {
        let counts: Vec<usize> = self.0.all.iter().map(|reactor| reactor.connections.load(Ordering::Relaxed)).collect();
        let index = choose(&counts, cpu.map(|cpu| self.0.near(cpu)));
        if let Some(reactor) = self.0.all.get(index) {
            reactor.connections.fetch_add(1, Ordering::Relaxed);
        }
        Place { reactors: self.clone(), index }
    }
}

impl Inner {
    /// The reactor that stands for a processor.
    fn near(&self, cpu: usize) -> usize {
        self.cpus.iter().position(|&allowed| allowed == cpu).unwrap_or(cpu) % self.all.len().max(1)
    }
}

/// Which of the reactors with so many connections each gets one more.
fn choose(counts: &[usize], near: Option<usize>) -> usize {
    let Some((index, fewest)) = counts.iter().copied().enumerate().min_by_key(|&(_, count)| count) else { return 0 };
    let most = fewest + (fewest / 2).max(AHEAD / counts.len()).max(1);
    near.filter(|&near| counts.get(near).is_some_and(|&count| count <= most)).unwrap_or(index)
}

impl Place {
    /// Runs what serves the connection on its reactor, and gives the place back when that has ended.
    pub fn spawn(self, connection: impl Future<Output = ()> + Send + 'static) {
        if let Some(reactor) = self.reactors.0.all.get(self.index) {
            let runtime = reactor.runtime.clone();
            // Not in an async block, which would have room for the connection twice.
            runtime.spawn(connection.map(|()| drop(self)));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(reactor) = self.reactors.0.all.get(self.index) {
            reactor.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use std::time::Instant;

    use proptest::prelude::*;
    use tokio::runtime::Builder;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn start(count: usize) -> ReactorThreads {
        ReactorThreads::start(count, || Builder::new_current_thread().enable_all().build()).unwrap()
    }

    fn counts(reactors: &Reactors) -> Vec<usize> {
        reactors.0.all.iter().map(|reactor| reactor.connections.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn a_connection_is_served_where_it_was_placed_and_its_place_comes_back() {
        let threads = start(3);
        let reactors = threads.reactors();
        let (told, heard) = mpsc::channel();
        let places = [(); 6].map(|()| reactors.place(None));
        assert_eq!(counts(&reactors), [2, 2, 2]);
        for place in places {
            let (index, told) = (place.index, told.clone());
            place.spawn(async move {
                told.send((index, thread::current().id())).unwrap();
                assert!(index != 1, "a panic takes no other connection with it, and no place");
            });
        }
        let mut served: Vec<_> = (0..6).map(|_| heard.recv_timeout(SOON).unwrap()).collect();
        served.sort_by_key(|&(index, _)| index);
        served.dedup();
        assert_eq!(served.len(), 3, "each reactor has a thread, and each connection one of them: {served:?}");
        let since = Instant::now();
        while counts(&reactors) != [0, 0, 0] {
            assert!(since.elapsed() < SOON, "{:?}", counts(&reactors));
            thread::yield_now();
        }
        threads.stop(SOON);
    }

    #[test]
    fn what_still_runs_ends_with_the_threads() {
        let threads = start(2);
        let reactors = threads.reactors();
        let (told, heard) = mpsc::channel::<()>();
        reactors.place(None).spawn(async move {
            std::future::pending::<()>().await;
            drop(told);
        });
        threads.stop(SOON);
        assert_eq!(heard.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected), "the connection was dropped");
        assert_eq!(counts(&reactors), [0, 0]);
        // Too late, it is dropped at once.
        reactors.place(None).spawn(async { panic!("served after the end") });
        assert_eq!(counts(&reactors), [0, 0]);
    }

    #[test]
    fn a_thread_that_does_not_come_back_is_left_behind() {
        let threads = start(2);
        let (held, until) = mpsc::channel::<()>();
        let (told, heard) = mpsc::channel();
        threads.reactors().place(None).spawn(async move {
            told.send(()).unwrap();
            let _ = until.recv_timeout(SOON);
        });
        heard.recv_timeout(SOON).unwrap();
        let since = Instant::now();
        threads.stop(Duration::from_millis(20));
        assert!(since.elapsed() < SOON / 2);
        drop(held);
    }

    #[test]
    fn processors_stand_for_reactors_whatever_their_numbers() {
        let threads = start(2);
        let all =
            [(); 2].map(|()| Reactor { runtime: threads.reactors.0.all[0].runtime.clone(), connections: AtomicUsize::new(0) });
        let inner = Inner { all: all.into(), cpus: vec![8, 10] };
        assert_eq!([8, 10, 5, 4].map(|cpu| inner.near(cpu)), [0, 1, 1, 0]);
    }

    proptest! {
        #[test]
        fn the_nearest_gets_it_unless_it_has_too_many(
            reactors in 1..40_usize,
            arrivals in prop::collection::vec((0..40_usize, any::<bool>()), 1..300),
            one_only in any::<bool>(),
        ) {
            let mut counts = vec![0_usize; reactors];
            for (cpu, leaves) in arrivals {
                let near = if one_only { 0 } else { cpu % reactors };
                let fewest = *counts.iter().min().unwrap();
                let room = (fewest / 2).max(AHEAD / reactors).max(1);
                let chosen = choose(&counts, Some(near));
                prop_assert_eq!(chosen == near || counts[near] == fewest, counts[near] <= fewest + room);
                prop_assert!(chosen == near || counts[chosen] == fewest);
                counts[chosen] += 1;
                if leaves {
                    counts[cpu % reactors] = counts[cpu % reactors].saturating_sub(1);
                }
            }
            prop_assert_eq!(choose(&[3, 1, 2], None), 1);
        }
    }
}
