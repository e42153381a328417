//! Objects as plain files on any POSIX file system.
//!
//! A key is a path: `a/b/c.txt` is the file `a/b/c.txt` under the root, readable by every other program, and a file that another
//! program drops there is an object at once. What a path cannot say (`a` beside `a/b`, `a//b`, `..`, long segments) is kept under
//! reserved names beginning with `.sluice` (the module `name` lists them). Promises:
//!
//! - **No key leaves the root.** Every look-up is one of `openat2` with `RESOLVE_BENEATH`, or a walk that follows nothing.
//! - **The bytes of a published object are never modified in place.** New content is a new inode, staged in the hidden space and renamed
//!   to its place; what is appended lies beyond the size that readers know, until one system call changes that size.
//! - **Attributes travel with the inode** in one extended attribute, or in a record that exists before the object does.
//! - **Conditions hold across processes**: every change of a key happens under an advisory lock in the hidden space.
//! - **Nothing blocks the reactor**, except the read path's system calls that answer from memory or not at all.

mod append;
mod attributes;
mod chunk;
mod copy;
mod create;
mod delete;
mod directory;
mod error;
mod etag;
mod flush;
mod known;
mod list;
mod lock;
mod meta;
mod multipart;
mod name;
mod object;
mod pool;
mod provider;
mod publish;
mod read;
mod record;
mod rename;
mod seen;
mod settings;
mod shelf;
mod small;
mod snapshot;
mod space;
mod store;
mod sweep;
mod together;
mod tree;
mod versions;
mod watch;
mod write;

#[cfg(test)]
mod tests;

pub use pool::waiting_work;
pub use provider::Local;
pub use settings::{Durability, Settings, Snapshots};
pub use shelf::{SnapshotUsage, limit_snapshots, snapshot_usage};
pub use sweep::Swept;
