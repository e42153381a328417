//! Who is this. Access keys with sealed secrets, cached; policies come here too.
//!
//! Secrets are at rest only sealed under the master key, and in memory only in [`Secret`], which wipes them. The store is the truth:
//! a key that [`Tokens::delete_key`] removed is refused by every call that begins afterwards in this process, whatever was cached or on its
//! way into the cache. A key that another process created is known within a second; one that it removed is refused when its cache entry
//! ends, after five minutes at most.

pub mod acl;
mod actor;
mod builtin;
mod cache;
mod issue;
mod layer;
mod master_key;
mod people;
pub mod policy;
mod powers;
mod seal;
mod secret;
#[cfg(test)]
mod tests;

pub use actor::{Actor, Bond, token_hash};
pub use builtin::{BUILT_IN, BuiltIn};
pub use cache::CacheCounts;
pub use issue::{Issued, NewSession};
pub use layer::{Credential, Identity, Tokens};
pub use master_key::{master_key, parse_master_key};
pub use powers::Holder;
pub use secret::Secret;
