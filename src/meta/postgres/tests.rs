//! The suite on a real server, and what is particular to it. `SLUICE_TEST_POSTGRES` names the server; each test has a schema of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row, query, query_scalar};

use super::PostgresStore;
use crate::meta::identities::suite::{account, key};
use crate::meta::suite::{bucket, kind, meta_suite, mount, part, replace_one_part, upload};
use crate::meta::{IdentityStore, MetaStore, RevocationRecord, Revoked};

const NEEDS: &str = "SLUICE_TEST_POSTGRES must name a server; `bash compat-tests/run postgres` starts one";

/// The DSN of a schema of its own, empty.
pub(crate) async fn schema() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let dsn = std::env::var("SLUICE_TEST_POSTGRES").expect(NEEDS);
    let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let pool = PgPool::connect(&dsn).await.expect(NEEDS);
    query(AssertSqlSafe(format!("CREATE SCHEMA {name}"))).execute(&pool).await.unwrap();
    pool.close().await;
    let sign = if dsn.contains('?') { '&' } else { '?' };
    format!("{dsn}{sign}options=-c%20search_path%3D{name}")
}

async fn open(dsn: &str) -> PostgresStore {
    PostgresStore::open(dsn, 10).await.unwrap()
}

meta_suite!(async { (open(&schema().await).await, ()) }, ignore = "needs a PostgreSQL server");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server"]
async fn what_was_written_is_there_after_reopening() {
    let dsn = schema().await;
    let store = open(&dsn).await;
    store.create_bucket(&bucket("b", "me"), &[mount("b", "")]).await.unwrap();
    store.close().await;
    let store = open(&dsn).await;
    assert_eq!(store.bucket("b").await.unwrap(), Some(bucket("b", "me")));
    let applied: i64 = query_scalar("SELECT count(*) FROM _sqlx_migrations").fetch_one(&store.pool).await.unwrap();
    assert_eq!(applied, 3, "a migration runs once");
    query("UPDATE _sqlx_migrations SET version = 99 WHERE version = 3").execute(&store.pool).await.unwrap();
    let newer = PostgresStore::open(&dsn, 2).await;
    assert_eq!(kind(newer), "MetaUnavailable", "written by a newer version");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server"]
async fn gateways_may_start_at_once_and_share_everything() {
    let dsn = schema().await;
    let stores = join_all((0..6).map(|_| {
        let dsn = dsn.clone();
        tokio::spawn(async move { Arc::new(PostgresStore::open(&dsn, 4).await.unwrap()) })
    }))
    .await;
    let stores: Vec<_> = stores.into_iter().map(Result::unwrap).collect();
    let writes = (0..100).map(|n| {
        let store = Arc::clone(&stores[n % 6]);
        tokio::spawn(async move { store.create_bucket(&bucket(&format!("b{}", n / 2), &format!("owner {n}")), &[]).await })
    });
    let won = join_all(writes).await.into_iter().filter(|joined| joined.as_ref().unwrap().is_ok()).count();
    assert_eq!(won, 50, "of two that want one name, one gets it");
    stores[0].create_upload(&upload("b0", "k", "u")).await.unwrap();
    replace_one_part(&[stores[0].clone() as Arc<dyn MetaStore>, stores[1].clone(), stores[2].clone()]).await;
}

/// The columns are the database's own types.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn times_and_maps_have_native_types_and_texts_are_bytes() {
    let store = open(&schema().await).await;
    let columns = query(
        "SELECT table_name::text, column_name::text, data_type::text, collation_name::text FROM information_schema.columns \
         WHERE table_schema = current_schema AND table_name <> '_sqlx_migrations'",
    );
    let mut seen = 0;
    for row in columns.fetch_all(&store.pool).await.unwrap() {
        let (table, column, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let collation: Option<String> = row.get(3);
        match column.as_str() {
            "created" | "updated" | "expires" | "issued" | "last_used" | "before" | "until" | "made" | "modified"
            | "finished" => {
                assert_eq!(kind, "timestamp with time zone", "{table}.{column}");
            }
            "settings" | "attributes" | "checksums" | "tags" | "context" | "policy_arns" | "service" => {
                assert_eq!(kind, "jsonb", "{table}.{column}");
            }
            _ if kind == "text" => assert_eq!(collation.as_deref(), Some("C"), "{table}.{column}"),
            _ => assert!(["bigint", "boolean", "bytea"].contains(&kind.as_str()), "{table}.{column} is {kind}"),
        }
        seen += 1;
    }
    assert!(seen > 80, "{seen} columns");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server"]
async fn the_pool_is_bounded() {
    let dsn = format!("{}&application_name=x", schema().await);
    let store = Arc::new(PostgresStore::open(&dsn, 5).await.unwrap());
    let waiter = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.changed(Duration::from_secs(30)).await }
    });
    let own: String = query_scalar("SELECT current_setting('search_path')").fetch_one(&store.pool).await.unwrap();
    let calls = join_all((0..200).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let slow = query("SELECT pg_sleep(0.01)").execute(&store.pool).await;
            slow.and(query("SELECT 1").execute(&store.pool).await).map(drop)
        })
    }));
    let look = PgPool::connect(&std::env::var("SLUICE_TEST_POSTGRES").expect(NEEDS)).await.unwrap();
    let watch = async {
        let mut most: i64 = 0;
        for _ in 0..20 {
            // The search path is part of what a session was started with, which pg_stat_activity does not show: count by a lock name.
            let now: i64 = query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sluice'")
                .fetch_one(&look)
                .await
                .unwrap();
            most = most.max(now);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        most
    };
    let (calls, most) = tokio::join!(calls, watch);
    assert!(calls.into_iter().all(|joined| joined.unwrap().is_ok()));
    assert!(most >= 1 && !own.is_empty());
    assert!(store.pool.size() <= 4, "{} and the one that listens", store.pool.size());
    waiter.abort();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server"]
async fn a_change_wakes_the_others_at_once() {
    let dsn = schema().await;
    let (ours, theirs) = (Arc::new(open(&dsn).await), open(&dsn).await);
    ours.create_account(&account("1", "one")).await.unwrap();
    theirs.changed(Duration::from_secs(10)).await; // begins to listen
    for n in 0..5 {
        let writer = tokio::spawn({
            let ours = Arc::clone(&ours);
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let what = Revoked::Key(format!("K{n}"));
                ours.revoke(&RevocationRecord { what, before: 0, until: None, reason: String::new() }).await.unwrap();
            }
        });
        let begun = Instant::now();
        theirs.changed(Duration::from_secs(30)).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        writer.await.unwrap();
        assert_eq!(theirs.changes(n, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server"]
async fn connections_that_the_server_ends_are_made_again() {
    let dsn = schema().await;
    let (store, other) = (open(&dsn).await, open(&dsn).await);
    store.create_account(&account("1", "one")).await.unwrap();
    store.changed(Duration::from_secs(10)).await;
    let pids: i32 = query_scalar("SELECT pg_backend_pid()").fetch_one(&store.pool).await.unwrap();
    query("SELECT pg_terminate_backend($1)").bind(pids).execute(&other.pool).await.unwrap();
    assert!(store.account("1").await.unwrap().is_some(), "a connection is looked at before it is used");
    store.create_access_key(&key("A", "1")).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn nul_in_a_name_of_an_identity_is_refused() {
    let store = open(&schema().await).await;
    assert!(kind(store.create_account(&account("1", "a\0b")).await).starts_with("InvalidArgument"));
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    store.create_upload(&upload("b", "a\0b\u{1}", "u")).await.unwrap();
    store.put_part("u", &part(1, "\0")).await.unwrap();
    assert_eq!(store.upload("b", "u").await.unwrap(), Some(upload("b", "a\0b\u{1}", "u")));
    assert_eq!(store.parts("u", 0, 10).await.unwrap(), [part(1, "\0")]);
}

#[tokio::test]
async fn what_cannot_be_reached_is_an_error_without_the_password() {
    let error = PostgresStore::open("postgres://me:hunter2@127.0.0.1:1/none", 4).await.unwrap_err();
    assert!(!error.to_string().contains("hunter2") && error.to_string().contains("127.0.0.1"), "{error}");
    assert_eq!(kind::<()>(Err(error)), "MetaUnavailable");
}

/// The page queries must be seeks: a bucket with a million uploads is listed a page at a time.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn pages_are_range_scans() {
    let store = open(&schema().await).await;
    store.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
    query("INSERT INTO uploads SELECT 'u' || n, 'b', 'k' || n, '', '', now(), '{}', '', '' FROM generate_series(1, 5000) n")
        .execute(&store.pool)
        .await
        .unwrap();
    query("ANALYZE uploads").execute(&store.pool).await.unwrap();
    let explained = format!("EXPLAIN {}", super::sql::UPLOADS);
    let plan = query(AssertSqlSafe(explained)).bind("b").bind("k2").bind("").bind("k3").bind(10_i64);
    let plan: Vec<String> = plan.fetch_all(&store.pool).await.unwrap().iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("uploads_by_key") && plan.contains("ROW(key, upload_id) >") && !plan.contains("Sort"), "{plan}");
}
