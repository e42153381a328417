//! Which operation a request is.

use http::{HeaderMap, Method};

use super::address::Address;
use super::error::{Code, Failure, Result};
use super::headers::first;
use super::query::Query;

macro_rules! operations {
    ($($name:ident)*) => {
        /// An operation, as S3 names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Op { $($name,)* }

        impl Op {
            /// The name.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

operations! {
    AbortMultipartUpload CompleteMultipartUpload CopyObject CreateBucket CreateMultipartUpload DeleteBucket DeleteBucketConfiguration
    DeleteBucketCors DeleteBucketEncryption DeleteBucketLifecycle DeleteBucketPolicy DeleteBucketOwnershipControls DeletePublicAccessBlock PutBucketOwnershipControls PutPublicAccessBlock
    CloseObject DeleteBucketTagging DeleteObject DeleteObjectTagging DeleteObjects GetBucketAccelerateConfiguration GetBucketAcl FollowObject
    GetBucketConfiguration GetBucketCors GetBucketEncryption GetBucketLifecycleConfiguration GetBucketLocation GetBucketLogging
    GetBucketNotificationConfiguration GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus GetBucketReplication
    GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite GetObject GetObjectAcl GetObjectAttributes
    GetObjectLegalHold GetObjectLockConfiguration GetObjectRetention GetObjectTagging GetObjectTorrent GetPublicAccessBlock HeadBucket HeadObject
    ListBucketConfigurations ListBuckets ListMultipartUploads ListObjectVersions ListObjects ListObjectsV2 ListParts
    NotImplemented Options PutBucketVersioning PutBucketAcl PutBucketCors PutBucketEncryption PutBucketLifecycleConfiguration PutBucketPolicy PutBucketTagging PutObject PutObjectAcl PutObjectLegalHold PutObjectLockConfiguration
    PutObjectRetention PutObjectTagging RenameObject UploadPart UploadPartCopy
}

/// The sub-resources of a bucket that Sluice does not keep: a PUT is refused, a DELETE finds nothing.
const BUCKET_CONFIGURATIONS: [&str; 15] = [
    "abac",
    "accelerate",
    "analytics",
    "intelligent-tiering",
    "inventory",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "replication",
    "requestPayment",
    "website",
];

/// The sub-resources of an object that Sluice does not have.
const OBJECT_EXTRAS: [&str; 5] = ["annotation", "encryption", "restore", "select", "append"];

/// Finds the operation.
///
/// # Errors
/// `MethodNotAllowed` where the resource does not know the method.
pub(crate) fn resolve(method: &Method, address: &Address, query: &Query, headers: &HeaderMap) -> Result<Op> {
    if method == Method::OPTIONS {
        return Ok(Op::Options);
    }
    check_query(method, query)?;
    if address.bucket.is_empty() {
        return match *method {
            Method::GET => Ok(Op::ListBuckets),
            // The STS and IAM actions.
            Method::POST => Ok(Op::NotImplemented),
            _ => Err(Failure::new(Code::MethodNotAllowed).field("Method", method.as_str())),
        };
    }
    let op = if address.key.is_empty() { bucket(method, query) } else { object(method, query, headers) };
    op.ok_or_else(|| match *method {
        Method::POST if address.key.is_empty() => Failure::new(Code::PreconditionFailed)
            .field("Condition", "Bucket POST must be of the enclosure-type multipart/form-data"),
        _ => Failure::new(Code::MethodNotAllowed).field("Method", method.as_str()),
    })
}

/// The sub-resources that no request has two of.
const SUBRESOURCES: [&str; 31] = [
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "tagging",
    "torrent",
    "uploads",
    "versioning",
    "versions",
    "website",
];

/// Refuses what would be one operation as well as another: it is not for the gateway to choose.
fn check_query(method: &Method, query: &Query) -> Result<()> {
    // None begins as the names of a presigned URL do.
    let mut asked = query.names().filter(|name| !name.starts_with("X-Amz-") && SUBRESOURCES.contains(name));
    if let Some(one) = asked.next()
        && let Some(other) = asked.find(|other| *other != one)
    {
        let message = format!("Conflicting query string parameters: {one}, {other}");
        return Err(Failure::argument("ResourceType", one, message));
    }
    if method == Method::PUT && query.has("partNumber") && !query.has("uploadId") {
        // As a PutObject it would replace the object with a part of it.
        return Err(Failure::argument("ResourceType", "partNumber", "This operation does not accept a query-string."));
    }
    Ok(())
}

fn bucket(method: &Method, query: &Query) -> Option<Op> {
    let first = |table: &[(&str, Op)]| table.iter().find(|(name, _)| query.has(name)).map(|(_, op)| *op);
    let unkept = || BUCKET_CONFIGURATIONS.iter().any(|name| query.has(name));
    Some(match *method {
        Method::HEAD => Op::HeadBucket,
        Method::GET if query.is_empty() => Op::ListObjects,
        Method::GET => first(&[
            ("location", Op::GetBucketLocation),
            ("versioning", Op::GetBucketVersioning),
            ("uploads", Op::ListMultipartUploads),
            ("versions", Op::ListObjectVersions),
            ("acl", Op::GetBucketAcl),
            ("tagging", Op::GetBucketTagging),
            ("policyStatus", Op::GetBucketPolicyStatus),
            ("policy", Op::GetBucketPolicy),
            ("cors", Op::GetBucketCors),
            ("lifecycle", Op::GetBucketLifecycleConfiguration),
            ("encryption", Op::GetBucketEncryption),
            ("object-lock", Op::GetObjectLockConfiguration),
            ("replication", Op::GetBucketReplication),
            ("website", Op::GetBucketWebsite),
            ("publicAccessBlock", Op::GetPublicAccessBlock),
            ("ownershipControls", Op::GetBucketOwnershipControls),
            ("logging", Op::GetBucketLogging),
            ("notification", Op::GetBucketNotificationConfiguration),
            ("accelerate", Op::GetBucketAccelerateConfiguration),
            ("requestPayment", Op::GetBucketRequestPayment),
        ])
        .unwrap_or_else(|| {
            if ["analytics", "inventory", "metrics", "intelligent-tiering"].iter().any(|name| query.has(name)) {
                if query.has("id") { Op::GetBucketConfiguration } else { Op::ListBucketConfigurations }
            } else if unkept() || query.has("session") {
                Op::NotImplemented
            } else if query.get("list-type") == Some("2") {
                Op::ListObjectsV2
            } else {
                Op::ListObjects
            }
        }),
        Method::PUT => first(&[
            ("tagging", Op::PutBucketTagging),
            ("cors", Op::PutBucketCors),
            ("encryption", Op::PutBucketEncryption),
            ("lifecycle", Op::PutBucketLifecycleConfiguration),
            ("policy", Op::PutBucketPolicy),
            ("acl", Op::PutBucketAcl),
            ("ownershipControls", Op::PutBucketOwnershipControls),
            ("publicAccessBlock", Op::PutPublicAccessBlock),
            ("object-lock", Op::PutObjectLockConfiguration),
            ("versioning", Op::PutBucketVersioning),
        ])
        .unwrap_or_else(|| if unkept() { Op::NotImplemented } else { Op::CreateBucket }),
        Method::DELETE if query.has("tagging") => Op::DeleteBucketTagging,
        Method::DELETE if query.has("cors") => Op::DeleteBucketCors,
        Method::DELETE if query.has("encryption") => Op::DeleteBucketEncryption,
        Method::DELETE if query.has("lifecycle") => Op::DeleteBucketLifecycle,
        Method::DELETE if query.has("policy") => Op::DeleteBucketPolicy,
        Method::DELETE if query.has("ownershipControls") => Op::DeleteBucketOwnershipControls,
        Method::DELETE if query.has("publicAccessBlock") => Op::DeletePublicAccessBlock,
        Method::DELETE if unkept() => Op::DeleteBucketConfiguration,
        Method::DELETE => Op::DeleteBucket,
        Method::POST if query.has("delete") => Op::DeleteObjects,
        Method::POST if unkept() => Op::NotImplemented,
        _ => return None,
    })
}

fn object(method: &Method, query: &Query, headers: &HeaderMap) -> Option<Op> {
    let get = *method == Method::GET;
    if *method == Method::HEAD {
        return Some(Op::HeadObject);
    }
    if get && query.is_empty() {
        return Some(Op::GetObject);
    }
    if matches!(*method, Method::GET | Method::PUT) {
        let pairs = [
            ("acl", Op::GetObjectAcl, Op::PutObjectAcl),
            ("tagging", Op::GetObjectTagging, Op::PutObjectTagging),
            ("retention", Op::GetObjectRetention, Op::PutObjectRetention),
            ("legal-hold", Op::GetObjectLegalHold, Op::PutObjectLegalHold),
        ];
        if let Some((_, read, write)) = pairs.into_iter().find(|(name, ..)| query.has(name)) {
            return Some(if get { read } else { write });
        }
    }
    let upload = query.has("uploadId");
    let copy = first(headers, "x-amz-copy-source").is_some();
    if *method == Method::POST && query.has("uploads") {
        return Some(Op::CreateMultipartUpload);
    }
    if *method == Method::DELETE && query.has("tagging") {
        return Some(Op::DeleteObjectTagging);
    }
    if query.has("renameObject") {
        return (*method == Method::PUT).then_some(Op::RenameObject);
    }
    if OBJECT_EXTRAS.iter().any(|name| query.has(name)) {
        return Some(Op::NotImplemented);
    }
    Some(match *method {
        Method::GET if query.has("attributes") => Op::GetObjectAttributes,
        Method::GET if query.has("torrent") => Op::GetObjectTorrent,
        _ if query.has("torrent") => Op::NotImplemented,
        Method::GET if upload => Op::ListParts,
        Method::GET if query.has("follow") => Op::FollowObject,
        Method::GET => Op::GetObject,
        Method::PUT if upload && copy => Op::UploadPartCopy,
        Method::PUT if upload => Op::UploadPart,
        Method::PUT if copy => Op::CopyObject,
        Method::PUT => Op::PutObject,
        Method::POST if upload => Op::CompleteMultipartUpload,
        Method::POST if query.has("close") => Op::CloseObject,
        Method::DELETE if upload => Op::AbortMultipartUpload,
        Method::DELETE => Op::DeleteObject,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn op(method: &str, path: &str, copy: bool) -> std::result::Result<Op, Code> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let address = crate::s3::address::read(path, None, &[]).unwrap();
        let mut headers = HeaderMap::new();
        if copy {
            headers.insert("x-amz-copy-source", http::HeaderValue::from_static("b/k"));
        }
        resolve(&method.parse().unwrap(), &address, &Query::parse(Some(query)).unwrap(), &headers).map_err(|f| f.code())
    }

    #[test]
    fn requests_are_recognised() {
        for (method, path, want) in [
            ("GET", "/", Op::ListBuckets),
            ("GET", "//", Op::ListBuckets),
            ("GET", "/b", Op::ListObjects),
            ("GET", "/b?list-type=2&prefix=x", Op::ListObjectsV2),
            ("GET", "/b?versions", Op::ListObjectVersions),
            ("GET", "/b?uploads", Op::ListMultipartUploads),
            ("GET", "/b?policyStatus", Op::GetBucketPolicyStatus),
            ("GET", "/b?inventory&id=x", Op::GetBucketConfiguration),
            ("HEAD", "/b", Op::HeadBucket),
            ("PUT", "/b", Op::CreateBucket),
            ("PUT", "/b?cors", Op::PutBucketCors),
            ("PUT", "/b?versioning", Op::PutBucketVersioning),
            ("DELETE", "/b?cors", Op::DeleteBucketCors),
            ("PUT", "/b?website", Op::NotImplemented),
            ("DELETE", "/b?website", Op::DeleteBucketConfiguration),
            ("PUT", "/b?publicAccessBlock", Op::PutPublicAccessBlock),
            ("DELETE", "/b?publicAccessBlock", Op::DeletePublicAccessBlock),
            ("PUT", "/b?ownershipControls", Op::PutBucketOwnershipControls),
            ("DELETE", "/b?ownershipControls", Op::DeleteBucketOwnershipControls),
            ("DELETE", "/b", Op::DeleteBucket),
            ("POST", "/b?delete", Op::DeleteObjects),
            ("GET", "/b/k", Op::GetObject),
            ("GET", "/b/k?x-id=GetObject&response-content-type=a", Op::GetObject),
            ("GET", "/b/k?attributes", Op::GetObjectAttributes),
            ("GET", "/b/k?uploadId=u", Op::ListParts),
            ("GET", "/b/k?torrent", Op::GetObjectTorrent),
            ("HEAD", "/b/k?partNumber=1", Op::HeadObject),
            ("PUT", "/b/k?partNumber=1&uploadId=u", Op::UploadPart),
            ("PUT", "/b/k?tagging", Op::PutObjectTagging),
            ("PUT", "/b/k?renameObject", Op::RenameObject),
            ("GET", "/b/k?follow&since=3", Op::FollowObject),
            ("POST", "/b/k?close", Op::CloseObject),
            ("POST", "/b/k?uploads", Op::CreateMultipartUpload),
            ("POST", "/b/k?uploadId=u", Op::CompleteMultipartUpload),
            ("POST", "/b/k?select&select-type=2", Op::NotImplemented),
            ("DELETE", "/b/k?uploadId=u", Op::AbortMultipartUpload),
            ("DELETE", "/b/k?versionId=null", Op::DeleteObject),
            ("OPTIONS", "/b/k", Op::Options),
        ] {
            assert_eq!(op(method, path, false), Ok(want), "{method} {path}");
        }
        assert_eq!(op("PUT", "/b/k", true), Ok(Op::CopyObject));
        assert_eq!(op("PUT", "/b/k?partNumber=1&uploadId=u", true), Ok(Op::UploadPartCopy));
        assert_eq!(op("PATCH", "/b/k", false), Err(Code::MethodNotAllowed));
        assert_eq!(op("POST", "/b", false), Err(Code::PreconditionFailed));
        assert_eq!(op("DELETE", "/", false), Err(Code::MethodNotAllowed));
        assert_eq!(op("HEAD", "/", false), Err(Code::MethodNotAllowed));
    }

    #[test]
    fn what_could_be_two_operations_is_none() {
        assert_eq!(op("GET", "/b?acl&policy", false), Err(Code::InvalidArgument));
        assert_eq!(op("PUT", "/b/k?tagging&acl", false), Err(Code::InvalidArgument));
        assert_eq!(op("DELETE", "/b?cors&cors&policy", false), Err(Code::InvalidArgument));
        assert_eq!(op("PUT", "/b/k?partNumber=1", false), Err(Code::InvalidArgument));
        assert_eq!(op("GET", "/b/k?partNumber=1", false), Ok(Op::GetObject));
    }
}
