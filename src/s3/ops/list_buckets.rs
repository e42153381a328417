//! ListBuckets.

use crate::s3::call::{Answer, Call, document, write_owner};
use crate::s3::dates;
use crate::s3::error::{Failure, Result};
use crate::s3::listing::{from_token, token};
use crate::s3::xml::Xml;
use sluice_provider::{ListEntry, ListFrom};

/// The most buckets of a page, and of an answer to a client that does not page
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html>).
const MAX_BUCKETS: usize = 10_000;

pub(crate) async fn call(call: &mut Call) -> Answer {
    let most = most(call)?;
    let prefix = call.query.get("prefix").unwrap_or_default();
    let after = match call.query.filled("continuation-token").map(from_token).transpose()? {
        Some(ListFrom::AfterPrefix(name) | ListFrom::After(name) | ListFrom::AfterVersion(name, _)) => name,
        Some(ListFrom::Start) | None => String::new(),
    };
    let mut buckets = call.parts.namespaces.list(Some(&call.identity.id), prefix, &after, most + 1).await?;
    let more = buckets.len() > most;
    buckets.truncate(most);

    let mut xml = Xml::with_capacity(512 + buckets.len() * 160);
    xml.root("ListAllMyBucketsResult");
    write_owner(&mut xml, "Owner", (&call.identity.id, Some(&call.identity.name)));
    xml.open("Buckets");
    for bucket in &buckets {
        xml.open("Bucket");
        xml.text("Name", &bucket.name);
        xml.plain("CreationDate", dates::iso(dates::from_millis(bucket.created)));
        let region = if bucket.location.is_empty() { &call.parts.settings.region } else { &bucket.location };
        xml.text("BucketRegion", region);
        xml.close("Bucket");
    }
    xml.close("Buckets");
    if let Some(last) = buckets.last().filter(|_| more) {
        xml.text("ContinuationToken", &token(&ListEntry::Prefix(last.name.clone())));
    }
    if !prefix.is_empty() {
        xml.text("Prefix", prefix);
    }
    xml.close("ListAllMyBucketsResult");
    Ok(document(xml))
}

fn most(call: &Call) -> Result<usize> {
    let Some(text) = call.query.filled("max-buckets") else { return Ok(MAX_BUCKETS) };
    match text.parse::<usize>() {
        Ok(n) if (1..=MAX_BUCKETS).contains(&n) => Ok(n),
        _ => Err(Failure::argument(
            "max-buckets",
            text,
            format!("Argument max-buckets must be an integer between 1 and {MAX_BUCKETS}"),
        )),
    }
}
