//! The contract, kept by both kinds in a SQLite file; in a PostgreSQL server where `SLUICE_TEST_POSTGRES` names one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::atomic::{AtomicU64, Ordering};

use sluice_provider::conformance::Subject;
use sluice_provider_database::{Database, Kind, Settings};

static NEXT: AtomicU64 = AtomicU64::new(0);

async fn subject(kind: Kind) -> Subject {
    let dir = tempfile::tempdir().unwrap();
    let url = std::env::var("SLUICE_TEST_POSTGRES");
    let url = url.unwrap_or_else(|_| format!("sqlite:{}", dir.path().join("objects.db").display()));
    let space = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let durability = ("durability".to_owned(), "os".to_owned());
    let mut map = [("url".to_owned(), url), ("space".to_owned(), space), durability];
    let settings = Settings::from_map(kind, &map.clone().into()).unwrap();
    let (one, two) = (Database::open(settings.clone()).await.unwrap(), Database::open(settings).await.unwrap());
    // Somebody else's rows, in the same tables, which nothing must show.
    map[1].1.push_str("-other");
    let other = Database::open(Settings::from_map(kind, &map.into()).unwrap()).await.unwrap();
    Subject::new(one).with_peer(two).keeping(other).keeping(dir)
}

mod kv {
    async fn fresh() -> sluice_provider::conformance::Subject {
        super::subject(super::Kind::Values).await
    }
    sluice_provider::conformance!(fresh);
}

mod page {
    async fn fresh() -> sluice_provider::conformance::Subject {
        super::subject(super::Kind::Pages).await
    }
    sluice_provider::conformance!(fresh);
}
