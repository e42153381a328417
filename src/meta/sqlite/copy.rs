//! Copying a store from and to SQLite.

use super::busy::failed;
use super::open::SqliteStore;
use super::types;
use crate::meta::copy::table_copy;

table_copy!(SqliteStore, types, "BEGIN");
