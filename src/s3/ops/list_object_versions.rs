//! ListObjectVersions, of buckets that have no versions: every object is its own only one, `null`.

use sluice_provider::{ListEntry, ListFrom};

use crate::s3::acl;
use crate::s3::call::{Answer, Call, document};
use crate::s3::error::Failure;
use crate::s3::listing::{Listing, from_marker, owners, write_object};

pub(crate) async fn call(call: &mut Call) -> Answer {
    let listing = Listing::read(call)?;
    let namespace = call.namespace()?;
    let key_marker = call.query.get("key-marker").unwrap_or_default();
    let version_marker = call.query.get("version-id-marker").unwrap_or_default();
    if key_marker.is_empty() && !version_marker.is_empty() {
        return Err(Failure::argument(
            "version-id-marker",
            version_marker,
            "A version-id marker cannot be specified without a key marker.",
        ));
    }
    let from = match key_marker {
        "" => ListFrom::Start,
        marker => from_marker(marker, &listing.prefix, listing.delimiter.as_deref()),
    };
    let page = listing.page(call, from).await?;
    let people = call.people(owners(&namespace, &page)).await?;

    let mut xml = listing.document(&page);
    xml.root("ListVersionsResult");
    xml.text("Name", &call.bucket);
    listing.names.write(&mut xml, "Prefix", &listing.prefix);
    listing.names.write(&mut xml, "KeyMarker", key_marker);
    xml.text("VersionIdMarker", version_marker);
    if let Some(last) = page.entries.last().filter(|_| page.more) {
        listing.names.write(&mut xml, "NextKeyMarker", last.name());
        if matches!(last, ListEntry::Object(_)) {
            xml.text("NextVersionIdMarker", "null");
        }
    }
    xml.plain("MaxKeys", listing.max_keys);
    if let Some(delimiter) = &listing.delimiter {
        listing.names.write(&mut xml, "Delimiter", delimiter);
    }
    listing.names.declare(&mut xml);
    xml.plain("IsTruncated", page.more);
    for entry in &page.entries {
        if let ListEntry::Object(info) = entry {
            xml.open("Version");
            listing.names.write(&mut xml, "Key", info.key.as_str());
            xml.text("VersionId", "null");
            xml.plain("IsLatest", true);
            write_object(&mut xml, info, Some(people.person(acl::object_owner(&namespace, &info.attributes))));
            xml.close("Version");
        }
    }
    listing.write_prefixes(&mut xml, &page);
    xml.close("ListVersionsResult");
    Ok(document(xml))
}
