//! For a SQLite file.

pub(crate) type Db = sqlx::Sqlite;
/// A writer has the file for itself: it is one step anyhow.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";
pub(super) const LOCK_KEY: Option<&str> = None;
pub(super) const FOR_UPDATE: &str = "";

#[path = "statements.rs"]
pub(crate) mod statements;
