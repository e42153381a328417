//! Opening: the server, its connections, the schema.

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, Postgres};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::failures::failed;
use super::migrations;
use crate::error::{Error, ErrorKind, Result};

/// How long a call waits for a connection before it is `MetaUnavailable`.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement may take on the server, in milliseconds: one that takes longer belongs to a caller that has left.
const STATEMENT_TIMEOUT: &str = "20000";
/// The channel on which the schema tells of changes.
const CHANNEL: &str = "sluice_changes";
/// How long one who waits for changes does without the channel, when it is down.
const POLL: Duration = Duration::from_millis(250);
/// Held by every transaction that changes identities, so that they become visible in the order of their numbers.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7743512862)";

/// A store on a PostgreSQL server.
pub struct PostgresStore {
    pub(super) pool: PgPool,
    /// One more connection, which listens.
    listening: PgPool,
    listener: Mutex<Option<PgListener>>,
    closed: CancellationToken,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the options: they hold the password.
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Opens the store that a URL names (`postgres://USER:PASSWORD@HOST/DATABASE`, parameters as
    /// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING> has them), with at most `connections` connections
    /// (at least 2: one listens). The database must exist; the schema is brought up to date.
    ///
    /// # Errors
    /// `InvalidArgument` when the URL makes no sense; `MetaUnavailable` when the server cannot be reached, refuses, or was written by a newer
    /// version. No error holds the URL, which may hold a password.
    pub async fn open(dsn: &str, connections: u32) -> Result<Self> {
        let options = PgConnectOptions::from_str(dsn).map_err(|_| {
            let message = "the name of a PostgreSQL store is `postgres://USER:PASSWORD@HOST/DATABASE`";
            Error::new(ErrorKind::InvalidArgument(message.into()), "open metadata store")
        })?;
        let options = options.application_name("sluice").disable_statement_logging();
        let (host, database) = (options.get_host().to_owned(), options.get_database().unwrap_or_default().to_owned());
        Self::connect(options, connections)
            .await
            .map_err(|error| failed("open metadata store")(error).with("host", host).with("database", database))
    }

    async fn connect(options: PgConnectOptions, connections: u32) -> sqlx::Result<Self> {
        let timed = options.clone().options([("statement_timeout", STATEMENT_TIMEOUT)]);
        let pool = |most: u32| PgPoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE_TIMEOUT);
        // Migrations take the time that they take.
        let migrating = pool(1).connect_with(options.clone()).await?;
        let migrated = migrations::run(&migrating).await;
        migrating.close().await;
        migrated?;
        Ok(Self {
            pool: pool(connections.saturating_sub(1).max(1)).connect_with(timed).await?,
            listening: pool(1).connect_lazy_with(options),
            listener: Mutex::new(None),
            closed: CancellationToken::new(),
        })
    }

    pub(super) fn reading(&self) -> &PgPool {
        &self.pool
    }

    pub(super) fn writing(&self) -> &PgPool {
        &self.pool
    }

    /// A transaction that changes identities: one at a time, so that what is read in it stays as it is, and so that nobody who reads the
    /// changes sees a number before a smaller one.
    pub(super) async fn begin_change(&self) -> sqlx::Result<sqlx::Transaction<'static, Postgres>> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(LOCK).execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// Waits for the server to tell of a change. While it cannot be listened to, the one who waits asks soon.
    pub(super) async fn wait_for_change(&self, at_most: Duration) {
        let wait = async {
            let mut listener = self.listener.lock().await;
            if listener.is_none() {
                match self.listen().await {
                    // What was told before now was told to nobody: look at once.
                    Ok(new) => return *listener = Some(new),
                    Err(_) => return tokio::time::sleep(POLL).await,
                }
            }
            if let Some(open) = listener.as_mut() {
                // `None`: the connection was lost and is made again, and what was told meanwhile was told to nobody: look.
                let heard = open.try_recv().await;
                // One wait for all that came together.
                while open.next_buffered().is_some() {}
                if heard.is_err() {
                    *listener = None;
                }
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(at_most, wait) => {}
            () = self.closed.cancelled() => {}
        }
    }

    async fn listen(&self) -> sqlx::Result<PgListener> {
        let mut listener = PgListener::connect_with(&self.listening).await?;
        listener.ignore_pool_close_event(true);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    /// Ends all waits, and the connection that they waited on.
    pub(super) async fn stop_listening(&self) {
        self.closed.cancel();
        drop(self.listener.lock().await.take());
        self.listening.close().await;
    }
}
