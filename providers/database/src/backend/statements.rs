//! The statements. What changes something is a transaction, and looks at the condition in it.

use sluice_provider::{
    Appended, AttributeChange, DeleteKey, DeleteOutcome, Error, ErrorKind, Growth, Key, ObjectInfo, PutWhen, RenameOptions,
    Result,
};
use sqlx::{AssertSqlSafe, Pool, Row as _, Transaction};

use super::{BEGIN, Db, FOR_UPDATE, LOCK_KEY};
use crate::bodies::{COLLECTING, PART, RELEASED, STAGED};
use crate::error::failed;
use crate::row::{Stored, now, to_json};

const COLUMNS: &str = "size, etag, modified, attributes, body, page_bytes";
type Row = <Db as sqlx::Database>::Row;

/// The connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    writer: Pool<Db>,
    readers: Pool<Db>,
}

fn stored(row: &Row) -> sqlx::Result<Stored> {
    Ok(Stored {
        size: row.try_get("size")?,
        etag: row.try_get("etag")?,
        modified: row.try_get("modified")?,
        attributes: row.try_get("attributes")?,
        body: row.try_get("body")?,
        page_bytes: row.try_get("page_bytes")?,
    })
}

/// FNV-1a, 64 bits, as the number of an advisory lock.
fn lock_number(space: &str, key: &Key) -> i64 {
    let bytes = space.bytes().chain([0]).chain(key.as_str().bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) as i64
}

async fn lock(tx: &mut Transaction<'_, Db>, space: &str, keys: &[&Key]) -> sqlx::Result<()> {
    let Some(statement) = LOCK_KEY else { return Ok(()) };
    let mut numbers: Vec<i64> = keys.iter().map(|key| lock_number(space, key)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        sqlx::query(statement).bind(number).execute(&mut **tx).await?;
    }
    Ok(())
}

async fn current(tx: &mut Transaction<'_, Db>, space: &str, key: &Key) -> sqlx::Result<Option<Stored>> {
    let statement = format!("SELECT {COLUMNS} FROM sluice_objects WHERE space = $1 AND name = $2{FOR_UPDATE}");
    let row = sqlx::query(AssertSqlSafe(statement)).bind(space).bind(key.as_str().as_bytes()).fetch_optional(&mut **tx).await?;
    row.as_ref().map(stored).transpose()
}

async fn write(tx: &mut Transaction<'_, Db>, space: &str, key: &Key, new: &Stored, value: Option<&[u8]>) -> sqlx::Result<()> {
    let statement = "INSERT INTO sluice_objects (space, name, size, etag, modified, attributes, body, page_bytes, value) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (space, name) DO UPDATE SET size = excluded.size, \
                     etag = excluded.etag, modified = excluded.modified, attributes = excluded.attributes, \
                     body = excluded.body, page_bytes = excluded.page_bytes, value = excluded.value";
    let query = sqlx::query(statement).bind(space).bind(key.as_str().as_bytes()).bind(new.size).bind(new.etag.as_str());
    let query = query.bind(new.modified).bind(new.attributes.as_str()).bind(new.body).bind(new.page_bytes).bind(value);
    query.execute(&mut **tx).await.map(drop)
}

/// A body belongs to nobody any more.
async fn release(tx: &mut Transaction<'_, Db>, space: &str, body: i64) -> sqlx::Result<()> {
    if body == 0 {
        return Ok(());
    }
    let statement = "INSERT INTO sluice_bodies (body, space, state, since) VALUES ($1, $2, $3, $4)";
    sqlx::query(statement).bind(body).bind(space).bind(RELEASED).bind(now()).execute(&mut **tx).await.map(drop)
}

/// A body belongs to an object from now on.
async fn adopt(tx: &mut Transaction<'_, Db>, body: i64) -> Result<()> {
    if body == 0 {
        return Ok(());
    }
    let statement = "DELETE FROM sluice_bodies WHERE body = $1 AND state = $2";
    let adopted = sqlx::query(statement).bind(body).bind(STAGED).execute(&mut **tx).await.map_err(failed("publish"))?;
    if adopted.rows_affected() == 1 { Ok(()) } else { Err(Error::new(ErrorKind::Conflict, "a body that was swept meanwhile")) }
}

