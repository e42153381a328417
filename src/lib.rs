//! Sluice: an S3-compatible object gateway.
//!
//! A bucket is a namespace, a namespace is a table of mounts, an object lives on the provider with the longest matching
//! prefix. `docs/ARCHITECTURE.md` is the plan of the house; a room imports from lower floors only, and `house.rs` checks it.

// Floor 0
pub mod error;
pub mod runtime;
pub mod telemetry;
// Floor 1
pub mod handles;
pub mod limits;
pub mod meta;
pub mod transfer;
// Floor 2
pub mod mounts;
pub mod tokens;
// Floor 3
pub mod encryption;
pub mod namespaces;
// Floor 4
pub mod uploads;
// Floor 5
pub mod objects;
// Floor 6
pub mod lifecycle;
// Floor 7
pub mod admin;
pub mod s3;
// Floor 8
pub mod config;
pub mod server;
// Floor 9
pub mod app;

#[cfg(test)]
mod house;
