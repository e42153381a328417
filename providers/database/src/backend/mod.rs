//! The two databases. The statements are the same; [`statements`](sqlite::statements) is compiled once for each.

use std::fmt;

use sluice_provider::{Error, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor};

use crate::error::failed;
use crate::settings::{Place, Settings};

/// Readers of a SQLite file. Each is a thread.
const READERS: u32 = 4;
/// How long a call waits for a connection.
const ACQUIRE: std::time::Duration = std::time::Duration::from_secs(10);
/// How long a server may take to answer when a mount opens: less than the gateway waits for one.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(4);
/// Held while the tables are made, so that two gateways that start at once do not both make them.
const SCHEMA_LOCK: &str = "SELECT pg_advisory_xact_lock(7743512863)";

pub(crate) mod sqlite;

pub(crate) mod postgres;

/// An open database.
#[derive(Clone)]
pub(crate) enum Backend {
    Sqlite(sqlite::statements::Store),
    Postgres(postgres::statements::Store),
}

/// Calls a method of the store that is open.
macro_rules! on {
    ($backend:expr, $store:ident => $call:expr) => {
        match $backend {
            $crate::backend::Backend::Sqlite($store) => $call,
            $crate::backend::Backend::Postgres($store) => $call,
        }
    };
}
pub(crate) use on;

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "Sqlite",
            Self::Postgres(_) => "Postgres",
        })
    }
}

fn schema(bytes: &str) -> [String; 6] {
    [
        format!(
            "CREATE TABLE IF NOT EXISTS sluice_objects (space TEXT NOT NULL, name {bytes} NOT NULL, size BIGINT NOT NULL, \
             etag TEXT NOT NULL, modified BIGINT NOT NULL, attributes TEXT NOT NULL, body BIGINT NOT NULL, \
             page_bytes BIGINT NOT NULL, value {bytes}, PRIMARY KEY (space, name))"
        ),
        "CREATE INDEX IF NOT EXISTS sluice_objects_body ON sluice_objects (body)".to_owned(),
        "CREATE TABLE IF NOT EXISTS sluice_bodies (body BIGINT PRIMARY KEY, space TEXT NOT NULL, state BIGINT NOT NULL, \
         since BIGINT NOT NULL)"
            .to_owned(),
        format!(
            "CREATE TABLE IF NOT EXISTS sluice_pages (body BIGINT NOT NULL, number BIGINT NOT NULL, bytes {bytes} NOT NULL, \
             PRIMARY KEY (body, number))"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS sluice_uploads (space TEXT NOT NULL, upload TEXT NOT NULL, name {bytes} NOT NULL, \
             PRIMARY KEY (space, upload))"
        ),
        "CREATE TABLE IF NOT EXISTS sluice_parts (space TEXT NOT NULL, upload TEXT NOT NULL, body BIGINT NOT NULL, \
         size BIGINT NOT NULL, page_bytes BIGINT NOT NULL, PRIMARY KEY (space, upload, body))"
            .to_owned(),
    ]
}

impl Backend {
    /// Opens the database, and makes the tables where they are missing.
    pub(crate) async fn open(settings: &Settings) -> Result<Self> {
        let error = failed("open database");
        match &settings.place {
            Place::File(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(if settings.flush { SqliteSynchronous::Full } else { SqliteSynchronous::Off })
                    .busy_timeout(ACQUIRE)
                    .disable_statement_logging();
                let pool = |size| sqlx::sqlite::SqlitePoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE);
                let writer = pool(1).connect_with(options.clone()).await.map_err(&error)?;
                for statement in schema("BLOB") {
                    writer.execute(sqlx::AssertSqlSafe(statement)).await.map_err(&error)?;
                }
                let readers = pool(READERS).connect_with(options).await.map_err(&error)?;
                Ok(Self::Sqlite(sqlite::statements::Store::new(writer, readers)))
            }
            Place::Server { url, password_file } => {
                let bad = || Error::new(ErrorKind::Unsupported, "URL of a database mount");
                let mut options: PgConnectOptions = url.parse().map_err(|_| bad())?;
                if let Some(path) = password_file {
                    let read = tokio::fs::read_to_string(path).await;
                    let password = read.map_err(|e| {
                        Error::new(ErrorKind::Unavailable, "read the password file").with("path", path.display()).caused_by(e)
                    })?;
                    options = options.password(password.trim_end_matches(['\r', '\n']));
                }
                let options = options.application_name("sluice").disable_statement_logging();
                // Not by the pool: that one tries again for as long as somebody waits, and nobody hears why it cannot be reached.
                let silent =
                    |_| Error::new(ErrorKind::TimedOut, "connect to the database").with("waited_secs", CONNECT.as_secs());
                let connected = tokio::time::timeout(CONNECT, PgConnection::connect_with(&options)).await;
                let mut connection = connected.map_err(silent)?.map_err(&error)?;
                let mut making = connection.begin().await.map_err(&error)?;
                making.execute(SCHEMA_LOCK).await.map_err(&error)?;
                for statement in schema("BYTEA") {
                    making.execute(sqlx::AssertSqlSafe(statement)).await.map_err(&error)?;
                }
                making.commit().await.map_err(&error)?;
                // Left to itself it would end without a word to the server, whose log would say so.
                connection.close().await.map_err(&error)?;
                let pool = sqlx::postgres::PgPoolOptions::new().max_connections(settings.connections).acquire_timeout(ACQUIRE);
                let pool = pool.connect_lazy_with(options);
                Ok(Self::Postgres(postgres::statements::Store::new(pool.clone(), pool)))
            }
        }
    }
}
