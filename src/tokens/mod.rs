//! Who is this. Access keys with sealed secrets, cached; policies come here too.

pub mod acl;

use std::sync::Arc;

use crate::error::Result;
use crate::meta::{AccessKeyRecord, IdentityRecord, MetaStore};

/// Who acts.
pub type Identity = IdentityRecord;

/// A secret that is wiped when dropped and never printed.
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Takes a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(zeroize::Zeroizing::new(secret))
    }
    /// The secret itself: for signing, and for showing it once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An access key that may be used now.
#[derive(Debug)]
pub struct Credential {
    /// The public half.
    pub access_key: String,
    /// The secret half.
    pub secret: Secret,
    /// Whose it is.
    pub identity: Arc<Identity>,
}

/// The token layer.
#[derive(Debug)]
pub struct Tokens;

impl Tokens {
    /// Opens the layer over a store. `master_key` seals the secrets.
    ///
    /// # Errors
    /// `InvalidArgument` when the store's secrets were sealed with another master key.
    pub async fn open(_store: Arc<dyn MetaStore>, _master_key: [u8; 32]) -> Result<Self> {
        todo!()
    }
    /// The credential of an access key, from the cache or the store; `None` when unknown or inactive.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn credential(&self, _access_key: &str) -> Result<Option<Arc<Credential>>> {
        todo!()
    }
    /// Creates the identity `name` if there is none, and an access key for it. Halves that are not given are generated
    /// (20 upper-case characters beginning with `SL`, 40 base64 characters).
    ///
    /// # Errors
    /// `EntityExists` when the access key is taken, `InvalidArgument` for halves that cannot be (access key 3 to 128 of
    /// `[A-Za-z0-9._-]`, secret 8 to 128 printable ASCII characters).
    pub async fn create_key(
        &self,
        _name: &str,
        _root: bool,
        _access_key: Option<String>,
        _secret: Option<Secret>,
    ) -> Result<Credential> {
        todo!()
    }
    /// Whether any root identity has a key: false on a first start.
    pub async fn has_root(&self) -> Result<bool> {
        todo!()
    }
    /// All access keys with the name of their identity, without secrets.
    pub async fn keys(&self) -> Result<Vec<(AccessKeyRecord, String)>> {
        todo!()
    }
    /// Removes an access key, from the cache too; false when there was none.
    pub async fn delete_key(&self, _access_key: &str) -> Result<bool> {
        todo!()
    }
}
