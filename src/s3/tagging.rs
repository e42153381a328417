//! Tags: as XML, as a header, and as they are kept (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::error::{Code, Failure, Result};
use super::xml::{Element, Xml};
pub(crate) use crate::objects::attribute::parse_tags as from_attribute;

/// The most tags on an object.
pub(crate) const MAX_OBJECT_TAGS: usize = 10;
/// The most tags on a bucket.
pub(crate) const MAX_BUCKET_TAGS: usize = 50;

pub(crate) const KEPT_AS_IS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Keys and values.
pub(crate) type Tags = Vec<(String, String)>;

/// Tags are a set: they are kept and shown in the order of their keys.
fn checked(mut tags: Tags, most: usize) -> Result<Tags> {
    let invalid = |message: &'static str| Failure::because(Code::InvalidTag, message);
    if tags.len() > most {
        return Err(if most == MAX_OBJECT_TAGS {
            Failure::because(Code::InvalidTag, format!("Object tags cannot be greater than {most}"))
        } else {
            Failure::because(Code::InvalidTag, format!("Bucket tag count cannot be greater than {most}"))
        });
    }
    for (at, (name, value)) in tags.iter().enumerate() {
        // Counted in UTF-16 units, as AWS does.
        if name.is_empty() || name.encode_utf16().count() > 128 {
            return Err(invalid("The TagKey you have provided is invalid").field("TagKey", name.clone()));
        }
        if value.encode_utf16().count() > 256 {
            return Err(invalid("The TagValue you have provided is invalid").field("TagKey", name.clone()));
        }
        let sound = |c: char| c.is_alphanumeric() || c.is_whitespace() || "+-=._:/@".contains(c);
        if !name.chars().all(sound) {
            return Err(invalid("The TagKey you have provided is invalid").field("TagKey", name.clone()));
        }
        if !value.chars().all(sound) {
            return Err(invalid("The TagValue you have provided is invalid").field("TagKey", name.clone()));
        }
        if name.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("aws:")) {
            return Err(invalid("System tags cannot be added/updated by requester").field("TagKey", name.clone()));
        }
        if tags.iter().take(at).any(|(other, _)| other == name) {
            return Err(invalid("Cannot provide multiple Tags with the same key").field("TagKey", name.clone()));
        }
    }
    tags.sort();
    Ok(tags)
}

/// Reads `x-amz-tagging`: `name=value&…`, URL-encoded.
///
/// # Errors
/// `InvalidTag`, `InvalidArgument`.
pub(crate) fn from_header(text: &str) -> Result<Tags> {
    let bad = || {
        Failure::argument(
            "x-amz-tagging",
            text,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.",
        )
    };
    let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8().map(String::from).map_err(|_| bad());
    let mut tags = Tags::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        if tags.iter().any(|(other, _)| *other == name) {
            return Err(bad());
        }
        tags.push((name, decode(value)?));
    }
    checked(tags, MAX_OBJECT_TAGS)
}

/// Reads a `<Tagging>` document.
///
/// # Errors
/// `MalformedXML`, `InvalidTag`.
pub(crate) fn from_xml(document: &Element, most: usize) -> Result<Tags> {
    let set = document.child("TagSet").ok_or(Code::MalformedXML)?;
    let mut tags = Tags::new();
    for tag in &set.children {
        let (Some(name), Some(value), "Tag") = (tag.text_of("Key"), tag.text_of("Value"), tag.name.as_str()) else {
            return Err(Code::MalformedXML.into());
        };
        tags.push((name.to_owned(), value.to_owned()));
    }
    checked(tags, most)
}

/// As tags are kept in an attribute.
pub(crate) fn to_attribute(tags: &Tags) -> String {
    let encode = |t| utf8_percent_encode(t, KEPT_AS_IS).to_string();
    tags.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect::<Vec<_>>().join("&")
}

/// The `<Tagging>` document.
pub(crate) fn to_xml(tags: &Tags) -> Xml {
    let mut xml = Xml::document();
    xml.root("Tagging");
    xml.open("TagSet");
    for (name, value) in tags {
        xml.open("Tag");
        xml.text("Key", name);
        xml.text("Value", value);
        xml.close("Tag");
    }
    xml.close("TagSet");
    xml.close("Tagging");
    xml
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn tags_go_round() {
        let tags = from_header("empty&b%20c=d%2Fe+f&a=1").unwrap();
        assert_eq!(tags, [("a".into(), "1".into()), ("b c".into(), "d/e f".into()), ("empty".into(), String::new())]);
        assert_eq!(from_attribute(&to_attribute(&tags)), tags);
        assert!(from_header("").unwrap().is_empty());
    }

    #[test]
    fn tags_are_checked_as_aws_does() {
        let code = |r: Result<Tags>| r.unwrap_err().code();
        let many: Vec<_> = (0..11).map(|i| format!("{i}=x")).collect();
        assert_eq!(code(from_header(&many.join("&"))), Code::InvalidTag);
        assert_eq!(code(from_header(&format!("{}=x", "k".repeat(129)))), Code::InvalidTag);
        assert_eq!(code(from_header(&format!("k={}", "v".repeat(257)))), Code::InvalidTag);
        assert_eq!(code(from_header("aws:x=1")), Code::InvalidTag);
        assert_eq!(code(from_header("a=1&a=2")), Code::InvalidArgument);
        assert_eq!(code(from_header("a=%3C")), Code::InvalidTag);
        let doc = |x: &str| crate::s3::xml::parse(x.as_bytes(), "Tagging").unwrap();
        let twice = doc("<Tagging><TagSet><Tag><Key>a</Key><Value/></Tag><Tag><Key>a</Key><Value/></Tag></TagSet></Tagging>");
        assert_eq!(code(from_xml(&twice, 10)), Code::InvalidTag);
        assert_eq!(code(from_xml(&doc("<Tagging/>"), 10)), Code::MalformedXML);
        assert_eq!(code(from_xml(&doc("<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>"), 10)), Code::MalformedXML);
    }
}
