//! The documents that are answered.

use std::collections::BTreeMap;

use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::Body;

use crate::meta::{EntityKind, EntityRecord, PolicyRef};
use crate::s3::dates;
use crate::s3::xml::Xml;

/// What stands for itself in a document that is shown encoded (RFC 3986).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub(super) fn namespace(service: &str) -> &'static str {
    match service {
        "sts" => "https://sts.amazonaws.com/doc/2011-06-15/",
        _ => "https://iam.amazonaws.com/doc/2010-05-08/",
    }
}

/// The answer of an action around what it has to say; `None` for an action that has nothing to.
pub(super) fn document(service: &str, action: &str, inner: Option<Xml>, request_id: &str) -> Response<Body> {
    let (response, result) = (format!("{action}Response"), format!("{action}Result"));
    let mut text = Xml::without_declaration();
    text.open_with(&response, &format!("xmlns=\"{}\"", namespace(service)));
    let mut text = text.finish();
    if let Some(inner) = inner {
        text.push_str(&format!("<{result}>{}</{result}>", inner.finish()));
    }
    let mut end = Xml::without_declaration();
    end.open("ResponseMetadata");
    end.text("RequestId", request_id);
    end.close("ResponseMetadata");
    end.close(&response);
    text.push_str(&end.finish());
    let mut answer = Response::new(Body::from(text));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    answer
}

/// A page of a list: the members, and where to go on.
pub(super) fn list<T>(xml: &mut Xml, name: &str, page: &(Vec<T>, Option<String>), mut each: impl FnMut(&mut Xml, &T)) {
    xml.open(name);
    for item in &page.0 {
        xml.open("member");
        each(xml, item);
        xml.close("member");
    }
    xml.close(name);
    xml.plain("IsTruncated", page.1.is_some());
    if let Some(marker) = &page.1 {
        xml.text("Marker", marker);
    }
}

pub(super) fn date(xml: &mut Xml, name: &str, millis: i64) {
    xml.text(name, &dates::iso(dates::from_millis(millis)));
}

/// A policy, as it is shown.
pub(super) fn encoded(document: &str) -> String {
    utf8_percent_encode(document, ENCODED).to_string()
}

/// The kind as it stands in the names of elements.
pub(super) fn word(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::User => "User",
        EntityKind::Group => "Group",
        EntityKind::Role => "Role",
    }
}

/// What an entity's element holds.
pub(super) fn entity(xml: &mut Xml, number: &str, entity: &EntityRecord) {
    let word = word(entity.kind);
    xml.text("Path", &entity.path);
    xml.text(&format!("{word}Name"), &entity.name);
    xml.text(&format!("{word}Id"), &entity.id);
    xml.text("Arn", &super::names::arn(number, entity));
    date(xml, "CreateDate", entity.created);
    if entity.kind == EntityKind::Role {
        xml.text("AssumeRolePolicyDocument", &encoded(entity.trust.as_deref().unwrap_or_default()));
        if !entity.description.is_empty() {
            xml.text("Description", &entity.description);
        }
        xml.plain("MaxSessionDuration", entity.max_session_secs);
    }
    if let Some(PolicyRef { arn, .. }) = &entity.boundary {
        xml.open("PermissionsBoundary");
        xml.text("PermissionsBoundaryType", "Policy");
        xml.text("PermissionsBoundaryArn", arn);
        xml.close("PermissionsBoundary");
    }
    if !entity.tags.is_empty() {
        tags(xml, &entity.tags);
    }
}

pub(super) fn tags(xml: &mut Xml, tags: &BTreeMap<String, String>) {
    xml.open("Tags");
    for (name, value) in tags {
        xml.open("member");
        xml.text("Key", name);
        xml.text("Value", value);
        xml.close("member");
    }
    xml.close("Tags");
}
