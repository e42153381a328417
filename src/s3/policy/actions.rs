//! The one table from operations to actions
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html>).

use super::decide::About;
use crate::s3::operation::Op;
use crate::s3::query::Query;

/// The actions that an operation is: all must be allowed. None for what is not about a bucket that exists.
pub(super) fn actions(about: &About<'_>) -> Vec<&'static str> {
    let query = about.query;
    let versioned = |plain, versioned| if about.versioned { vec![versioned] } else { vec![plain] };
    let one = match about.op {
        Op::CreateBucket | Op::ListBuckets | Op::Options | Op::NotImplemented => return vec![],
        Op::FollowObject | Op::GetObject | Op::HeadObject => return versioned("s3:GetObject", "s3:GetObjectVersion"),
        Op::DeleteObject | Op::DeleteObjects => {
            return bypassing(about, if about.versioned { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" });
        }
        Op::GetObjectAcl => return versioned("s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
        Op::PutObjectAcl => return versioned("s3:PutObjectAcl", "s3:PutObjectVersionAcl"),
        Op::GetObjectTorrent => "s3:GetObjectTorrent",
        Op::GetObjectTagging => return versioned("s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
        Op::PutObjectTagging => return versioned("s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
        Op::DeleteObjectTagging => return versioned("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
        Op::GetObjectAttributes if about.versioned => {
            return vec!["s3:GetObjectVersion", "s3:GetObjectVersionAttributes"];
        }
        Op::GetObjectAttributes => return vec!["s3:GetObject", "s3:GetObjectAttributes"],
        Op::PutObject | Op::CopyObject | Op::CreateMultipartUpload => return writing(about),
        Op::CloseObject | Op::CompleteMultipartUpload | Op::RenameObject | Op::UploadPart | Op::UploadPartCopy => "s3:PutObject",
        Op::AbortMultipartUpload => "s3:AbortMultipartUpload",
        Op::ListParts => "s3:ListMultipartUploadParts",
        Op::ListMultipartUploads => "s3:ListBucketMultipartUploads",
        Op::HeadBucket | Op::ListObjects | Op::ListObjectsV2 => "s3:ListBucket",
        Op::ListObjectVersions => "s3:ListBucketVersions",
        Op::DeleteBucket => "s3:DeleteBucket",
        Op::DeleteBucketConfiguration => kept_elsewhere(query).1,
        Op::GetBucketConfiguration | Op::ListBucketConfigurations => kept_elsewhere(query).0,
        Op::GetBucketCors => "s3:GetBucketCORS",
        Op::PutBucketCors | Op::DeleteBucketCors => "s3:PutBucketCORS",
        Op::GetBucketTagging => "s3:GetBucketTagging",
        Op::PutBucketTagging | Op::DeleteBucketTagging => "s3:PutBucketTagging",
        Op::GetBucketPolicy => "s3:GetBucketPolicy",
        Op::PutBucketPolicy => "s3:PutBucketPolicy",
        Op::DeleteBucketPolicy => "s3:DeleteBucketPolicy",
        Op::GetBucketPolicyStatus => "s3:GetBucketPolicyStatus",
        Op::GetBucketAcl => "s3:GetBucketAcl",
        Op::PutBucketAcl => "s3:PutBucketAcl",
        Op::GetBucketLocation => "s3:GetBucketLocation",
        Op::GetBucketAccelerateConfiguration => "s3:GetAccelerateConfiguration",
        Op::GetBucketEncryption => "s3:GetEncryptionConfiguration",
        Op::PutBucketEncryption | Op::DeleteBucketEncryption => "s3:PutEncryptionConfiguration",
        Op::GetBucketLifecycleConfiguration => "s3:GetLifecycleConfiguration",
        Op::PutBucketLifecycleConfiguration | Op::DeleteBucketLifecycle => "s3:PutLifecycleConfiguration",
        Op::GetBucketLogging => "s3:GetBucketLogging",
        Op::GetBucketNotificationConfiguration => "s3:GetBucketNotification",
        Op::GetBucketOwnershipControls => "s3:GetBucketOwnershipControls",
        Op::GetBucketReplication => "s3:GetReplicationConfiguration",
        Op::GetBucketRequestPayment => "s3:GetBucketRequestPayment",
        Op::GetBucketVersioning => "s3:GetBucketVersioning",
        Op::PutBucketVersioning => "s3:PutBucketVersioning",
        Op::GetBucketWebsite => "s3:GetBucketWebsite",
        Op::PutBucketOwnershipControls | Op::DeleteBucketOwnershipControls => "s3:PutBucketOwnershipControls",
        Op::PutPublicAccessBlock | Op::DeletePublicAccessBlock => "s3:PutBucketPublicAccessBlock",
        Op::GetPublicAccessBlock => "s3:GetBucketPublicAccessBlock",
        Op::GetObjectLockConfiguration => "s3:GetBucketObjectLockConfiguration",
        Op::PutObjectLockConfiguration => "s3:PutBucketObjectLockConfiguration",
        Op::GetObjectLegalHold => "s3:GetObjectLegalHold",
        Op::PutObjectLegalHold => "s3:PutObjectLegalHold",
        Op::GetObjectRetention => "s3:GetObjectRetention",
        Op::PutObjectRetention => return bypassing(about, "s3:PutObjectRetention"),
    };
    vec![one]
}

/// Overriding a retention takes a right of its own.
fn bypassing(about: &About<'_>, action: &'static str) -> Vec<&'static str> {
    let asked =
        about.headers.get("x-amz-bypass-governance-retention").is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"true"));
    if asked { vec![action, "s3:BypassGovernanceRetention"] } else { vec![action] }
}

/// A new object is tagged and locked by its headers, which takes more than the right to write it.
fn writing(about: &About<'_>) -> Vec<&'static str> {
    let extras = [
        ("x-amz-tagging", "s3:PutObjectTagging"),
        ("x-amz-object-lock-mode", "s3:PutObjectRetention"),
        ("x-amz-object-lock-legal-hold", "s3:PutObjectLegalHold"),
    ];
    // The tags of a form are in a field of another name.
    let tagged = |header: &str| header == "x-amz-tagging" && about.tags.is_some_and(|tags| !tags.is_empty());
    let asked = |header: &str| about.headers.contains_key(header) || tagged(header);
    let extras = extras.into_iter().filter(|(header, _)| asked(header)).map(|(_, action)| action);
    std::iter::once("s3:PutObject").chain(extras).collect()
}

/// The actions that a sender's own policies must allow besides: whoever gives rights away with a list must have the right to.
pub(super) fn own_actions(about: &About<'_>) -> Option<&'static str> {
    let writes = matches!(about.op, Op::PutObject | Op::CopyObject | Op::CreateMultipartUpload);
    let canned =
        about.headers.get("x-amz-acl").is_some_and(|acl| !["private", "bucket-owner-full-control"].iter().any(|a| acl == a));
    let grants = about.headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-"));
    (writes && (canned || grants)).then_some("s3:PutObjectAcl")
}

/// The actions that read and write a configuration for which there are no operations of their own.
fn kept_elsewhere(query: &Query) -> (&'static str, &'static str) {
    [
        ("analytics", ("s3:GetAnalyticsConfiguration", "s3:PutAnalyticsConfiguration")),
        ("intelligent-tiering", ("s3:GetIntelligentTieringConfiguration", "s3:PutIntelligentTieringConfiguration")),
        ("inventory", ("s3:GetInventoryConfiguration", "s3:PutInventoryConfiguration")),
        ("metrics", ("s3:GetMetricsConfiguration", "s3:PutMetricsConfiguration")),
        ("replication", ("s3:GetReplicationConfiguration", "s3:PutReplicationConfiguration")),
        ("website", ("s3:GetBucketWebsite", "s3:DeleteBucketWebsite")),
    ]
    .into_iter()
    .find(|(name, _)| query.has(name))
    // What has no action of its own changes nothing here; the widest right is asked for.
    .map_or(("s3:GetBucketLocation", "s3:DeleteBucket"), |(_, actions)| actions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn of(op: Op, query: &str, headers: &[&'static str]) -> Vec<&'static str> {
        let headers = headers.iter().map(|name| (http::HeaderName::from_static(name), HeaderValue::from_static("x"))).collect();
        actions(&About::new(op, "", &headers, &Query::parse(Some(query)).unwrap(), None))
    }

    #[test]
    fn operations_are_actions() {
        assert_eq!(of(Op::HeadObject, "", &[]), ["s3:GetObject"]);
        assert_eq!(of(Op::GetObject, "versionId=v", &[]), ["s3:GetObjectVersion"]);
        assert_eq!(of(Op::DeleteObject, "versionId=null", &[]), ["s3:DeleteObjectVersion"]);
        assert_eq!(of(Op::PutObject, "", &[]), ["s3:PutObject"]);
        assert_eq!(of(Op::CopyObject, "", &["x-amz-tagging"]), ["s3:PutObject", "s3:PutObjectTagging"]);
        assert_eq!(of(Op::GetObjectAttributes, "", &[]), ["s3:GetObject", "s3:GetObjectAttributes"]);
        assert_eq!(of(Op::HeadBucket, "", &[]), ["s3:ListBucket"]);
        assert_eq!(of(Op::DeleteBucketConfiguration, "replication", &[]), ["s3:PutReplicationConfiguration"]);
        assert_eq!(of(Op::ListBucketConfigurations, "inventory", &[]), ["s3:GetInventoryConfiguration"]);
        let bypass = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-amz-bypass-governance-retention"),
            HeaderValue::from_static("True"),
        )]);
        let query = Query::parse(Some("versionId=v")).unwrap();
        let deleted = actions(&About::new(Op::DeleteObject, "", &bypass, &query, None));
        assert_eq!(deleted, ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"]);
        assert!(of(Op::CreateBucket, "", &[]).is_empty());
    }
}
