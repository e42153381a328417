//! What the bucket's policy says to a request.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use sluice_provider::VersionId;

use super::SETTING;
use super::actions::{actions, own_actions};
use super::authorisers;
use super::values::{values, values_of_request};
use crate::namespaces::Namespace;
use crate::objects::{ReadRequest, attribute};
use crate::s3::Parts;
use crate::s3::acl::{self, PublicAccessBlock};
use crate::s3::error::{Code, Failure, Result};
use crate::s3::front::Peer;
use crate::s3::operation::Op;
use crate::s3::query::Query;
use crate::s3::tagging::{self, Tags};
use crate::tokens::Actor;
use crate::tokens::acl::ANONYMOUS;
use crate::tokens::policy::{Decision, Policy, Request, Said, Target};

/// A request as far as policies are concerned.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    /// What it is.
    pub(crate) op: Op,
    /// The key; empty for the bucket itself.
    pub(crate) key: &'a str,
    /// The headers; of a form, its fields.
    pub(crate) headers: &'a HeaderMap,
    /// The query.
    pub(crate) query: &'a Query,
    /// Who is at the other end of the connection.
    pub(crate) peer: Option<Peer>,
    /// Whether it is a form.
    pub(crate) form: bool,
    /// The tags that it sets, where they are not in a header.
    pub(crate) tags: Option<&'a Tags>,
    /// `s3:prefix`, where it is not in the query.
    pub(crate) prefix: Option<&'a str>,
    /// Whether it names a version.
    pub(crate) versioned: bool,
}

impl<'a> About<'a> {
    /// What head and connection of a request tell.
    pub(crate) fn new(op: Op, key: &'a str, headers: &'a HeaderMap, query: &'a Query, peer: Option<Peer>) -> Self {
        let versioned = query.has("versionId");
        Self { op, key, headers, query, peer, form: false, tags: None, prefix: None, versioned }
    }
}

/// The policy of a bucket: `None` without one, and `Some(None)` when what is kept cannot be read.
fn policy(namespace: &Namespace) -> Option<Arc<Option<Policy>>> {
    namespace.compiled(SETTING, |text| Policy::parse(text, &namespace.bucket.name).ok())
}

/// Whether a bucket has a policy that lets in everybody.
pub(crate) fn is_public(namespace: &Namespace) -> bool {
    policy(namespace).is_some_and(|policy| policy.as_ref().as_ref().is_some_and(Policy::is_public))
}

/// Whether a bucket has a policy.
pub(crate) fn is_there(namespace: &Namespace) -> bool {
    policy(namespace).is_some()
}

/// What the policies of the sender and of the bucket say to a request: `Deny` refuses it, `Allow` is the bucket's own word, and `Silent`
/// leaves it to ownership and lists. What the authoriser of a mount says against it is a `Deny` too.
///
/// # Errors
/// What the mount says when a policy asks for the tags of an object; what an authoriser fails with.
pub(crate) async fn decide(parts: &Parts, actor: &Actor, namespace: &Namespace, about: About<'_>) -> Result<Decision> {
    let decision = by_policies(parts, actor, namespace, about).await?;
    if decision == Decision::Deny || !namespace.mounts.load().asks_authorisers() {
        return Ok(decision);
    }
    // It refuses what policies let through, and never the other way round.
    let permitted = Box::pin(authorisers::permit(actor, namespace, &about)).await?;
    Ok(if permitted { decision } else { Decision::Deny })
}

async fn by_policies(parts: &Parts, actor: &Actor, namespace: &Namespace, about: About<'_>) -> Result<Decision> {
    let policy = policy(namespace);
    if actor.is_account() {
        if policy.is_none() {
            return Ok(Decision::Silent);
        }
        let of_policy = matches!(about.op, Op::GetBucketPolicy | Op::PutBucketPolicy | Op::DeleteBucketPolicy);
        if of_policy && acl::may_use(&actor.account(), namespace) {
            return Ok(Decision::Silent);
        }
    }
    let policy = match policy.as_deref() {
        None => None,
        Some(Some(policy)) => Some(policy),
        // A policy that cannot be read may forbid anything.
        Some(None) => return Ok(Decision::Deny),
    };
    Box::pin(ask(parts, actor, namespace, about, policy)).await
}

