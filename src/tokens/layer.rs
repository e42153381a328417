//! The layer itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::actor::Bond;
use super::cache::{Cache, CacheCounts, Limits};
use super::key_use::KeyUses;
use super::keyring::{KeySource, Keyring, MasterKeys};
use super::openid::Issuers;
use super::people::People;
use super::powers::Powers;
use super::revocation::RevokedKeys;
use super::secret::{Secret, generate_access_key, generate_account_id, generate_account_number};
use super::settings::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{AccessKeyRecord, AccountRecord, KeyRecord, MetaStore, Revoked};
use crate::runtime::unix_millis;

/// The value by which a wrong master key is noticed when the layer opens. No access key holds a space, so that what was sealed for this
/// name can never pass for the secret of a key.
const KEY_CHECK: &str = "master key check";
const KEY_CHECK_TEXT: &str = "sluice";

/// The longest access key.
const MAX_ACCESS_KEY: usize = 128;

/// Who acts: an account.
pub type Identity = AccountRecord;

/// In place of the end of a credential that has none.
pub(super) const NEVER: i64 = i64::MAX;

/// An access key that may be used now. There are 100 000 of these in the cache: what few of them have is in a box.
#[derive(Debug)]
pub struct Credential {
    /// The public half.
    pub access_key: Arc<str>,
    /// The secret half.
    pub secret: Secret,
    /// Whose it is.
    pub identity: Arc<Identity>,
    /// What it is bound to beyond its account.
    pub(super) bond: Bond,
    /// When it ends by itself, in milliseconds since the epoch; or [`NEVER`].
    pub(super) expires: i64,
    /// When its use was last noted, in milliseconds since the epoch: see [`super::key_use`].
    pub(super) noted: AtomicI64,
}

impl Credential {
    /// When it ends by itself, in milliseconds since the epoch.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        (self.expires != NEVER).then_some(self.expires)
    }

    /// Whether a presigned request that was signed at this moment (milliseconds since the epoch; `None`: nobody knows) is still good.
    #[must_use]
    pub fn admits_presigned(&self, signed: impl FnOnce() -> Option<i64>) -> bool {
        self.bond.presigned_after().is_none_or(|after| signed().is_some_and(|signed| signed >= after))
    }
}

/// What a change of the master key has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Secrets in the store.
    pub secrets: u64,
    /// Of those, sealed anew.
    pub resealed: u64,
    /// Of those, opened by no key.
    pub closed: u64,
}

/// The token layer.
#[derive(Debug)]
pub struct Tokens {
    pub(super) store: Arc<dyn MetaStore>,
    pub(super) seal: Keyring,
    pub(super) cache: Cache,
    pub(super) powers: Powers,
    pub(super) revoked_keys: RevokedKeys,
    /// The number of the last change that is taken into account.
    pub(super) last_change: AtomicI64,
    /// How many changes are read at once.
    pub(super) page: usize,
    pub(super) issuers: Issuers,
    pub(super) uses: KeyUses,
    people: People,
}

impl Tokens {
    /// Opens the layer over a store. The first of the master keys seals the secrets, the others only open.
    ///
    /// # Errors
    /// `InvalidArgument` when the store's secrets were sealed with another master key, `MetaUnavailable`.
    pub async fn open(store: Arc<dyn MetaStore>, keys: impl Into<MasterKeys>) -> Result<Self> {
        Self::open_with(store, keys.into(), None, Limits::default(), &Settings::default()).await
    }

