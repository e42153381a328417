//! What users and roles may do: their policies, compiled once and cached.
//!
//! Every change of identities in this process is followed by [`Tokens::policies_changed`], and calls that begin afterwards see it. What
//! another process changed is heard of within a second, and seen when an entry is read again, after a minute, at the latest.
//!
//! While the store cannot be asked, nothing can be changed in it either: then an entry is good for longer, so that a key which is cached goes
//! on until its own entry ends, and not only until that of its user does.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::future::Cache as Moka;
use moka::policy::EvictionPolicy;

use super::builtin::BuiltIn;
use super::layer::Tokens;
use super::policy::Policy;
use crate::error::{ErrorKind, Result};
use crate::meta::{AppliedPolicy, EntityRecord, PolicyRecord, PolicySource, PolicyUse};

/// How many users and roles are remembered.
const MOST: u64 = 100_000;
/// How many groups of accounts have a count of changes of their own.
const GROUPS: usize = 256;

/// A user or role with all that its policies say.
#[derive(Debug)]
pub struct Holder {
    /// The user or role.
    pub entity: EntityRecord,
    /// Its own policies and those of its groups.
    pub policies: Vec<Policy>,
    /// Its boundary.
    pub boundary: Option<Policy>,
}

#[derive(Debug)]
pub(super) struct Powers {
    known: Moka<String, Known>,
    /// How long without looking again.
    fresh_for: Duration,
    epochs: Box<[AtomicU64]>,
}

#[derive(Clone, Debug)]
struct Known {
    epoch: u64,
    read: Instant,
    holder: Arc<Holder>,
}

impl Powers {
    /// `keys_for` is how long a key is cached. A key's entry begins before that of its user is looked at, and that is fresh then: so it lasts
    /// as long as any key that came in with it.
    pub(super) fn new(fresh_for: Duration, keys_for: Duration) -> Self {
        let known = Moka::builder().max_capacity(MOST).time_to_live(fresh_for.saturating_add(keys_for));
        let known = known.eviction_policy(EvictionPolicy::lru()).build();
        Self { known, fresh_for, epochs: (0..GROUPS).map(|_| AtomicU64::new(0)).collect() }
    }

    fn epoch(&self, account: &str) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        account.hash(&mut hasher);
        let group = usize::try_from(hasher.finish() % GROUPS as u64).unwrap_or_default();
        &self.epochs[group]
    }
}

impl Tokens {
    /// A user or role of an account with its policies; `None` when it is gone.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn holder(&self, account: &str, entity: &str) -> Result<Option<Arc<Holder>>> {
        let powers = &self.powers;
        let begun = powers.epoch(account).load(Ordering::SeqCst);
        let known = powers.known.get(entity).await.filter(|known| known.epoch == begun);
        match known {
            Some(known) if known.read.elapsed() < powers.fresh_for => Ok(Some(known.holder)),
            known => Box::pin(self.read_holder(account, entity, begun, known)).await,
        }
    }

    async fn read_holder(&self, account: &str, entity: &str, epoch: u64, known: Option<Known>) -> Result<Option<Arc<Holder>>> {
        let read = async || -> Result<Option<Arc<Holder>>> {
            let found = self.store.entity(entity).await?.filter(|found| found.account == account);
            let Some(found) = found else { return Ok(None) };
            Ok(Some(Arc::new(compile(found, self.store.applied_policies(entity).await?))))
        };
        match (read().await, known) {
            (Ok(Some(holder)), _) => {
                // What was read before a change is not good after it: the epoch tells.
                let known = Known { epoch, read: Instant::now(), holder: holder.clone() };
                self.powers.known.insert(entity.to_owned(), known).await;
                Ok(Some(holder))
            }
            (Ok(None), _) => {
                self.powers.known.invalidate(entity).await;
                Ok(None)
            }
            (Err(error), Some(known)) if matches!(error.kind(), ErrorKind::MetaUnavailable) => Ok(Some(known.holder)),
            (Err(error), _) => Err(error),
        }
    }

    /// Forgets what users and roles of an account may do, after one of them, a group or a policy has changed.
    pub fn policies_changed(&self, account: &str) {
        self.powers.epoch(account).fetch_add(1, Ordering::SeqCst);
    }

    /// As [`policies_changed`](Self::policies_changed), for all accounts: when it is not known whose the change was.
    pub fn all_policies_changed(&self) {
        for epoch in &self.powers.epochs {
            epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The document of a managed policy that an account may use, by ARN: its own, or one of the gateway.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn managed_document(&self, account: &str, number: &str, arn: &str) -> Result<Option<String>> {
        if let Some(policy) = BuiltIn::by_arn(arn) {
            return Ok(Some(policy.document.to_owned()));
        }
        let Some(policy) = self.managed_policy(account, number, arn).await? else { return Ok(None) };
        let versions = self.store.policy_versions(&policy.id).await?;
        Ok(versions.into_iter().find(|version| version.version == policy.default_version).map(|version| version.document))
    }

    /// A managed policy of an account, by ARN.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn managed_policy(&self, account: &str, number: &str, arn: &str) -> Result<Option<PolicyRecord>> {
        let Some(name) = arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_prefix(number)) else { return Ok(None) };
        let Some(place) = name.strip_prefix(":policy/") else { return Ok(None) };
        let name = place.rsplit('/').next().unwrap_or(place);
        let found = self.store.policy_named(account, name).await?;
        Ok(found.filter(|policy| format!("{}{}", policy.path, policy.name) == format!("/{place}")))
    }
}

fn compile(entity: EntityRecord, applied: Vec<AppliedPolicy>) -> Holder {
    let (mut policies, mut boundary) = (Vec::new(), None);
    // A boundary that is not among what applies forbids everything.
    if entity.boundary.is_some() {
        boundary = Some(Policy::forbidding());
    }
    for AppliedPolicy { holder: _, source, usage, document } in applied {
        let document = document.or_else(|| match &source {
            PolicySource::Managed(arn) => BuiltIn::by_arn(arn).map(|policy| policy.document.to_owned()),
            PolicySource::Inline(_) => None,
        });
        let policy = read(document.as_deref(), &entity.id);
        match usage {
            PolicyUse::Attached => policies.push(policy),
            PolicyUse::Boundary => boundary = Some(policy),
        }
    }
    Holder { entity, policies, boundary }
}

/// A stored document. One that cannot be read may forbid anything.
pub(super) fn read(document: Option<&str>, of: &str) -> Policy {
    document.and_then(|text| Policy::parse_identity(text).ok()).unwrap_or_else(|| {
        tracing::error!(of, "a stored policy cannot be read: it forbids everything");
        Policy::forbidding()
    })
}
