//! Objects in the tables of a SQLite file or a PostgreSQL server, in two kinds:
//!
//! - **kv**: small values, each in one row. A conditional write is a compare-and-swap in one transaction.
//! - **page**: an object is a row that names a body, and the pages of that body. A ranged read touches its pages alone, pages of zeros are
//!   not stored, a put swaps the body in one transaction, and whoever reads the old one goes on reading it for [`Settings::keep`].
//!
//! Promises beside those of the contract:
//!
//! - **Nobody's rows but one's own.** Every statement names the space of the mount.
//! - **No page is lost sight of.** A body that belongs to no object is in the table of bodies, from before its first page is stored until
//!   after its last one is removed; [`Database::sweep`] removes those that are due.
//! - **Removed while it is read is an error**, never zeros.

mod append;
mod backend;
mod bodies;
mod error;
mod list;
mod multipart;
mod provider;
mod row;
mod settings;

pub use provider::Database;
pub use settings::{KNOWN_SETTINGS, Kind, Settings};
