//! Copying a store from and to PostgreSQL.

use super::failures::failed;
use super::open::PostgresStore;
use super::types;
use crate::meta::copy::table_copy;

table_copy!(PostgresStore, types, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
