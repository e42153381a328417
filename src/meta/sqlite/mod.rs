//! SQLite, the embedded store: one file in WAL mode, one connection that writes and a few that read, every commit on disk before it
//! is answered (`synchronous = FULL`). Two processes may have the file open; a busy file is waited for, within bounds.

mod busy;
mod copy;
mod identities;
mod identity_rows;
mod migrations;
mod open;
mod rows;
mod sql;
mod store;
#[cfg(test)]
mod tests;
mod types;

pub use open::SqliteStore;
