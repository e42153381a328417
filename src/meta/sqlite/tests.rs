//! The suite, and what is particular to a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use sqlx::sqlite::SqlitePool;
use sqlx::{Row, query};
use tempfile::TempDir;

use super::SqliteStore;
use crate::error::Result;
use crate::meta::suite::{bucket, kind, meta_suite, mount, part, replace_one_part, upload};
use crate::meta::{IdentityStore as _, MetaStore};

mod in_memory {
    use super::*;
    meta_suite!(async { (SqliteStore::open_in_memory().await.unwrap(), ()) });
}

mod in_a_file {
    use super::*;
    meta_suite!(async {
        let directory = TempDir::new().unwrap();
        (SqliteStore::open(&directory.path().join("sluice.db")).await.unwrap(), directory)
    });
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sluice.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.create_bucket(&bucket("b", "me"), &[mount("b", "")]).await.unwrap();
    store.create_upload(&upload("b", "k", "u")).await.unwrap();
    store.put_part("u", &part(1, "t")).await.unwrap();
    store.close().await;
    assert!(!path.with_extension("db-wal").exists(), "the log was moved into the file");

    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.bucket("b").await.unwrap(), Some(bucket("b", "me")));
    assert_eq!(store.mounts("b").await.unwrap(), [mount("b", "")]);
    assert_eq!(store.parts("u", 0, 10).await.unwrap(), [part(1, "t")]);
    let applied: i64 = query("SELECT count(*) FROM _sqlx_migrations").fetch_one(&store.readers).await.unwrap().get(0);
    assert_eq!(applied, 4, "a migration runs once");
}

/// A store of the first release: its identities become accounts, their keys go on, and their buckets are still theirs.
#[tokio::test]
async fn identities_of_the_first_schema_become_accounts() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sluice.db");
    let old = SqlitePool::connect(&format!("sqlite:{}?mode=rwc", path.display())).await.unwrap();
    super::migrations::run_first(&old, 1).await.unwrap();
    for sql in [
        "INSERT INTO identities VALUES ('1', 'root', 1, 5), ('2', 'zoe', 0, 6)",
        "INSERT INTO access_keys VALUES ('A', x'01', '1', 1, 7), ('B', x'02', '2', 0, 8)",
        "INSERT INTO buckets VALUES ('b', '2', 9, '')",
    ] {
        query(sql).execute(&old).await.unwrap();
    }
    old.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    let accounts = store.accounts("", 10).await.unwrap();
    let shown: Vec<_> = accounts.iter().map(|a| (a.id.as_str(), a.name.as_str(), a.root, a.active, a.created)).collect();
    assert_eq!(shown, [("1", "root", true, true, 5), ("2", "zoe", false, true, 6)]);
    for account in &accounts {
        assert!(account.number.len() == 12 && account.number.bytes().all(|byte| byte.is_ascii_digit()), "{}", account.number);
    }
    assert_ne!(accounts[0].number, accounts[1].number);
    let keys = store.access_keys("", 10).await.unwrap();
    let shown: Vec<_> = keys.iter().map(|k| (k.access_key.as_str(), k.sealed_secret[0], k.account.as_str(), k.active)).collect();
    assert_eq!(shown, [("A", 1, "1", true), ("B", 2, "2", false)]);
    assert!(keys.iter().all(|key| key.user.is_none() && key.expires.is_none()));
    assert_eq!(store.buckets(Some("2"), "", "", 10).await.unwrap().len(), 1);
    assert!(store.has_root_key().await.unwrap());
}

