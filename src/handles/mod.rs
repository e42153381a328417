//! What is open right now. Every GET, PUT and part holds a [`Guard`]; the sweep ends what stopped moving.
//!
//! Promises: a handle is gone when its guard is dropped, wherever that happens; the sweep never closes a handle that moved in
//! time or that is in the middle of I/O ([`Guard::busy`]), not even when it moves while the sweep is looking; no lock is held
//! while a handle is closed. A handle is I/O in progress, never a multipart session: those are rows and have a life of their own.

mod entry;
mod registry;
mod settings;
mod sweep;
#[cfg(test)]
mod tests;

pub use entry::Purpose;
pub use registry::{Busy, Counters, Guard, OpenHandle, Registry};
pub use settings::Settings;
pub use sweep::Sweep;
