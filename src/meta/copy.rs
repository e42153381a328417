//! One store into another, whatever databases they are: table by table, from one moment of the source, all or nothing.
//!
//! What is not copied is the feed of changes: nobody follows a store that is not in use yet.

use tokio::sync::mpsc;

use super::open::Backend;
use crate::error::{Error, ErrorKind, Result};

/// Rows on their way at once.
pub(super) const BATCH: usize = 500;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Boolean,
    Time,
    Json,
    Bytes,
}

/// A value on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(Option<String>),
    Integer(Option<i64>),
    Boolean(Option<bool>),
    Time(Option<i64>),
    Json(Option<serde_json::Value>),
    Bytes(Option<Vec<u8>>),
}

/// A table that is copied.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, Kind)],
    /// Whether its texts come from keys and documents of clients, which may hold any character.
    pub(super) any_text: bool,
}

/// Rows of a table: its place in [`TABLES`], and the rows.
pub(super) type Batch = (usize, Vec<Vec<Cell>>);

macro_rules! tables {
    ($($name:literal $any:literal { $($column:ident $kind:ident),* $(,)? })*) => {
        /// What is copied, in an order in which every reference finds what it refers to.
        pub(super) const TABLES: &[Table] = &[$(Table {
            name: $name,
            columns: &[$((stringify!($column), Kind::$kind)),*],
            any_text: $any,
        }),*];
    };
}

tables! {
    "installation" true { name Text, value Text }
    "overlay" true { space Text, name Text, document Text }
    "buckets" true { name Text, owner Text, created Time, location Text }
    "bucket_settings" true { bucket Text, name Text, document Text }
    "mounts" true { bucket Text, prefix Text, provider Text, settings Json }
    "uploads" true {
        upload_id Text, bucket Text, key Text, mount_prefix Text, initiator Text, created Time, attributes Json,
        checksum_algorithm Text, checksum_type Text,
    }
    "parts" true { upload_id Text, number Integer, token Text, size Integer, etag Text, checksums Json, modified Time }
    "completed_uploads" true { upload_id Text, bucket Text, key Text, request Text, etag Text, finished Time }
    "accounts" false { id Text, number Text, name Text, root Boolean, active Boolean, created Time }
    "account_documents" false { account Text, kind Text, name Text, document Text }
    "policies" false {
        id Text, account Text, path Text, name Text, folded Text, description Text, default_version Integer, last_version Integer,
        tags Json, created Time, updated Time,
    }
    "policy_versions" false { policy Text, version Integer, document Text, created Time }
    "entities" false {
        id Text, account Text, kind Text, path Text, name Text, folded Text, description Text, trust Text, max_session_secs Integer,
        boundary Text, boundary_policy Text, tags Json, created Time,
    }
    "group_members" false { group_id Text, user_id Text }
    "inline_policies" false { entity Text, name Text, document Text }
    "attached_policies" false { entity Text, arn Text, policy Text }
    "access_keys" false {
        access_key Text, sealed_secret Bytes, account Text, user_id Text, active Boolean, expires Time, service Json, created Time,
        last_used Time,
    }
    "sessions" false {
        access_key Text, sealed_secret Bytes, token_hash Bytes, account Text, entity Text, kind Text, name Text, policy Text,
        policy_arns Json, tags Json, context Json, issued Time, expires Time,
    }
    "revocations" false { what Text, before Time, until Time, reason Text }
}

impl Table {
    pub(super) fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.names().join(", "), self.name)
    }

    pub(super) fn insert(&self) -> String {
        let places: Vec<String> = (1..=self.columns.len()).map(|n| format!("${n}")).collect();
        format!("INSERT INTO {} ({}) VALUES ({})", self.name, self.names().join(", "), places.join(", "))
    }

    fn names(&self) -> Vec<&'static str> {
        self.columns.iter().map(|(name, _)| *name).collect()
    }
}