async fn put_page(tx: &mut Transaction<'_, Db>, body: i64, number: i64, bytes: &[u8]) -> sqlx::Result<()> {
    let statement = "INSERT INTO sluice_pages (body, number, bytes) VALUES ($1, $2, $3) \
                     ON CONFLICT (body, number) DO UPDATE SET bytes = excluded.bytes";
    sqlx::query(statement).bind(body).bind(number).bind(bytes).execute(&mut **tx).await.map(drop)
}

fn missing(operation: &'static str, key: &Key) -> Error {
    Error::new(ErrorKind::NotFound, operation).with("key", key)
}

fn expect_etag(info: &ObjectInfo, wanted: Option<&sluice_provider::ETag>) -> Result<()> {
    match wanted {
        Some(etag) if *etag != info.etag => Err(Error::new(ErrorKind::PreconditionFailed, "object").with("key", &info.key)),
        _ => Ok(()),
    }
}

impl Store {
    pub(crate) fn new(writer: Pool<Db>, readers: Pool<Db>) -> Self {
        Self { writer, readers }
    }

    async fn begin(&self, operation: &'static str) -> Result<Transaction<'static, Db>> {
        self.writer.begin_with(BEGIN).await.map_err(failed(operation))
    }

    pub(crate) async fn check(&self) -> Result<()> {
        sqlx::query("SELECT 1 FROM sluice_bodies LIMIT 1").fetch_optional(&self.readers).await.map(drop).map_err(failed("check"))
    }

    pub(crate) async fn head(&self, space: &str, key: &Key) -> Result<Option<Stored>> {
        let statement = format!("SELECT {COLUMNS} FROM sluice_objects WHERE space = $1 AND name = $2");
        let query = sqlx::query(AssertSqlSafe(statement)).bind(space).bind(key.as_str().as_bytes());
        let row = query.fetch_optional(&self.readers).await.map_err(failed("head"))?;
        row.as_ref().map(stored).transpose().map_err(failed("head"))
    }

    /// An object with its value, which is empty for one of pages.
    pub(crate) async fn get(&self, space: &str, key: &Key) -> Result<Option<(Stored, Vec<u8>)>> {
        let statement = format!("SELECT {COLUMNS}, value FROM sluice_objects WHERE space = $1 AND name = $2");
        let query = sqlx::query(AssertSqlSafe(statement)).bind(space).bind(key.as_str().as_bytes());
        let Some(row) = query.fetch_optional(&self.readers).await.map_err(failed("get"))? else { return Ok(None) };
        let read = || Ok((stored(&row)?, row.try_get::<Option<Vec<u8>>, _>("value")?.unwrap_or_default()));
        read().map(Some).map_err(failed("get"))
    }

    /// The pages of a body in a range of numbers, the last one included; those of zeros are left out. `None` when the body is being
    /// removed: what was read then may have holes.
    pub(crate) async fn pages(&self, body: i64, first: i64, last: i64) -> Result<Option<Vec<(i64, Vec<u8>)>>> {
        let statement = "SELECT number, bytes FROM sluice_pages WHERE body = $1 AND number BETWEEN $2 AND $3 ORDER BY number";
        let rows = sqlx::query(statement).bind(body).bind(first).bind(last).fetch_all(&self.readers).await;
        let read = |row: &Row| Ok((row.try_get("number")?, row.try_get("bytes")?));
        let pages: sqlx::Result<Vec<_>> = rows.map_err(failed("read pages"))?.iter().map(read).collect();
        // After the pages: removal begins with the state.
        let statement = "SELECT 1 WHERE EXISTS (SELECT 1 FROM sluice_objects WHERE body = $1) \
                         OR EXISTS (SELECT 1 FROM sluice_bodies WHERE body = $1 AND state <> $2)";
        let live = sqlx::query(statement).bind(body).bind(COLLECTING).fetch_optional(&self.readers).await;
        let live = live.map_err(failed("read pages"))?.is_some();
        pages.map(|pages| live.then_some(pages)).map_err(failed("read pages"))
    }

    /// Objects from a name on, in the order of their names.
    pub(crate) async fn names(
        &self,
        space: &str,
        from: &[u8],
        below: Option<&[u8]>,
        limit: i64,
    ) -> Result<Vec<(Vec<u8>, Stored)>> {
        let upper = if below.is_some() { " AND name < $4" } else { "" };
        let statement =
            format!("SELECT name, {COLUMNS} FROM sluice_objects WHERE space = $1 AND name >= $2{upper} ORDER BY name LIMIT $3");
        let mut query = sqlx::query(AssertSqlSafe(statement)).bind(space).bind(from).bind(limit);
        if let Some(below) = below {
            query = query.bind(below);
        }
        let rows = query.fetch_all(&self.readers).await.map_err(failed("list"))?;
        let read = |row: &Row| Ok((row.try_get("name")?, stored(row)?));
        rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(failed("list"))
    }

    /// Begins a body, or tells that it is still being written.
    pub(crate) async fn stage(&self, space: &str, body: i64, pages: &[(i64, Vec<u8>)]) -> Result<()> {
        let error = failed("store pages");
        let mut tx = self.begin("store pages").await?;
        let statement = "INSERT INTO sluice_bodies (body, space, state, since) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (body) DO UPDATE SET since = excluded.since";
        sqlx::query(statement).bind(body).bind(space).bind(STAGED).bind(now()).execute(&mut *tx).await.map_err(&error)?;
        for (number, bytes) in pages {
            put_page(&mut tx, body, *number, bytes).await.map_err(&error)?;
        }
        tx.commit().await.map_err(&error)
    }

    /// Puts an object in its place, if the condition holds.
    pub(crate) async fn publish(
        &self,
        space: &str,
        key: &Key,
        new: &Stored,
        value: Option<&[u8]>,
        when: &PutWhen,
    ) -> Result<ObjectInfo> {
        let error = failed("put");
        let mut tx = self.begin("put").await?;
        lock(&mut tx, space, &[key]).await.map_err(&error)?;
        let there = current(&mut tx, space, key).await.map_err(&error)?;
        let info = there.as_ref().map(|there| there.info(key.clone())).transpose()?;
        when.check(info.as_ref().map(|info| &info.etag))?;
        adopt(&mut tx, new.body).await?;
        write(&mut tx, space, key, new, value).await.map_err(&error)?;
        release(&mut tx, space, there.map_or(0, |there| there.body)).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        new.info(key.clone())
    }

    /// Deletes keys, in one transaction. Their rows are taken in their order, so that two calls never wait for each other.
    pub(crate) async fn delete(&self, space: &str, keys: &[DeleteKey]) -> Result<Vec<Result<DeleteOutcome>>> {
        let error = failed("delete");
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|a, b| keys[*a].key.cmp(&keys[*b].key));
        let mut outcomes: Vec<Result<DeleteOutcome>> = keys.iter().map(|_| Ok(DeleteOutcome::Absent)).collect();
        let mut tx = self.begin("delete").await?;
        for at in order {
            let DeleteKey { key, when } = &keys[at];
            let there = current(&mut tx, space, key).await.map_err(&error)?;
            let info = there.as_ref().map(|there| there.info(key.clone())).transpose()?;
            if !when.holds(info.as_ref()) {
                outcomes[at] = Err(Error::new(ErrorKind::PreconditionFailed, "delete").with("key", key));
                continue;
            }
            let Some(there) = there else { continue };
            let statement = "DELETE FROM sluice_objects WHERE space = $1 AND name = $2";
            sqlx::query(statement).bind(space).bind(key.as_str().as_bytes()).execute(&mut *tx).await.map_err(&error)?;
            release(&mut tx, space, there.body).await.map_err(&error)?;
            outcomes[at] = Ok(DeleteOutcome::Deleted { size: there.bytes() });
        }
        tx.commit().await.map_err(&error)?;
        Ok(outcomes)
    }