/// What the sender's own policies say to what is about no bucket that exists: listing buckets, or creating one.
pub(crate) fn decide_alone(actor: &Actor, bucket: &str, about: About<'_>) -> Decision {
    if actor.is_account() {
        return Decision::Silent;
    }
    let (action, resource) = match about.op {
        Op::CreateBucket => ("s3:CreateBucket", bucket),
        Op::ListBuckets => ("s3:ListAllMyBuckets", "*"),
        _ => return Decision::Deny,
    };
    let values = |key: &str| values_of_request(&about, SystemTime::now(), key);
    if actor.may(action, Target::s3(resource), &values) { Decision::Silent } else { Decision::Deny }
}

async fn ask(parts: &Parts, actor: &Actor, namespace: &Namespace, about: About<'_>, policy: Option<&Policy>) -> Result<Decision> {
    let identity = actor.account();
    let mut actions = actions(&about);
    let of_bucket = actions.len();
    if !actor.is_account() {
        actions.extend(own_actions(&about));
    }
    let asks = |action: &&str| {
        let key = "s3:existingobjecttag/";
        actor.asks_for(key, action) || policy.is_some_and(|policy| policy.asks_for(key, action))
    };
    let asks_for_tags = !about.key.is_empty() && actions.iter().any(asks);
    let existing =
        if asks_for_tags { existing_tags(parts, namespace, about.key, about.query.get("versionId")).await? } else { Tags::new() };
    let resource = match about.key {
        "" => namespace.bucket.name.clone(),
        key => format!("{}/{key}", namespace.bucket.name),
    };
    let now = SystemTime::now();
    let values = |key: &str| actor.values(key).unwrap_or_else(|| values(&about, namespace, &existing, now, key));
    let principal = (identity.id != ANONYMOUS).then(|| actor.principal());
    let own = acl::may_use(&identity, namespace);
    // What is no action is not said anything about, and a sender with policies needs to be allowed everything.
    let mut decision = match actions.is_empty() {
        false => Decision::Allow,
        true if actor.is_account() => Decision::Silent,
        true => return Ok(Decision::Deny),
    };
    // A public policy lets nobody in from outside once the bucket says so.
    let restricted = |policy: &Policy| !own && PublicAccessBlock::of(namespace).restrict_public_buckets && policy.is_public();
    let restricted = policy.is_some_and(restricted);
    for (at, action) in actions.into_iter().enumerate() {
        let request = Request { principal, action, resource: Target::s3(&resource), values: &values };
        let said = match policy.map_or(Said::Silent, |policy| policy.say(&request)) {
            Said::Allow(_) if restricted => Said::Silent,
            said => said,
        };
        match actor.decide(&request, said, own) {
            Decision::Deny => return Ok(Decision::Deny),
            // What only the sender's own side has to allow says nothing of the bucket's.
            Decision::Silent if at < of_bucket => decision = Decision::Silent,
            Decision::Silent | Decision::Allow => {}
        }
    }
    Ok(decision)
}

async fn existing_tags(parts: &Parts, namespace: &Namespace, key: &str, version: Option<&str>) -> Result<Tags> {
    // What cannot be a version has no tags, and the operation says what it is.
    let Ok(version) = version.map(VersionId::parse).transpose() else { return Ok(Tags::new()) };
    let read = ReadRequest { version, ..ReadRequest::default() };
    match parts.objects.head(namespace, key, &read).await {
        Ok(found) => Ok(tagging::from_attribute(found.info.attributes.get(attribute::TAGS).unwrap_or_default())),
        Err(error) => {
            let failure = Failure::from(error);
            if matches!(failure.code(), Code::NoSuchKey | Code::NoSuchVersion | Code::MethodNotAllowed) {
                Ok(Tags::new())
            } else {
                Err(failure)
            }
        }
    }
}
