//! What the interface definition generates.

#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from wit/provider.wit, which has the documentation")]

wasmtime::component::bindgen!({ path: "wit", world: "plugin" });

pub(crate) use self::sluice::provider::types::{Failure, Info, Object};
pub(crate) use exports::sluice::provider::{authorise, objects, read_transform, write_check};

/// The package of the interfaces, without its version.
pub(crate) const PACKAGE: &str = "sluice:provider/";
/// What its version is.
pub(crate) const VERSION: &str = "1.0.0";