    pub(crate) async fn set_attributes(&self, space: &str, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        let error = failed("set attributes");
        let mut tx = self.begin("set attributes").await?;
        let there = current(&mut tx, space, key).await.map_err(&error)?.ok_or_else(|| missing("set attributes", key))?;
        let mut info = there.info(key.clone())?;
        expect_etag(&info, change.if_match.as_ref())?;
        info.attributes.apply(change);
        let statement = "UPDATE sluice_objects SET attributes = $3 WHERE space = $1 AND name = $2";
        let query = sqlx::query(statement).bind(space).bind(key.as_str().as_bytes()).bind(to_json(&info.attributes)?);
        query.execute(&mut *tx).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        Ok(info)
    }

    pub(crate) async fn rename(&self, space: &str, from: &Key, to: &Key, rename: &RenameOptions) -> Result<ObjectInfo> {
        let error = failed("rename");
        let mut tx = self.begin("rename").await?;
        lock(&mut tx, space, &[from, to]).await.map_err(&error)?;
        let source = current(&mut tx, space, from).await.map_err(&error)?.ok_or_else(|| missing("rename", from))?;
        let mut info = source.info(from.clone())?;
        expect_etag(&info, rename.source_if_match.as_ref())?;
        let there = current(&mut tx, space, to).await.map_err(&error)?;
        let replaced = there.as_ref().map(|there| there.info(to.clone())).transpose()?;
        rename.when.check(replaced.as_ref().map(|info| &info.etag))?;
        if from == to {
            return Ok(info);
        }
        info.attributes.apply(&AttributeChange { if_match: None, set: rename.set.clone() });
        let (old, new) = (from.as_str().as_bytes(), to.as_str().as_bytes());
        let statement = "DELETE FROM sluice_objects WHERE space = $1 AND name = $2";
        sqlx::query(statement).bind(space).bind(new).execute(&mut *tx).await.map_err(&error)?;
        let statement = "UPDATE sluice_objects SET name = $3, attributes = $4 WHERE space = $1 AND name = $2";
        let query = sqlx::query(statement).bind(space).bind(old).bind(new).bind(to_json(&info.attributes)?);
        query.execute(&mut *tx).await.map_err(&error)?;
        release(&mut tx, space, there.map_or(0, |there| there.body)).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        Ok(ObjectInfo { key: to.clone(), ..info })
    }

