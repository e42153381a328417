//! Listing versions: page by page in the remote's order, each begun where the last one ended.

use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use sluice_provider::{
    Attributes, ETag, Error, ErrorKind, Key, ListEntry, ListFrom, ListPage, ListQuery, MAX_KEY_BYTES, ObjectInfo, Result,
    VersionId,
};

use crate::list::{before, end_of};
use crate::provider::{ABREAST, Inner};
use crate::remote::{HIDDEN, Remote, name_version, timestamp, to_seconds, version_id};
use crate::request::Call;
use crate::versions::marker;

/// The most that S3 lists at a time.
const PAGE: usize = 1000;

/// `ListVersionsResult`. Versions and markers lie among each other: their order is that of the elements.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "$value", default)]
    elements: Vec<Element>,
}

#[derive(Debug, Deserialize)]
enum Element {
    IsTruncated(String),
    EncodingType(String),
    Version(Line),
    DeleteMarker(Line),
    CommonPrefixes(Rolled),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "VersionId")]
    version: String,
    #[serde(rename = "LastModified")]
    modified: String,
    #[serde(rename = "ETag", default)]
    etag: Option<String>,
    #[serde(rename = "Size", default)]
    size: u64,
}

#[derive(Debug, Deserialize)]
struct Rolled {
    #[serde(rename = "Prefix")]
    prefix: String,
}

/// A version as the remote lists it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) version: VersionId,
    pub(crate) marker: bool,
    pub(crate) modified: SystemTime,
    size: u64,
    /// None of a marker.
    etag: Option<ETag>,
}

/// Versions of one name, from the newest to the oldest.
#[derive(Debug)]
pub(crate) struct VersionsOf {
    pub(crate) entries: Vec<Told>,
    /// Whether there may be others.
    pub(crate) more: bool,
}

/// A line of a page: a version of a name of the remote, or names that begin so.
struct Entry {
    name: String,
    version: Option<Told>,
}

/// Where a page begins: behind this version of the name, or behind all of them.
#[derive(Clone, Default)]
struct After {
    name: String,
    version: Option<VersionId>,
}

/// Which page to ask for, in names of the remote.
struct Ask<'a> {
    prefix: String,
    delimiter: Option<&'a str>,
    after: After,
    most: usize,
}

impl Remote {
    async fn version_page(&self, ask: &Ask<'_>) -> Result<(Vec<Entry>, bool)> {
        let mut call = Call::new("list object versions", Method::GET, None)
            .query("versions", "")
            .query("encoding-type", "url")
            .query("max-keys", ask.most.to_string());
        if !ask.prefix.is_empty() {
            call = call.query("prefix", &*ask.prefix);
        }
        if let Some(delimiter) = ask.delimiter {
            call = call.query("delimiter", delimiter);
        }
        if !ask.after.name.is_empty() {
            // A longer name than any key has says no more than its beginning; what that lets through is skipped when it is met.
            let most = ask.after.name.floor_char_boundary(MAX_KEY_BYTES);
            call = call.query("key-marker", ask.after.name.get(..most).unwrap_or_default());
        }
        if let Some(version) = &ask.after.version {
            call = call.query("version-id-marker", version.to_string());
        }
        let listed: Listed = self.client.call(call).await?.xml("list object versions")?;
        let (entries, truncated) = entries(listed)?;
        if truncated && entries.is_empty() {
            return Err(nonsense());
        }
        Ok((entries, truncated))
    }

    /// The versions of a name, up to a page of them.
    pub(crate) async fn versions_of(&self, name: &str) -> Result<VersionsOf> {
        let ask = Ask { prefix: name.to_owned(), delimiter: None, after: After::default(), most: PAGE };
        let (page, truncated) = self.version_page(&ask).await?;
        // No name that begins so comes before the name itself.
        let more = truncated && page.last().is_some_and(|last| last.name == name);
        let entries = page.into_iter().filter(|entry| entry.name == name).filter_map(|entry| entry.version).collect();
        Ok(VersionsOf { entries, more })
    }
}