#[tokio::test]
async fn files_are_private() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("new/data/sluice.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    for name in ["sluice.db", "sluice.db-wal", "sluice.db-shm"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&directory.path().join("new")), 0o700);
    assert_eq!(mode(&directory.path().join("new/data")), 0o700);
    store.close().await;

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn commits_reach_the_disk_before_the_answer() {
    let directory = TempDir::new().unwrap();
    let store = SqliteStore::open(&directory.path().join("sluice.db")).await.unwrap();
    let pragma = async |pool: &SqlitePool, sql: &'static str| -> String {
        let row = query(sql).fetch_one(pool).await.unwrap();
        row.try_get::<String, _>(0).unwrap_or_else(|_| row.get::<i64, _>(0).to_string())
    };
    assert_eq!(pragma(&store.writer, "PRAGMA journal_mode").await, "wal");
    assert_eq!(pragma(&store.writer, "PRAGMA synchronous").await, "2", "FULL");
    for pool in [&store.writer, &store.readers] {
        assert_eq!(pragma(pool, "PRAGMA foreign_keys").await, "1");
        assert_eq!(pragma(pool, "PRAGMA busy_timeout").await, "2000");
    }
    assert!(query("DELETE FROM buckets").execute(&store.readers).await.is_err(), "readers cannot write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_create_the_file_at_once() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sluice.db");
    let stores = join_all((0..8).map(|_| {
        let path = path.clone();
        tokio::spawn(async move { SqliteStore::open(&path).await })
    }))
    .await;
    let stores: Vec<_> = stores.into_iter().map(|joined| joined.unwrap().unwrap()).collect();
    stores[0].create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    assert!(stores[7].bucket("b").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_openers_write_side_by_side() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sluice.db");
    let stores = [Arc::new(SqliteStore::open(&path).await.unwrap()), Arc::new(SqliteStore::open(&path).await.unwrap())];
    let writes = (0..200).map(|n| {
        let store = Arc::clone(&stores[n % 2]);
        tokio::spawn(async move { store.create_bucket(&bucket(&format!("b{}", n / 2), &format!("owner {n}")), &[]).await })
    });
    let won = join_all(writes).await.into_iter().filter(|joined| joined.as_ref().unwrap().is_ok()).count();
    assert_eq!(won, 100, "of two that want one name, one gets it");
    assert_eq!(stores[0].buckets(None, "", "", 1000).await.unwrap().len(), 100);

    stores[0].create_upload(&upload("b0", "k", "u")).await.unwrap();
    replace_one_part(&stores.map(|store| store as Arc<dyn MetaStore>)).await;
}

/// After a crash there is what the files hold while the store is still open.
#[tokio::test]
async fn what_was_answered_survives_a_crash() {
    let directory = TempDir::new().unwrap();
    let store = SqliteStore::open(&directory.path().join("sluice.db")).await.unwrap();
    store.create_bucket(&bucket("b", "me"), &[mount("b", "")]).await.unwrap();
    store.create_upload(&upload("b", "k", "u")).await.unwrap();
    store.put_part("u", &part(1, "t")).await.unwrap();
    let mut open = store.writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    query("DELETE FROM parts").execute(&mut *open).await.unwrap();

    let crashed = TempDir::new().unwrap();
    for name in ["sluice.db", "sluice.db-wal"] {
        std::fs::copy(directory.path().join(name), crashed.path().join(name)).unwrap();
    }
    let store = SqliteStore::open(&crashed.path().join("sluice.db")).await.unwrap();
    assert_eq!(store.mounts("b").await.unwrap(), [mount("b", "")]);
    assert_eq!(store.parts("u", 0, 10).await.unwrap(), [part(1, "t")]);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let store = SqliteStore::open(&directory.path().join("sluice.db")).await.unwrap();
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    query("PRAGMA max_page_count = 1").execute(&store.writer).await.unwrap();
    let document = "x".repeat(100_000);
    let full = store.set_bucket_setting("b", "cors", Some(&document)).await;
    assert!(full.as_ref().unwrap_err().to_string().contains("full"), "{full:?}");
    assert_eq!(kind(full), "MetaUnavailable");
    assert_eq!(store.bucket_settings("b").await.unwrap(), []);
    query("PRAGMA max_page_count = 1000000").execute(&store.writer).await.unwrap();
    assert!(store.set_bucket_setting("b", "cors", Some(&document)).await.unwrap());
}

#[tokio::test]
async fn a_path_is_a_path_whatever_it_looks_like() {
    let directory = TempDir::new().unwrap();
    for name in [":memory:", "file:x?mode=memory", "a b%20#c?d", "ü"] {
        let path = directory.path().join(name).join(name);
        let store = SqliteStore::open(&path).await.unwrap();
        store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
        assert!(store.bucket("b").await.unwrap().is_some());
        assert!(std::fs::metadata(&path).is_ok(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_file_is_waited_for_and_then_reported() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sluice.db");
    let (ours, theirs) = (SqliteStore::open(&path).await.unwrap(), SqliteStore::open(&path).await.unwrap());

    let lock = theirs.writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let record = bucket("b", "me");
    let (created, ()) = tokio::join!(ours.create_bucket(&record, &[]), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        lock.rollback().await.unwrap();
    });
    created.unwrap();

    // With the wait of SQLite itself made short, our own tries are what is left, and they end.
    query("PRAGMA busy_timeout = 1").execute(&ours.writer).await.unwrap();
    let _lock = theirs.writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let begun = Instant::now();
    assert_eq!(kind(ours.delete_bucket("b").await), "MetaUnavailable");
    assert_eq!(kind(ours.put_part("u", &part(1, "t")).await), "MetaUnavailable");
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(700) && waited < Duration::from_secs(10), "{waited:?}");
    assert!(ours.bucket("b").await.unwrap().is_some(), "readers do not wait for a writer");
}

#[tokio::test]
async fn an_abandoned_transaction_is_undone() {
    let store = SqliteStore::open_in_memory().await.unwrap();
    let mut transaction = store.writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
    query("INSERT INTO installation VALUES ('a', 'b')").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    assert_eq!(store.value("a").await.unwrap(), None);
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
}

/// A client that hangs up drops the call at any await: the store must neither hang nor keep half of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_may_be_dropped_halfway() {
    let directory = TempDir::new().unwrap();
    let store = Arc::new(SqliteStore::open(&directory.path().join("sluice.db")).await.unwrap());
    for n in 0..60u64 {
        let (store, name) = (Arc::clone(&store), format!("b{n}"));
        let call = tokio::spawn(async move { store.create_bucket(&bucket(&name, "me"), &[mount(&name, "")]).await });
        tokio::time::sleep(Duration::from_micros(n * 20)).await;
        call.abort();
    }
    store.create_bucket(&bucket("last", "me"), &[mount("last", "")]).await.unwrap();
    for found in store.buckets(None, "", "", 1000).await.unwrap() {
        assert_eq!(store.mounts(&found.name).await.unwrap().len(), 1, "{}", found.name);
    }
}

#[tokio::test]
async fn completed_uploads_are_forgotten_after_a_day() {
    let store = SqliteStore::open_in_memory().await.unwrap();
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    for n in 0..150 {
        store.remember_completed("b", "k", &format!("old {n}"), "r", "e").await.unwrap();
    }
    query("UPDATE completed_uploads SET finished = finished - 86400000").execute(&store.writer).await.unwrap();
    assert_eq!(store.completed("b", "old 1").await.unwrap(), None, "not answered even before it is purged");
    let count =
        async || -> i64 { query("SELECT count(*) FROM completed_uploads").fetch_one(&store.readers).await.unwrap().get(0) };
    store.remember_completed("b", "k", "new 1", "r", "e").await.unwrap();
    assert_eq!(count().await, 51, "a bounded number at a time");
    store.remember_completed("b", "k", "new 2", "r", "e").await.unwrap();
    assert_eq!(count().await, 2);
    assert!(store.completed("b", "new 1").await.unwrap().is_some());
}

#[tokio::test]
async fn what_cannot_be_opened_is_an_error_with_its_path() {
    async fn refused(opened: Result<SqliteStore>, path: &std::path::Path) -> String {
        let error = opened.unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        kind::<()>(Err(error))
    }
    let directory = TempDir::new().unwrap();
    let garbage = directory.path().join("garbage.db");
    std::fs::write(&garbage, vec![7; 10_000]).unwrap();
    assert_eq!(refused(SqliteStore::open(&garbage).await, &garbage).await, "MetaUnavailable");
    assert_eq!(std::fs::read(&garbage).unwrap(), vec![7; 10_000], "left as it was");
    assert_eq!(refused(SqliteStore::open(directory.path()).await, directory.path()).await, "MetaUnavailable");

    let newer = directory.path().join("newer.db");
    let store = SqliteStore::open(&newer).await.unwrap();
    query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'x', 1, x'00', 0)")
        .execute(&store.writer)
        .await
        .unwrap();
    store.close().await;
    assert_eq!(refused(SqliteStore::open(&newer).await, &newer).await, "MetaUnavailable");
}

/// The page queries must be seeks: a bucket with a million uploads is listed a page at a time.
#[tokio::test]
async fn pages_are_range_scans() {
    let store = SqliteStore::open_in_memory().await.unwrap();
    for (sql, index) in [
        (super::sql::UPLOADS, "SEARCH uploads USING INDEX uploads_by_key (bucket=? AND (key,upload_id)>(?,?) AND key<?)"),
        (super::sql::BUCKETS, "SEARCH buckets USING PRIMARY KEY (name>? AND name<?)"),
        (super::sql::BUCKETS_OF_OWNER, "INDEX buckets_by_owner (owner=? AND name>? AND name<?)"),
        (super::sql::UPLOADS_BEFORE, "SEARCH uploads USING INDEX uploads_by_age (created<?)"),
        (super::sql::PARTS, "SEARCH parts USING PRIMARY KEY (upload_id=? AND number>?)"),
    ] {
        let plan = query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(&store.readers).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(3)).collect();
        assert!(plan.len() == 1 && plan[0].contains(index), "{plan:?} is not {index}");
    }
}
