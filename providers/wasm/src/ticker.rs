//! The clock that stops calls: it moves the epoch of the engine on while calls are running, and rests while none are.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use wasmtime::Engine;

/// The grain of the time limit.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// A thread that ticks. Ends when the last handle is dropped.
#[derive(Debug)]
pub(crate) struct Ticker(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    ended: bool,
}

/// A call that is running, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running(Arc<Shared>);

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (engine, ours) = (engine.weak(), Arc::clone(&shared));
        std::thread::Builder::new().name("sluice-plugins".to_owned()).spawn(move || {
            loop {
                {
                    let mut state = ours.state.lock();
                    while state.running == 0 && !state.ended {
                        ours.wake.wait(&mut state);
                    }
                    if state.ended {
                        return;
                    }
                }
                std::thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self(shared))
    }

    pub(crate) fn running(&self) -> Running {
        self.0.state.lock().running += 1;
        self.0.wake.notify_one();
        Running(Arc::clone(&self.0))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.wake.notify_one();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
    }
}
