//! The trait. A method is one statement or one transaction, which locks what it reads before it decides.

use async_trait::async_trait;
use sqlx::postgres::Postgres;
use sqlx::types::Json;
use sqlx::{Transaction, query, query_as, query_scalar};

use super::failures::{failed, failed_or, patiently};
use super::open::PostgresStore;
use super::sql;
use super::types::{Text, Time, escaped_map, unescaped};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::both::{OVERLAY_NAMES, forgotten_at, overlay_places, rows, taken_unless};
use crate::meta::prefix::{end_of_prefix, successor};
use crate::meta::{BucketRecord, Circuit, MetaStore, MountRecord, PartRecord, UploadCursor, UploadRecord};
use crate::runtime::unix_millis;

// === impl PostgresStore ===

impl PostgresStore {
    async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        self.pool.begin().await
    }

    async fn bucket_in(transaction: &mut Transaction<'static, Postgres>, name: &str) -> sqlx::Result<Option<BucketRecord>> {
        query_as(sql::BUCKET).bind(Text(name)).fetch_optional(&mut **transaction).await
    }
}

// === impl MetaStore ===

#[async_trait]
impl MetaStore for PostgresStore {
    async fn create_bucket(&self, bucket: &BucketRecord, mounts: &[MountRecord]) -> Result<()> {
        const OPERATION: &str = "create bucket";
        let refusal = patiently(|| async {
            let mut transaction = self.begin().await?;
            let created = query(sql::CREATE_BUCKET)
                .bind(Text(&bucket.name))
                .bind(Text(&bucket.owner))
                .bind(Time(bucket.created))
                .bind(Text(&bucket.location))
                .execute(&mut *transaction)
                .await?;
            if created.rows_affected() == 0 {
                let holder = Self::bucket_in(&mut transaction, &bucket.name).await?;
                let own = holder.is_some_and(|holder| holder.owner == bucket.owner);
                return Ok(Some(if own { ErrorKind::BucketAlreadyOwnedByYou } else { ErrorKind::BucketAlreadyExists }));
            }
            for mount in mounts {
                let added = query(sql::ADD_MOUNT)
                    .bind(Text(&bucket.name))
                    .bind(Text(&mount.prefix))
                    .bind(Text(&mount.provider))
                    .bind(Json(escaped_map(&mount.settings)))
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
        patiently(|| query_as(sql::BUCKET).bind(Text(name)).fetch_optional(&self.pool)).await.map_err(failed("read bucket"))
    }

    async fn buckets(&self, owner: Option<&str>, prefix: &str, after: &str, limit: usize) -> Result<Vec<BucketRecord>> {
        let from = if after >= prefix { successor(after) } else { prefix.to_owned() };
        let to = bound(end_of_prefix(prefix));
        patiently(|| {
            let statement = if owner.is_some() { sql::BUCKETS_OF_OWNER } else { sql::BUCKETS };
            let page = query_as(statement).bind(Text(&from)).bind(Text(&to)).bind(rows(limit));
            let page = if let Some(owner) = owner { page.bind(Text(owner)) } else { page };
            page.fetch_all(&self.pool)
        })
        .await
        .map_err(failed("list buckets"))
    }

    async fn delete_bucket(&self, name: &str) -> Result<bool> {
        let deleted = patiently(|| query(sql::DELETE_BUCKET).bind(Text(name)).execute(&self.pool)).await;
        deleted.map(|done| done.rows_affected() > 0).map_err(failed("delete bucket"))
    }

    async fn set_bucket_setting(&self, bucket: &str, name: &str, document: Option<&str>) -> Result<bool> {
        let Some(document) = document else {
            return patiently(|| async {
                let mut transaction = self.begin().await?;
                query(sql::DELETE_BUCKET_SETTING).bind(Text(bucket)).bind(Text(name)).execute(&mut *transaction).await?;
                let exists = Self::bucket_in(&mut transaction, bucket).await?.is_some();
                transaction.commit().await.map(|()| exists)
            })
            .await
            .map_err(failed("remove bucket setting"));
        };
        patiently(|| query(sql::SET_BUCKET_SETTING).bind(Text(bucket)).bind(Text(name)).bind(Text(document)).execute(&self.pool))
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(failed("set bucket setting"))
    }

    async fn bucket_settings(&self, bucket: &str) -> Result<Vec<(String, String)>> {
        let settings: Vec<(String, String)> =
            patiently(|| query_as(sql::BUCKET_SETTINGS).bind(Text(bucket)).fetch_all(&self.pool))
                .await
                .map_err(failed("read bucket settings"))?;
        Ok(settings.into_iter().map(|(name, document)| (unescaped(name), unescaped(document))).collect())
    }

    async fn mounts(&self, bucket: &str) -> Result<Vec<MountRecord>> {
        patiently(|| query_as(sql::MOUNTS).bind(Text(bucket)).fetch_all(&self.pool)).await.map_err(failed("list mounts"))
    }

    async fn add_mount(&self, mount: &MountRecord) -> Result<()> {
        const OPERATION: &str = "add mount";
        let added = patiently(|| {
            query(sql::ADD_MOUNT)
                .bind(Text(&mount.bucket))
                .bind(Text(&mount.prefix))
                .bind(Text(&mount.provider))
                .bind(Json(escaped_map(&mount.settings)))
                .execute(&self.pool)
        })
        .await
        .map_err(failed_or(OPERATION, ErrorKind::NoSuchBucket))?;
        taken_unless(added.rows_affected() > 0, OPERATION)
    }

    async fn remove_mount(&self, bucket: &str, prefix: &str) -> Result<bool> {
        let removed = patiently(|| query(sql::REMOVE_MOUNT).bind(Text(bucket)).bind(Text(prefix)).execute(&self.pool)).await;
        removed.map(|done| done.rows_affected() > 0).map_err(failed("remove mount"))
    }

    async fn create_upload(&self, upload: &UploadRecord) -> Result<()> {
        const OPERATION: &str = "create upload";
        let created = patiently(|| {
            query(sql::CREATE_UPLOAD)
                .bind(Text(&upload.upload_id))
                .bind(Text(&upload.bucket))
                .bind(Text(&upload.key))
                .bind(Text(&upload.mount_prefix))
                .bind(Text(&upload.initiator))
                .bind(Time(upload.created))
                .bind(Json(escaped_map(&upload.attributes)))
                .bind(Text(&upload.checksum_algorithm))
                .bind(Text(&upload.checksum_type))
                .execute(&self.pool)
        })
        .await
        .map_err(failed_or(OPERATION, ErrorKind::NoSuchBucket))?;
        taken_unless(created.rows_affected() > 0, OPERATION)
    }

    async fn upload(&self, bucket: &str, upload_id: &str) -> Result<Option<UploadRecord>> {
        patiently(|| query_as(sql::UPLOAD).bind(Text(bucket)).bind(Text(upload_id)).fetch_optional(&self.pool))
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
        let to = bound(end_of_prefix(prefix));
        patiently(|| {
            let page = query_as(sql::UPLOADS)
                .bind(Text(bucket))
                .bind(Text(&key))
                .bind(Text(upload_id))
                .bind(Text(&to))
                .bind(rows(limit));
            page.fetch_all(&self.pool)
        })
        .await
        .map_err(failed("list uploads"))
    }

    async fn uploads_before(&self, created_before: i64, limit: usize) -> Result<Vec<UploadRecord>> {
        patiently(|| query_as(sql::UPLOADS_BEFORE).bind(Time(created_before)).bind(rows(limit)).fetch_all(&self.pool))
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
            // Of two that put one part at once, the second has to see what the first did.
            let name = format!("{upload_id} {}", part.number);
            query(sql::LOCK_NAME).bind(Text(&name)).execute(&mut *transaction).await?;
            let replaced =
                query_as(sql::PART).bind(Text(upload_id)).bind(i64::from(part.number)).fetch_optional(&mut *transaction).await?;
            // The foreign key refuses it when the upload is gone.
            query(sql::PUT_PART)
                .bind(Text(upload_id))
                .bind(i64::from(part.number))
                .bind(Text(&part.token))
                .bind(size)
                .bind(Text(&part.etag))
                .bind(Json(escaped_map(&part.checksums)))
                .bind(Time(part.modified))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await.map(|()| replaced)
        })
        .await
        .map_err(failed_or(OPERATION, ErrorKind::NoSuchUpload))
    }

    async fn parts(&self, upload_id: &str, after: u16, limit: usize) -> Result<Vec<PartRecord>> {
        patiently(|| query_as(sql::PARTS).bind(Text(upload_id)).bind(i64::from(after)).bind(rows(limit)).fetch_all(&self.pool))
            .await
            .map_err(failed("list parts"))
    }

    async fn delete_upload(&self, upload_id: &str) -> Result<bool> {
        let deleted = patiently(|| query(sql::DELETE_UPLOAD).bind(Text(upload_id)).execute(&self.pool)).await;
        deleted.map(|done| done.rows_affected() > 0).map_err(failed("end upload"))
    }

    async fn remember_completed(&self, bucket: &str, key: &str, upload_id: &str, request: &str, etag: &str) -> Result<()> {
        patiently(|| async {
            let mut transaction = self.begin().await?;
            query(sql::FORGET_COMPLETED).bind(Time(forgotten_at())).execute(&mut *transaction).await?;
            query(sql::REMEMBER_COMPLETED)
                .bind(Text(upload_id))
                .bind(Text(bucket))
                .bind(Text(key))
                .bind(Text(request))
                .bind(Text(etag))
                .bind(Time(unix_millis()))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await
        })
        .await
        .map_err(failed_or("remember completed upload", ErrorKind::NoSuchBucket))
    }

    async fn completed(&self, bucket: &str, upload_id: &str) -> Result<Option<(String, String, String)>> {
        let completed: Option<(String, String, String)> = patiently(|| {
            let found = query_as(sql::COMPLETED).bind(Text(bucket)).bind(Text(upload_id)).bind(Time(forgotten_at()));
            found.fetch_optional(&self.pool)
        })
        .await
        .map_err(failed("read completed upload"))?;
        Ok(completed.map(|(key, request, etag)| (unescaped(key), unescaped(request), unescaped(etag))))
    }

    async fn value(&self, name: &str) -> Result<Option<String>> {
        let value: Option<String> = patiently(|| query_scalar(sql::VALUE).bind(Text(name)).fetch_optional(&self.pool))
            .await
            .map_err(failed("read value"))?;
        Ok(value.map(unescaped))
    }

    async fn value_or_insert(&self, name: &str, value: &str) -> Result<String> {
        // All rows are fetched, one that is left behind would leave the statement, and with it the transaction, open.
        let rows: Vec<String> =
            patiently(|| query_scalar(sql::VALUE_OR_INSERT).bind(Text(name)).bind(Text(value)).fetch_all(&self.pool))
                .await
                .map_err(failed("set value"))?;
        rows.into_iter().next().map(unescaped).ok_or_else(|| failed("set value")(sqlx::Error::RowNotFound))
    }

    async fn replace_value(&self, name: &str, from: &str, to: &str) -> Result<bool> {
        patiently(|| query(sql::REPLACE_VALUE).bind(Text(name)).bind(Text(from)).bind(Text(to)).execute(&self.pool))
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(failed("replace value"))
    }

    async fn overlay(&self, space: &str, names: &[String]) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for names in names.chunks(OVERLAY_NAMES) {
            let page: Vec<(String, String)> = patiently(|| {
                let mut page = query_as(sql::OVERLAY).bind(Text(space));
                for name in overlay_places(names) {
                    page = page.bind(Text(name));
                }
                page.fetch_all(&self.pool)
            })
            .await
            .map_err(failed("read overlay"))?;
            found.extend(page.into_iter().map(|(name, document)| (unescaped(name), unescaped(document))));
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
            let mut swap = query(statement).bind(Text(space)).bind(Text(name));
            for document in [from, to].into_iter().flatten() {
                swap = swap.bind(Text(document));
            }
            swap.execute(&self.pool)
        })
        .await;
        swapped.map(|done| done.rows_affected() > 0).map_err(failed("change overlay"))
    }

    fn circuit(&self) -> Circuit {
        Circuit::default()
    }

    async fn check(&self) -> Result<()> {
        let answer: sqlx::Result<i64> = query_scalar(sql::CHECK).fetch_one(&self.pool).await;
        answer.map(drop).map_err(failed("check metadata store"))
    }

    async fn close(&self) {
        self.stop_listening().await;
        self.pool.close().await;
    }
}

// === the rest ===

/// The end of a range; without one, what sorts after every name and key: those have 1024 bytes at most, this has more, and every
/// character of it is the last there is.
fn bound(end: Option<String>) -> String {
    end.unwrap_or_else(|| "\u{10ffff}".repeat(300))
}
