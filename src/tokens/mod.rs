//! Who is this. Access keys with sealed secrets, cached; policies come here too.
//!
//! Secrets are at rest only sealed under the master key, and in memory only in [`Secret`], which wipes them. The store is the truth:
//! a key that [`Tokens::delete_key`] removed is refused by every call that begins afterwards in this process, whatever was cached or on its
//! way into the cache. A key that another process created is known, and one that it removed or revoked is refused, within a second.

pub mod acl;
mod actor;
mod builtin;
mod cache;
mod issue;
mod key_use;
mod keyring;
mod layer;
mod master_key;
mod openid;
mod people;
pub mod policy;
mod powers;
mod revocation;
mod seal;
mod secret;
mod settings;
#[cfg(test)]
mod tests;

pub use actor::{Actor, Bond, CLAIM, PROVIDER};
pub use builtin::{BUILT_IN, BuiltIn};
pub use cache::CacheCounts;
pub use issue::{Issued, MAX_RENEWED, NewSession};
pub use keyring::{KeySource, Keyring, MasterKeys};
pub use layer::{Credential, Identity, Resealed, Tokens};
pub use master_key::{master_keys, master_keys_of_command, parse_master_keys};
pub use openid::{MAX_CLIENTS, MAX_PROVIDERS, OpenIdProvider, WebIdentity, WebRefusal, issuer_place};
pub use powers::Holder;
pub use revocation::{RENEWAL_GRACE, hash_of_token};
pub use secret::Secret;
pub use settings::Settings;
