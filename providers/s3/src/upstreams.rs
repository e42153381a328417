//! Several upstreams of one mount: replicas of the same bucket, of which the first is the primary. All that is written goes to the
//! primary; a read goes to one of them, and on to another one where that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use sluice_provider::{Error, ErrorKind, Result, Upstream as Told};
use tokio::time::Instant;

use crate::Select;
use crate::remote::Remote;

/// The most upstreams of a mount.
pub(crate) const MOST: usize = 8;
/// After so long, what was measured counts half.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// What was not asked for so long is asked, to see how fast it is by now.
const UNSEEN: Duration = Duration::from_secs(60);
/// How long one that failed is left out: the first time, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The least share of reads that is taken to succeed, so that a cost stays a number.
const LEAST_SUCCESS: f64 = 0.05;

/// What all mounts with several upstreams of this process did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamUsage {
    /// Reads that primaries answered, and that they failed.
    pub primary: (u64, u64),
    /// Reads that replicas answered, and that they failed.
    pub replicas: (u64, u64),
    /// Reads that went on to another upstream.
    pub failovers: u64,
    /// Upstreams that are left out now.
    pub out: usize,
}

/// Of the primary and of replicas: reads that were answered, and that failed.
static READS: [[AtomicU64; 2]; 2] = [const { [const { AtomicU64::new(0) }; 2] }; 2];
static FAILOVERS: AtomicU64 = AtomicU64::new(0);
static OUT: AtomicUsize = AtomicUsize::new(0);

/// What all mounts with several upstreams of this process did so far.
#[must_use]
pub fn upstream_usage() -> UpstreamUsage {
    let [primary, replicas] =
        READS.each_ref().map(|[answered, failed]| (answered.load(Ordering::Relaxed), failed.load(Ordering::Relaxed)));
    UpstreamUsage { primary, replicas, failovers: FAILOVERS.load(Ordering::Relaxed), out: OUT.load(Ordering::Relaxed) }
}

/// A mean that forgets: what came in counts half after each [`HALF_LIFE`].
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    weight: f64,
    at: Option<Instant>,
}

impl Mean {
    fn add(&mut self, value: f64, now: Instant) {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let kept = 0.5_f64.powf(since.as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.sum = self.sum * kept + value;
        self.weight = self.weight * kept + 1.0;
        self.at = Some(now);
    }

    fn get(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    fn is_recent(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now.saturating_duration_since(at) < UNSEEN)
    }
}

#[derive(Debug)]
struct Health {
    /// Seconds to the begin of an answer.
    latency: Mean,
    /// 1 for each read that failed, 0 for each that did not.
    faults: Mean,
    /// How long it is left out the next time.
    pause: Duration,
    /// When it is looked at again, while it is left out.
    out: Option<Instant>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) remote: Remote,
    primary: bool,
    health: Mutex<Health>,
    in_flight: AtomicUsize,
    looking: AtomicBool,
}

/// A read that is under way at an upstream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reading(Arc<Upstream>);

impl Reading {
    fn begin(upstream: &Arc<Upstream>) -> Self {
        upstream.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(upstream))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if self.health.get_mut().out.is_some() {
            OUT.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether an error is one of the upstream, so that another one may do better.
fn is_fault(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Busy | ErrorKind::PermissionDenied)
}

/// Whether an answer may only mean that a replica has not caught up.
fn is_doubtful(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::PreconditionFailed | ErrorKind::RangeNotSatisfiable { .. })
}

