//! Rows to records. Columns by position, in the order in which [`super::sql`] names them.

use std::collections::BTreeMap;

use sqlx::sqlite::SqliteRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row};

use crate::meta::{BucketRecord, MountRecord, PartRecord, UploadRecord};

impl FromRow<'_, SqliteRow> for BucketRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self { name: row.try_get(0)?, owner: row.try_get(1)?, created: row.try_get(2)?, location: row.try_get(3)? })
    }
}

impl FromRow<'_, SqliteRow> for MountRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self { bucket: row.try_get(0)?, prefix: row.try_get(1)?, provider: row.try_get(2)?, settings: map(row, 3)? })
    }
}

impl FromRow<'_, SqliteRow> for UploadRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            upload_id: row.try_get(0)?,
            bucket: row.try_get(1)?,
            key: row.try_get(2)?,
            mount_prefix: row.try_get(3)?,
            initiator: row.try_get(4)?,
            created: row.try_get(5)?,
            attributes: map(row, 6)?,
            checksum_algorithm: row.try_get(7)?,
            checksum_type: row.try_get(8)?,
        })
    }
}

impl FromRow<'_, SqliteRow> for PartRecord {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            number: unsigned(row, 0)?,
            token: row.try_get(1)?,
            size: unsigned(row, 2)?,
            etag: row.try_get(3)?,
            checksums: map(row, 4)?,
            modified: row.try_get(5)?,
        })
    }
}

fn map(row: &SqliteRow, column: usize) -> sqlx::Result<BTreeMap<String, String>> {
    row.try_get::<Json<_>, _>(column).map(|Json(map)| map)
}

/// SQLite's integers are signed: what does not fit the record was not written by us.
fn unsigned<T: TryFrom<i64>>(row: &SqliteRow, column: usize) -> sqlx::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(row.try_get::<i64, _>(column)?)
        .map_err(|error| sqlx::Error::ColumnDecode { index: column.to_string(), source: Box::new(error) })
}
