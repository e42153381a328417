//! CreateBucket.

use http::StatusCode;

use super::delete_bucket;
use crate::error::ErrorKind;
use crate::namespaces::Namespace;
use crate::s3::acl::{self, Ownership, Wish};
use crate::s3::address::is_bucket_name;
use crate::s3::call::{Answer, Call, empty, set};
use crate::s3::error::{Code, Failure, Result};
use crate::s3::{lock, xml};
use crate::tokens::acl::Acl;

/// The region of AWS where creating one's own bucket again succeeds.
const FORGIVING_REGION: &str = "us-east-1";

pub(crate) async fn call(call: &mut Call) -> Answer {
    if !is_bucket_name(&call.bucket) {
        return Err(Code::InvalidBucketName.into());
    }
    let locks = call.header("x-amz-bucket-object-lock-enabled")?.is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let ownership = match call.header("x-amz-object-ownership")? {
        None => None,
        Some(name) => Some(
            Ownership::from_name(name)
                .ok_or_else(|| Failure::argument("x-amz-object-ownership", name, "Invalid x-amz-object-ownership header"))?,
        ),
    };
    let owner = &call.identity.id;
    let list = match Wish::from_headers(&call.parts, &call.headers).await? {
        Some(wish) => wish.list(owner, owner)?,
        None => Acl::private(owner),
    };
    if ownership == Some(Ownership::BucketOwnerEnforced) && !list.is_private() {
        return Err(Code::InvalidBucketAclWithObjectOwnership.into());
    }
    let body = call.document().await?;
    let location = location(body).await?;
    match call.parts.namespaces.create(&call.bucket, &call.identity.id, &location).await {
        Ok(_) => configure(call, ownership, &list, locks).await?,
        Err(e) if matches!(e.kind(), ErrorKind::BucketAlreadyOwnedByYou) && call.parts.settings.region == FORGIVING_REGION => {
            // Again is well only for what is there: to open or to close a bucket in passing would be a surprise.
            let namespace = call.parts.namespaces.get(&call.bucket).await?;
            if acl::bucket_list(&namespace) != list
                || (ownership.is_some() && ownership != Ownership::of(&namespace))
                || (locks && lock::Configuration::of(&namespace).is_none())
            {
                return Err(Code::BucketAlreadyExists.into());
            }
        }
        Err(e) => return Err(e.into()),
    }
    let mut response = empty(StatusCode::OK);
    set(&mut response, "location", &format!("/{}", call.bucket));
    Ok(response)
}

/// Gives a new bucket its documents. A bucket that did not get them was not created as it was asked for, and goes.
async fn configure(call: &Call, ownership: Option<Ownership>, list: &Acl, locks: bool) -> Result<()> {
    let json = list.to_json();
    let lock = lock::Configuration::default().to_text();
    let documents = [
        (Ownership::SETTING, ownership.map(Ownership::name)),
        (acl::SETTING, (!list.is_private()).then_some(json.as_str())),
        // Versions first: a lock without them would hold nothing.
        (Namespace::VERSIONING, locks.then_some("Enabled")),
        (lock::SETTING, locks.then_some(lock.as_str())),
    ];
    let namespaces = &call.parts.namespaces;
    let can_lock = |namespace: &Namespace| {
        let objects = &call.parts.objects;
        objects.keeps_versions(namespace) && objects.versions_allow(namespace, |features| features.locks)
    };
    if locks && !can_lock(&*namespaces.get(&call.bucket).await?) {
        if let Err(error) = delete_bucket::delete(namespaces, &call.bucket).await {
            tracing::warn!(bucket = call.bucket, %error, "a bucket that cannot be locked was not deleted");
        }
        return Err(Failure::not_implemented("The storage behind this bucket cannot keep versions that are locked."));
    }
    for (name, document) in documents.into_iter().filter(|(_, document)| document.is_some()) {
        if let Err(error) = namespaces.set_setting(&call.bucket, name, document).await {
            if let Err(error) = delete_bucket::delete(namespaces, &call.bucket).await {
                tracing::warn!(bucket = call.bucket, %error, "a bucket that was not configured was not deleted");
            }
            return Err(error.into());
        }
    }
    Ok(())
}

/// The location constraint. Any region goes, since a signature may name any: the client's own is the one it expects to read back.
async fn location(body: Vec<u8>) -> Result<String> {
    if body.is_empty() {
        return Ok(String::new());
    }
    let root = xml::read(body, "CreateBucketConfiguration").await?;
    let location = root.text_of("LocationConstraint").unwrap_or_default().trim();
    let sound = location.len() <= 64 && location.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if sound {
        Ok(location.to_owned())
    } else {
        Err(Failure::new(Code::InvalidLocationConstraint).field("LocationConstraint", location))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[tokio::test]
    async fn a_location_is_read_or_refused() {
        let doc = |l: &str| {
            format!("<CreateBucketConfiguration><LocationConstraint>{l}</LocationConstraint></CreateBucketConfiguration>")
                .into_bytes()
        };
        assert_eq!(location(Vec::new()).await.unwrap(), "");
        assert_eq!(location(doc("eu-west-1")).await.unwrap(), "eu-west-1");
        assert_eq!(location(b"<CreateBucketConfiguration/>".to_vec()).await.unwrap(), "");
        assert_eq!(location(doc("a b")).await.unwrap_err().code(), Code::InvalidLocationConstraint);
        assert_eq!(location(b"<x/>".to_vec()).await.unwrap_err().code(), Code::MalformedXML);
    }
}
