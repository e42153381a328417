//! From settings to a store.

use std::path::Path;
use std::sync::Arc;

use super::{MetaStore, PostgresStore, Settings, SqliteStore};
use crate::error::{Error, ErrorKind, Result};

/// Opens the store that the settings name, or the one in the data directory. A relative path is relative to the working directory.
///
/// # Errors
/// `InvalidArgument` when the name is none of a store; `MetaUnavailable` when it cannot be opened.
pub async fn open(settings: &Settings, data_dir: &Path) -> Result<Arc<dyn MetaStore>> {
    if settings.dsn.is_empty() {
        return Ok(Arc::new(SqliteStore::open(&data_dir.join("sluice.db")).await?));
    }
    if ["postgres://", "postgresql://"].iter().any(|scheme| settings.dsn.starts_with(scheme)) {
        return Ok(Arc::new(PostgresStore::open(&settings.dsn, settings.pool).await?));
    }
    match settings.dsn.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => {
            // `sqlite:///var/lib/x` is how URLs write `/var/lib/x`.
            let path = if path.starts_with("///") { &path[2..] } else { path };
            Ok(Arc::new(SqliteStore::open(Path::new(path)).await?))
        }
        _ => {
            // Not shown: the name of a server holds a password.
            let message = "the metadata store is named `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`";
            Err(Error::new(ErrorKind::InvalidArgument(message.into()), "open metadata store"))
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
