//! The wiring: what `sluice serve` starts, in which order, and how it stops; and the commands beside it.
//!
//! Start order is data directory, metadata store, tokens, listeners (bound, not yet served), root key, layers, service. A drain goes
//! the other way: listeners close, requests end, handles close, the store closes, the data directory is let go.

mod commands;
mod data_dir;
mod doctor;
mod failure;
mod first_start;
mod listeners;
mod reload;
mod serve;

pub use commands::run;
