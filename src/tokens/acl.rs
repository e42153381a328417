//! Access control lists (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>): who may do what with one bucket
//! or one object, beside the owner. Stored as JSON beside what they protect; absent means private.

use serde::{Deserialize, Serialize};

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Permission {
    /// List a bucket; read an object and its metadata.
    Read,
    /// Create and delete objects of a bucket.
    Write,
    /// Read the list itself.
    ReadAcp,
    /// Change the list itself.
    WriteAcp,
    /// All of them.
    FullControl,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::ReadAcp, Self::WriteAcp, Self::FullControl];

    /// As S3 names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::ReadAcp => "READ_ACP",
            Self::WriteAcp => "WRITE_ACP",
            Self::FullControl => "FULL_CONTROL",
        }
    }

    /// By S3's name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    fn covers(self, wanted: Self) -> bool {
        self == Self::FullControl || self == wanted
    }
}

/// Whom a grant is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Grantee {
    /// An identity by its canonical id.
    #[serde(rename = "id")]
    Identity(String),
    /// Everybody, unsigned requests too.
    #[serde(rename = "all")]
    AllUsers,
    /// Everybody who signs.
    #[serde(rename = "authenticated")]
    AuthenticatedUsers,
    /// The group that delivers access logs.
    #[serde(rename = "log")]
    LogDelivery,
}

impl Grantee {
    /// The group that a URI names.
    #[must_use]
    pub fn from_group_uri(uri: &str) -> Option<Self> {
        [Self::AllUsers, Self::AuthenticatedUsers, Self::LogDelivery].into_iter().find(|g| g.group_uri() == Some(uri))
    }

    /// The URI of a group; `None` for an identity.
    #[must_use]
    pub fn group_uri(&self) -> Option<&'static str> {
        match self {
            Self::Identity(_) => None,
            Self::AllUsers => Some("http://acs.amazonaws.com/groups/global/AllUsers"),
            Self::AuthenticatedUsers => Some("http://acs.amazonaws.com/groups/global/AuthenticatedUsers"),
            Self::LogDelivery => Some("http://acs.amazonaws.com/groups/s3/LogDelivery"),
        }
    }

    fn includes(&self, identity: Option<&str>) -> bool {
        match self {
            Self::Identity(id) => id == identity.unwrap_or(ANONYMOUS),
            Self::AllUsers => true,
            Self::AuthenticatedUsers => identity.is_some(),
            Self::LogDelivery => false,
        }
    }
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Whom it is for.
    #[serde(rename = "to")]
    pub grantee: Grantee,
    /// What it allows.
    #[serde(rename = "may")]
    pub permission: Permission,
}

/// A list: the owner, and what others may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl {
    /// The canonical id of the owner, who may always read and change the list.
    pub owner: String,
    /// The grants, at most [`MAX_GRANTS`].
    pub grants: Vec<Grant>,
}

/// The largest number of grants in a list.
pub const MAX_GRANTS: usize = 100;

/// The canonical id that AWS gives to everybody who does not sign: the owner of what an unsigned request has written.
pub const ANONYMOUS: &str = "65a011a29cdf8ec533ec3d1ccaae921c";

/// A canned list (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canned {
    /// The owner alone.
    Private,
    /// Everybody reads.
    PublicRead,
    /// Everybody reads and writes.
    PublicReadWrite,
    /// Everybody who signs reads.
    AuthenticatedRead,
    /// The bucket's owner reads; objects only.
    BucketOwnerRead,
    /// The bucket's owner may do everything; objects only.
    BucketOwnerFullControl,
    /// Access logs are delivered here; buckets only.
    LogDeliveryWrite,
}

impl Canned {
    /// By S3's name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "private" => Self::Private,
            "public-read" => Self::PublicRead,
            "public-read-write" => Self::PublicReadWrite,
            "authenticated-read" => Self::AuthenticatedRead,
            "bucket-owner-read" => Self::BucketOwnerRead,
            "bucket-owner-full-control" => Self::BucketOwnerFullControl,
            "log-delivery-write" => Self::LogDeliveryWrite,
            // EC2 reads its images with credentials of its own, which no request to this endpoint can carry.
            "aws-exec-read" => Self::Private,
            _ => return None,
        })
    }
}

impl Acl {
    /// The default: the owner alone.
    #[must_use]
    pub fn private(owner: impl Into<String>) -> Self {
        let owner = owner.into();
        let grants = vec![Grant { grantee: Grantee::Identity(owner.clone()), permission: Permission::FullControl }];
        Self { owner, grants }
    }

