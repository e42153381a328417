//! ListParts.

use crate::s3::call::{Answer, Call, document, write_owner};
use crate::s3::error::Failure;
use crate::s3::xml::Xml;
use crate::s3::{acl, checksums, dates};
use crate::transfer::Algorithm;

pub(crate) async fn call(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    let id = call.query.get("uploadId").unwrap_or_default();
    let most = call.query.page_size("max-parts")?;
    let marker = match call.query.filled("part-number-marker") {
        None => 0,
        Some(text) => match text.parse::<u32>() {
            Ok(number) => u16::try_from(number).unwrap_or(u16::MAX),
            Err(_) => {
                return Err(Failure::argument(
                    "part-number-marker",
                    text,
                    "Provided part-number-marker not an integer or within integer range",
                ));
            }
        },
    };
    let (upload, parts, more) = call.parts.uploads.parts(&namespace, &call.key, id, marker, most.max(1)).await?;
    call.check_upload(&namespace, &upload)?;
    let (parts, more) = if most == 0 { (Vec::new(), false) } else { (parts, more) };

    let owner = acl::upload_owner(&namespace, &upload);
    let people = call.people([upload.initiator.as_str(), owner].into_iter()).await?;
    let mut xml = Xml::with_capacity(1024 + parts.len() * 200);
    xml.root("ListPartsResult");
    xml.text("Bucket", &call.bucket);
    xml.text("Key", &call.key);
    xml.text("UploadId", id);
    write_owner(&mut xml, "Initiator", people.person(&upload.initiator));
    write_owner(&mut xml, "Owner", people.person(owner));
    xml.text("StorageClass", upload.attributes.get(crate::objects::attribute::STORAGE_CLASS).map_or("STANDARD", String::as_str));
    xml.plain("PartNumberMarker", marker);
    xml.plain("NextPartNumberMarker", parts.last().map_or(0, |p| p.number));
    xml.plain("MaxParts", most);
    xml.plain("IsTruncated", more);
    if !upload.checksum_algorithm.is_empty() {
        xml.text("ChecksumAlgorithm", &upload.checksum_algorithm);
        xml.text("ChecksumType", &upload.checksum_type);
    }
    for part in &parts {
        xml.open("Part");
        xml.plain("PartNumber", part.number);
        xml.plain("LastModified", dates::iso(dates::from_millis(part.modified)));
        xml.etag(&part.etag);
        xml.plain("Size", part.size);
        for algorithm in Algorithm::ALL {
            if let Some(value) = part.checksums.get(algorithm.attribute()) {
                xml.text(checksums::element(algorithm), value);
            }
        }
        xml.close("Part");
    }
    xml.close("ListPartsResult");
    Ok(document(xml))
}
