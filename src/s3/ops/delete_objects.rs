//! DeleteObjects.

use sluice_provider::Key;

use crate::objects::{Removal, Removed};
use crate::s3::call::{self, Answer, Call, document};
use crate::s3::conditions;
use crate::s3::error::{Code, Failure, Result};
use crate::s3::xml::{Element, Xml};

/// The most keys of a request (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>).
const MAX_KEYS: usize = 1000;

/// A key of the request, and what came of it.
struct Named {
    key: String,
    version: Option<String>,
    result: Result<Removed>,
}

pub(crate) async fn call(call: &mut Call) -> Answer {
    let protected = call.headers.contains_key("content-md5")
        || call.headers.contains_key("x-amz-trailer")
        || call.headers.keys().any(|n| crate::transfer::Algorithm::from_header(n.as_str()).is_some());
    if !protected {
        return Err(Failure::request("Missing required header for this request: Content-MD5"));
    }
    let root = call.xml("Delete").await?;
    let quiet = match root.text_of("Quiet").unwrap_or_default().trim() {
        "" | "0" => false,
        "1" => true,
        // Python clients say True.
        text if text.eq_ignore_ascii_case("true") => true,
        text if text.eq_ignore_ascii_case("false") => false,
        _ => return Err(Code::MalformedXML.into()),
    };
    let mut named = Vec::new();
    let mut keys = Vec::new();
    for object in root.all("Object") {
        let (mut name, key) = read(object, || call.own_names())?;
        if let Some(key) = key {
            match call.check_policy(&name.key, name.version.is_some(), None).await {
                Ok(()) => keys.push((named.len(), key)),
                Err(failure) => name.result = Err(failure),
            }
        }
        named.push(name);
        if named.len() > MAX_KEYS {
            return Err(Code::MalformedXML.into());
        }
    }
    if named.is_empty() {
        return Err(Code::MalformedXML.into());
    }
    let (places, keys): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let namespace = call.namespace()?;
    let bypass = call.bypasses_governance(&namespace)?;
    let mut outcomes = call.parts.objects.remove(&namespace, keys, bypass).await.into_iter();
    for place in places {
        // An outcome that is missing is not a deletion.
        let outcome = outcomes.next().map_or_else(|| Err(Code::InternalError.into()), |o| o.map_err(Failure::from));
        if let Some(name) = named.get_mut(place) {
            name.result = outcome;
        }
    }
    Ok(document(told(&named, quiet)))
}

/// Reads an `<Object>`: what to report, and what to delete if that can be. `own_names` as for [`call::version`].
fn read(object: &Element, own_names: impl FnOnce() -> bool) -> Result<(Named, Option<Removal>)> {
    // A key that is not there must never be taken for one that is, nor one of two for what is meant.
    if object.all("Key").nth(1).is_some() {
        return Err(Code::MalformedXML.into());
    }
    let key = object.text_of("Key").filter(|k| !k.is_empty()).ok_or(Code::MalformedXML)?.to_owned();
    let version = object.text_of("VersionId").map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
    let delete = || -> Result<Removal> {
        let version = version.as_deref().map(|version| call::version(&key, version, own_names)).transpose()?;
        let when = conditions::delete(object.text_of("ETag"), object.text_of("LastModifiedTime"), object.text_of("Size"))?;
        let key = Key::new(&key).map_err(|_| Code::KeyTooLongError)?;
        Ok(Removal { key, version, when })
    };
    match delete() {
        Ok(delete) => Ok((Named { key, version, result: Ok(Removed::default()) }, Some(delete))),
        Err(failure) => Ok((Named { key, version, result: Err(failure) }, None)),
    }
}

fn told(named: &[Named], quiet: bool) -> Xml {
    let mut xml = Xml::with_capacity(256 + named.len() * 96);
    xml.root("DeleteResult");
    for Named { key, version, result } in named {
        match result {
            Ok(_) if quiet => {}
            Ok(removed) => {
                xml.open("Deleted");
                xml.text("Key", key);
                if let Some(version) = version {
                    xml.text("VersionId", version);
                }
                if let Some(marker) = removed.version.filter(|_| removed.marker) {
                    xml.plain("DeleteMarker", true);
                    xml.text("DeleteMarkerVersionId", &marker.to_string());
                }
                xml.close("Deleted");
            }
            Err(failure) => {
                if let Some(cause) = failure.cause().filter(|_| failure.code().status().is_server_error()) {
                    tracing::error!(operation = "DeleteObjects", error = %cause, "a key was not deleted");
                }
                xml.open("Error");
                xml.text("Key", key);
                if let Some(version) = version {
                    xml.text("VersionId", version);
                }
                xml.text("Code", failure.code().name());
                xml.text("Message", failure.message());
                xml.close("Error");
            }
        }
    }
    xml.close("DeleteResult");
    xml
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn object(xml: &str) -> Result<(Named, Option<Removal>)> {
        read(&crate::s3::xml::parse(xml.as_bytes(), "Object").unwrap(), || true)
    }

    #[test]
    fn an_empty_key_is_never_acted_upon() {
        for bad in [
            "<Object/>",
            "<Object><Key/></Object>",
            "<Object><Key></Key></Object>",
            "<Object><Key><![CDATA[]]></Key></Object>",
            "<Object><Key>a</Key><Key>b</Key></Object>",
        ] {
            assert_eq!(object(bad).err().unwrap().code(), Code::MalformedXML, "{bad}");
        }
        let (named, key) = object("<Object><Key><![CDATA[a]]></Key></Object>").unwrap();
        assert_eq!((named.key.as_str(), key.unwrap().key.as_str()), ("a", "a"));
    }

    #[test]
    fn what_cannot_be_deleted_is_reported_under_its_key() {
        let (named, key) = object("<Object><Key>a</Key><VersionId>v1</VersionId></Object>").unwrap();
        assert!(key.is_none() && named.result.is_err());
        let long = format!("<Object><Key>{}</Key></Object>", "k".repeat(1025));
        assert_eq!(object(&long).unwrap().0.result.unwrap_err().code(), Code::KeyTooLongError);
        assert!(object("<Object><Key>a</Key><VersionId>null</VersionId></Object>").unwrap().1.is_some());
    }

    #[test]
    fn quiet_reports_errors_only() {
        let named = [
            Named { key: "a".into(), version: None, result: Ok(Removed::default()) },
            Named { key: "b".into(), version: None, result: Err(Code::AccessDenied.into()) },
        ];
        let text = told(&named, true).finish();
        assert!(!text.contains("<Deleted>") && text.contains("<Error><Key>b</Key><Code>AccessDenied</Code>"));
        assert!(told(&named, false).finish().contains("<Deleted><Key>a</Key></Deleted>"));
    }
}
