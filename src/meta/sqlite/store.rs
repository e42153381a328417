//! The trait. A method is one statement, which SQLite makes a transaction of its own, or one `BEGIN IMMEDIATE` transaction: taking the
//! write lock first means that what is read in it cannot change before it is written.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{Sqlite, SqlitePool};
use sqlx::types::Json;
use sqlx::{Encode, Transaction, Type, query, query_as, query_scalar};

use super::busy::{failed, failed_or, patiently};
use super::open::SqliteStore;
use super::sql;
use crate::error::{Error, ErrorKind, Result};
use crate::meta::both::{OVERLAY_NAMES, forgotten_at, overlay_places, rows, taken_unless};
use crate::meta::prefix::{end_of_prefix, successor};
use crate::meta::{BucketRecord, Circuit, MetaStore, MountRecord, PartRecord, UploadCursor, UploadRecord};
use crate::runtime::unix_millis;

/// How often one who waits for changes looks.
const POLL: Duration = Duration::from_millis(200);

// === impl SqliteStore ===

impl SqliteStore {
    pub(super) fn reading(&self) -> &SqlitePool {
        &self.readers
    }

    pub(super) fn writing(&self) -> &SqlitePool {
        &self.writer
    }

    /// Takes the write lock first, so that what is read in it cannot change before it is written.
    pub(super) async fn begin_change(&self) -> sqlx::Result<Transaction<'static, Sqlite>> {
        self.begin().await
    }

    /// SQLite tells nobody of changes that another process makes: it is asked again soon.
    pub(super) async fn wait_for_change(&self, at_most: Duration) {
        tokio::time::sleep(at_most.min(POLL)).await;
    }

    async fn begin(&self) -> sqlx::Result<Transaction<'static, Sqlite>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    async fn bucket_in(transaction: &mut Transaction<'static, Sqlite>, name: &str) -> sqlx::Result<Option<BucketRecord>> {
        query_as(sql::BUCKET).bind(name).fetch_optional(&mut **transaction).await
    }
}

// === impl MetaStore ===

#[async_trait]
impl MetaStore for SqliteStore {
    async fn create_bucket(&self, bucket: &BucketRecord, mounts: &[MountRecord]) -> Result<()> {
        const OPERATION: &str = "create bucket";
        let refusal = patiently(|| async {
            let mut transaction = self.begin().await?;
            let created = query(sql::CREATE_BUCKET)
                .bind(&bucket.name)
                .bind(&bucket.owner)
                .bind(bucket.created)
                .bind(&bucket.location)
                .execute(&mut *transaction)
                .await?;
            if created.rows_affected() == 0 {
                let holder = Self::bucket_in(&mut transaction, &bucket.name).await?;
                let own = holder.is_some_and(|holder| holder.owner == bucket.owner);
                return Ok(Some(if own { ErrorKind::BucketAlreadyOwnedByYou } else { ErrorKind::BucketAlreadyExists }));
            }
            for mount in mounts {
                let added = query(sql::ADD_MOUNT)
                    .bind(&bucket.name)
                    .bind(&mount.prefix)
                    .bind(&mount.provider)
                    .bind(Json(&mount.settings))
                    .execute(&mut *transaction)
                    .await?;
                if added.rows_affected() == 0 {
                    return Ok(Some(ErrorKind::EntityExists));
                }
            }
            transaction.commit().await.map(|()| None)
        })
        .await
        .map_err(failed(OPERATION))?;
        refusal.map_or(Ok(()), |kind| Err(Error::new(kind, OPERATION).with("bucket", &bucket.name)))
    }

    async fn bucket(&self, name: &str) -> Result<Option<BucketRecord>> {
        patiently(|| query_as(sql::BUCKET).bind(name).fetch_optional(&self.readers)).await.map_err(failed("read bucket"))
    }

    async fn buckets(&self, owner: Option<&str>, prefix: &str, after: &str, limit: usize) -> Result<Vec<BucketRecord>> {
        let from = if after >= prefix { successor(after) } else { prefix.to_owned() };
        let to = Bound(end_of_prefix(prefix));
        patiently(|| {
            let statement = if owner.is_some() { sql::BUCKETS_OF_OWNER } else { sql::BUCKETS };
            let page = query_as(statement).bind(&from).bind(&to).bind(rows(limit));
            let page = if let Some(owner) = owner { page.bind(owner) } else { page };
            page.fetch_all(&self.readers)
        })
        .await
        .map_err(failed("list buckets"))
    }

    async fn delete_bucket(&self, name: &str) -> Result<bool> {
        let deleted = patiently(|| query(sql::DELETE_BUCKET).bind(name).execute(&self.writer)).await;
        deleted.map(|done| done.rows_affected() > 0).map_err(failed("delete bucket"))
    }

