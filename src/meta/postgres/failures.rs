//! Failures: which are worth another try, and what the others are called.
//!
//! PostgreSQL ends one of two transactions that wait for each other, or that cannot both be right; nothing was written then, so repeating
//! is safe (<https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html>).

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::meta::both::again;

/// Waits between tries; their number bounds the tries.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(5), Duration::from_millis(15), Duration::from_millis(45), Duration::from_millis(135)];

/// `serialization_failure` and `deadlock_detected` (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
const TRANSIENT: [&str; 2] = ["40001", "40P01"];

/// `character_not_in_repertoire` and `untranslatable_character`: a NUL in a text.
const NOT_TEXT: [&str; 2] = ["22021", "22P05"];

/// Does a piece of work, again when it was in the way of another.
pub(super) async fn patiently<T, F, Fut>(work: F) -> sqlx::Result<T>
where
    F: Fn() -> Fut + Send,
    Fut: Future<Output = sqlx::Result<T>> + Send,
{
    again(PAUSES, |error| has_code(error, &TRANSIENT), work).await
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    error.as_database_error().and_then(|database| database.code()).is_some_and(|code| codes.contains(&code.as_ref()))
}

/// Names a failure of the database.
pub(super) fn failed(operation: impl Into<Cow<'static, str>>) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| {
        let kind = if has_code(&error, &NOT_TEXT) {
            ErrorKind::InvalidArgument("a text may not hold the character U+0000".into())
        } else {
            ErrorKind::MetaUnavailable
        };
        Error::new(kind, operation).caused_by(error)
    }
}

/// Names a failure; a foreign key that leads nowhere is `missing`.
pub(super) fn failed_or(operation: &'static str, missing: ErrorKind) -> impl FnOnce(sqlx::Error) -> Error {
    move |error| match &error {
        sqlx::Error::Database(database) if database.is_foreign_key_violation() => Error::new(missing, operation),
        _ => failed(operation)(error),
    }
}
