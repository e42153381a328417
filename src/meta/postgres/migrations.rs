//! The schema, by numbered migrations that are part of the binary. A migration that has been released is never edited: sqlx keeps a
//! checksum of each and refuses a database whose history differs.

use futures::future::BoxFuture;
use sqlx::SqlSafeStr;
use sqlx::error::BoxDynError;
use sqlx::migrate::{Migration, MigrationSource, MigrationType, Migrator};
use sqlx::postgres::PgPool;

/// Number, description, statements.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../migrations/postgres/0001_first.sql")),
    (2, "bucket changes", include_str!("../migrations/postgres/0002_bucket_changes.sql")),
    (3, "overlay", include_str!("../migrations/postgres/0003_overlay.sql")),
];

/// The migrations in the binary.
#[derive(Debug)]
struct Embedded;

impl MigrationSource<'static> for Embedded {
    fn resolve(self) -> BoxFuture<'static, Result<Vec<Migration>, BoxDynError>> {
        let migrations = MIGRATIONS
            .iter()
            .map(|&(version, description, sql)| {
                Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
            })
            .collect();
        Box::pin(std::future::ready(Ok(migrations)))
    }
}

/// Brings the schema up to date. sqlx takes an advisory lock for it, so that gateways that start together do not get in each other's way.
pub(super) async fn run(pool: &PgPool) -> sqlx::Result<()> {
    let flat = |error| sqlx::Error::Migrate(Box::new(error));
    Migrator::new(Embedded).await.map_err(flat)?.run(pool).await.map_err(flat)
}