    /// As [`open`](Self::open), with the limits of the settings, and a source that is asked again when a master key is missing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_configured(
        store: Arc<dyn MetaStore>,
        keys: MasterKeys,
        source: Option<KeySource>,
        settings: &Settings,
    ) -> Result<Self> {
        let known_for = Duration::from_secs(settings.cache_ttl_secs);
        let limits = Limits { known: settings.cache_capacity, known_for, ..Limits::default() };
        Self::open_with(store, keys, source, limits, settings).await
    }

    pub(super) async fn open_with(
        store: Arc<dyn MetaStore>,
        keys: impl Into<MasterKeys>,
        source: Option<KeySource>,
        limits: Limits,
        settings: &Settings,
    ) -> Result<Self> {
        let seal = Keyring::new(&keys.into(), source)?;
        let check = match store.value(KEY_CHECK).await? {
            Some(check) => check,
            None => store.value_or_insert(KEY_CHECK, &STANDARD.encode(seal.seal(KEY_CHECK, KEY_CHECK_TEXT)?)).await?,
        };
        let opened = match STANDARD.decode(check) {
            Ok(sealed) => seal.open(KEY_CHECK, &sealed).await.is_ok_and(|text| text.matches(KEY_CHECK_TEXT)),
            Err(_) => false,
        };
        if !opened {
            let message =
                "the secrets in the metadata store were sealed with another master key: give that one, or begin with a new store";
            return Err(Error::new(ErrorKind::InvalidArgument(message.into()), "open token layer"));
        }
        // Before anything is cached, so that no change is missed.
        let last_change = AtomicI64::new(store.last_change().await?);
        let (cache, revoked_keys, people) = (Cache::new(limits), RevokedKeys::new(), People::new());
        Ok(Self {
            store,
            seal,
            cache,
            powers: Powers::new(limits.policies_for, limits.known_for),
            revoked_keys,
            last_change,
            page: limits.page,
            issuers: Issuers::new(settings),
            uses: KeyUses::default(),
            people,
        })
    }

    /// Seals every secret of the store under the first master key that is not. Gateways go on meanwhile: one that does not know the key reads
    /// its keys again.
    ///
    /// # Errors
    /// `MetaUnavailable`; `Internal` when a secret can be opened with no key: it is told at the end, and the others are done.
    pub async fn reseal(&self) -> Result<Resealed> {
        const PAGE: usize = 500;
        self.seal.reload().await;
        let mut done = Resealed::default();
        let mut after = String::new();
        loop {
            let page = self.store.sealed_secrets(&after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (access_key, sealed) in &page {
                done.secrets += 1;
                if self.seal.is_current(sealed) {
                    continue;
                }
                match self.seal.open(access_key, sealed).await {
                    Ok(secret) => {
                        let new = self.seal.seal(access_key, secret.expose())?;
                        done.resealed += u64::from(self.store.reseal(access_key, sealed, &new).await?);
                    }
                    Err(error) => {
                        tracing::error!(access_key, %error, "a sealed secret opens with no master key");
                        done.closed += 1;
                    }
                }
            }
        }
        if done.closed == 0
            && let Some(check) = self.store.value(KEY_CHECK).await?
        {
            let new = STANDARD.encode(self.seal.seal(KEY_CHECK, KEY_CHECK_TEXT)?);
            self.store.replace_value(KEY_CHECK, &check, &new).await?;
        }
        tracing::info!(secrets = done.secrets, resealed = done.resealed, closed = done.closed, "secrets resealed");
        Ok(done)
    }

    /// The credential of an access key, from the cache or the store; `None` when unknown, inactive or over. A temporary one that is over is
    /// answered, and good for nothing but to say so.
    ///
    /// # Errors
    /// `MetaUnavailable`; `Internal` when the stored secret is damaged.
    pub async fn credential(&self, access_key: &str) -> Result<Option<Arc<Credential>>> {
        // What cannot be a key is not one, and takes no room in a cache.
        if access_key.len() > MAX_ACCESS_KEY || !is_access_key(access_key) {
            return Ok(None);
        }
        // Before the cache, which may not have heard of it yet.
        if self.revoked_keys.contains(access_key) {
            return Ok(None);
        }
        let found = self.cache.get(access_key, |access_key| self.read(access_key)).await?;
        // Of a session that is over the caller is told so: see `Credential::has_ended`.
        Ok(found.filter(|found| found.is_temporary() || !found.has_ended()))
    }

    async fn read(&self, access_key: Arc<str>) -> Result<Option<Arc<Credential>>> {
        let Some(found) = self.store.credential(&access_key).await? else { return Ok(None) };
        let (sealed, active, began) = match &found.key {
            KeyRecord::Lasting(key) => (&key.sealed_secret, key.active, key.created),
            KeyRecord::Temporary(session) => (&session.sealed_secret, true, session.issued),
        };
        if !active || !found.account.active || found.revocations.iter().any(|revocation| revocation.ends(began)) {
            return Ok(None);
        }
        let secret = self.seal.open(&access_key, sealed).await?;
        let presigned = found.revocations.iter().filter(|revocation| matches!(revocation.what, Revoked::Presigned(_)));
        let presigned_after = presigned.map(|revocation| revocation.before).max();
        let bond = self.bond(&found.key, &found.account, presigned_after).await?;
        let expires = match &found.key {
            KeyRecord::Lasting(key) => key.expires.unwrap_or(NEVER),
            KeyRecord::Temporary(session) => session.expires,
        };
        let identity = self.people.shared(found.account).await;
        Ok(Some(Arc::new(Credential { access_key, secret, identity, bond, expires, noted: AtomicI64::new(0) })))
    }

    /// Creates the identity `name` if there is none, and an access key for it. Halves that are not given are generated
    /// (20 upper-case characters beginning with `SL`, 40 base64 characters).
    ///
    /// # Errors
    /// `EntityExists` when the access key is taken, or when the identity exists and its `root` is another; `InvalidArgument` for
    /// halves that cannot be (access key 3 to 128 of `[A-Za-z0-9._-]`, secret 8 to 128 printable ASCII characters) and for a name that is
    /// empty, longer than 128 bytes or holds control characters.
    pub async fn create_key(
        &self,
        name: &str,
        root: bool,
        access_key: Option<String>,
        secret: Option<Secret>,
    ) -> Result<Credential> {
        const OPERATION: &str = "create key";
        let invalid = |message: &'static str| Err(Error::new(ErrorKind::InvalidArgument(message.into()), OPERATION));
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return invalid("a name has 1 to 128 bytes and no control characters");
        }
        let access_key = access_key.map_or_else(generate_access_key, Ok)?;
        if !is_access_key(&access_key) {
            return invalid("an access key has 3 to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-'");
        }
        let secret = secret.map_or_else(Secret::generate, Ok)?;
        if !(8..=128).contains(&secret.expose().len()) || !secret.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return invalid("a secret has 8 to 128 printable ASCII characters");
        }
        // Before the identity, so that a key that is taken leaves no identity behind.
        if self.store.access_key(&access_key).await?.is_some() {
            return Err(Error::new(ErrorKind::EntityExists, OPERATION).with("access key", &access_key));
        }
        let identity = self.identity(name, root).await?;
        let access_key = self.add_key(access_key, &secret, &identity.id, None).await?.access_key;
        let (access_key, identity, bond) = (Arc::from(access_key), Arc::new(identity), Bond::default());
        Ok(Credential { access_key, secret, identity, bond, expires: NEVER, noted: AtomicI64::new(0) })
    }

    /// The identity of this name, created if there is none.
    async fn identity(&self, name: &str, root: bool) -> Result<Identity> {
        const OPERATION: &str = "create identity";
        let found = match self.store.account_by_name(name).await? {
            Some(found) => found,
            None => {
                let (id, number) = (generate_account_id()?, generate_account_number()?);
                let new = Identity { id, number, name: name.to_owned(), root, active: true, created: unix_millis() };
                match self.store.create_account(&new).await {
                    Ok(()) => return Ok(new),
                    // Somebody else was faster.
                    Err(error) if matches!(error.kind(), ErrorKind::EntityExists) => {
                        self.store.account_by_name(name).await?.ok_or(error)?
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        if found.root == root {
            Ok(found)
        } else {
            Err(Error::new(ErrorKind::EntityExists, OPERATION).with("name", name).with("its root flag is", found.root))
        }
    }

    /// The identity of a canonical id, from a cache or the store.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn identity_of(&self, id: &str) -> Result<Option<Arc<Identity>>> {
        self.people.get(id, || self.store.account(id)).await
    }

    /// The identity of a name, from the store.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn identity_named(&self, name: &str) -> Result<Option<Identity>> {
        self.store.account_by_name(name).await
    }

    /// Whether any root identity has a key that may be used: false on a first start.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn has_root(&self) -> Result<bool> {
        self.store.has_root_key().await
    }

    /// All access keys with the name of their identity, without secrets, in the order of the keys.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn keys(&self) -> Result<Vec<(AccessKeyRecord, String)>> {
        let keys = self.store.access_keys("", usize::MAX).await?;
        let names: BTreeMap<_, _> =
            self.store.accounts("", usize::MAX).await?.into_iter().map(|account| (account.id, account.name)).collect();
        let named = |key: AccessKeyRecord| {
            let name = names.get(&key.account).cloned().unwrap_or_default();
            (AccessKeyRecord { sealed_secret: Vec::new(), ..key }, name)
        };
        Ok(keys.into_iter().map(named).collect())
    }

    /// Removes an access key, from the cache too; false when there was none.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn delete_key(&self, access_key: &str) -> Result<bool> {
        let deleted = self.store.delete_access_key(access_key).await;
        // Also after an error: the store may have done it and failed to say so.
        self.cache.forget(access_key).await;
        deleted
    }

    /// What the credential cache has done.
    #[must_use]
    pub fn cache_counts(&self) -> CacheCounts {
        self.cache.counts()
    }

    #[cfg(test)]
    pub(super) async fn settle(&self) {
        self.cache.settle().await;
    }
}

fn is_access_key(text: &str) -> bool {
    (3..=MAX_ACCESS_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
