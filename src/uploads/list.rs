//! Listing the uploads of a bucket.

use super::{UploadPage, Uploads};
use crate::error::Result;
use crate::meta::UploadCursor;
use crate::namespaces::Namespace;

impl Uploads {
    /// Uploads of the bucket whose key begins with `prefix`, sorted by key and upload id; keys that contain the delimiter after
    /// the prefix are rolled up. `limit` counts uploads and prefixes together. A cursor without an upload id that names a rolled-up
    /// prefix continues behind all its keys, so that [`UploadPage::next`] is always a place to go on from.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn list(
        &self,
        ns: &Namespace,
        prefix: &str,
        delimiter: Option<&str>,
        after: &UploadCursor,
        limit: usize,
    ) -> Result<UploadPage> {
        let delimiter = delimiter.filter(|d| !d.is_empty());
        let mut page = UploadPage::default();
        let mut cursor = after.clone();
        if after.upload_id.is_empty() && rolled_up(&after.key, prefix, delimiter) == Some(after.key.as_str()) {
            cursor.key = behind(&after.key);
        }
        // The last entry of the page, to go on from.
        let mut last = None;
        loop {
            let missing = limit - (page.uploads.len() + page.prefixes.len());
            let rows = self.store.uploads(&ns.bucket.name, prefix, &cursor, missing.saturating_add(1)).await?;
            let asked_for_all = rows.len() <= missing;
            let mut jumped = false;
            for row in rows {
                if page.uploads.len() + page.prefixes.len() == limit {
                    page.next = last;
                    return Ok(page);
                }
                if let Some(rolled) = rolled_up(&row.key, prefix, delimiter) {
                    last = Some(UploadCursor { key: rolled.to_owned(), upload_id: String::new() });
                    cursor = UploadCursor { key: behind(rolled), upload_id: String::new() };
                    page.prefixes.push(rolled.to_owned());
                    jumped = true;
                    break;
                }
                cursor = UploadCursor { key: row.key.clone(), upload_id: row.upload_id.clone() };
                last = Some(cursor.clone());
                page.uploads.push(row);
            }
            if asked_for_all && !jumped {
                return Ok(page);
            }
        }
    }
}

/// The common prefix that a key is rolled up under.
fn rolled_up<'a>(key: &'a str, prefix: &str, delimiter: Option<&str>) -> Option<&'a str> {
    let (rest, delimiter) = (key.strip_prefix(prefix)?, delimiter?);
    let end = prefix.len() + rest.find(delimiter)? + delimiter.len();
    Some(&key[..end])
}

/// A name that sorts behind every key that begins with `prefix`: no key is longer than 1024 bytes, and no character is greater.
fn behind(prefix: &str) -> String {
    let mut name = prefix.to_owned();
    name.extend(std::iter::repeat_n(char::MAX, sluice_provider::MAX_KEY_BYTES / char::MAX.len_utf8() + 1));
    name
}

#[cfg(test)]
mod tests;
