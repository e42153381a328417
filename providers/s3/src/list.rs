//! Listing: page by page, each begun where the last one ended.

use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use sluice_provider::{
    Attributes, ETag, Error, ErrorKind, Key, ListEntry, ListFrom, ListPage, ListQuery, MAX_KEY_BYTES, ObjectInfo, Result,
};

use crate::provider::{ABREAST, Inner};
use crate::remote::{HIDDEN, Remote, timestamp, to_seconds};
use crate::request::Call;

/// The most that S3 lists at a time.
const PAGE: usize = 1000;
/// The character after which no other comes.
const LAST: char = char::MAX;

#[derive(Debug, Deserialize)]
#[serde(rename = "ListBucketResult")]
struct Listed {
    #[serde(rename = "IsTruncated", default)]
    truncated: bool,
    #[serde(rename = "EncodingType", default)]
    encoding: Option<String>,
    #[serde(rename = "Contents", default)]
    contents: Vec<Line>,
    #[serde(rename = "CommonPrefixes", default)]
    prefixes: Vec<Prefix>,
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "LastModified")]
    modified: String,
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(rename = "Size")]
    size: u64,
}

#[derive(Debug, Deserialize)]
struct Prefix {
    #[serde(rename = "Prefix")]
    prefix: String,
}

/// A name of the mount, in a page of the remote.
struct Entry {
    name: String,
    object: Option<(u64, ETag, SystemTime)>,
}

/// Which page to ask the remote for, in names of the mount.
struct Ask<'a> {
    prefix: &'a str,
    delimiter: Option<&'a str>,
    after: String,
    most: usize,
}