impl Inner {
    pub(crate) async fn list_versions(&self, query: &ListQuery) -> Result<ListPage> {
        let base = &self.settings.prefix;
        // No key is as long, nor does one lie in the hidden space.
        if base.len() + query.prefix.len() > MAX_KEY_BYTES || query.prefix.starts_with(HIDDEN) {
            return Ok(ListPage::default());
        }
        let full = |name: &str| if name.is_empty() { String::new() } else { format!("{base}{name}") };
        let mut after = match &query.from {
            ListFrom::Start => After::default(),
            ListFrom::After(key) => After { name: full(key), version: None },
            ListFrom::AfterPrefix(prefix) => After { name: full(&end_of(prefix)), version: None },
            ListFrom::AfterVersion(key, version) if !key.is_empty() => After { name: full(key), version: Some(*version) },
            ListFrom::AfterVersion(..) => After::default(),
        };
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            // One more than the page holds tells whether there is more, where the remote's word for it could mean what is hidden.
            let most = query.limit.saturating_sub(entries.len()).clamp(1, PAGE);
            let prefix = format!("{base}{}", query.prefix);
            let ask = Ask { prefix, delimiter: query.delimiter.as_deref(), after: after.clone(), most };
            let (page, truncated) = self.remote.version_page(&ask).await?;
            let Some(last) = page.last() else { break };
            let last_name = last.name.strip_prefix(base.as_str()).ok_or_else(nonsense)?;
            after = match &last.version {
                _ if last_name.starts_with(HIDDEN) => After { name: full(&end_of(HIDDEN)), version: None },
                Some(told) => After { name: last.name.clone(), version: Some(told.version) },
                None => After { name: end_of(&last.name), version: None },
            };
            let hidden_may_follow = HIDDEN.starts_with(query.prefix.as_str()) && last_name <= HIDDEN;
            for entry in page {
                let name = entry.name.strip_prefix(base.as_str()).ok_or_else(nonsense)?.to_owned();
                let entry = Entry { name, ..entry };
                if self.version_belongs(&entry, query).await? {
                    entries.push(entry);
                }
            }
            let full_page = entries.len() >= query.limit;
            if !truncated || entries.len() > query.limit {
                break;
            }
            if full_page && !hidden_may_follow {
                return self.told(entries, true).await;
            }
        }
        let more = entries.len() > query.limit;
        entries.truncate(query.limit);
        self.told(entries, more).await
    }

    /// Whether an entry is one of the mount's listing.
    async fn version_belongs(&self, entry: &Entry, query: &ListQuery) -> Result<bool> {
        // The mount's prefix itself, as other tools make it, is no key of the mount.
        if entry.name.is_empty() || entry.name.starts_with(HIDDEN) {
            return Ok(false);
        }
        if entry.version.is_some() {
            return Ok(!query.from.skips(&entry.name));
        }
        if matches!(&query.from, ListFrom::AfterPrefix(prefix) if entry.name.starts_with(prefix.as_str())) {
            return Ok(false);
        }
        if !HIDDEN.starts_with(&entry.name) {
            return Ok(true);
        }
        // A roll-up that the hidden space is part of: is there anything else in it?
        let base = &self.settings.prefix;
        let start = match &query.from {
            ListFrom::After(key) | ListFrom::AfterVersion(key, _) if *key > entry.name => key.clone(),
            _ => before(&entry.name),
        };
        for after in [start, end_of(HIDDEN)] {
            let after = After { name: format!("{base}{after}"), version: None };
            let ask = Ask { prefix: format!("{base}{}", entry.name), delimiter: None, after, most: 1 };
            let (page, _) = self.remote.version_page(&ask).await?;
            let hidden = format!("{base}{HIDDEN}");
            if page.first().is_some_and(|entry| !entry.name.starts_with(&hidden)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn told(&self, entries: Vec<Entry>, more: bool) -> Result<ListPage> {
        let told = stream::iter(entries.into_iter().map(|entry| self.tell_version(entry))).buffered(ABREAST);
        Ok(ListPage { entries: told.try_collect().await?, more })
    }

    /// The line of an entry.
    async fn tell_version(&self, entry: Entry) -> Result<ListEntry> {
        let Some(told) = entry.version else { return Ok(ListEntry::Prefix(entry.name)) };
        let key = Key::new(&entry.name)?;
        let Some(etag) = told.etag.filter(|_| !told.marker) else {
            return marker(&key, told.version, told.modified).map(ListEntry::Object);
        };
        if self.exact() {
            match self.remote.info(&key, Some(&told.version)).await {
                Ok(info) => return Ok(ListEntry::Object(info)),
                // It is gone since; when it was listed it was there.
                Err(error) if *error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut attributes = Attributes::new();
        name_version(&mut attributes, Some(told.version));
        Ok(ListEntry::Object(ObjectInfo { key, size: told.size, etag, modified: told.modified, attributes }))
    }
}

/// The lines of a page in order, and whether others follow.
fn entries(listed: Listed) -> Result<(Vec<Entry>, bool)> {
    let is = |element: &Element, due: &str| match element {
        Element::EncodingType(text) | Element::IsTruncated(text) => text == due,
        _ => false,
    };
    let escaped = listed.elements.iter().any(|element| matches!(element, Element::EncodingType(_)) && is(element, "url"));
    let truncated = listed.elements.iter().any(|element| matches!(element, Element::IsTruncated(_)) && is(element, "true"));
    let name = |text: String| {
        if !escaped {
            return Ok(text);
        }
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|e| nonsense().caused_by(e))
    };
    let mut entries = Vec::with_capacity(listed.elements.len());
    for element in listed.elements {
        let (line, marker) = match element {
            Element::Version(line) => (line, false),
            Element::DeleteMarker(line) => (line, true),
            Element::CommonPrefixes(rolled) => {
                entries.push(Entry { name: name(rolled.prefix)?, version: None });
                continue;
            }
            _ => continue,
        };
        let modified = timestamp(&line.modified).map(to_seconds).ok_or_else(nonsense)?;
        let etag = line.etag.filter(|_| !marker).map(|etag| ETag::new(etag.trim_matches('"')));
        let etag = etag.transpose().map_err(|e| nonsense().caused_by(e))?;
        if etag.is_none() && !marker {
            return Err(nonsense());
        }
        let told = Told { version: version_id(&line.version)?, marker, modified, size: line.size, etag };
        entries.push(Entry { name: name(line.key)?, version: Some(told) });
    }
    // Versions of a name stay in the remote's order; what is rolled up comes behind all of them there.
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((entries, truncated))
}

fn nonsense() -> Error {
    Error::new(ErrorKind::Unavailable, "list object versions").with("reason", "the remote's answer makes no sense")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn read(xml: &str) -> Result<(Vec<Entry>, bool)> {
        entries(quick_xml::de::from_str(xml).unwrap())
    }

    /// Like the example of AWS (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>).
    #[test]
    fn versions_and_markers_stay_in_their_order() {
        let line = |element: &str, key: &str, id: &str| {
            let object = if element == "Version" {
                "<ETag>&quot;tag&quot;</ETag><Size>434234</Size><StorageClass>STANDARD</StorageClass>"
            } else {
                ""
            };
            format!(
                "<{element}><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>true</IsLatest>\
                 <LastModified>2009-10-12T17:50:30.000Z</LastModified>{object}\
                 <Owner><ID>75aa</ID><DisplayName>mtd@amazon.com</DisplayName></Owner></{element}>\n"
            )
        };
        let lines = [
            line("Version", "my+first%2Fimage.jpg", "3"),
            line("DeleteMarker", "my+first%2Fimage.jpg", "QUpfdndhfd8438MNFDN93jdnJFkdmqnh893"),
            line("Version", "my+first%2Fimage.jpg", "null"),
            line("DeleteMarker", "z", "2"),
        ];
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n\
             <Name>bucket</Name><Prefix></Prefix><KeyMarker/><VersionIdMarker/><MaxKeys>5</MaxKeys><EncodingType>url</EncodingType>\n\
             <IsTruncated>true</IsTruncated>{}<CommonPrefixes><Prefix>n%2F</Prefix></CommonPrefixes></ListVersionsResult>",
            lines.concat()
        );
        let (entries, truncated) = read(&xml).unwrap();
        assert!(truncated);
        let told: Vec<_> = entries
            .iter()
            .map(|entry| {
                (entry.name.as_str(), entry.version.as_ref().map(|told| (told.version.to_string(), told.marker, told.size)))
            })
            .collect();
        let image = "my first/image.jpg";
        let due = |id: &str, marker, size| Some((id.to_owned(), marker, size));
        let marker = "QUpfdndhfd8438MNFDN93jdnJFkdmqnh893";
        assert_eq!(
            told,
            [
                (image, due("3", false, 434_234)),
                (image, due(marker, true, 0)),
                (image, due("null", false, 434_234)),
                ("n/", None),
                ("z", due("2", true, 0)),
            ]
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (none, truncated) = read("<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>").unwrap();
        assert!(none.is_empty() && !truncated);
        let line = |id: &str, rest: &str| {
            format!(
                "<ListVersionsResult><Version><Key>k</Key><VersionId>{id}</VersionId>\
                 <LastModified>2009-10-12T17:50:30.000Z</LastModified>{rest}</Version></ListVersionsResult>"
            )
        };
        assert!(read(&line("1", "<ETag>tag</ETag>")).is_ok());
        assert!(read(&line("1", "")).is_err(), "a version without an ETag");
        assert!(read(&line(&"i".repeat(200), "<ETag>tag</ETag>")).is_err(), "a name longer than can be kept");
        assert!(read(&line("1", "<ETag>tag</ETag>").replace("2009", "some")).is_err());
    }
}
