//! Rows to records. Columns by position, in the order in which [`super::sql`] names them.

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row};

use super::types::{Time, unescaped};
use crate::meta::{BucketRecord, MountRecord, PartRecord, UploadRecord};

impl FromRow<'_, PgRow> for BucketRecord {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { name: text(row, 0)?, owner: text(row, 1)?, created: row.try_get::<Time, _>(2)?.0, location: text(row, 3)? })
    }
}

impl FromRow<'_, PgRow> for MountRecord {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { bucket: text(row, 0)?, prefix: text(row, 1)?, provider: text(row, 2)?, settings: map(row, 3)? })
    }
}

impl FromRow<'_, PgRow> for UploadRecord {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            upload_id: text(row, 0)?,
            bucket: text(row, 1)?,
            key: text(row, 2)?,
            mount_prefix: text(row, 3)?,
            initiator: text(row, 4)?,
            created: row.try_get::<Time, _>(5)?.0,
            attributes: map(row, 6)?,
            checksum_algorithm: text(row, 7)?,
            checksum_type: text(row, 8)?,
        })
    }
}

impl FromRow<'_, PgRow> for PartRecord {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            number: unsigned(row, 0)?,
            token: text(row, 1)?,
            size: unsigned(row, 2)?,
            etag: text(row, 3)?,
            checksums: map(row, 4)?,
            modified: row.try_get::<Time, _>(5)?.0,
        })
    }
}

pub(super) fn text(row: &PgRow, column: usize) -> sqlx::Result<String> {
    row.try_get(column).map(unescaped)
}

fn map(row: &PgRow, column: usize) -> sqlx::Result<BTreeMap<String, String>> {
    let Json(map) = row.try_get::<Json<BTreeMap<String, String>>, _>(column)?;
    Ok(map.into_iter().map(|(name, value)| (unescaped(name), unescaped(value))).collect())
}

/// PostgreSQL's integers are signed: what does not fit the record was not written by us.
fn unsigned<T: TryFrom<i64>>(row: &PgRow, column: usize) -> sqlx::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(row.try_get::<i64, _>(column)?)
        .map_err(|error| sqlx::Error::ColumnDecode { index: column.to_string(), source: Box::new(error) })
}