impl Inner {
    pub(crate) async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        // No key is as long, nor does one lie in the hidden space.
        if self.settings.prefix.len() + query.prefix.len() > MAX_KEY_BYTES || query.prefix.starts_with(HIDDEN) {
            return Ok(ListPage::default());
        }
        self.listing(&query.prefix, |remote| async move { self.list_at(&remote, query).await }).await
    }

    async fn list_at(&self, remote: &Remote, query: &ListQuery) -> Result<ListPage> {
        let mut after = match &query.from {
            ListFrom::Start => String::new(),
            ListFrom::After(key) => key.clone(),
            ListFrom::AfterPrefix(prefix) => end_of(prefix),
            ListFrom::AfterVersion(key, _) => before(key),
        };
        let (mut entries, mut more): (Vec<Entry>, bool) = (Vec::new(), false);
        loop {
            let most = (query.limit - entries.len()).min(PAGE);
            let ask = Ask { prefix: &query.prefix, delimiter: query.delimiter.as_deref(), after: after.clone(), most };
            let (page, truncated) = self.page(remote, &ask).await?;
            let Some(last) = page.last() else { break };
            after = if last.object.is_some() { last.name.clone() } else { end_of(&last.name) };
            if after.starts_with(HIDDEN) {
                after = end_of(HIDDEN);
            }
            for entry in page {
                if self.belongs(remote, &entry, query).await? {
                    entries.push(entry);
                }
            }
            if !truncated {
                break;
            }
            if entries.len() >= query.limit {
                more = self.more(remote, query, &after).await?;
                break;
            }
        }
        let told = stream::iter(entries.into_iter().map(|entry| self.tell(remote, entry))).buffered(ABREAST);
        Ok(ListPage { entries: told.try_collect().await?, more })
    }

    /// One page of the remote, of names that begin with the mount's prefix.
    async fn page(&self, remote: &Remote, ask: &Ask<'_>) -> Result<(Vec<Entry>, bool)> {
        let base = &self.settings.prefix;
        let mut call = Call::new("list objects", Method::GET, None)
            .hasty(remote.hasty)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", ask.most.to_string());
        if !(base.is_empty() && ask.prefix.is_empty()) {
            call = call.query("prefix", format!("{base}{}", ask.prefix));
        }
        if let Some(delimiter) = ask.delimiter {
            call = call.query("delimiter", delimiter);
        }
        if !ask.after.is_empty() {
            // A longer name than any key has says no more than its beginning; what that lets through is skipped when it is met.
            let most = ask.after.floor_char_boundary(MAX_KEY_BYTES);
            call = call.query("start-after", format!("{base}{}", ask.after.get(..most).unwrap_or_default()));
        }
        let listed: Listed = remote.client.call(call).await?.xml("list objects")?;
        let nonsense = || Error::new(ErrorKind::Unavailable, "list objects").with("reason", "the remote's answer makes no sense");
        let escaped = listed.encoding.as_deref() == Some("url");
        let name = |text: &str| {
            let text = if escaped { text.replace('+', " ") } else { text.to_owned() };
            let text = if escaped { percent_decode_str(&text).decode_utf8().ok()?.into_owned() } else { text };
            Some(text.strip_prefix(base.as_str())?.to_owned())
        };
        let mut entries = Vec::with_capacity(listed.contents.len() + listed.prefixes.len());
        for line in listed.contents {
            let modified = timestamp(&line.modified).map(to_seconds).ok_or_else(nonsense)?;
            let etag = ETag::new(line.etag.trim_matches('"')).map_err(|e| nonsense().caused_by(e))?;
            let name = name(&line.key).ok_or_else(nonsense)?;
            // The mount's prefix itself, as other tools make it, is no key of the mount.
            if !name.is_empty() {
                entries.push(Entry { name, object: Some((line.size, etag, modified)) });
            }
        }
        for prefix in listed.prefixes {
            entries.push(Entry { name: name(&prefix.prefix).ok_or_else(nonsense)?, object: None });
        }
        // The two lists are in order each.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if listed.truncated && entries.is_empty() {
            return Err(nonsense());
        }
        Ok((entries, listed.truncated))
    }

    /// Names at the remote of some of the mount's own things that begin with this, as many as one page holds.
    pub(crate) async fn hidden_names(&self, prefix: &str) -> Result<Vec<String>> {
        let ask = Ask { prefix, delimiter: None, after: String::new(), most: PAGE };
        let (page, _) = self.page(&self.remote, &ask).await?;
        Ok(page.into_iter().map(|entry| format!("{}{}", self.settings.prefix, entry.name)).collect())
    }

    /// A page of the records after a name, each with when it was written.
    pub(crate) async fn records(&self, after: &str) -> Result<Vec<(String, SystemTime)>> {
        let prefix = format!("{HIDDEN}r/");
        let ask = Ask { prefix: &prefix, delimiter: None, after: after.to_owned(), most: PAGE };
        let (page, _) = self.page(&self.remote, &ask).await?;
        Ok(page.into_iter().filter_map(|entry| Some((entry.name, entry.object?.2))).collect())
    }

    /// Whether an entry is one of the mount's listing.
    async fn belongs(&self, remote: &Remote, entry: &Entry, query: &ListQuery) -> Result<bool> {
        if entry.name.starts_with(HIDDEN) || entry.object.is_some() && query.from.skips(&entry.name) {
            return Ok(false);
        }
        match (&query.from, entry.object.is_none()) {
            (ListFrom::AfterPrefix(prefix), true) if entry.name.starts_with(prefix.as_str()) => return Ok(false),
            _ => {}
        }
        if entry.object.is_some() || !HIDDEN.starts_with(&entry.name) {
            return Ok(true);
        }
        // A roll-up that the hidden space is part of: is there anything else in it?
        let (prefix, delimiter) = (entry.name.as_str(), None);
        let first = |after: String| Ask { prefix, delimiter, after, most: 1 };
        let start = match &query.from {
            ListFrom::After(key) if *key > entry.name => key.clone(),
            _ => String::new(),
        };
        let (page, _) = self.page(remote, &first(start)).await?;
        if page.first().is_some_and(|entry| !entry.name.starts_with(HIDDEN)) {
            return Ok(true);
        }
        let (page, _) = self.page(remote, &first(end_of(HIDDEN))).await?;
        Ok(!page.is_empty())
    }

    /// Whether anything but the hidden space follows in a listing that the remote says goes on.
    async fn more(&self, remote: &Remote, query: &ListQuery, after: &str) -> Result<bool> {
        let hidden_follows = HIDDEN.starts_with(query.prefix.as_str()) && after < HIDDEN;
        if !hidden_follows {
            return Ok(true);
        }
        let mut after = after.to_owned();
        loop {
            let ask = Ask { prefix: &query.prefix, delimiter: query.delimiter.as_deref(), after, most: 1 };
            let (page, _) = self.page(remote, &ask).await?;
            let Some(entry) = page.first() else { return Ok(false) };
            let from = ListFrom::After(ask.after);
            if self.belongs(remote, entry, &ListQuery { from, ..query.clone() }).await? {
                return Ok(true);
            }
            after = end_of(if entry.name.starts_with(HIDDEN) { HIDDEN } else { &entry.name });
        }
    }

    /// The line of an entry.
    async fn tell(&self, remote: &Remote, entry: Entry) -> Result<ListEntry> {
        let Some((size, etag, modified)) = entry.object else { return Ok(ListEntry::Prefix(entry.name)) };
        let key = Key::new(&entry.name)?;
        if self.exact() {
            match remote.info(&key).await {
                Ok(info) => return Ok(ListEntry::Object(info)),
                // It is gone since; when it was listed it was there.
                Err(error) if *error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ListEntry::Object(ObjectInfo { key, size, etag, modified, attributes: Attributes::new() }))
    }
}

/// A name that comes after all that begin with this. Keys that begin with it and the last of all characters come later still; they
/// are left out of the answer when they are met.
fn end_of(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    end.push(LAST);
    end
}

/// A name just before this one, as far as a listing that only takes names after another one needs it.
fn before(key: &str) -> String {
    let mut name = key.to_owned();
    match name.pop() {
        // Everything between is skipped when it is met.
        Some(last) if last > '\0' => {
            let lower = (u32::from(last) - 1..u32::from(last)).find_map(char::from_u32).unwrap_or('\u{d7ff}');
            name.push(lower);
            name.push(LAST);
            name
        }
        _ => name,
    }
}
