//! Who acts, and what binds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::layer::{Credential, Identity, Tokens};
use super::policy::{Acting, Bounds, Decision, Policy, Principal, Request, Said, Target, combine};
use super::powers::{Holder, read};
use super::revocation::hash_of_token;
use crate::error::Result;
use crate::meta::{EntityKind, KeyRecord, SessionKind, SessionRecord};
use crate::runtime::unix_millis;

/// In the context of a session: the ARN of the identity provider.
pub const PROVIDER: &str = "provider";
/// In the context of a session: what names of claims begin with.
pub const CLAIM: &str = "claim ";

/// What a credential is bound to beyond its account.
#[derive(Debug, Default)]
pub struct Bond {
    /// The id of the user or role that it acts as.
    entity: Option<Box<str>>,
    /// What most have not.
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    /// The session, of a temporary credential. Its sealed secret is left out.
    session: Option<SessionRecord>,
    /// Session policies, and the policy of a service account.
    limits: Option<Vec<Policy>>,
    /// Presigned requests are good only when they were signed at or after this moment, in milliseconds since the epoch.
    presigned_after: Option<i64>,
}

impl Bond {
    fn new(entity: Option<&str>, more: More) -> Self {
        let any = more.session.is_some() || more.limits.is_some() || more.presigned_after.is_some();
        Self { entity: entity.map(Box::from), more: any.then(|| Box::new(more)) }
    }

    pub(super) fn session(&self) -> Option<&SessionRecord> {
        self.more.as_ref()?.session.as_ref()
    }

    pub(super) fn presigned_after(&self) -> Option<i64> {
        self.more.as_ref()?.presigned_after
    }

    fn limits(&self) -> Option<&[Policy]> {
        self.more.as_ref()?.limits.as_deref()
    }
}

/// Who acts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Actor {
    account: Arc<Identity>,
    credential: Option<Arc<Credential>>,
    holder: Option<Arc<Holder>>,
}

impl Tokens {
    /// What a key of the store is bound to.
    pub(super) async fn bond(&self, key: &KeyRecord, account: &Identity, presigned_after: Option<i64>) -> Result<Bond> {
        match key {
            KeyRecord::Lasting(key) => {
                let policy = key.service.as_ref().and_then(|service| service.policy.as_deref());
                let limits = policy.map(|text| vec![read(Some(text), &key.access_key)]);
                Ok(Bond::new(key.user.as_deref(), More { session: None, limits, presigned_after }))
            }
            KeyRecord::Temporary(session) => {
                let mut limits: Vec<Policy> = session.policy.iter().map(|text| read(Some(text), &session.access_key)).collect();
                for arn in &session.policy_arns {
                    let document = self.managed_document(&account.id, &account.number, arn).await?;
                    limits.push(read(document.as_deref(), &session.access_key));
                }
                // A federated user may what the session policy says, and nothing without one.
                let bound = !limits.is_empty() || session.kind == SessionKind::Federated;
                let limits = bound.then_some(limits);
                let kept = SessionRecord { sealed_secret: Vec::new(), ..session.clone() };
                Ok(Bond::new(session.entity.as_deref(), More { session: Some(kept), limits, presigned_after }))
            }
        }
    }

    /// Who acts with a credential; `None` when the user or role is gone.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn actor(&self, credential: Arc<Credential>) -> Result<Option<Actor>> {
        let holder = match &credential.bond.entity {
            None => None,
            Some(entity) => match self.holder(&credential.identity.id, entity).await? {
                Some(holder) => Some(holder),
                None => return Ok(None),
            },
        };
        Ok(Some(Actor { account: credential.identity.clone(), credential: Some(credential), holder }))
    }
}

impl Credential {
    /// Whether it is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.expires().is_some_and(|expires| expires <= unix_millis())
    }

    /// Whether it came with a session token.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.bond.session().is_some()
    }

    /// Whether this is its session token; a credential that lasts has none. The time it takes tells nothing.
    #[must_use]
    pub fn has_token(&self, token: &str) -> bool {
        self.bond.session().is_some_and(|session| session.token_hash.ct_eq(&hash_of_token(token)).into())
    }
}

impl Actor {
    /// Somebody whom nothing binds: who does not sign, or an account in tests.
    #[must_use]
    pub fn unbound(account: Arc<Identity>) -> Self {
        Self { account, credential: None, holder: None }
    }

    /// The account. The installation's own only for its own keys: a user of it has no power over other accounts.
    #[must_use]
    pub fn account(&self) -> Arc<Identity> {
        if self.account.root && (self.holder.is_some() || self.session().is_some_and(|s| s.kind == SessionKind::Federated)) {
            return Arc::new(Identity { root: false, ..(*self.account).clone() });
        }
        self.account.clone()
    }

