//! What the bucket's policy says to a request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use sluice_provider::VersionId;

use super::SETTING;
use super::actions::actions;
use super::values::values;
use crate::namespaces::Namespace;
use crate::objects::{ReadRequest, attribute};
use crate::s3::Parts;
use crate::s3::acl::{self, PublicAccessBlock};
use crate::s3::error::{Code, Failure, Result};
use crate::s3::operation::Op;
use crate::s3::query::Query;
use crate::s3::tagging::{self, Tags};
use crate::tokens::Identity;
use crate::tokens::acl::ANONYMOUS;
use crate::tokens::policy::{Decision, Policy, Principal, Request};

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
    pub(crate) peer: Option<IpAddr>,
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
    pub(crate) fn new(op: Op, key: &'a str, headers: &'a HeaderMap, query: &'a Query, peer: Option<IpAddr>) -> Self {
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

/// What the policy of a bucket says to a request.
///
/// # Errors
/// What the mount says when the policy asks for the tags of an object.
pub(crate) async fn decide(parts: &Parts, identity: &Identity, namespace: &Namespace, about: About<'_>) -> Result<Decision> {
    let Some(policy) = policy(namespace) else { return Ok(Decision::Silent) };
    if acl::may_use(identity, namespace) && matches!(about.op, Op::GetBucketPolicy | Op::PutBucketPolicy | Op::DeleteBucketPolicy)
    {
        return Ok(Decision::Silent);
    }
    // A policy that cannot be read may forbid anything.
    let Some(policy) = policy.as_ref() else { return Ok(Decision::Deny) };
    Box::pin(ask(parts, identity, namespace, about, policy)).await
}

async fn ask(parts: &Parts, identity: &Identity, namespace: &Namespace, about: About<'_>, policy: &Policy) -> Result<Decision> {
    let actions = actions(&about);
    let asks_for_tags = !about.key.is_empty() && actions.iter().any(|a| policy.asks_for("s3:existingobjecttag/", a));
    let existing =
        if asks_for_tags { existing_tags(parts, namespace, about.key, about.query.get("versionId")).await? } else { Tags::new() };
    let resource = match about.key {
        "" => namespace.bucket.name.clone(),
        key => format!("{}/{key}", namespace.bucket.name),
    };
    let now = SystemTime::now();
    let values = |key: &str| values(&about, namespace, &existing, now, key);
    let principal = (identity.id != ANONYMOUS).then_some(Principal { id: &identity.id, name: &identity.name });
    let mut decision = if actions.is_empty() { Decision::Silent } else { Decision::Allow };
    for action in actions {
        match policy.decide(&Request { principal, action, resource: &resource, values: &values }) {
            Decision::Deny => return Ok(Decision::Deny),
            Decision::Silent => decision = Decision::Silent,
            Decision::Allow => {}
        }
    }
    // A public policy lets nobody in from outside once the bucket says so.
    let restricted = || PublicAccessBlock::of(namespace).restrict_public_buckets && policy.is_public();
    if decision == Decision::Allow && !acl::may_use(identity, namespace) && restricted() {
        return Ok(Decision::Silent);
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
