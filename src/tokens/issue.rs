//! New credentials: keys of users, and sessions.

use std::collections::BTreeMap;

use super::layer::{Credential, Identity, Tokens};
use super::revocation::{RENEWAL_GRACE, hash_of_token};
use super::secret::{Secret, generate_access_key, generate_id, generate_token};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{AccessKeyRecord, MetaStore, SessionKind, SessionRecord};
use crate::runtime::unix_millis;

/// How long a session may live by being renewed, from when it first began: then somebody has to say anew who they are.
pub const MAX_RENEWED: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 60 * 60);
/// In the context of a session that was renewed: when the first of them began.
const BEGAN: &str = "began";

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
        let record = self.add_key(access_key, &secret, &account.id, user).await?;
        Ok((record, secret))
    }

    /// Puts a new key into the store, with its secret sealed.
    pub(super) async fn add_key(
        &self,
        access_key: String,
        secret: &Secret,
        account: &str,
        user: Option<&str>,
    ) -> Result<AccessKeyRecord> {
        let record = AccessKeyRecord {
            sealed_secret: self.seal.seal(&access_key, secret.expose())?,
            access_key,
            account: account.to_owned(),
            user: user.map(str::to_owned),
            active: true,
            expires: None,
            service: None,
            created: unix_millis(),
            last_used: None,
        };
        self.store.create_access_key(&record).await?;
        self.cache.forget(&record.access_key).await;
        Ok(record)
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
        let issued = unix_millis();
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

    /// Begins a session in place of one that ends within [`RENEWAL_GRACE`], or ended no longer ago than that: for the same one, with the same
    /// bounds, for as long. The old one is over.
    ///
    /// # Errors
    /// `InvalidRequest` with the reason: it is no session, the time has not come or is past, or it was renewed for [`MAX_RENEWED`];
    /// `AccessDenied` when it was revoked meanwhile; `MetaUnavailable`.
    pub async fn renew_session(&self, old: &Credential) -> Result<Issued> {
        const OPERATION: &str = "renew session";
        let refused = |why: &'static str| Err(Error::new(ErrorKind::InvalidRequest(why.into()), OPERATION));
        let Some(session) = old.bond.session() else { return refused("Only temporary credentials are renewed") };
        let millis = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (now, grace) = (unix_millis(), millis(RENEWAL_GRACE));
        if session.expires.saturating_sub(now) > grace {
            return refused("A session can be renewed when it ends within four hours");
        }
        let ended_after = now.saturating_sub(grace);
        if session.expires <= ended_after {
            return refused("A session can be renewed for four hours after its end");
        }
        let began = session.context.get(BEGAN).and_then(|text| text.parse().ok()).unwrap_or(session.issued);
        let lasts = session.expires.saturating_sub(session.issued);
        let expires = now.saturating_add(lasts).min(began.saturating_add(millis(MAX_RENEWED)));
        if expires <= now {
            return refused("A session lives for seven days at most, however often it is renewed");
        }
        let (access_key, secret, token) = (generate_access_key()?, Secret::generate()?, generate_token()?);
        let mut record = SessionRecord {
            sealed_secret: self.seal.seal(&access_key, secret.expose())?,
            access_key: access_key.clone(),
            token_hash: hash_of_token(token.expose()),
            issued: now,
            expires,
            ..session.clone()
        };
        record.context.insert(BEGAN.to_owned(), began.to_string());
        let renewed = self.store.renew_session(&session.token_hash, ended_after, &record).await;
        // Also after an error: the store may have done it and failed to say so.
        self.cache.forget(&old.access_key).await;
        self.cache.forget(&access_key).await;
        if renewed? {
            Ok(Issued { access_key, secret, token, expires })
        } else {
            Err(Error::new(ErrorKind::AccessDenied, OPERATION))
        }
    }
}
