//! GetBucketVersioning, PutBucketVersioning.

use http::StatusCode;
use sluice_provider::Versioning;

use crate::namespaces::Namespace;
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::{Code, Failure};
use crate::s3::lock;
use crate::s3::xml::Xml;

pub(crate) fn get(call: &mut Call) -> Answer {
    let state = match call.namespace()?.versioning() {
        Versioning::Off => None,
        Versioning::Enabled => Some("Enabled"),
        Versioning::Suspended => Some("Suspended"),
    };
    let mut xml = Xml::document();
    xml.root("VersioningConfiguration");
    if let Some(state) = state {
        xml.text("Status", state);
    }
    xml.close("VersioningConfiguration");
    Ok(document(xml))
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    let root = call.xml("VersioningConfiguration").await?;
    let state = match root.text_of("Status").map(str::trim) {
        Some(state @ ("Enabled" | "Suspended")) => state,
        Some(_) => return Err(Code::MalformedXML.into()),
        None => return Err(Code::IllegalVersioningConfigurationException.into()),
    };
    match root.text_of("MfaDelete").map(str::trim) {
        None | Some("Disabled") => {}
        Some("Enabled") => return Err(Failure::not_implemented("MFA delete is not implemented.")),
        Some(_) => return Err(Code::MalformedXML.into()),
    }
    let namespace = call.namespace()?;
    if state == "Suspended" && lock::Configuration::of(&namespace).is_some() {
        let message = "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.";
        return Err(Failure::because(Code::InvalidBucketState, message));
    }
    if !call.parts.objects.keeps_versions(&namespace) {
        return Err(Failure::not_implemented("The storage behind this bucket cannot keep versions."));
    }
    if state == "Suspended" && !call.parts.objects.versions_allow(&namespace, |features| features.suspends) {
        return Err(Failure::not_implemented("The storage behind this bucket cannot suspend versioning."));
    }
    call.parts.namespaces.set_setting(&call.bucket, Namespace::VERSIONING, Some(state)).await?;
    Ok(empty(StatusCode::OK))
}
