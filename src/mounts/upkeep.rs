//! The sweep of everything that is mounted.
//!
//! Each provider is swept once however many mounts share it, one after the other, and never twice at a time: a provider whose file
//! system hangs keeps one sweep, and not one more each time.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sluice_provider as provider;

/// How long the sweep of one provider may keep the next waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// A provider that gathers things which somebody has to clear away now and then.
#[async_trait]
pub trait Sweep: Send + Sync + 'static {
    /// Clears them away. Must not block.
    ///
    /// # Errors
    /// What keeps it from doing so.
    async fn sweep(&self) -> provider::Result<()>;
}

/// The providers to be swept. Cheap to clone; clones are the same list. A provider that is not used any more is not held by it.
#[derive(Clone, Default)]
pub struct Upkeep(Arc<Mutex<Vec<Tended>>>);

#[derive(Clone)]
struct Tended {
    provider: Weak<dyn Sweep>,
    busy: Arc<AtomicBool>,
}

/// Ends the turn of a provider on drop.
struct Turn(Arc<AtomicBool>);

// === impl Upkeep ===

impl Upkeep {
    /// Puts a provider on the list.
    pub fn tend<S: Sweep>(&self, provider: &Arc<S>) {
        let provider = Arc::downgrade(provider) as Weak<dyn Sweep>;
        let mut list = self.0.lock();
        list.retain(|tended| tended.provider.strong_count() > 0);
        list.push(Tended { provider, busy: Arc::default() });
    }

    /// Sweeps all of them; answers how many were swept. Dropped half way, what is done is done.
    pub async fn sweep(&self) -> usize {
        let list = self.0.lock().clone();
        let mut swept = 0;
        for Tended { provider, busy } in list {
            let Some(provider) = provider.upgrade() else { continue };
            if busy.swap(true, Ordering::AcqRel) {
                tracing::warn!("a mount is not swept: the sweep before has not ended yet");
                continue;
            }
            let turn = Turn(busy);
            // On a task of its own, so that its turn ends when it does, and not when nobody waits any more.
            let sweeping = tokio::spawn(async move {
                let _turn = turn;
                provider.sweep().await
            });
            match tokio::time::timeout(PATIENCE, sweeping).await {
                Ok(Ok(Ok(()))) => swept += 1,
                Ok(Ok(Err(error))) => tracing::warn!(%error, "a mount was not swept"),
                Ok(Err(error)) => tracing::error!(%error, "the sweep of a mount panicked"),
                Err(_) => tracing::warn!("the sweep of a mount takes long; the others do not wait for it"),
            }
        }
        swept
    }
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upkeep").field(&self.0.lock().len()).finish()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test may panic")]
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;

    struct Probe {
        sweeps: AtomicUsize,
        gate: Semaphore,
        broken: bool,
    }

    impl Probe {
        fn new(permits: usize, broken: bool) -> Arc<Self> {
            Arc::new(Self { sweeps: AtomicUsize::new(0), gate: Semaphore::new(permits), broken })
        }

        fn sweeps(&self) -> usize {
            self.sweeps.load(Ordering::SeqCst)
        }
    }

    #[async_trait]
    impl Sweep for Probe {
        async fn sweep(&self) -> provider::Result<()> {
            self.sweeps.fetch_add(1, Ordering::SeqCst);
            assert!(!self.broken, "on purpose");
            drop(self.gate.acquire().await);
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_or_panics_does_not_keep_the_others() {
        let (hanging, broken, good) = (Probe::new(0, false), Probe::new(1, true), Probe::new(1, false));
        let upkeep = Upkeep::default();
        for probe in [&hanging, &broken, &good] {
            upkeep.tend(probe);
        }
        for turn in 1..=3 {
            assert_eq!(upkeep.sweep().await, 1);
            assert_eq!((hanging.sweeps(), broken.sweeps(), good.sweeps()), (1, turn, turn));
        }
        hanging.gate.add_permits(1);
        while upkeep.sweep().await != 2 {
            tokio::task::yield_now().await;
        }
        drop(good);
        assert_eq!(upkeep.sweep().await, 1, "what is not mounted any more is not swept");
    }
}