    /// A canned list of `owner` in a bucket of `bucket_owner`.
    #[must_use]
    pub fn canned(canned: Canned, owner: impl Into<String>, bucket_owner: &str) -> Self {
        let mut acl = Self::private(owner);
        let bucket_owner = || Grantee::Identity(bucket_owner.to_owned());
        let extra: Vec<(Grantee, Permission)> = match canned {
            Canned::Private => vec![],
            Canned::PublicRead => vec![(Grantee::AllUsers, Permission::Read)],
            Canned::PublicReadWrite => vec![(Grantee::AllUsers, Permission::Read), (Grantee::AllUsers, Permission::Write)],
            Canned::AuthenticatedRead => vec![(Grantee::AuthenticatedUsers, Permission::Read)],
            Canned::BucketOwnerRead => vec![(bucket_owner(), Permission::Read)],
            Canned::BucketOwnerFullControl => vec![(bucket_owner(), Permission::FullControl)],
            Canned::LogDeliveryWrite => {
                vec![(Grantee::LogDelivery, Permission::Write), (Grantee::LogDelivery, Permission::ReadAcp)]
            }
        };
        let extra = extra.into_iter().filter(|(grantee, _)| *grantee != Grantee::Identity(acl.owner.clone())).collect::<Vec<_>>();
        acl.grants.extend(extra.into_iter().map(|(grantee, permission)| Grant { grantee, permission }));
        acl
    }

    /// Whether the identity (`None`: an unsigned request, which stands for [`ANONYMOUS`]) may do this. The owner may always read and
    /// change the list; what else the owner may do, the grants say, as on AWS.
    #[must_use]
    pub fn allows(&self, identity: Option<&str>, wanted: Permission) -> bool {
        let acp = matches!(wanted, Permission::ReadAcp | Permission::WriteAcp);
        (acp && self.owner == identity.unwrap_or(ANONYMOUS))
            || self.grants.iter().any(|g| g.permission.covers(wanted) && g.grantee.includes(identity))
    }

    /// Whether it says no more than the absence of a list does.
    #[must_use]
    pub fn is_private(&self) -> bool {
        *self == Self::private(self.owner.clone())
    }

    /// Whether it grants anything to everybody or to everybody who signs.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.grants.iter().any(|g| matches!(g.grantee, Grantee::AllUsers | Grantee::AuthenticatedUsers))
    }

    /// Without the grants that [`is_public`](Self::is_public) means.
    #[must_use]
    pub fn without_public(mut self) -> Self {
        self.grants.retain(|g| !matches!(g.grantee, Grantee::AllUsers | Grantee::AuthenticatedUsers));
        self
    }

    /// As it is stored.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From what was stored; `None` when it cannot be read, which callers must treat as private.
    #[must_use]
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_private_list_lets_nobody_else_in() {
        let acl = Acl::private("me");
        for wanted in Permission::ALL {
            assert!(acl.allows(Some("me"), wanted));
            assert!(!acl.allows(Some("you"), wanted));
            assert!(!acl.allows(None, wanted));
        }
        assert!(acl.is_private() && !acl.is_public());
    }

    #[test]
    fn canned_lists_grant_what_aws_documents() {
        let read = Acl::canned(Canned::PublicRead, "me", "me");
        assert!(
            read.allows(None, Permission::Read)
                && !read.allows(None, Permission::Write)
                && !read.allows(None, Permission::ReadAcp)
        );
        let both = Acl::canned(Canned::PublicReadWrite, "me", "me");
        assert!(both.allows(None, Permission::Write) && !both.allows(Some("you"), Permission::WriteAcp));
        let signed = Acl::canned(Canned::AuthenticatedRead, "me", "me");
        assert!(!signed.allows(None, Permission::Read) && signed.allows(Some("you"), Permission::Read));
        let theirs = Acl::canned(Canned::BucketOwnerFullControl, "me", "boss");
        assert!(theirs.allows(Some("boss"), Permission::Write) && !theirs.allows(Some("you"), Permission::Read));
        assert!(Acl::canned(Canned::BucketOwnerRead, "me", "me").is_private());
    }

    #[test]
    fn the_owner_keeps_the_list_even_without_a_grant() {
        let acl = Acl { owner: "me".into(), grants: vec![] };
        assert!(acl.allows(Some("me"), Permission::WriteAcp));
        assert!(!acl.allows(Some("me"), Permission::Read));
    }

    #[test]
    fn what_nobody_signed_for_is_anonymous() {
        let acl = Acl::private(ANONYMOUS);
        assert!(acl.allows(None, Permission::Read) && acl.allows(None, Permission::WriteAcp));
        assert!(!acl.allows(Some("you"), Permission::Read));
        assert!(!Acl::private("me").allows(None, Permission::ReadAcp));
    }

    #[test]
    fn public_grants_can_be_taken_away() {
        let mut acl = Acl::canned(Canned::PublicReadWrite, "me", "me");
        acl.grants.push(Grant { grantee: Grantee::AuthenticatedUsers, permission: Permission::Read });
        assert!(acl.clone().without_public().is_private() && !acl.without_public().is_public());
    }

    #[test]
    fn it_survives_storage() {
        let acl = Acl::canned(Canned::PublicReadWrite, "me", "boss");
        assert_eq!(Acl::from_json(&acl.to_json()), Some(acl));
        assert_eq!(Acl::from_json("{"), None);
    }
}
