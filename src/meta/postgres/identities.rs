//! Identities in PostgreSQL.

use sqlx::Transaction;
use sqlx::postgres::Postgres;

use super::failures::{failed, failed_or, patiently};
use super::open::PostgresStore;
use super::{identity_rows as rows, types};
use crate::meta::identities::sql;
use crate::meta::identities::steps::identity_steps;
use crate::meta::identities::store::identity_store;

identity_steps!(PostgresStore, types, Transaction<'static, Postgres>);
identity_store!(PostgresStore, types);
