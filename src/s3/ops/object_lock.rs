//! Object Lock: the bucket's configuration, retention and legal holds of versions.

use http::StatusCode;
use sluice_provider::{AttributeChange, Guard, Versioning};

use crate::objects::lock::Retention;
use crate::objects::{ReadRequest, attribute};
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::dates;
use crate::s3::error::{Code, Failure, Result};
use crate::s3::lock::{Configuration, SETTING, no_lock, retention_from_xml};
use crate::s3::xml::Xml;

pub(crate) fn get_configuration(call: &mut Call) -> Answer {
    let configuration = Configuration::of(&*call.namespace()?).ok_or(Code::ObjectLockConfigurationNotFoundError)?;
    Ok(document(configuration.to_xml()))
}

pub(crate) async fn put_configuration(call: &mut Call) -> Answer {
    if call.namespace()?.versioning() != Versioning::Enabled {
        let message = "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration";
        return Err(Failure::because(Code::InvalidBucketState, message));
    }
    if !call.parts.objects.versions_allow(&*call.namespace()?, |features| features.locks) {
        return Err(Failure::not_implemented("The storage behind this bucket cannot keep Object Lock."));
    }
    let configuration = Configuration::from_xml(&call.xml("ObjectLockConfiguration").await?)?;
    call.parts.namespaces.set_setting(&call.bucket, SETTING, Some(&configuration.to_text())).await?;
    Ok(empty(StatusCode::OK))
}

pub(crate) async fn get_retention(call: &mut Call) -> Answer {
    let attributes = attributes(call).await?;
    let retention = Retention::of(&attributes).ok_or(Code::NoSuchObjectLockConfiguration)?;
    let mut xml = Xml::document();
    xml.root("Retention");
    xml.text("Mode", retention.mode.name());
    xml.text("RetainUntilDate", &dates::iso_millis(retention.until));
    xml.close("Retention");
    Ok(document(xml))
}

pub(crate) async fn put_retention(call: &mut Call) -> Answer {
    check_bucket(call)?;
    let next = retention_from_xml(&call.xml("Retention").await?)?;
    let bypass = call.bypasses_governance(&*call.namespace()?)?;
    let set = match next {
        Some(next) => next.attributes().into_iter().map(|(name, value)| (name.to_owned(), Some(value))).collect(),
        None => [attribute::LOCK_MODE, attribute::LOCK_UNTIL].map(|name| (name.to_owned(), None)).to_vec(),
    };
    // Asked in one step with the change, so that nobody's longer retention is shortened in between.
    let guard = Guard::new(move |info| {
        Retention::of(&info.attributes).is_none_or(|retention| retention.may_become(next.as_ref(), bypass))
    });
    change(call, set, guard).await
}

pub(crate) async fn get_legal_hold(call: &mut Call) -> Answer {
    let attributes = attributes(call).await?;
    let state = attributes.get(attribute::LOCK_HOLD).ok_or(Code::NoSuchObjectLockConfiguration)?;
    let mut xml = Xml::document();
    xml.root("LegalHold");
    xml.text("Status", state);
    xml.close("LegalHold");
    Ok(document(xml))
}

pub(crate) async fn put_legal_hold(call: &mut Call) -> Answer {
    check_bucket(call)?;
    let root = call.xml("LegalHold").await?;
    let state = root.text_of("Status").map(str::trim).filter(|state| matches!(*state, "ON" | "OFF"));
    let state = state.ok_or(Code::MalformedXML)?.to_owned();
    change(call, vec![(attribute::LOCK_HOLD.to_owned(), Some(state))], Guard::none()).await
}

fn check_bucket(call: &Call) -> Result<()> {
    Configuration::of(&*call.namespace()?).map(drop).ok_or_else(no_lock)
}

async fn attributes(call: &Call) -> Result<sluice_provider::Attributes> {
    check_bucket(call)?;
    let read = ReadRequest { version: call.version()?, ..ReadRequest::default() };
    Ok(call.parts.objects.head(&*call.namespace()?, &call.key, &read).await?.info.attributes)
}

async fn change(call: &Call, set: Vec<(String, Option<String>)>, guard: Guard) -> Answer {
    let change = AttributeChange { if_match: None, set };
    call.parts.objects.change(&*call.namespace()?, &call.key, call.version()?, &change, &guard).await?;
    Ok(empty(StatusCode::OK))
}
