//! What the stores of both databases do alike.

use std::future::Future;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::unix_millis;

/// How long a completed upload is remembered.
const COMPLETED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What was completed at or before this, in milliseconds since the epoch, is forgotten.
pub(super) fn forgotten_at() -> i64 {
    unix_millis().saturating_sub(i64::try_from(COMPLETED_KEPT.as_millis()).unwrap_or(i64::MAX))
}

/// How many names of the overlay one statement asks for.
pub(super) const OVERLAY_NAMES: usize = 32;

/// The names of one statement: as many as it has places, the last one again and again.
pub(super) fn overlay_places(names: &[String]) -> impl Iterator<Item = &str> {
    let last = names.last().map_or("", String::as_str);
    names.iter().map(String::as_str).chain(std::iter::repeat(last)).take(OVERLAY_NAMES)
}

/// A limit, as databases count.
pub(super) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// `EntityExists` unless a row came to be.
pub(super) fn taken_unless(inserted: bool, operation: &'static str) -> Result<()> {
    if inserted { Ok(()) } else { Err(Error::new(ErrorKind::EntityExists, operation)) }
}

/// Does a piece of work, and again after each of the pauses while its error is `passing`: one after which nothing was written.
pub(super) async fn again<T, F, Fut>(pauses: [Duration; 4], passing: impl Fn(&sqlx::Error) -> bool, work: F) -> sqlx::Result<T>
where
    F: Fn() -> Fut + Send,
    Fut: Future<Output = sqlx::Result<T>> + Send,
{
    for pause in pauses {
        match work().await {
            Err(error) if passing(&error) => tokio::time::sleep(pause).await,
            other => return other,
        }
    }
    work().await
}
