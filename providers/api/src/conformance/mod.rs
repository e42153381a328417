//! The conformance suite: one test for each promise of the contract, to be run by every provider and every wrapper.
//!
//! A provider crate adds itself as a dev-dependency with the feature and names a function that makes a fresh, empty store:
//!
//! ```toml
//! [dev-dependencies]
//! sluice-provider = { workspace = true, features = ["conformance"] }
//! tokio.workspace = true # with `macros` and `rt-multi-thread`
//! ```
//!
//! ```ignore
//! // tests/conformance.rs
//! use sluice_provider::conformance::Subject;
//!
//! async fn fresh() -> Subject {
//!     let dir = tempfile::tempdir().unwrap();
//!     let (one, two) = (Local::open(dir.path()).await.unwrap(), Local::open(dir.path()).await.unwrap());
//!     Subject::new(one)
//!         .with_peer(two) // where several processes may share the store: races are run across both
//!         .with_hard_keys([".sluice-reserved/x"]) // what is hard for this provider alone
//!         .keeping(dir)
//! }
//!
//! sluice_provider::conformance!(fresh);
//!
//! // The suite runs a few cases of the model. When more are wanted:
//! #[test]
//! fn the_model_at_length() {
//!     sluice_provider::conformance::model(fresh, 1000);
//! }
//! ```
//!
//! [`conformance!`](crate::conformance!) expands to one `#[tokio::test]` per promise, named `<group>::<promise>`, so that a
//! failure has a name and a filter finds it. What [`Features`](crate::Features) or a missing facet deny is not skipped but must
//! be refused with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported); a store that is not writable is only asked to refuse.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "these are tests: a broken promise panics"
)]

pub mod atomic;
pub mod attributes;
mod bodies;
mod calls;
pub mod concurrency;
pub mod conditions;
pub mod growing;
mod hard_keys;
pub mod keys;
pub mod listing;
mod model;
pub mod multipart;
pub mod objects;
mod subject;
mod suite;
pub mod versions;
mod versions_model;

pub use model::{cases, model};
pub use subject::Subject;
pub use versions_model::versions_model;
