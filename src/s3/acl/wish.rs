//! What a request wants granted.

use http::HeaderMap;
use sluice_provider::Attributes;

use super::document::{self, Named};
use super::{Ownership, PublicAccessBlock, may_use};
use crate::namespaces::Namespace;
use crate::objects::attribute;
use crate::s3::Parts;
use crate::s3::error::{Code, Failure, Result};
use crate::s3::headers::{first, text};
use crate::s3::xml::Element;
use crate::tokens::Identity;
use crate::tokens::acl::{Acl, Canned, Grant, MAX_GRANTS, Permission};

const CANNED: &str = "x-amz-acl";
/// The headers that grant, in the order in which their grants are kept.
const GRANTS: [(&str, Permission); 5] = [
    ("x-amz-grant-read", Permission::Read),
    ("x-amz-grant-write", Permission::Write),
    ("x-amz-grant-read-acp", Permission::ReadAcp),
    ("x-amz-grant-write-acp", Permission::WriteAcp),
    ("x-amz-grant-full-control", Permission::FullControl),
];

/// A list as a request describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// `x-amz-acl`.
    Canned(Canned),
    /// `x-amz-grant-*`: these and nobody else, the owner neither.
    Grants(Vec<Grant>),
    /// `<AccessControlPolicy>`, which names the owner that the list has already.
    Policy(String, Vec<Grant>),
}

impl Wish {
    /// Whether headers wish for anything.
    pub(crate) fn is_in(headers: &HeaderMap) -> bool {
        first(headers, CANNED).is_some() || GRANTS.iter().any(|(name, _)| first(headers, name).is_some())
    }

    /// What headers wish for.
    ///
    /// # Errors
    /// `InvalidRequest` for a canned list together with grants, `InvalidArgument` for what does not exist or cannot be read.
    pub(crate) async fn from_headers(parts: &Parts, headers: &HeaderMap) -> Result<Option<Self>> {
        if !Self::is_in(headers) {
            return Ok(None);
        }
        let canned = text(headers, CANNED)?;
        let granting = GRANTS.iter().any(|(name, _)| headers.contains_key(*name));
        if canned.is_some() && granting {
            return Err(Failure::request("Specifying both Canned ACLs and Header Grants is not allowed"));
        }
        if let Some(name) = canned {
            return match Canned::from_name(name) {
                Some(canned) => Ok(Some(Self::Canned(canned))),
                None => Err(Failure::argument(CANNED, name, "The canned ACL that was given is not known.")),
            };
        }
        let mut grants = Vec::new();
        for (header, permission) in GRANTS {
            for value in headers.get_all(header) {
                let value = value.to_str().map_err(|_| Failure::argument(header, "", "Argument format not recognized"))?;
                for named in grantees(header, value)? {
                    if grants.len() == MAX_GRANTS {
                        return Err(Failure::request(format!("A list has at most {MAX_GRANTS} grants.")));
                    }
                    grants.push(Grant { grantee: named.resolve(parts).await?, permission });
                }
            }
        }
        Ok(granting.then_some(Self::Grants(grants)))
    }

    /// What an `<AccessControlPolicy>` wishes for.
    ///
    /// # Errors
    /// As [`document::from_xml`].
    pub(crate) async fn from_policy(parts: &Parts, policy: &Element) -> Result<Self> {
        let (owner, grants) = document::from_xml(parts, policy).await?;
        Ok(Self::Policy(owner, grants))
    }

    /// The list of something that `owner` owns, in a bucket of `bucket_owner`.
    ///
    /// # Errors
    /// `AccessDenied` when a policy names another owner: an owner does not change.
    pub(crate) fn list(self, owner: &str, bucket_owner: &str) -> Result<Acl> {
        match self {
            Self::Canned(canned) => Ok(Acl::canned(canned, owner, bucket_owner)),
            Self::Grants(grants) => Ok(Acl { owner: owner.to_owned(), grants }),
            Self::Policy(named, grants) if named == owner => Ok(Acl { owner: owner.to_owned(), grants }),
            Self::Policy(..) => Err(Code::AccessDenied.into()),
        }
    }