/// Copies the store that `from` names into the one that `to` names, which must be empty. Answers the rows of each table.
///
/// # Errors
/// `EntityExists` when the target holds something; `InvalidArgument` when a name is none of a store; `MetaUnavailable`. The target is then as
/// it was.
pub async fn copy(from: &str, to: &str) -> Result<Vec<(&'static str, u64)>> {
    let (source, target) = (Backend::open(from, 4).await?, Backend::open(to, 4).await?);
    let (rows, arriving) = mpsc::channel::<Batch>(4);
    let outcome = match tokio::join!(source.export(rows), target.import(arriving)) {
        (Ok(()), Ok(counts)) => Ok(TABLES.iter().map(|table| table.name).zip(counts).collect()),
        // When the target breaks off, the source only knows that nobody takes its rows.
        (_, Err(error)) | (Err(error), _) => Err(error),
    };
    source.close().await;
    target.close().await;
    outcome
}

pub(super) fn occupied() -> Error {
    let message = "the target holds something already: copy into a new store";
    Error::new(ErrorKind::InvalidArgument(message.into()), "copy metadata store")
}

/// `table_copy!(Store, types, begin)`: `begin` begins a transaction that sees one moment; `types` has `Time`, and `outward` and `inward`, which
/// turn texts that may hold any character into what the database can hold and back.
macro_rules! table_copy {
    ($store:ty, $types:ident, $begin:literal) => {
        use futures::TryStreamExt as _;
        use sqlx::types::Json;
        use sqlx::{AssertSqlSafe, Row as _, query, query_scalar};
        use tokio::sync::mpsc;
        use $crate::error::Result;
        use $crate::meta::copy::{Batch, Cell, Kind, TABLES, Table, occupied};

        fn cells(table: &Table, row: &$types::Row) -> sqlx::Result<Vec<Cell>> {
            let cell = |(at, (_, kind)): (usize, &(&str, Kind))| {
                Ok(match kind {
                    Kind::Text => {
                        let text: Option<String> = row.try_get(at)?;
                        Cell::Text(if table.any_text { text.map($types::inward) } else { text })
                    }
                    Kind::Integer => Cell::Integer(row.try_get(at)?),
                    Kind::Boolean => Cell::Boolean(row.try_get(at)?),
                    Kind::Time => Cell::Time(row.try_get::<Option<$types::Time>, _>(at)?.map(|time| time.0)),
                    Kind::Json => {
                        let value = row.try_get::<Option<Json<serde_json::Value>>, _>(at)?.map(|Json(value)| value);
                        Cell::Json(if table.any_text { value.map(|value| map_texts(value, &$types::inward)) } else { value })
                    }
                    Kind::Bytes => Cell::Bytes(row.try_get(at)?),
                })
            };
            table.columns.iter().enumerate().map(cell).collect()
        }

        /// Every text of an object of strings.
        fn map_texts(value: serde_json::Value, map: &dyn Fn(String) -> String) -> serde_json::Value {
            use serde_json::Value;
            match value {
                Value::String(text) => Value::String(map(text)),
                Value::Object(fields) => fields.into_iter().map(|(name, value)| (map(name), map_texts(value, map))).collect(),
                other => other,
            }
        }

        impl $store {
            /// Sends every row.
            pub(in crate::meta) async fn export(&self, rows: mpsc::Sender<Batch>) -> Result<()> {
                let export = async {
                    let mut transaction = self.reading().begin_with($begin).await?;
                    for (n, table) in TABLES.iter().enumerate() {
                        let mut found = query(AssertSqlSafe(table.select())).fetch(&mut *transaction);
                        let mut batch = Vec::new();
                        while let Some(row) = found.try_next().await? {
                            batch.push(cells(table, &row)?);
                            if batch.len() >= $crate::meta::copy::BATCH {
                                rows.send((n, std::mem::take(&mut batch))).await.map_err(|_| sqlx::Error::WorkerCrashed)?;
                            }
                        }
                        rows.send((n, batch)).await.map_err(|_| sqlx::Error::WorkerCrashed)?;
                    }
                    // The sign that nothing is missing.
                    rows.send((TABLES.len(), Vec::new())).await.map_err(|_| sqlx::Error::WorkerCrashed)
                };
                export.await.map_err(failed("read the store to copy"))
            }

            /// Takes every row, in one transaction. Answers the rows of each table.
            pub(in crate::meta) async fn import(&self, mut rows: mpsc::Receiver<Batch>) -> Result<Vec<u64>> {
                let failed = || failed("write the copied store");
                let mut transaction = self.begin_change().await.map_err(failed())?;
                for table in ["installation", "buckets", "accounts"] {
                    let count = format!("SELECT count(*) FROM {table}");
                    let count: i64 = query_scalar(AssertSqlSafe(count)).fetch_one(&mut *transaction).await.map_err(failed())?;
                    if count > 0 {
                        return Err(occupied());
                    }
                }
                let mut counts = vec![0; TABLES.len()];
                let mut whole = false;
                while let Some((n, batch)) = rows.recv().await {
                    let Some(table) = TABLES.get(n) else {
                        whole = true;
                        break;
                    };
                    let statement = table.insert();
                    for cells in batch {
                        let mut insert = query(AssertSqlSafe(statement.clone()));
                        for cell in cells {
                            insert = match cell {
                                Cell::Text(text) => insert.bind(if table.any_text { text.map($types::outward) } else { text }),
                                Cell::Integer(number) => insert.bind(number),
                                Cell::Boolean(truth) => insert.bind(truth),
                                Cell::Time(time) => insert.bind(time.map($types::Time)),
                                Cell::Json(value) => {
                                    let map = |value| map_texts(value, &$types::outward);
                                    insert.bind(if table.any_text { value.map(map) } else { value }.map(Json))
                                }
                                Cell::Bytes(bytes) => insert.bind(bytes),
                            };
                        }
                        insert.execute(&mut *transaction).await.map_err(failed())?;
                        counts[n] += 1;
                    }
                }
                if !whole {
                    return Err(failed()(sqlx::Error::WorkerCrashed));
                }
                transaction.commit().await.map_err(failed())?;
                Ok(counts)
            }
        }
    };
}
pub(super) use table_copy;

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use super::*;
    use crate::meta::identities::suite::{account, entity, key, session};
    use crate::meta::suite::{bucket, mount, part, upload};
    use crate::meta::{EntityKind, MetaStore, PolicyRecord, PolicyRef, RevocationRecord, Revoked, UploadCursor, UploadRecord};

    /// One of everything.
    pub(in crate::meta) async fn fill(store: &dyn MetaStore) {
        store.value_or_insert("id", "a\0b").await.unwrap();
        store.swap_overlay("s", "k\0", None, Some("{ü}")).await.unwrap();
        store.create_bucket(&bucket("b", "1"), &[mount("b", ""), mount("b", "x\u{1}/")]).await.unwrap();
        store.set_bucket_setting("b", "cors", Some("<ü/>")).await.unwrap();
        let odd = upload("b", "k\0\u{1}\u{2}", "u");
        store.create_upload(&UploadRecord { attributes: [("a\0".into(), "\u{1}".into())].into(), ..odd }).await.unwrap();
        store.put_part("u", &part(3, "t\0")).await.unwrap();
        store.remember_completed("b", "k", "c", "r", "e").await.unwrap();
        store.create_account(&account("1", "one")).await.unwrap();
        store.set_account_document("1", "oidc", "x", None, Some("{ }")).await.unwrap();
        let policy = PolicyRecord {
            id: "P".into(),
            account: "1".into(),
            path: "/".into(),
            name: "Read".into(),
            description: String::new(),
            default_version: 1,
            tags: [("a".to_owned(), "ü".to_owned())].into(),
            created: 1,
            updated: 2,
        };
        store.create_policy(&policy, "{1}").await.unwrap();
        store.add_policy_version("P", "{2}", 5, true, 5).await.unwrap();
        store.delete_policy_version("P", 1).await.unwrap();
        for (id, kind) in [("U", EntityKind::User), ("G", EntityKind::Group), ("R", EntityKind::Role)] {
            store.create_entity(&entity(id, "1", kind, id)).await.unwrap();
        }
        store.add_member("G", "U").await.unwrap();
        store.put_inline_policy("G", "p", "{ }").await.unwrap();
        store.attach_policy("U", &PolicyRef { arn: "arn:P".into(), policy: Some("P".into()) }).await.unwrap();
        let keys: Vec<_> = (0..1200).map(|n| key(&format!("K{n:04}"), "1")).collect();
        store.create_access_keys(&keys).await.unwrap();
        store.create_session(&session("S", 7, "1", Some("R"))).await.unwrap();
        let what = Revoked::Key("X".into());
        store.revoke(&RevocationRecord { what, before: 5, until: None, reason: "ü".into() }).await.unwrap();
    }

    /// What of it there is.
    pub(in crate::meta) async fn seen(store: &dyn MetaStore) -> String {
        let uploads = store.uploads("b", "", &UploadCursor::default(), 10).await.unwrap();
        let keys = store.access_keys("", 2000).await.unwrap();
        let secrets = store.sealed_secrets("", 2000).await.unwrap();
        format!(
            "{:?}",
            (
                (store.value("id").await.unwrap(), store.bucket("b").await.unwrap(), store.mounts("b").await.unwrap()),
                (store.bucket_settings("b").await.unwrap(), uploads, store.parts("u", 0, 10).await.unwrap()),
                (store.completed("b", "c").await.unwrap(), store.accounts("", 10).await.unwrap()),
                (store.account_documents("1", "oidc").await.unwrap(), store.policy("P").await.unwrap()),
                (store.policy_versions("P").await.unwrap(), store.entity("R").await.unwrap()),
                (store.applied_policies("U").await.unwrap(), store.credential("S").await.unwrap()),
                (keys, secrets, store.revocations("", 10).await.unwrap()),
                store.overlay("s", &["k\0".to_owned()]).await.unwrap(),
            )
        )
    }

    /// Fills the first, copies it into the second, and that into the third.
    pub(in crate::meta) async fn chain(first: &str, second: &str, third: &str) {
        let store = Backend::open(first, 4).await.unwrap().into_store();
        fill(&*store).await;
        let filled = seen(&*store).await;
        store.close().await;
        for (version, from, to) in [(3, first, second), (4, second, third)] {
            let counts = copy(from, to).await.unwrap();
            assert!(counts.iter().all(|(_, rows)| *rows > 0), "{counts:?}");
            assert!(counts.contains(&("access_keys", 1200)));
            let copied = Backend::open(to, 4).await.unwrap().into_store();
            assert_eq!(seen(&*copied).await, filled, "{to}");
            assert_eq!(copied.add_policy_version("P", "{3}", 5, false, 5).await.unwrap(), version, "numbers go on");
            copied.delete_policy_version("P", version).await.unwrap();
            copied.close().await;
        }
        let again = copy(first, second).await.unwrap_err();
        assert!(again.to_string().contains("holds something"), "{again}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite_into_sqlite() {
        let directory = tempfile::tempdir().unwrap();
        let dsn = |name: &str| format!("sqlite:{}", directory.path().join(name).display());
        chain(&dsn("a"), &dsn("b"), &dsn("c")).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a PostgreSQL server"]
    async fn sqlite_into_postgres_and_back() {
        let directory = tempfile::tempdir().unwrap();
        let dsn = |name: &str| format!("sqlite:{}", directory.path().join(name).display());
        let server = crate::meta::postgres::tests::schema().await;
        chain(&dsn("a"), &server, &dsn("b")).await;
    }
}
