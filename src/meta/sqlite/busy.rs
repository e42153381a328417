//! Failures: which are worth another try, and what the others are called.
//!
//! Another process may hold the write lock (`sluice key create` beside a running gateway). SQLite itself waits for
//! [`BUSY_TIMEOUT`]; what is still busy then is tried a few times more. Nothing was written when SQLite says "busy", so repeating
//! is safe.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::meta::both::again;

/// How long SQLite waits for a lock before it gives up (<https://www.sqlite.org/c3ref/busy_timeout.html>). It waits on the connection's own thread.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits between tries; their number bounds the tries.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(30), Duration::from_millis(90), Duration::from_millis(270)];

/// `SQLITE_BUSY` and `SQLITE_LOCKED` (<https://www.sqlite.org/rescode.html>): the primary codes, in the low byte.
const BUSY_CODES: [i32; 2] = [5, 6];

/// Does a piece of work, again when the file was busy.
pub(super) async fn patiently<T, F, Fut>(work: F) -> sqlx::Result<T>
where
    F: Fn() -> Fut + Send,
    Fut: Future<Output = sqlx::Result<T>> + Send,
{
    again(PAUSES, is_busy, work).await
}

/// Whether the error says that another connection holds the lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|database| database.code())
        .and_then(|code| code.parse::<i32>().ok())
        .is_some_and(|code| BUSY_CODES.contains(&(code & 0xff)))
}

/// Names a failure of the database.
pub(super) fn failed(operation: impl Into<Cow<'static, str>>) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| Error::new(ErrorKind::MetaUnavailable, operation).caused_by(error)
}

/// Names a failure; a foreign key that leads nowhere is `missing`.
pub(super) fn failed_or(operation: &'static str, missing: ErrorKind) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| match &error {
        sqlx::Error::Database(database) if database.is_foreign_key_violation() => Error::new(missing, operation),
        _ => failed(operation)(error),
    }
}
