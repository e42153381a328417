//! New credentials: keys of users, and sessions.

use std::collections::BTreeMap;

use super::layer::{Identity, Tokens, now};
use super::revocation::hash_of_token;
use super::secret::{Secret, generate_access_key, generate_id, generate_token};
use crate::error::Result;
use crate::meta::{AccessKeyRecord, MetaStore, SessionKind, SessionRecord};

/// A session to be.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The account's id.
    pub account: String,
    /// The id of the user or role that it acts as; `None`: the account itself.
    pub entity: Option<String>,
    /// How it comes to be.
    pub kind: SessionKind,
    /// Its name; empty for none.
    pub name: String,
    /// The session policy.
    pub policy: Option<String>,
    /// Managed policies as session policies, by ARN.
    pub policy_arns: Vec<String>,
    /// Session tags.
    pub tags: BTreeMap<String, String>,
    /// What conditions may ask of it.
    pub context: BTreeMap<String, String>,
    /// How long it lasts, in seconds.
    pub seconds: u32,
}

/// Temporary credentials, shown once.
#[derive(Debug)]
pub struct Issued {
    /// The public half.
    pub access_key: String,
    /// The secret half.
    pub secret: Secret,
    /// The session token.
    pub token: Secret,
    /// When they end, in milliseconds since the epoch.
    pub expires: i64,
}

impl Tokens {
    /// The store of identities.
    #[must_use]
    pub fn store(&self) -> &dyn MetaStore {
        &*self.store
    }

    /// An id for something new of an account: a prefix of AWS's and 17 characters.
    ///
    /// # Errors
    /// `Internal`.
    pub fn new_id(&self, prefix: &str) -> Result<String> {
        generate_id(prefix)
    }

    /// Creates an access key for a user, or, for `None`, for the account itself.
    ///
    /// # Errors
    /// `NoSuchEntity` when there is no such user, `MetaUnavailable`.
    pub async fn create_key_for(&self, account: &Identity, user: Option<&str>) -> Result<(AccessKeyRecord, Secret)> {
        let (access_key, secret) = (generate_access_key()?, Secret::generate()?);
        let record = AccessKeyRecord {
            sealed_secret: self.seal.seal(&access_key, secret.expose())?,
            access_key,
            account: account.id.clone(),
            user: user.map(str::to_owned),
            active: true,
            expires: None,
            service: None,
            created: now(),
            last_used: None,
        };
        self.store.create_access_key(&record).await?;
        self.cache.forget(&record.access_key).await;
        Ok((record, secret))
    }

    /// Forgets a key, after it was changed in the store.
    pub async fn key_changed(&self, access_key: &str) {
        self.cache.forget(access_key).await;
    }

    /// Begins a session.
    ///
    /// # Errors
    /// `NoSuchEntity` when there is no such account or entity, `MetaUnavailable`.
    pub async fn begin_session(&self, new: NewSession) -> Result<Issued> {
        let (access_key, secret, token) = (generate_access_key()?, Secret::generate()?, generate_token()?);
        let issued = now();
        let expires = issued + i64::from(new.seconds) * 1000;
        let record = SessionRecord {
            sealed_secret: self.seal.seal(&access_key, secret.expose())?,
            access_key: access_key.clone(),
            token_hash: hash_of_token(token.expose()),
            account: new.account,
            entity: new.entity,
            kind: new.kind,
            name: new.name,
            policy: new.policy,
            policy_arns: new.policy_arns,
            tags: new.tags,
            context: new.context,
            issued,
            expires,
        };
        self.store.create_session(&record).await?;
        self.cache.forget(&access_key).await;
        Ok(Issued { access_key, secret, token, expires })
    }
}
