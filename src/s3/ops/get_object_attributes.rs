//! GetObjectAttributes.

use sluice_provider::{ObjectInfo, PartNumber};

use crate::objects::{ReadRequest, attribute};
use crate::s3::call::{Answer, Call, document, set, set_version};
use crate::s3::error::{Failure, Result};
use crate::s3::xml::Xml;
use crate::s3::{checksums, conditions, dates, encryption, parts};

const KNOWN: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

pub(crate) async fn call(call: &mut Call) -> Answer {
    let version = call.version()?;
    let wanted = wanted(call)?;
    let most = number(call, "x-amz-max-parts", 1000)?.min(1000);
    let marker = number(call, "x-amz-part-number-marker", 0)?;
    let read = ReadRequest { version, conditions: conditions::read(&call.headers)?, ..ReadRequest::default() };
    let namespace = call.namespace()?;
    let info = match call.parts.objects.head(&namespace, &call.key, &read).await {
        Ok(found) => found.info,
        Err(error) => return Err(call.unread(&namespace, &call.key, error.into()).await),
    };
    call.check_read(&namespace, &info.attributes)?;
    encryption::refuse_on_read(&call.headers)?;
    let customer = encryption::customer_key(&call.headers)?;
    call.parts.objects.check_key(&namespace, &info, customer.as_ref()).await?;

    let wants = |name: &str| wanted.iter().any(|w| w == name);
    let mut xml = Xml::document();
    xml.root("GetObjectAttributesResponse");
    if wants("ETag") {
        // Without quotes, unlike everywhere else.
        xml.text("ETag", info.etag.as_str());
    }
    if wants("Checksum") && checksums::of(&info.attributes).next().is_some() {
        xml.open("Checksum");
        checksums::to_xml(&info.attributes, &mut xml);
        xml.close("Checksum");
    }
    if wants("ObjectParts") {
        write_parts(&mut xml, &info, most, marker);
    }
    if wants("StorageClass") {
        xml.text("StorageClass", info.attributes.get(attribute::STORAGE_CLASS).unwrap_or("STANDARD"));
    }
    if wants("ObjectSize") {
        xml.plain("ObjectSize", info.size);
    }
    xml.close("GetObjectAttributesResponse");
    let mut response = document(xml);
    encryption::to_headers(&info.attributes, customer.as_ref(), response.headers_mut())?;
    set(&mut response, "last-modified", &dates::http(info.modified));
    set_version(response.headers_mut(), &namespace, &info.attributes);
    Ok(response)
}

fn wanted(call: &Call) -> Result<Vec<String>> {
    let name = "x-amz-object-attributes";
    let mut wanted = Vec::new();
    for value in call.headers.get_all(name) {
        let value = value.to_str().map_err(|_| Failure::argument(name, "", "Invalid attribute name specified."))?;
        for attribute in value.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            if !KNOWN.contains(&attribute) {
                return Err(Failure::argument(name, attribute, "Invalid attribute name specified."));
            }
            wanted.push(attribute.to_owned());
        }
    }
    if wanted.is_empty() {
        return Err(Failure::argument(
            name,
            "",
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        ));
    }
    Ok(wanted)
}

fn number(call: &Call, name: &'static str, default: usize) -> Result<usize> {
    match call.header(name)? {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| Failure::argument(name, text, format!("Provided {name} not an integer or within integer range"))),
    }
}

fn write_parts(xml: &mut Xml, info: &ObjectInfo, most: usize, marker: usize) {
    let Some(parts) = parts::of(&info.attributes) else { return };
    xml.open("ObjectParts");
    xml.plain("PartsCount", parts.len());
    // As on AWS, parts are listed only where each has a checksum of its own.
    if parts.iter().any(|p| !p.checksums.is_empty()) {
        let mut rest = parts.iter().filter(|p| usize::from(p.number) > marker);
        let page: Vec<_> = rest.by_ref().take(most).collect();
        xml.plain("PartNumberMarker", marker.min(usize::from(PartNumber::MAX)));
        xml.plain("NextPartNumberMarker", page.last().map_or(0, |p| p.number));
        xml.plain("MaxParts", most);
        xml.plain("IsTruncated", rest.next().is_some());
        for part in page {
            xml.open("Part");
            for (algorithm, value) in &part.checksums {
                xml.text(checksums::element(*algorithm), value);
            }
            xml.plain("PartNumber", part.number);
            xml.plain("Size", part.size);
            xml.close("Part");
        }
    }
    xml.close("ObjectParts");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use sluice_provider::{ETag, Key};

    #[test]
    fn parts_come_in_pages() {
        let attributes = [(attribute::PARTS, "1:5:CRC32=AAAAAA==,2:5:CRC32=AAAAAA==,5:1:CRC32=AAAAAA==")].into_iter().collect();
        let info = ObjectInfo {
            key: Key::new("k").unwrap(),
            size: 11,
            etag: ETag::new("e-3").unwrap(),
            modified: std::time::SystemTime::UNIX_EPOCH,
            attributes,
        };
        let page = |most, marker| {
            let mut xml = Xml::without_declaration();
            write_parts(&mut xml, &info, most, marker);
            xml.finish()
        };
        let first = page(2, 0);
        assert!(first.contains("<PartsCount>3</PartsCount>") && first.contains("<NextPartNumberMarker>2</NextPartNumberMarker>"));
        assert!(first.contains("<IsTruncated>true</IsTruncated>") && !first.contains("<PartNumber>5</PartNumber>"));
        let last = page(2, 2);
        assert!(last.contains("<IsTruncated>false</IsTruncated>") && last.contains("<PartNumber>5</PartNumber><Size>1</Size>"));
    }
}
