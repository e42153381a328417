//! Identities in SQLite.

use sqlx::Transaction;
use sqlx::sqlite::Sqlite;

use super::busy::{failed, failed_or, patiently};
use super::open::SqliteStore;
use super::{identity_rows as rows, types};
use crate::meta::identities::sql;
use crate::meta::identities::steps::identity_steps;
use crate::meta::identities::store::identity_store;

identity_steps!(SqliteStore, types, Transaction<'static, Sqlite>);
identity_store!(SqliteStore, types);
