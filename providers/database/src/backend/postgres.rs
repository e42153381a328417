//! For a PostgreSQL server.

pub(crate) type Db = sqlx::Postgres;
pub(super) const BEGIN: &str = "BEGIN";
/// One writer per key at a time, whether it has a row or not.
pub(super) const LOCK_KEY: Option<&str> = Some("SELECT pg_advisory_xact_lock($1)");
pub(super) const FOR_UPDATE: &str = " FOR UPDATE";

#[allow(clippy::duplicate_mod, reason = "the same statements, for the types of another database")]
#[path = "statements.rs"]
pub(crate) mod statements;
