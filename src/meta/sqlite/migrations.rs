//! The schema, by numbered migrations that are part of the binary. A migration that has been released is never edited: sqlx keeps a
//! checksum of each and refuses a database whose history differs.

use futures::future::BoxFuture;
use sqlx::SqlSafeStr;
use sqlx::error::BoxDynError;
use sqlx::migrate::{MigrateError, Migration, MigrationSource, MigrationType, Migrator};
use sqlx::sqlite::SqlitePool;

use super::busy::patiently;

/// Number, description, statements.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../migrations/sqlite/0001_first.sql")),
    (2, "identities", include_str!("../migrations/sqlite/0002_identities.sql")),
    (3, "bucket changes", include_str!("../migrations/sqlite/0003_bucket_changes.sql")),
    (4, "overlay", include_str!("../migrations/sqlite/0004_overlay.sql")),
];

/// Migrations of the binary.
#[derive(Debug)]
struct Embedded(&'static [(i64, &'static str, &'static str)]);

impl MigrationSource<'static> for Embedded {
    fn resolve(self) -> BoxFuture<'static, Result<Vec<Migration>, BoxDynError>> {
        let migrations = self
            .0
            .iter()
            .map(|&(version, description, sql)| {
                Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
            })
            .collect();
        Box::pin(std::future::ready(Ok(migrations)))
    }
}

/// Brings the schema up to date. All in one transaction that takes the write lock first: sqlx takes no lock of its own on SQLite, and two
/// processes that start on a new file would both create it.
pub(super) async fn run(writer: &SqlitePool) -> sqlx::Result<()> {
    run_these(writer, MIGRATIONS).await
}

/// The schema as it was after so many migrations.
#[cfg(test)]
pub(super) async fn run_first(writer: &SqlitePool, count: usize) -> sqlx::Result<()> {
    run_these(writer, &MIGRATIONS[..count]).await
}

async fn run_these(writer: &SqlitePool, these: &'static [(i64, &'static str, &'static str)]) -> sqlx::Result<()> {
    let migrator = Migrator::new(Embedded(these)).await.map_err(flat)?;
    let mut transaction = patiently(|| writer.begin_with("BEGIN IMMEDIATE")).await?;
    // `run` itself cannot take a borrowed connection in a future that is `Send`; this is what sqlx has beside it for that.
    migrator.run_direct(None, &mut *transaction, false).await.map_err(flat)?;
    transaction.commit().await
}

/// The database's own error where there is one, so that its code can be read.
fn flat(error: MigrateError) -> sqlx::Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        other => sqlx::Error::Migrate(Box::new(other)),
    }
}
