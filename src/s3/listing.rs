//! What the listings share: markers, tokens, the encoding of names.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sluice_provider::{ListEntry, ListFrom, ListPage, ListQuery, ObjectInfo};

use super::call::{Call, write_owner};
use super::error::{Failure, Result};
use super::xml::Xml;
use super::{acl, checksums};
use crate::namespaces::Namespace;
use crate::objects::attribute;

/// What `encoding-type=url` leaves alone.
const UNENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/');

/// How names are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// Whether `encoding-type=url` was asked for.
    pub(crate) url: bool,
}

impl Names {
    /// Writes an element with a name in it.
    pub(crate) fn write(self, xml: &mut Xml, element: &str, name: &str) {
        if self.url {
            xml.plain(element, utf8_percent_encode(name, UNENCODED));
        } else {
            xml.text(element, name);
        }
    }

    /// Writes `<EncodingType>` if names are encoded.
    pub(crate) fn declare(self, xml: &mut Xml) {
        if self.url {
            xml.text("EncodingType", "url");
        }
    }
}

/// A token for the page after an entry. It says whether the entry was a key or a common prefix, and holds for ever.
pub(crate) fn token(entry: &ListEntry) -> String {
    let kind = match entry {
        ListEntry::Object(_) => 'k',
        ListEntry::Prefix(_) => 'p',
    };
    BASE64.encode(format!("{kind}{}", entry.name()))
}

/// Where a token points.
///
/// # Errors
/// `InvalidArgument` for one that we did not make.
pub(crate) fn from_token(token: &str) -> Result<ListFrom> {
    let bad = || Failure::argument("continuation-token", token, "The continuation token provided is incorrect");
    let bytes = BASE64.decode(token).map_err(|_| bad())?;
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    match (text.get(..1), text.get(1..)) {
        (Some("k"), Some(key)) => Ok(ListFrom::After(key.to_owned())),
        (Some("p"), Some(prefix)) => Ok(ListFrom::AfterPrefix(prefix.to_owned())),
        _ => Err(bad()),
    }
}

/// Where a marker points. One that is itself a common prefix of the listing, as `NextMarker` may be, stands for all beneath it.
pub(crate) fn from_marker(marker: &str, prefix: &str, delimiter: Option<&str>) -> ListFrom {
    if marker.is_empty() {
        return ListFrom::Start;
    }
    let rolled_up = delimiter.is_some_and(|d| {
        let rest = marker.strip_prefix(prefix).unwrap_or_default();
        rest.find(d).is_some_and(|at| at + d.len() == rest.len())
    });
    if rolled_up { ListFrom::AfterPrefix(marker.to_owned()) } else { ListFrom::After(marker.to_owned()) }
}

/// What a listing of objects is about.
pub(crate) struct Listing {
    /// `prefix`.
    pub(crate) prefix: String,
    /// `delimiter`, if it is not empty.
    pub(crate) delimiter: Option<String>,
    /// `max-keys`, at most 1000.
    pub(crate) max_keys: usize,
    /// How names are written.
    pub(crate) names: Names,
}

impl Listing {
    /// Reads the parameters that all listings of objects share.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn read(call: &Call) -> Result<Self> {
        Ok(Self {
            prefix: call.query.get("prefix").unwrap_or_default().to_owned(),
            delimiter: call.query.filled("delimiter").map(str::to_owned),
            max_keys: call.query.page_size("max-keys")?,
            names: Names { url: call.query.url_encoding()? },
        })
    }

    /// Fetches the page. A page of nothing has nothing after it.
    ///
    /// # Errors
    /// The layer's own.
    pub(crate) async fn page(&self, call: &Call, from: ListFrom) -> Result<ListPage> {
        if self.max_keys == 0 {
            return Ok(ListPage::default());
        }
        let query = ListQuery { prefix: self.prefix.clone(), delimiter: self.delimiter.clone(), from, limit: self.max_keys };
        Ok(call.parts.objects.list(&*call.namespace()?, &query).await?)
    }

    /// A document large enough for the page.
    pub(crate) fn document(&self, page: &ListPage) -> Xml {
        Xml::with_capacity(1024 + page.entries.len() * 320)
    }

    /// Writes `<CommonPrefixes>`.
    pub(crate) fn write_prefixes(&self, xml: &mut Xml, page: &ListPage) {
        for entry in &page.entries {
            if let ListEntry::Prefix(prefix) = entry {
                xml.open("CommonPrefixes");
                self.names.write(xml, "Prefix", prefix);
                xml.close("CommonPrefixes");
            }
        }
    }
}

/// The owners of the objects of a page.
pub(crate) fn owners<'a>(namespace: &'a Namespace, page: &'a ListPage) -> impl Iterator<Item = &'a str> + Send {
    page.entries.iter().filter_map(|entry| match entry {
        ListEntry::Object(info) => Some(acl::object_owner(namespace, &info.attributes)),
        ListEntry::Prefix(_) => None,
    })
}

/// Writes what `<Contents>` and `<Version>` have in common.
pub(crate) fn write_object(xml: &mut Xml, info: &ObjectInfo, owner: Option<(&str, Option<&str>)>) {
    xml.time("LastModified", info.modified);
    xml.etag(info.etag.as_str());
    let mut any = false;
    for (algorithm, _) in checksums::of(&info.attributes) {
        xml.text("ChecksumAlgorithm", algorithm.name());
        any = true;
    }
    if any {
        xml.text("ChecksumType", checksums::type_of(&info.attributes).name());
    }
    xml.number("Size", info.size);
    if let Some(owner) = owner {
        write_owner(xml, "Owner", owner);
    }
    match info.attributes.get(attribute::STORAGE_CLASS) {
        Some(class) => xml.text("StorageClass", class),
        None => xml.fixed("<StorageClass>STANDARD</StorageClass>"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn names_are_encoded_as_aws_does() {
        let write = |url, name| {
            let mut xml = Xml::without_declaration();
            Names { url }.write(&mut xml, "Key", name);
            xml.finish()
        };
        assert_eq!(write(true, "a b/c+d&\u{1}é~*"), "<Key>a%20b/c%2Bd%26%01%C3%A9%7E*</Key>");
        assert_eq!(write(false, "a&b"), "<Key>a&amp;b</Key>");
    }

    #[test]
    fn tokens_point_behind_what_they_were_made_of() {
        assert_eq!(from_token(&token(&ListEntry::Prefix("a/".into()))).unwrap(), ListFrom::AfterPrefix("a/".into()));
        assert_eq!(from_token(&BASE64.encode("ka b")).unwrap(), ListFrom::After("a b".into()));
        assert!(from_token("").is_err() && from_token("!").is_err() && from_token(&BASE64.encode("x")).is_err());
    }

    #[test]
    fn a_marker_may_be_a_common_prefix() {
        assert_eq!(from_marker("", "", Some("/")), ListFrom::Start);
        assert_eq!(from_marker("a/", "", Some("/")), ListFrom::AfterPrefix("a/".into()));
        assert_eq!(from_marker("a/b", "", Some("/")), ListFrom::After("a/b".into()));
        assert_eq!(from_marker("a/b/", "a/", Some("/")), ListFrom::AfterPrefix("a/b/".into()));
        assert_eq!(from_marker("a/", "", None), ListFrom::After("a/".into()));
        assert_eq!(from_marker("a/b/", "", Some("/")), ListFrom::After("a/b/".into()));
    }
}
