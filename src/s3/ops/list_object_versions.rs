//! ListObjectVersions. In a bucket without versions every object is its own only one, `null`.

use sluice_provider::{ListEntry, ListFrom, ListPage, ListQuery, ObjectInfo, is_marker, version_of};

use crate::namespaces::Namespace;
use crate::s3::acl;
use crate::s3::acl::People;
use crate::s3::call::{Answer, Call, document, write_owner};
use crate::s3::dates;
use crate::s3::error::{Failure, Result};
use crate::s3::listing::{Listing, from_marker, owners, write_object};
use crate::s3::xml::Xml;

pub(crate) async fn call(call: &mut Call) -> Answer {
    let listing = Listing::read(call)?;
    let namespace = call.namespace()?;
    let key_marker = call.query.get("key-marker").unwrap_or_default();
    let version_marker = call.query.get("version-id-marker").unwrap_or_default();
    let from = from((call, &namespace), &listing, key_marker, version_marker)?;
    // A key whose newer versions were on the page before.
    let begun = match &from {
        ListFrom::AfterVersion(key, _) => Some(key.clone()),
        _ => None,
    };
    let page = if listing.max_keys == 0 {
        ListPage::default()
    } else {
        let (prefix, delimiter) = (listing.prefix.clone(), listing.delimiter.clone());
        let query = ListQuery { prefix, delimiter, from, limit: listing.max_keys };
        call.parts.objects.list_versions(&namespace, &query).await?
    };
    let people = call.people(owners(&namespace, &page)).await?;

    let mut xml = listing.document(&page);
    xml.root("ListVersionsResult");
    xml.text("Name", &call.bucket);
    listing.names.write(&mut xml, "Prefix", &listing.prefix);
    listing.names.write(&mut xml, "KeyMarker", key_marker);
    xml.text("VersionIdMarker", version_marker);
    if let Some(last) = page.entries.last().filter(|_| page.more) {
        listing.names.write(&mut xml, "NextKeyMarker", last.name());
        if let ListEntry::Object(info) = last {
            xml.text("NextVersionIdMarker", &version_of(&info.attributes).to_string());
        }
    }
    xml.plain("MaxKeys", listing.max_keys);
    if let Some(delimiter) = &listing.delimiter {
        listing.names.write(&mut xml, "Delimiter", delimiter);
    }
    listing.names.declare(&mut xml);
    xml.plain("IsTruncated", page.more);
    let mut before = begun.as_deref();
    for entry in &page.entries {
        if let ListEntry::Object(info) = entry {
            let latest = before != Some(info.key.as_str());
            before = Some(info.key.as_str());
            let owner = acl::object_owner(&namespace, &info.attributes);
            write_version(&mut xml, &listing, info, latest, (&people, owner));
        }
    }
    listing.write_prefixes(&mut xml, &page);
    xml.close("ListVersionsResult");
    Ok(document(xml))
}

/// Where the page begins.
fn from((call, namespace): (&Call, &Namespace), listing: &Listing, key_marker: &str, version_marker: &str) -> Result<ListFrom> {
    match (key_marker, version_marker) {
        ("", "") => Ok(ListFrom::Start),
        ("", version) => {
            Err(Failure::argument("version-id-marker", version, "A version-id marker cannot be specified without a key marker."))
        }
        (key, "") => Ok(from_marker(key, &listing.prefix, listing.delimiter.as_deref())),
        (key, version) => {
            let bad = |_| Failure::argument("version-id-marker", version, "Invalid version id specified");
            Ok(ListFrom::AfterVersion(key.to_owned(), call.version_in(namespace, &call.key, version).map_err(bad)?))
        }
    }
}

fn write_version(xml: &mut Xml, listing: &Listing, info: &ObjectInfo, latest: bool, (people, owner): (&People, &str)) {
    let element = if is_marker(info) { "DeleteMarker" } else { "Version" };
    xml.open(element);
    listing.names.write(xml, "Key", info.key.as_str());
    xml.text("VersionId", &version_of(&info.attributes).to_string());
    xml.plain("IsLatest", latest);
    if is_marker(info) {
        xml.plain("LastModified", dates::iso(info.modified));
        write_owner(xml, "Owner", people.person(owner));
    } else {
        write_object(xml, info, Some(people.person(owner)));
    }
    xml.close(element);
}
