//! ListMultipartUploads.

use crate::meta::UploadCursor;
use crate::s3::call::{Answer, Call, document, write_owner};
use crate::s3::listing::Names;
use crate::s3::xml::Xml;
use crate::s3::{acl, dates};
use crate::uploads::UploadPage;

pub(crate) async fn call(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    let names = Names { url: call.query.url_encoding()? };
    let most = call.query.page_size("max-uploads")?;
    let prefix = call.query.get("prefix").unwrap_or_default();
    let delimiter = call.query.filled("delimiter");
    let key_marker = call.query.get("key-marker").unwrap_or_default();
    // Without a key it marks nothing.
    let id_marker = call.query.get("upload-id-marker").filter(|_| !key_marker.is_empty()).unwrap_or_default();
    let after = UploadCursor { key: key_marker.to_owned(), upload_id: id_marker.to_owned() };
    let page = match most {
        0 => UploadPage::default(),
        most => call.parts.uploads.list(&namespace, prefix, delimiter, &after, most).await?,
    };

    let shown = page.uploads.iter().flat_map(|u| [u.initiator.as_str(), acl::upload_owner(&namespace, u)]);
    let people = call.people(shown).await?;
    let mut xml = Xml::with_capacity(1024 + page.uploads.len() * 512);
    xml.root("ListMultipartUploadsResult");
    xml.text("Bucket", &call.bucket);
    names.write(&mut xml, "KeyMarker", key_marker);
    xml.text("UploadIdMarker", id_marker);
    if let Some(next) = &page.next {
        names.write(&mut xml, "NextKeyMarker", &next.key);
        xml.text("NextUploadIdMarker", &next.upload_id);
    }
    if !prefix.is_empty() {
        names.write(&mut xml, "Prefix", prefix);
    }
    if let Some(delimiter) = delimiter {
        names.write(&mut xml, "Delimiter", delimiter);
    }
    names.declare(&mut xml);
    xml.plain("MaxUploads", most);
    xml.plain("IsTruncated", page.next.is_some());
    for upload in &page.uploads {
        xml.open("Upload");
        names.write(&mut xml, "Key", &upload.key);
        xml.text("UploadId", &upload.upload_id);
        write_owner(&mut xml, "Initiator", people.person(&upload.initiator));
        write_owner(&mut xml, "Owner", people.person(acl::upload_owner(&namespace, upload)));
        xml.text(
            "StorageClass",
            upload.attributes.get(crate::objects::attribute::STORAGE_CLASS).map_or("STANDARD", String::as_str),
        );
        xml.plain("Initiated", dates::iso(dates::from_millis(upload.created)));
        if !upload.checksum_algorithm.is_empty() {
            xml.text("ChecksumAlgorithm", &upload.checksum_algorithm);
            xml.text("ChecksumType", &upload.checksum_type);
        }
        xml.close("Upload");
    }
    for prefix in &page.prefixes {
        xml.open("CommonPrefixes");
        names.write(&mut xml, "Prefix", prefix);
        xml.close("CommonPrefixes");
    }
    xml.close("ListMultipartUploadsResult");
    Ok(document(xml))
}
