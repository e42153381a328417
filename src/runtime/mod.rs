//! What keeps the process itself in order: the drain signal, the request gate, circuit breakers, supervised tasks, the threads of connections, the clock, its memory; and the TLS of its commands.
//!
//! It promises that a stop is orderly (running, draining, aborting, and never back), that admission is bounded and answered at
//! once, and that a panic in a background task is told and counted but takes nothing with it.

mod breaker;
mod clock;
mod drain;
mod gate;
mod memory;
mod outgoing;
mod reactors;
mod tasks;

pub(crate) use breaker::{Breaker, BreakerLimits};
pub use breaker::{Circuit, CircuitState};
pub use clock::unix_millis;
pub use drain::{Drain, Phase, Tracked};
pub use gate::{Gate, Permit};
pub use memory::{give_back_after_start, give_back_freed, settle};
pub use outgoing::{Stream, Trust};
pub use reactors::{Place, ReactorThreads, Reactors};
pub use tasks::{Task, aside, every, panics, spawn};