impl Upstream {
    fn new(remote: Remote, primary: bool) -> Self {
        let health = Health { latency: Mean::default(), faults: Mean::default(), pause: PAUSE.0, out: None };
        Self { remote, primary, health: Mutex::new(health), in_flight: AtomicUsize::new(0), looking: AtomicBool::new(false) }
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn is_out(&self) -> bool {
        self.health.lock().out.is_some()
    }

    /// Notes how a read went.
    fn note(&self, took: Duration, error: Option<&ErrorKind>) {
        let fault = error.is_some_and(is_fault);
        if let Some(count) = READS.get(usize::from(!self.primary)).and_then(|of| of.get(usize::from(fault))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let now = Instant::now();
        let mut health = self.health.lock();
        health.faults.add(f64::from(u8::from(fault)), now);
        match error {
            // It is there, and asks for patience, or has something against this one object.
            Some(ErrorKind::Busy | ErrorKind::PermissionDenied) => {}
            _ if fault => self.leave_out(&mut health, now),
            _ => {
                health.latency.add(took.as_secs_f64(), now);
                health.pause = PAUSE.0;
                self.let_in(&mut health);
            }
        }
    }

    fn leave_out(&self, health: &mut Health, now: Instant) {
        if health.out.replace(now + health.pause).is_none() {
            OUT.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(upstream = self.remote.client.place(), "an upstream failed and is left out");
        }
        health.pause = (health.pause * 2).min(PAUSE.1);
    }

    fn let_in(&self, health: &mut Health) {
        if health.out.take().is_some() {
            OUT.fetch_sub(1, Ordering::Relaxed);
            tracing::info!(upstream = self.remote.client.place(), "an upstream is back");
        }
    }

    /// Looks whether one that is left out is there again, when it is time: once at a time, and nobody waits for it.
    fn look_again(self: &Arc<Self>) {
        struct Looking(Arc<Upstream>);
        impl Drop for Looking {
            fn drop(&mut self) {
                self.0.looking.store(false, Ordering::Release);
            }
        }
        let due = self.health.lock().out.is_some_and(|again| again <= Instant::now());
        if !due || self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let looking = Looking(Arc::clone(self));
        tokio::spawn(async move {
            let upstream = &looking.0;
            let found = upstream.remote.client.check_once().await;
            let mut health = upstream.health.lock();
            match found {
                Ok(()) => upstream.let_in(&mut health),
                Err(_) => upstream.leave_out(&mut health, Instant::now()),
            }
        });
    }

    fn tell(&self) -> Told {
        let now = Instant::now();
        let health = self.health.lock();
        let latency = health.latency.get().filter(|_| health.latency.is_recent(now));
        Told {
            place: self.remote.client.place(),
            primary: self.primary,
            available: health.out.is_none(),
            latency: latency.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            faults: health.faults.get().unwrap_or(0.0),
            in_flight: self.in_flight(),
        }
    }
}

/// All upstreams of a mount.
#[derive(Debug)]
pub(crate) struct Upstreams {
    /// The primary first.
    list: Vec<Arc<Upstream>>,
    select: Select,
    turn: AtomicUsize,
}

impl Upstreams {
    pub(crate) fn new(remotes: impl IntoIterator<Item = Remote>, select: Select) -> Self {
        let list = remotes.into_iter().take(MOST).enumerate().map(|(at, remote)| Arc::new(Upstream::new(remote, at == 0)));
        Self { list: list.collect(), select, turn: AtomicUsize::new(0) }
    }

    pub(crate) fn tell(&self) -> Vec<Told> {
        self.list.iter().map(|upstream| upstream.tell()).collect()
    }

    pub(crate) fn remotes(&self) -> impl Iterator<Item = &Remote> {
        self.list.iter().map(|upstream| &upstream.remote)
    }

    /// Reads at one of them, and at others while that fails. What a replica does not have the primary is asked for, because the replica
    /// may not have caught up. With `settled` false only the primary is asked. Each is asked once at most.
    pub(crate) async fn read<T, F>(&self, name: &str, settled: bool, work: impl Fn(Remote) -> F) -> Result<(T, Reading)>
    where
        F: Future<Output = Result<T>>,
    {
        let mut tried = 0_u32;
        let mut next = if settled { self.choose(name, tried) } else { self.list.first() };
        let mut only = !settled;
        loop {
            let upstream = next.ok_or_else(|| Error::new(ErrorKind::Internal, "a mount without an upstream"))?;
            tried |= self.bit(upstream);
            let last = only || tried.count_ones() as usize == self.list.len();
            let reading = Reading::begin(upstream);
            let began = Instant::now();
            // Others are asked before the same is asked again.
            let outcome = work(Remote { hasty: !last, ..upstream.remote.clone() }).await;
            upstream.note(began.elapsed(), outcome.as_ref().err().map(Error::kind));
            let error = match outcome {
                Ok(found) => return Ok((found, reading)),
                Err(error) => error,
            };
            let primary = self.list.first();
            if is_doubtful(error.kind()) && !upstream.primary {
                if primary.is_some_and(|primary| tried & self.bit(primary) != 0) {
                    let error = Error::new(ErrorKind::Unavailable, "read of a replica").caused_by(error);
                    return Err(error.with("reason", "it does not have it, and the primary cannot be asked"));
                }
                (next, only) = (primary, true);
                continue;
            }
            if last || !is_fault(error.kind()) {
                return Err(error);
            }
            tracing::debug!(%error, "a read goes on to another upstream");
            FAILOVERS.fetch_add(1, Ordering::Relaxed);
            next = self.choose(name, tried);
        }
    }

    fn bit(&self, upstream: &Arc<Upstream>) -> u32 {
        let at = self.list.iter().position(|other| Arc::ptr_eq(other, upstream));
        at.and_then(|at| u32::try_from(at).ok()).and_then(|at| 1_u32.checked_shl(at)).unwrap_or(0)
    }

    /// Which is asked next: of those that were not and are not left out as the mount selects, else the first that was not.
    fn choose(&self, name: &str, tried: u32) -> Option<&Arc<Upstream>> {
        let left: Vec<&Arc<Upstream>> = self.list.iter().filter(|upstream| tried & self.bit(upstream) == 0).collect();
        let mut available: Vec<&Arc<Upstream>> = Vec::with_capacity(left.len());
        for upstream in &left {
            if upstream.is_out() {
                upstream.look_again();
            } else {
                available.push(upstream);
            }
        }
        if available.len() < 2 {
            return available.first().or(left.first()).copied();
        }
        match self.select {
            Select::Affinity => available.into_iter().max_by_key(|upstream| rendezvous(&upstream.remote.client.place(), name)),
            Select::Balanced => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % available.len();
                available.rotate_left(turn);
                available.into_iter().min_by_key(|upstream| upstream.in_flight())
            }
            Select::Fastest => self.measured(&available, |upstream, latency, _| (latency, upstream.in_flight())),
            Select::Adaptive => self.measured(&available, |upstream, latency, faults| {
                let success = (1.0 - faults).max(LEAST_SUCCESS);
                (latency * (1 + upstream.in_flight()) as f64 / (success * success), 0)
            }),
        }
    }

    /// One that nobody knows of late, if it is not being asked just now; else the cheapest.
    fn measured<'a>(
        &self,
        available: &[&'a Arc<Upstream>],
        cost: impl Fn(&Upstream, f64, f64) -> (f64, usize),
    ) -> Option<&'a Arc<Upstream>> {
        let now = Instant::now();
        let mut costs = Vec::with_capacity(available.len());
        for upstream in available {
            let health = upstream.health.lock();
            let (latency, faults, known) = (health.latency.get(), health.faults.get(), health.latency.is_recent(now));
            drop(health);
            if !known && upstream.in_flight() == 0 {
                return Some(upstream);
            }
            // One that was never asked, and is being asked for the first time, may be as slow as it likes.
            let latency = latency.unwrap_or(f64::MAX);
            costs.push((cost(upstream, latency, faults.unwrap_or(0.0)), *upstream));
        }
        let cheapest = costs.into_iter().min_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        cheapest.map(|(_, upstream)| upstream)
    }
}

