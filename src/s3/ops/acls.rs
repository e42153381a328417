//! GetBucketAcl, PutBucketAcl, GetObjectAcl, PutObjectAcl.

use http::StatusCode;
use sluice_provider::{self as provider, AttributeChange, Guard, ObjectInfo};

use crate::namespaces::Namespace;
use crate::objects::{ReadRequest, attribute};
use crate::s3::acl::{self, Wish};
use crate::s3::call::{Answer, Call, document, empty, set_version};
use crate::s3::error::{Code, Failure, Result};
use crate::s3::xml;
use crate::tokens::acl::Permission;

/// How often a change starts over because the object was replaced meanwhile.
const TRIES: usize = 4;

pub(crate) async fn get_bucket(call: &mut Call) -> Answer {
    let list = acl::bucket_list(&*call.namespace()?);
    Ok(document(acl::to_xml(&call.parts, &call.identity, &list).await?))
}

pub(crate) async fn get_object(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    let info = found(call, &namespace, Permission::ReadAcp).await?;
    let list = acl::object_list(&namespace, &info.attributes);
    let mut response = document(acl::to_xml(&call.parts, &call.identity, &list).await?);
    set_version(response.headers_mut(), &namespace, &info.attributes);
    Ok(response)
}

pub(crate) async fn put_bucket(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    let wish = wish(call).await?;
    if let Some(list) = wish.list_in(&namespace, &namespace.bucket.owner)? {
        let json = (!list.is_private()).then(|| list.to_json());
        call.parts.namespaces.set_setting(&call.bucket, acl::SETTING, json.as_deref()).await?;
    }
    Ok(empty(StatusCode::OK))
}

pub(crate) async fn put_object(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    let mut info = found(call, &namespace, Permission::WriteAcp).await?;
    let wish = wish(call).await?;
    for _ in 0..TRIES {
        let Some(list) = wish.clone().list_in(&namespace, acl::object_owner(&namespace, &info.attributes))? else {
            return Ok(empty(StatusCode::OK));
        };
        let json = (!list.is_private()).then(|| list.to_json());
        // Only of the object that the sender was found to have a say in.
        let change = AttributeChange { if_match: Some(info.etag.clone()), set: vec![(attribute::ACL.to_owned(), json)] };
        match call.parts.objects.change(&namespace, &call.key, call.version()?, &change, &Guard::none()).await {
            Ok(info) => {
                let mut response = empty(StatusCode::OK);
                set_version(response.headers_mut(), &namespace, &info.attributes);
                return Ok(response);
            }
            Err(error) if error.is_provider(provider::ErrorKind::PreconditionFailed) => {
                info = found(call, &namespace, Permission::WriteAcp).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Code::ConditionalRequestConflict.into())
}

/// What the request wishes for, in its headers or in its body.
async fn wish(call: &mut Call) -> Result<Wish> {
    let wish = Wish::from_headers(&call.parts, &call.headers).await?;
    let body = call.document().await?;
    match wish {
        Some(_) if !body.is_empty() => Err(Code::UnexpectedContent.into()),
        Some(wish) => Ok(wish),
        None if body.is_empty() => Err(Failure::new(Code::MissingSecurityHeader).field("MissingHeaderName", "x-amz-acl")),
        None => {
            let malformed =
                |failure: Failure| if failure.code() == Code::MalformedXML { Code::MalformedACLError.into() } else { failure };
            let policy = xml::read(body, "AccessControlPolicy").await.map_err(malformed)?;
            Wish::from_policy(&call.parts, &policy).await
        }
    }
}

/// The object, if the sender may do this to its list.
async fn found(call: &Call, namespace: &Namespace, wanted: Permission) -> Result<ObjectInfo> {
    let read = ReadRequest { version: call.version()?, ..ReadRequest::default() };
    match call.parts.objects.head(namespace, &call.key, &read).await {
        Ok(found) => {
            call.check_object(namespace, &found.info.attributes, wanted)?;
            Ok(found.info)
        }
        Err(error) => Err(call.untouched(namespace, &call.key, wanted, error.into()).await),
    }
}