    async fn set_bucket_setting(&self, bucket: &str, name: &str, document: Option<&str>) -> Result<bool> {
        let Some(document) = document else {
            return patiently(|| async {
                let mut transaction = self.begin().await?;
                query(sql::DELETE_BUCKET_SETTING).bind(bucket).bind(name).execute(&mut *transaction).await?;
                let exists = Self::bucket_in(&mut transaction, bucket).await?.is_some();
                transaction.commit().await.map(|()| exists)
            })
            .await
            .map_err(failed("remove bucket setting"));
        };
        patiently(|| query(sql::SET_BUCKET_SETTING).bind(bucket).bind(name).bind(document).execute(&self.writer))
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(failed("set bucket setting"))
    }

    async fn bucket_settings(&self, bucket: &str) -> Result<Vec<(String, String)>> {
        patiently(|| query_as(sql::BUCKET_SETTINGS).bind(bucket).fetch_all(&self.readers))
            .await
            .map_err(failed("read bucket settings"))
    }

    async fn mounts(&self, bucket: &str) -> Result<Vec<MountRecord>> {
        patiently(|| query_as(sql::MOUNTS).bind(bucket).fetch_all(&self.readers)).await.map_err(failed("list mounts"))
    }

    async fn add_mount(&self, mount: &MountRecord) -> Result<()> {
        const OPERATION: &str = "add mount";
        let added = patiently(|| {
            query(sql::ADD_MOUNT)
                .bind(&mount.bucket)
                .bind(&mount.prefix)
                .bind(&mount.provider)
                .bind(Json(&mount.settings))
                .execute(&self.writer)
        })
        .await
        .map_err(failed_or(OPERATION, ErrorKind::NoSuchBucket))?;
        taken_unless(added.rows_affected() > 0, OPERATION)
    }

    async fn remove_mount(&self, bucket: &str, prefix: &str) -> Result<bool> {
        let removed = patiently(|| query(sql::REMOVE_MOUNT).bind(bucket).bind(prefix).execute(&self.writer)).await;
        removed.map(|done| done.rows_affected() > 0).map_err(failed("remove mount"))
    }

    async fn create_upload(&self, upload: &UploadRecord) -> Result<()> {
        const OPERATION: &str = "create upload";
        let created = patiently(|| {
            query(sql::CREATE_UPLOAD)
                .bind(&upload.upload_id)
                .bind(&upload.bucket)
                .bind(&upload.key)
                .bind(&upload.mount_prefix)
                .bind(&upload.initiator)
                .bind(upload.created)
                .bind(Json(&upload.attributes))
                .bind(&upload.checksum_algorithm)
                .bind(&upload.checksum_type)
                .execute(&self.writer)
        })
        .await
        .map_err(failed_or(OPERATION, ErrorKind::NoSuchBucket))?;
        taken_unless(created.rows_affected() > 0, OPERATION)
    }

    async fn upload(&self, bucket: &str, upload_id: &str) -> Result<Option<UploadRecord>> {
        patiently(|| query_as(sql::UPLOAD).bind(bucket).bind(upload_id).fetch_optional(&self.readers))
            .await
            .map_err(failed("read upload"))
    }

    async fn uploads(&self, bucket: &str, prefix: &str, after: &UploadCursor, limit: usize) -> Result<Vec<UploadRecord>> {
        // Everything in the prefix is at or after the prefix itself; upload ids are not empty, so that ("p", "") comes before the first.
        let (key, upload_id) = match after {
            UploadCursor { key, .. } if key.as_str() < prefix || key.is_empty() => (prefix.to_owned(), ""),
            UploadCursor { key, upload_id } if upload_id.is_empty() => (successor(key), ""),
            UploadCursor { key, upload_id } => (key.clone(), upload_id.as_str()),
        };
        let to = Bound(end_of_prefix(prefix));
        patiently(|| {
            let page = query_as(sql::UPLOADS).bind(bucket).bind(&key).bind(upload_id).bind(&to).bind(rows(limit));
            page.fetch_all(&self.readers)
        })
        .await
        .map_err(failed("list uploads"))
    }

    async fn uploads_before(&self, created_before: i64, limit: usize) -> Result<Vec<UploadRecord>> {
        patiently(|| query_as(sql::UPLOADS_BEFORE).bind(created_before).bind(rows(limit)).fetch_all(&self.readers))
            .await
            .map_err(failed("list old uploads"))
    }

    async fn put_part(&self, upload_id: &str, part: &PartRecord) -> Result<Option<PartRecord>> {
        const OPERATION: &str = "record part";
        let size = i64::try_from(part.size).map_err(|error| {
            Error::new(ErrorKind::InvalidArgument("the part is too large".into()), OPERATION).caused_by(error)
        })?;
        patiently(|| async {
            let mut transaction = self.begin().await?;
            let replaced = query_as(sql::PART).bind(upload_id).bind(part.number).fetch_optional(&mut *transaction).await?;
            // The foreign key refuses it when the upload is gone.
            query(sql::PUT_PART)
                .bind(upload_id)
                .bind(part.number)
                .bind(&part.token)
                .bind(size)
                .bind(&part.etag)
                .bind(Json(&part.checksums))
                .bind(part.modified)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await.map(|()| replaced)
        })
        .await
        .map_err(failed_or(OPERATION, ErrorKind::NoSuchUpload))
    }

