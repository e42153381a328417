//! ListObjectsV2.

use sluice_provider::{ListEntry, ListFrom};

use crate::s3::acl;
use crate::s3::call::{Answer, Call, document};
use crate::s3::listing::{Listing, from_token, owners, token, write_object};

pub(crate) async fn call(call: &mut Call) -> Answer {
    let listing = Listing::read(call)?;
    let namespace = call.namespace()?;
    let start_after = call.query.get("start-after").unwrap_or_default();
    let continued = call.query.get("continuation-token");
    let from = match continued {
        // An empty token is said back, and continues nothing.
        Some(token) if !token.is_empty() => from_token(token)?,
        _ if start_after.is_empty() => ListFrom::Start,
        _ => ListFrom::After(start_after.to_owned()),
    };
    let shows_owners = call.query.get("fetch-owner").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let page = listing.page(call, from).await?;
    let people = if shows_owners { Some(call.people(owners(&namespace, &page)).await?) } else { None };

    let mut xml = listing.document(&page);
    xml.root("ListBucketResult");
    xml.text("Name", &call.bucket);
    listing.names.write(&mut xml, "Prefix", &listing.prefix);
    if let Some(token) = continued {
        xml.text("ContinuationToken", token);
    }
    if let Some(last) = page.entries.last().filter(|_| page.more) {
        xml.text("NextContinuationToken", &token(last));
    }
    if !start_after.is_empty() {
        listing.names.write(&mut xml, "StartAfter", start_after);
    }
    xml.plain("KeyCount", page.entries.len());
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
            let owner = people.as_ref().map(|p| p.person(acl::object_owner(&namespace, &info.attributes)));
            write_object(&mut xml, info, owner);
            xml.close("Contents");
        }
    }
    listing.write_prefixes(&mut xml, &page);
    xml.close("ListBucketResult");
    Ok(document(xml))
}
