//! PostgreSQL, the store that several gateways share: a pool of connections, and one that listens for changes. Texts are compared byte by byte
//! (`COLLATE "C"`), times are TIMESTAMPTZ, maps are JSONB.

mod copy;
mod failures;
mod identities;
mod identity_rows;
mod migrations;
mod open;
mod rows;
mod sql;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod types;

pub use open::PostgresStore;
