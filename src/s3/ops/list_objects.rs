//! ListObjects, the first version.

use sluice_provider::ListEntry;

use crate::s3::acl;
use crate::s3::call::{Answer, Call, document};
use crate::s3::listing::{Listing, from_marker, owners, write_object};

pub(crate) async fn call(call: &mut Call) -> Answer {
    let listing = Listing::read(call)?;
    let namespace = call.namespace()?;
    let marker = call.query.get("marker").unwrap_or_default();
    let page = listing.page(call, from_marker(marker, &listing.prefix, listing.delimiter.as_deref())).await?;
    let people = call.people(owners(&namespace, &page)).await?;

    let mut xml = listing.document(&page);
    xml.root("ListBucketResult");
    xml.text("Name", &call.bucket);
    listing.names.write(&mut xml, "Prefix", &listing.prefix);
    listing.names.write(&mut xml, "Marker", marker);
    // Without a delimiter a client continues after the last key it got.
    if let (Some(_), Some(last)) = (&listing.delimiter, page.entries.last().filter(|_| page.more)) {
        listing.names.write(&mut xml, "NextMarker", last.name());
    }
    xml.plain("MaxKeys", listing.max_keys);
    if let Some(delimiter) = &listing.delimiter {
        listing.names.write(&mut xml, "Delimiter", delimiter);
    }
    listing.names.declare(&mut xml);
    xml.plain("IsTruncated", page.more);
    for entry in &page.entries {
        if let ListEntry::Object(info) = entry {
            xml.open("Contents");
            listing.names.write(&mut xml, "Key", info.key.as_str());
            write_object(&mut xml, info, Some(people.person(acl::object_owner(&namespace, &info.attributes))));
            xml.close("Contents");
        }
    }
    listing.write_prefixes(&mut xml, &page);
    xml.close("ListBucketResult");
    Ok(document(xml))
}