    /// As [`list`](Self::list), checked against what the bucket allows; `None` where lists mean nothing, and this one says no more
    /// than what holds.
    ///
    /// # Errors
    /// `AccessControlListNotSupported`, `AccessDenied`.
    pub(crate) fn list_in(self, namespace: &Namespace, owner: &str) -> Result<Option<Acl>> {
        let bucket_owner = &namespace.bucket.owner;
        if Ownership::is_enforced(namespace) {
            let holds = match &self {
                Self::Canned(canned) => *canned == Canned::BucketOwnerFullControl,
                Self::Grants(_) | Self::Policy(..) => self.list(bucket_owner, bucket_owner)?.is_private(),
            };
            return if holds { Ok(None) } else { Err(Code::AccessControlListNotSupported.into()) };
        }
        let list = self.list(owner, bucket_owner)?;
        if list.is_public() && PublicAccessBlock::of(namespace).block_public_acls {
            return Err(Failure::because(
                Code::AccessDenied,
                "Access Denied: public access control lists (ACLs) are blocked by the BlockPublicAcls setting of this bucket.",
            ));
        }
        Ok(Some(list))
    }
}

/// The grantees of a header: `id="…", uri="…", emailAddress="…"`.
fn grantees(header: &'static str, value: &str) -> Result<Vec<Named>> {
    let bad = || Failure::argument(header, value, "Argument format not recognized");
    let grantee = |part: &str| {
        let (kind, name) = part.split_once('=')?;
        let name = name.trim();
        let name = name.strip_prefix('"').and_then(|n| n.strip_suffix('"')).unwrap_or(name).to_owned();
        match kind.trim() {
            kind if kind.eq_ignore_ascii_case("id") => Some(Named::Id(name)),
            kind if kind.eq_ignore_ascii_case("uri") => Some(Named::Uri(name)),
            kind if kind.eq_ignore_ascii_case("emailAddress") => Some(Named::Email(name)),
            _ => None,
        }
    };
    value.split(',').map(|part| grantee(part).ok_or_else(bad)).collect()
}

/// Adds to the attributes of an object to be whose it is and who may use it. Nothing is added, and nothing is looked at but the
/// headers, when the bucket's owner writes without a wish.
///
/// # Errors
/// As [`Wish::from_headers`] and [`Wish::list_in`].
pub(crate) async fn new_object(
    parts: &Parts,
    sender: &Identity,
    namespace: &Namespace,
    headers: &HeaderMap,
    attributes: &mut Attributes,
) -> Result<()> {
    // What root writes is the bucket's.
    let own = may_use(sender, namespace);
    if own && !Wish::is_in(headers) {
        return Ok(());
    }
    // Boxed, so that the frequent case does not carry it around.
    let wish = Box::pin(Wish::from_headers(parts, headers)).await?;
    let bucket_owner = &namespace.bucket.owner;
    let given_up = wish == Some(Wish::Canned(Canned::BucketOwnerFullControl));
    let own = match Ownership::of(namespace) {
        Some(Ownership::BucketOwnerEnforced) => true,
        Some(Ownership::BucketOwnerPreferred) => own || given_up,
        Some(Ownership::ObjectWriter) | None => own,
    };
    let owner = if own { bucket_owner } else { &sender.id };
    if let Some(list) = wish.map(|wish| wish.list_in(namespace, owner)).transpose()?.flatten().filter(|list| !list.is_private()) {
        attributes.set(attribute::ACL, list.to_json());
    }
    if owner != bucket_owner {
        attributes.set(attribute::OWNER, owner);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn grant_headers_are_read() {
        let read = |value| grantees("x-amz-grant-read", value);
        let id = |t: &str| Named::Id(t.into());
        assert_eq!(read("id=a").unwrap(), [id("a")]);
        assert_eq!(
            read("id=\"a\", uri=\"http://x/y?a=b\" ,emailAddress=\"e@x\"").unwrap(),
            [id("a"), Named::Uri("http://x/y?a=b".into()), Named::Email("e@x".into())]
        );
        for bad in ["", "a", "id=a,", "name=a", "=a"] {
            assert_eq!(read(bad).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn an_owner_does_not_change() {
        let policy = Wish::Policy("me".into(), vec![]);
        assert_eq!(policy.clone().list("me", "me").unwrap().grants, []);
        assert_eq!(policy.list("you", "you").unwrap_err().code(), Code::AccessDenied);
        assert_eq!(Wish::Canned(Canned::Private).list("me", "boss").unwrap(), Acl::private("me"));
    }
}