    /// Appends to a value, or the pages of a staged body to a body; `None` when there is no object. The staged body is done with.
    pub(crate) async fn append(
        &self,
        (space, key): (&str, &Key),
        (value, staged): (&[u8], i64),
        appended: &Appended,
        (offset, when, growth): (u64, &PutWhen, &Growth),
        largest: u64,
    ) -> Result<Option<ObjectInfo>> {
        let error = failed("append");
        let mut tx = self.begin("append").await?;
        lock(&mut tx, space, &[key]).await.map_err(&error)?;
        let Some(there) = current(&mut tx, space, key).await.map_err(&error)? else { return Ok(None) };
        let info = there.info(key.clone())?;
        when.check(Some(&info.etag))?;
        if offset != info.size {
            return Err(Error::new(ErrorKind::WriteOffset { size: info.size }, "append").with("key", key));
        }
        if info.size.saturating_add(appended.bytes) > largest {
            return Err(Error::new(ErrorKind::TooLarge, "append").with("key", key).with("largest", largest));
        }
        let seal = growth.of(&info, appended)?;
        let page = u32::try_from(there.page_bytes).unwrap_or(1);
        let new = Stored::new(info.size + appended.bytes, &seal.etag, &seal.attributes, there.body, page)?;
        if there.body == 0 {
            // Joined here: SQLite joins only text.
            let statement = "SELECT value FROM sluice_objects WHERE space = $1 AND name = $2";
            let query = sqlx::query(statement).bind(space).bind(key.as_str().as_bytes());
            let row = query.fetch_one(&mut *tx).await.map_err(&error)?;
            let mut joined = row.try_get::<Option<Vec<u8>>, _>("value").map_err(&error)?.unwrap_or_default();
            joined.extend_from_slice(value);
            let statement = "UPDATE sluice_objects SET value = $3 WHERE space = $1 AND name = $2";
            let query = sqlx::query(statement).bind(space).bind(key.as_str().as_bytes()).bind(joined);
            query.execute(&mut *tx).await.map_err(&error)?;
        } else {
            move_pages(&mut tx, &there, staged, appended.bytes).await.map_err(&error)?;
        }
        let statement =
            "UPDATE sluice_objects SET size = $3, etag = $4, modified = $5, attributes = $6 WHERE space = $1 AND name = $2";
        let query = sqlx::query(statement).bind(space).bind(key.as_str().as_bytes()).bind(new.size).bind(new.etag.as_str());
        query.bind(new.modified).bind(new.attributes.as_str()).execute(&mut *tx).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        new.info(key.clone()).map(Some)
    }

