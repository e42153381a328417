//! From settings to a store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::copy::Batch;
use super::guarded::Guarded;
use super::{MetaStore, PostgresStore, Settings, SqliteStore};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::BreakerLimits;

/// Opens the store that the settings name, or the one in the data directory, behind a circuit breaker. A relative path is relative to the working directory.
///
/// # Errors
/// `InvalidArgument` when the name is none of a store; `MetaUnavailable` when it cannot be opened.
pub async fn open(settings: &Settings, data_dir: &Path) -> Result<Arc<dyn MetaStore>> {
    let recovery = Duration::from_secs(settings.breaker_recovery_secs);
    let limits = BreakerLimits { failures: settings.breaker_failures, recovery };
    Ok(Arc::new(Guarded::new(backend(settings, data_dir).await?, limits)))
}

async fn backend(settings: &Settings, data_dir: &Path) -> Result<Arc<dyn MetaStore>> {
    if settings.dsn.is_empty() {
        return Ok(Arc::new(SqliteStore::open(&data_dir.join("sluice.db")).await?));
    }
    Backend::open(&settings.dsn, settings.pool).await.map(Backend::into_store)
}

/// A store, known by its database.
#[derive(Debug)]
pub(super) enum Backend {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Backend {
    /// Opens the store of a name.
    pub(super) async fn open(dsn: &str, connections: u32) -> Result<Self> {
        if ["postgres://", "postgresql://"].iter().any(|scheme| dsn.starts_with(scheme)) {
            return PostgresStore::open(dsn, connections).await.map(Self::Postgres);
        }
        match dsn.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => {
                // `sqlite:///var/lib/x` is how URLs write `/var/lib/x`.
                let path = if path.starts_with("///") { &path[2..] } else { path };
                SqliteStore::open(Path::new(path)).await.map(Self::Sqlite)
            }
            _ => {
                // Not shown: the name of a server holds a password.
                let message = "the metadata store is named `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`";
                Err(Error::new(ErrorKind::InvalidArgument(message.into()), "open metadata store"))
            }
        }
    }

    pub(super) fn into_store(self) -> Arc<dyn MetaStore> {
        match self {
            Self::Sqlite(store) => Arc::new(store),
            Self::Postgres(store) => Arc::new(store),
        }
    }

    pub(super) async fn export(&self, rows: mpsc::Sender<Batch>) -> Result<()> {
        match self {
            Self::Sqlite(store) => store.export(rows).await,
            Self::Postgres(store) => store.export(rows).await,
        }
    }

    pub(super) async fn import(&self, rows: mpsc::Receiver<Batch>) -> Result<Vec<u64>> {
        match self {
            Self::Sqlite(store) => store.import(rows).await,
            Self::Postgres(store) => store.import(rows).await,
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

    use super::*;
    use crate::meta::suite::kind;

    #[tokio::test]
    async fn names_of_stores() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let open = async |dsn: String| open(&Settings { dsn, ..Settings::default() }, &data).await.map(drop);
        open(String::new()).await.unwrap();
        assert!(data.join("sluice.db").exists());
        let named = directory.path().join("named.db");
        open(format!("sqlite:{}", named.display())).await.unwrap();
        assert!(named.exists());
        let url = directory.path().join("url.db");
        open(format!("sqlite://{}", url.display())).await.unwrap();
        assert!(url.exists());
        for dsn in ["sqlite:", "mysql://me:hunter2@db/sluice", "postgres://me:hunter2@[db/sluice", "/var/lib/sluice.db"] {
            let refused = open(dsn.to_owned()).await;
            assert!(!format!("{refused:?}").contains("hunter2"));
            assert!(kind(refused).starts_with("InvalidArgument"), "{dsn}");
        }
    }
}