/// How much a key belongs to a place: the highest has it, and when a place goes only its keys go elsewhere. The same in every gateway.
fn rendezvous(place: &str, name: &str) -> [u8; 32] {
    Sha256::new().chain_update(place).chain_update([0]).chain_update(name).finalize().into()
}

/// What was written lately, so that it is read from the primary: a replica may not have it yet. Keys that share a slot are taken for one
/// another, which costs nothing but the choice.
#[derive(Debug)]
pub(crate) struct Recent {
    born: Instant,
    settle: Duration,
    /// When something of the slot was last written, in milliseconds since `born`, from 1 on; 0 for never.
    slots: Vec<AtomicU64>,
    last: AtomicU64,
}

impl Recent {
    pub(crate) fn new(settle: Duration, slots: usize) -> Self {
        let slots = (0..slots).map(|_| AtomicU64::new(0)).collect();
        Self { born: Instant::now(), settle, slots, last: AtomicU64::new(0) }
    }

    pub(crate) fn written(&self, slot: usize) {
        let now = self.now();
        self.last.store(now, Ordering::Release);
        if let Some(slot) = self.slots.get(slot) {
            slot.store(now, Ordering::Release);
        }
    }

    /// Whether replicas can be asked for what lies in a slot.
    pub(crate) fn settled(&self, slot: usize) -> bool {
        self.slots.get(slot).is_none_or(|slot| self.is_over(slot.load(Ordering::Acquire)))
    }

    /// Whether they can be asked for a listing.
    pub(crate) fn all_settled(&self) -> bool {
        self.is_over(self.last.load(Ordering::Acquire))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn is_over(&self, written: u64) -> bool {
        written == 0 || u128::from(self.now().saturating_sub(written)) >= self.settle.as_millis()
    }
}

#[cfg(test)]
mod tests;