    pub(crate) async fn begin_upload(&self, space: &str, key: &Key, upload: &str) -> Result<()> {
        let error = failed("create upload");
        let statement =
            "INSERT INTO sluice_uploads (space, upload, name) VALUES ($1, $2, $3) ON CONFLICT (space, upload) DO NOTHING";
        let query = sqlx::query(statement).bind(space).bind(upload).bind(key.as_str().as_bytes());
        query.execute(&self.writer).await.map_err(error)?;
        // A second try of the same call finds it there; one of another key does not.
        match self.has_upload(space, key, upload).await? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Conflict, "upload of another key").with("upload", upload)),
        }
    }

    pub(crate) async fn has_upload(&self, space: &str, key: &Key, upload: &str) -> Result<bool> {
        let statement = "SELECT 1 FROM sluice_uploads WHERE space = $1 AND upload = $2 AND name = $3";
        let query = sqlx::query(statement).bind(space).bind(upload).bind(key.as_str().as_bytes());
        Ok(query.fetch_optional(&self.readers).await.map_err(failed("upload"))?.is_some())
    }

    /// Makes a staged body a part; `false` when the upload is gone.
    pub(crate) async fn add_part(&self, space: &str, key: &Key, upload: &str, part: (i64, u64, u32)) -> Result<bool> {
        let error = failed("part");
        let (body, bytes, page_bytes) = part;
        let mut tx = self.begin("part").await?;
        if !hold_upload(&mut tx, space, key, upload).await.map_err(&error)? {
            return Ok(false);
        }
        let statement = "UPDATE sluice_bodies SET state = $3 WHERE body = $1 AND state = $2";
        let query = sqlx::query(statement).bind(body).bind(STAGED).bind(PART);
        if query.execute(&mut *tx).await.map_err(&error)?.rows_affected() != 1 {
            return Err(Error::new(ErrorKind::Conflict, "a part that was swept meanwhile"));
        }
        let statement = "INSERT INTO sluice_parts (space, upload, body, size, page_bytes) VALUES ($1, $2, $3, $4, $5)";
        let query = sqlx::query(statement).bind(space).bind(upload).bind(body).bind(i64::try_from(bytes).unwrap_or(i64::MAX));
        query.bind(i64::from(page_bytes)).execute(&mut *tx).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        Ok(true)
    }

    /// The parts of an upload; `None` when it is gone.
    pub(crate) async fn parts(&self, space: &str, key: &Key, upload: &str) -> Result<Option<Vec<Stored>>> {
        if !self.has_upload(space, key, upload).await? {
            return Ok(None);
        }
        let statement = "SELECT body, size, page_bytes FROM sluice_parts WHERE space = $1 AND upload = $2";
        let rows = sqlx::query(statement).bind(space).bind(upload).fetch_all(&self.readers).await.map_err(failed("parts"))?;
        let read = |row: &Row| {
            let (body, size, page_bytes) = (row.try_get("body")?, row.try_get("size")?, row.try_get("page_bytes")?);
            Ok(Stored { size, etag: String::new(), modified: 0, attributes: String::new(), body, page_bytes })
        };
        rows.iter().map(read).collect::<sqlx::Result<_>>().map(Some).map_err(failed("parts"))
    }

    /// Marks a part as being removed; whether there was one.
    pub(crate) async fn drop_part(&self, space: &str, key: &Key, upload: &str, body: i64) -> Result<bool> {
        let error = failed("discard part");
        let mut tx = self.begin("discard part").await?;
        if !hold_upload(&mut tx, space, key, upload).await.map_err(&error)? {
            return Ok(false);
        }
        let statement = "DELETE FROM sluice_parts WHERE space = $1 AND upload = $2 AND body = $3";
        let query = sqlx::query(statement).bind(space).bind(upload).bind(body);
        let there = query.execute(&mut *tx).await.map_err(&error)?.rows_affected() > 0;
        if there {
            let statement = "UPDATE sluice_bodies SET state = $2 WHERE body = $1";
            sqlx::query(statement).bind(body).bind(COLLECTING).execute(&mut *tx).await.map_err(&error)?;
        }
        tx.commit().await.map_err(&error)?;
        Ok(there)
    }

    /// Puts what was made of the parts in its place, and ends the upload; `None` when it is gone.
    pub(crate) async fn complete(
        &self,
        space: &str,
        key: &Key,
        upload: &str,
        new: &Stored,
        when: &PutWhen,
    ) -> Result<Option<ObjectInfo>> {
        let error = failed("complete");
        let mut tx = self.begin("complete").await?;
        lock(&mut tx, space, &[key]).await.map_err(&error)?;
        if !hold_upload(&mut tx, space, key, upload).await.map_err(&error)? {
            return Ok(None);
        }
        let there = current(&mut tx, space, key).await.map_err(&error)?;
        let info = there.as_ref().map(|there| there.info(key.clone())).transpose()?;
        when.check(info.as_ref().map(|info| &info.etag))?;
        adopt(&mut tx, new.body).await?;
        write(&mut tx, space, key, new, None).await.map_err(&error)?;
        release(&mut tx, space, there.map_or(0, |there| there.body)).await.map_err(&error)?;
        // Given up by now, whoever still reads them; the next sweep removes them.
        forget_upload(&mut tx, space, upload).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        new.info(key.clone()).map(Some)
    }

    /// Ends an upload; answers the bodies of its parts, which are being removed.
    pub(crate) async fn end_upload(&self, space: &str, key: &Key, upload: &str) -> Result<Vec<i64>> {
        let error = failed("abort");
        let mut tx = self.begin("abort").await?;
        if !hold_upload(&mut tx, space, key, upload).await.map_err(&error)? {
            return Ok(Vec::new());
        }
        let bodies = forget_upload(&mut tx, space, upload).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        Ok(bodies)
    }

    /// Bodies that belong to nobody and are due, and are being removed from now on: staged ones that nobody wrote to since one moment,
    /// released ones of another.
    pub(crate) async fn collect_due(&self, space: &str, staged: i64, released: i64) -> Result<Vec<i64>> {
        let error = failed("sweep");
        let statement = "UPDATE sluice_bodies SET state = $4 WHERE space = $1 AND (state = $4 OR (state = $5 AND since <= $2) \
                         OR (state = $6 AND since <= $3)) RETURNING body";
        let query = sqlx::query(statement).bind(space).bind(staged).bind(released).bind(COLLECTING).bind(STAGED).bind(RELEASED);
        let rows = query.fetch_all(&self.writer).await.map_err(&error)?;
        rows.iter().map(|row| row.try_get("body")).collect::<sqlx::Result<_>>().map_err(&error)
    }

    /// Marks one body as being removed, unless an object has it.
    pub(crate) async fn collect_one(&self, body: i64) -> Result<bool> {
        let statement = "UPDATE sluice_bodies SET state = $2 WHERE body = $1";
        let marked = sqlx::query(statement).bind(body).bind(COLLECTING).execute(&self.writer).await.map_err(failed("sweep"))?;
        Ok(marked.rows_affected() > 0)
    }

    /// Removes some pages of a body that is being removed, and with the last of them the body; whether there are more.
    pub(crate) async fn remove_some(&self, body: i64, pages: i64) -> Result<bool> {
        let error = failed("sweep");
        let mut tx = self.begin("sweep").await?;
        let statement = "DELETE FROM sluice_pages WHERE body = $1 AND number IN \
                         (SELECT number FROM sluice_pages WHERE body = $1 ORDER BY number LIMIT $2)";
        let removed = sqlx::query(statement).bind(body).bind(pages).execute(&mut *tx).await.map_err(&error)?.rows_affected();
        let more = i64::try_from(removed).is_ok_and(|removed| removed == pages);
        if !more {
            let statement = "DELETE FROM sluice_bodies WHERE body = $1 AND state = $2";
            sqlx::query(statement).bind(body).bind(COLLECTING).execute(&mut *tx).await.map_err(&error)?;
        }
        tx.commit().await.map_err(&error)?;
        Ok(more)
    }

    /// How many pages there are, and how many of them belong to neither an object nor a body in the table of bodies.
    pub(crate) async fn count_pages(&self) -> Result<(i64, i64)> {
        let error = failed("count pages");
        let statement = "SELECT COUNT(*) AS pages, COUNT(CASE WHEN NOT EXISTS (SELECT 1 FROM sluice_objects o WHERE o.body = p.body) \
                         AND NOT EXISTS (SELECT 1 FROM sluice_bodies b WHERE b.body = p.body) THEN 1 END) AS orphans FROM sluice_pages p";
        let row = sqlx::query(statement).fetch_one(&self.readers).await.map_err(&error)?;
        let read = || Ok((row.try_get("pages")?, row.try_get("orphans")?));
        read().map_err(error)
    }
}

