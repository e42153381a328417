//! CopyObject.

use sluice_provider::{Attributes, Versioning, version_of};

use crate::objects::{CopyRequest, ETagCondition, ReadConditions, ReadRequest, attribute};
use crate::s3::call::{Answer, Call, document, set, set_new_version, with_condition};
use crate::s3::error::{Code, Failure, Result};
use crate::s3::xml::Xml;
use crate::s3::{acl, checksums, conditions, dates, encryption, headers, lifecycle, lock, tagging};

/// Whether something is taken from the source or from the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directive {
    Copy,
    Replace,
}

fn directive(call: &Call, name: &'static str, what: &str) -> Result<Directive> {
    match call.header(name)? {
        None | Some("COPY") => Ok(Directive::Copy),
        Some("REPLACE") => Ok(Directive::Replace),
        Some(other) => Err(Failure::argument(name, other, format!("Unknown {what} directive."))),
    }
}

pub(crate) async fn call(call: &mut Call) -> Answer {
    headers::refuse_unkept(&call.headers)?;
    let (bucket, key, version) = headers::copy_source(&call.headers)?;
    let metadata = directive(call, "x-amz-metadata-directive", "metadata")?;
    let tags = directive(call, "x-amz-tagging-directive", "tagging")?;
    let when = conditions::write(&call.headers)?;
    let checksum = checksums::named(call.header("x-amz-checksum-algorithm")?)?;
    let given = headers::to_attributes(&call.headers)?;
    let changes_class = call.headers.contains_key("x-amz-storage-class");
    let redirects = given.get(attribute::WEBSITE_REDIRECT).is_some();
    let source_key = encryption::source_key(&call.headers)?;
    // A version is copied onto its key to make it the current one.
    let itself = bucket == call.bucket && key == call.key && version.is_none();
    if itself
        && metadata == Directive::Copy
        && !changes_class
        && !redirects
        && tags == Directive::Copy
        && !encryption::is_asked(&call.headers)
    {
        return Err(Failure::request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
             metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let mut source = conditions::copy_source(&call.headers)?;
    let from = call.source(&bucket, &key).await?;
    let version = version.map(|text| call.version_in(&from, &key, &text)).transpose()?;
    let to = call.namespace()?;
    let wish = encryption::wish(&call.headers, &to)?;
    let customer_key = encryption::customer_of(wish.as_ref()).cloned();
    let of_source = |failure: Failure| match failure.code() {
        Code::NoSuchKey => failure.field("Key", key.clone()),
        // A source that the client has already is a failed condition of the copy.
        Code::NotModified => Code::PreconditionFailed.into(),
        _ => failure,
    };
    let read = ReadRequest { version, conditions: source.clone(), ..ReadRequest::default() };
    let found = match call.parts.objects.head(&from, &key, &read).await {
        Ok(found) => found.info,
        Err(error) => return Err(of_source(call.unread(&from, &key, error.into()).await)),
    };
    let kept = &found.attributes;
    call.check_read(&from, kept)?;
    let mut new = Attributes::new();
    acl::new_object(&call.parts, &call.identity, &to, &call.headers, &mut new).await?;
    lock::new_object(&to, &call.headers, &mut new)?;

    let same = metadata == Directive::Copy
        && tags == Directive::Copy
        && !changes_class
        && !redirects
        && new.is_empty()
        && kept.get(attribute::STORAGE_CLASS).is_none()
        && kept.get(attribute::WEBSITE_REDIRECT).is_none();
    // What was read of the source must be what is copied, and what the sender may read.
    if !same || !acl::may_use(&call.identity, &from) || kept.get(attribute::OWNER).is_some() {
        source = ReadConditions { if_match: Some(ETagCondition::OneOf(vec![found.etag.clone()])), ..source };
    }
    let attributes = if same {
        None
    } else {
        let mut attributes = if metadata == Directive::Replace { given } else { copied(kept, &given) };
        let tags = match tags {
            Directive::Copy => kept.get(attribute::TAGS).unwrap_or_default().to_owned(),
            Directive::Replace => {
                tagging::to_attribute(&tagging::from_header(call.header("x-amz-tagging")?.unwrap_or_default())?)
            }
        };
        if !tags.is_empty() {
            attributes.set(attribute::TAGS, tags);
        }
        attributes.extend(new.iter());
        Some(attributes)
    };
    let copy = CopyRequest { source, version, when: when.clone(), attributes, checksum, source_key, encryption: wish };
    let info = call
        .parts
        .objects
        .copy((&from, &key), (&to, &call.key), copy)
        .await
        .map_err(|e| with_condition(of_source(e.into()), &when))?;

    let mut xml = Xml::document();
    xml.root("CopyObjectResult");
    xml.plain("LastModified", dates::iso(info.modified));
    xml.etag(info.etag.as_str());
    checksums::to_xml(&info.attributes, &mut xml);
    xml.close("CopyObjectResult");
    let mut response = document(xml);
    encryption::to_headers(&info.attributes, customer_key.as_ref(), response.headers_mut())?;
    lifecycle::tell_expiry(&to, &info, response.headers_mut());
    set_new_version(response.headers_mut(), &info.attributes);
    if from.versioning() != Versioning::Off {
        set(&mut response, "x-amz-copy-source-version-id", &version_of(&found.attributes).to_string());
    }
    Ok(response)
}

/// The client's own attributes of the source. Storage class and redirect belong to an object's place and are not copied.
fn copied(source: &Attributes, given: &Attributes) -> Attributes {
    let own = |name: &str| headers::is_clients(name) && name != attribute::WEBSITE_REDIRECT;
    let mut attributes: Attributes = source.iter().filter(|(name, _)| own(name)).collect();
    for name in [attribute::STORAGE_CLASS, attribute::WEBSITE_REDIRECT] {
        if let Some(value) = given.get(name) {
            attributes.set(name, value);
        }
    }
    attributes
}
