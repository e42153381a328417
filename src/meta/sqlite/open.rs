//! Opening: the file, its connections, its schema.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::busy::{BUSY_TIMEOUT, failed, patiently};
use super::migrations;
use crate::error::{Error, ErrorKind, Result};

/// Connections that read. Each is a thread; a read is a few index seeks, so a few carry many requests.
const READERS: u32 = 4;

/// How long a call waits for a connection before it is `MetaUnavailable`.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// The embedded store.
pub struct SqliteStore {
    path: PathBuf,
    /// One connection: SQLite has one writer at a time, and a queue in the process is fairer and cheaper than one on the file's lock.
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the store in this file, and creates both it (readable by its owner only) and its directory when they are missing.
    /// The schema is brought up to date.
    ///
    /// # Errors
    /// `MetaUnavailable` when the file cannot be opened, is no SQLite database, is damaged, stays locked, or was written by a newer
    /// version.
    pub async fn open(path: &Path) -> Result<Self> {
        // Absolute, because SQLite gives `:memory:` and `file:` a meaning of their own.
        let path = &std::path::absolute(path).map_err(|error| {
            Error::new(ErrorKind::MetaUnavailable, "open metadata store").with("path", path.display()).caused_by(error)
        })?;
        let owned = path.to_owned();
        let prepared = tokio::task::spawn_blocking(move || prepare_file(&owned)).await;
        prepared.map_err(io::Error::other).and_then(|outcome| outcome).map_err(|error| {
            Error::new(ErrorKind::MetaUnavailable, "open metadata store").with("path", path.display()).caused_by(error)
        })?;
        Self::connect(path).await.map_err(|error| failed("open metadata store")(error).with("path", path.display()))
    }

    async fn connect(path: &Path) -> sqlx::Result<Self> {
        let options = connection().filename(path);
        // Only the writer sets the journal mode: it is a property of the file, and changing it needs the file for itself alone.
        let writing = options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let writer = patiently(|| pool(1).connect_with(writing.clone())).await?;
        migrations::run(&writer).await?;
        let readers = patiently(|| pool(READERS).connect_with(options.clone().pragma("query_only", "ON"))).await?;
        Ok(Self { path: path.to_owned(), writer, readers })
    }

    /// A store in memory, gone when it is closed: for tests. One connection reads and writes.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn open_in_memory() -> Result<Self> {
        let open = async {
            let writer = pool(1).connect_with(connection().filename(":memory:")).await?;
            migrations::run(&writer).await?;
            Ok(Self { path: PathBuf::from(":memory:"), readers: writer.clone(), writer })
        };
        open.await.map_err(failed("open metadata store"))
    }
}

/// What every connection has in common. Statements are not logged: the gateway's own spans say what was asked.
fn connection() -> SqliteConnectOptions {
    SqliteConnectOptions::new().foreign_keys(true).busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
}

/// A pool whose connections live as long as it does: there is no server that could drop them, so they are not tested before use.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Creates the file before SQLite would with the process's umask. The `-wal` and `-shm` files beside it take over its mode.
fn prepare_file(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => File::open(directory)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = std::fs::metadata(path)?.permissions().mode();
            if mode & 0o077 == 0 { Ok(()) } else { std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700)) }
        }
        Err(error) => Err(error),
    }
}