/// Whether an upload is there, which it then is until the transaction ends.
async fn hold_upload(tx: &mut Transaction<'_, Db>, space: &str, key: &Key, upload: &str) -> sqlx::Result<bool> {
    let statement = format!("SELECT 1 FROM sluice_uploads WHERE space = $1 AND upload = $2 AND name = $3{FOR_UPDATE}");
    let query = sqlx::query(AssertSqlSafe(statement)).bind(space).bind(upload).bind(key.as_str().as_bytes());
    Ok(query.fetch_optional(&mut **tx).await?.is_some())
}

/// Removes the rows of an upload; its parts are being removed from now on.
async fn forget_upload(tx: &mut Transaction<'_, Db>, space: &str, upload: &str) -> sqlx::Result<Vec<i64>> {
    let statement = "DELETE FROM sluice_uploads WHERE space = $1 AND upload = $2";
    sqlx::query(statement).bind(space).bind(upload).execute(&mut **tx).await?;
    let statement = "DELETE FROM sluice_parts WHERE space = $1 AND upload = $2 RETURNING body";
    let rows = sqlx::query(statement).bind(space).bind(upload).fetch_all(&mut **tx).await?;
    let bodies: Vec<i64> = rows.iter().map(|row| row.try_get("body")).collect::<sqlx::Result<_>>()?;
    for body in &bodies {
        let statement = "UPDATE sluice_bodies SET state = $2 WHERE body = $1";
        sqlx::query(statement).bind(*body).bind(COLLECTING).execute(&mut **tx).await?;
    }
    Ok(bodies)
}