    /// The user or role that it acts as.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_deref()
    }

    /// The session, of a temporary credential.
    #[must_use]
    pub fn session(&self) -> Option<&SessionRecord> {
        self.bond().and_then(Bond::session)
    }

    /// The credential; `None` for who does not sign.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_deref()
    }

    fn bond(&self) -> Option<&Bond> {
        self.credential.as_ref().map(|credential| &credential.bond)
    }

    /// Whether it is the account itself, whom nothing binds.
    #[must_use]
    pub fn is_account(&self) -> bool {
        self.holder.is_none() && !self.has_limits()
    }

    /// Whether a session policy, or the policy of a service account, binds it.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.bond().is_some_and(|bond| bond.limits().is_some())
    }

    /// As policies see it.
    #[must_use]
    pub fn principal(&self) -> Principal<'_> {
        let Identity { id, name, number, .. } = &*self.account;
        let session = self.session();
        let acting = match (&self.holder, session) {
            (_, Some(session)) if session.kind == SessionKind::Federated => Acting::Federated { name: &session.name },
            (Some(holder), session) => {
                let entity = &holder.entity;
                match entity.kind {
                    EntityKind::Role => Acting::Role {
                        id: &entity.id,
                        path: &entity.path,
                        name: &entity.name,
                        session: session.map_or("", |session| &session.name),
                    },
                    EntityKind::User | EntityKind::Group => {
                        Acting::User { id: &entity.id, path: &entity.path, name: &entity.name }
                    }
                }
            }
            (None, _) => Acting::Account,
        };
        Principal { id, name, number, acting }
    }

    fn bounds(&self) -> Bounds<'_> {
        Bounds {
            identity: self.holder.as_ref().map(|holder| holder.policies.as_slice()),
            boundary: self.holder.as_ref().and_then(|holder| holder.boundary.as_ref()),
            session: self.bond().and_then(Bond::limits),
        }
    }

    /// Decides about a request of this sender: see [`combine`].
    #[must_use]
    pub fn decide(&self, request: &Request<'_>, resource: Said, same_account: bool) -> Decision {
        if self.is_account() {
            return resource.into();
        }
        combine(self.bounds(), request, resource, same_account)
    }

    /// Whether it may do this in its own account, where the resource has no policy of its own.
    #[must_use]
    pub fn may(&self, action: &str, resource: Target<'_>, values: &(dyn Fn(&str) -> Vec<String> + Sync)) -> bool {
        let values = |key: &str| self.values(key).unwrap_or_else(|| values(key));
        let request = Request { principal: Some(self.principal()), action, resource, values: &values };
        self.decide(&request, Said::Silent, true) != Decision::Deny
    }

    /// Whether any of its policies looks at a condition key that begins so, for this action.
    #[must_use]
    pub fn asks_for(&self, key: &str, action: &str) -> bool {
        let Bounds { identity, boundary, session } = self.bounds();
        let mut all = identity.unwrap_or_default().iter().chain(boundary).chain(session.unwrap_or_default());
        all.any(|policy| policy.asks_for(key, action))
    }

    /// The values of a condition key about the sender that the policies do not find by themselves; `None` for another key.
    #[must_use]
    pub fn values(&self, key: &str) -> Option<Vec<String>> {
        let session = self.session();
        if let Some(tag) = key.strip_prefix("aws:principaltag/") {
            // A tag of the session takes the place of the entity's.
            let of = |tags: &BTreeMap<String, String>| {
                tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(tag)).map(|(_, value)| value.clone())
            };
            let entity = self.holder.as_ref().and_then(|holder| of(&holder.entity.tags));
            return Some(session.and_then(|session| of(&session.tags)).or(entity).into_iter().collect());
        }
        match key {
            "aws:tokenissuetime" => Some(session.and_then(|session| rfc3339(session.issued)).into_iter().collect()),
            "aws:sourceidentity" => Some(session.and_then(|s| s.context.get("source-identity").cloned()).into_iter().collect()),
            "aws:multifactorauthpresent" => Some(session.map(|_| "false".to_owned()).into_iter().collect()),
            "aws:federatedprovider" => Some(session.and_then(|s| s.context.get(PROVIDER).cloned()).into_iter().collect()),
            // What the provider of a web identity said, such as `idp.example.org:sub`.
            key => session?.context.get(&format!("{CLAIM}{key}")).map(|value| vec![value.clone()]),
        }
    }
}

fn rfc3339(millis: i64) -> Option<String> {
    let moment = time::OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000)).ok()?;
    moment.format(&time::format_description::well_known::Rfc3339).ok()
}