    async fn parts(&self, upload_id: &str, after: u16, limit: usize) -> Result<Vec<PartRecord>> {
        patiently(|| query_as(sql::PARTS).bind(upload_id).bind(after).bind(rows(limit)).fetch_all(&self.readers))
            .await
            .map_err(failed("list parts"))
    }

    async fn delete_upload(&self, upload_id: &str) -> Result<bool> {
        let deleted = patiently(|| query(sql::DELETE_UPLOAD).bind(upload_id).execute(&self.writer)).await;
        deleted.map(|done| done.rows_affected() > 0).map_err(failed("end upload"))
    }

    async fn remember_completed(&self, bucket: &str, key: &str, upload_id: &str, request: &str, etag: &str) -> Result<()> {
        patiently(|| async {
            let mut transaction = self.begin().await?;
            query(sql::FORGET_COMPLETED).bind(forgotten_at()).execute(&mut *transaction).await?;
            query(sql::REMEMBER_COMPLETED)
                .bind(upload_id)
                .bind(bucket)
                .bind(key)
                .bind(request)
                .bind(etag)
                .bind(unix_millis())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await
        })
        .await
        .map_err(failed_or("remember completed upload", ErrorKind::NoSuchBucket))
    }

    async fn completed(&self, bucket: &str, upload_id: &str) -> Result<Option<(String, String, String)>> {
        patiently(|| query_as(sql::COMPLETED).bind(bucket).bind(upload_id).bind(forgotten_at()).fetch_optional(&self.readers))
            .await
            .map_err(failed("read completed upload"))
    }

    async fn value(&self, name: &str) -> Result<Option<String>> {
        patiently(|| query_scalar(sql::VALUE).bind(name).fetch_optional(&self.readers)).await.map_err(failed("read value"))
    }

    async fn value_or_insert(&self, name: &str, value: &str) -> Result<String> {
        // All rows are fetched, one that is left behind would leave the statement, and with it the transaction, open.
        let rows: Vec<String> = patiently(|| query_scalar(sql::VALUE_OR_INSERT).bind(name).bind(value).fetch_all(&self.writer))
            .await
            .map_err(failed("set value"))?;
        rows.into_iter().next().ok_or_else(|| failed("set value")(sqlx::Error::RowNotFound))
    }

    async fn replace_value(&self, name: &str, from: &str, to: &str) -> Result<bool> {
        patiently(|| query(sql::REPLACE_VALUE).bind(name).bind(from).bind(to).execute(&self.writer))
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(failed("replace value"))
    }

    async fn overlay(&self, space: &str, names: &[String]) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for names in names.chunks(OVERLAY_NAMES) {
            let page: Vec<(String, String)> = patiently(|| {
                let mut page = query_as(sql::OVERLAY).bind(space);
                for name in overlay_places(names) {
                    page = page.bind(name);
                }
                page.fetch_all(&self.readers)
            })
            .await
            .map_err(failed("read overlay"))?;
            found.extend(page);
        }
        Ok(found)
    }

    async fn swap_overlay(&self, space: &str, name: &str, from: Option<&str>, to: Option<&str>) -> Result<bool> {
        let statement = match (from, to) {
            (None, None) => return Ok(self.overlay(space, &[name.to_owned()]).await?.is_empty()),
            (None, Some(_)) => sql::ADD_OVERLAY,
            (Some(_), Some(_)) => sql::REPLACE_OVERLAY,
            (Some(_), None) => sql::REMOVE_OVERLAY,
        };
        let swapped = patiently(|| {
            let mut swap = query(statement).bind(space).bind(name);
            for document in [from, to].into_iter().flatten() {
                swap = swap.bind(document);
            }
            swap.execute(&self.writer)
        })
        .await;
        swapped.map(|done| done.rows_affected() > 0).map_err(failed("change overlay"))
    }

    fn circuit(&self) -> Circuit {
        Circuit::default()
    }

    async fn check(&self) -> Result<()> {
        let answer: sqlx::Result<i64> = query_scalar(sql::CHECK).fetch_one(&self.readers).await;
        answer.map(drop).map_err(failed("check metadata store"))
    }

    async fn close(&self) {
        // The writer last: the last connection moves the write-ahead log into the file.
        self.readers.close().await;
        self.writer.close().await;
    }
}

// === the rest ===

/// The end of a range; without one, a value that sorts after every text.
struct Bound(Option<String>);

impl Type<Sqlite> for Bound {
    fn type_info() -> sqlx::sqlite::SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Bound {
    fn encode_by_ref(
        &self,
        arguments: &mut sqlx::sqlite::SqliteArgumentsBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        match &self.0 {
            Some(text) => Encode::<Sqlite>::encode_by_ref(text, arguments),
            None => Encode::<Sqlite>::encode(Vec::<u8>::new(), arguments),
        }
    }
}