/// Moves the bytes of a staged body behind those of another, page by page: the last page of that is filled up first.
async fn move_pages(tx: &mut Transaction<'_, Db>, there: &Stored, staged: i64, bytes: u64) -> sqlx::Result<()> {
    let page = there.page();
    let (mut at, mut taken) = (there.bytes(), 0);
    let fetch = async |tx: &mut Transaction<'_, Db>, body: i64, number: u64| -> sqlx::Result<Vec<u8>> {
        let statement = "SELECT bytes FROM sluice_pages WHERE body = $1 AND number = $2";
        let row = sqlx::query(statement).bind(body).bind(number as i64).fetch_optional(&mut **tx).await?;
        Ok(row.map(|row| row.try_get("bytes")).transpose()?.unwrap_or_default())
    };
    // One page of each is held.
    let mut source: (u64, Vec<u8>) = (u64::MAX, Vec::new());
    while taken < bytes {
        let (number, offset) = (at / page, (at % page) as usize);
        let mut filled = if offset == 0 { Vec::new() } else { fetch(tx, there.body, number).await? };
        filled.resize(offset, 0);
        while filled.len() < page as usize && taken < bytes {
            if source.0 != taken / page {
                let mut bytes = fetch(tx, staged, taken / page).await?;
                bytes.resize(page as usize, 0);
                source = (taken / page, bytes);
            }
            let from = (taken % page) as usize;
            let count = (page as usize - from).min(page as usize - filled.len()).min((bytes - taken) as usize);
            filled.extend_from_slice(&source.1[from..from + count]);
            taken += count as u64;
        }
        at = number * page + filled.len() as u64;
        if filled.iter().any(|byte| *byte != 0) {
            put_page(tx, there.body, number as i64, &filled).await?;
        }
    }
    Ok(())
}
