//! Links: the remote hands out the bytes by itself, to whoever the gateway gives a URL that it signed.

use async_trait::async_trait;
use sluice_provider::{Key, Linked, Links, ObjectInfo, Result};

use crate::form::{Record, SYSTEM, USER};
use crate::provider::S3;
use crate::remote::{Found, Remote};

/// The attributes that an answer of the remote can be told to show, with the parameters that do so
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>).
const PARAMETERS: [(&str, &str); 6] = [
    ("cache-control", "response-cache-control"),
    ("content-disposition", "response-content-disposition"),
    ("content-encoding", "response-content-encoding"),
    ("content-language", "response-content-language"),
    ("content-type", "response-content-type"),
    ("expires", "response-expires"),
];

#[async_trait]
impl Links for S3 {
    async fn link(&self, key: &Key, shown: &[(&'static str, String)]) -> Result<Option<Linked>> {
        let inner = &self.inner;
        inner.readable(key)?;
        let look = |remote: Remote| async move {
            let (found, record) = remote.look(key).await?;
            Ok((remote, found, record))
        };
        let ((remote, found, record), _reading) = inner.reading(key, look).await?;
        let info = found.info(key, record.as_ref())?;
        let Some(query) = query(&found, &info, record.as_ref(), shown) else { return Ok(None) };
        let link = remote.client.link(&remote.name(key), query, inner.settings.redirect_time).await?;
        Ok(Some(Linked { info, link }))
    }
}

/// What the link must say so that the remote's answer is the gateway's; `None` when it cannot be.
fn query(
    found: &Found,
    info: &ObjectInfo,
    record: Option<&Record>,
    shown: &[(&'static str, String)],
) -> Option<Vec<(&'static str, String)>> {
    // Conditions and caches go by these.
    if found.tag != info.etag || found.modified != info.modified {
        return None;
    }
    // What the remote itself has in its headers.
    let own = found.own.as_ref();
    let hidden = |name: &str| own.is_some_and(|own| own.attributes.contains_key(name));
    let there = |name: &str| found.attributes.get(name).filter(|_| !hidden(name));
    let is_users = |(name, _): &(&str, &str)| name.starts_with(USER);
    let missing = info.attributes.iter().filter(is_users).any(|(name, value)| there(name) != Some(value));
    let left = found.attributes.iter().filter(is_users).any(|(name, _)| info.attributes.get(name).is_none());
    if missing || left {
        return None;
    }
    let mut query = Vec::new();
    for (name, parameter) in PARAMETERS {
        let asked = shown.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str());
        let kept = info.attributes.get(name);
        // With a record nobody has looked at the type that the remote has.
        let same = record.is_none() && there(name) == kept;
        match (asked, kept) {
            (Some(value), _) => query.push((parameter, value.to_owned())),
            (None, Some("")) if !same => return None,
            (None, Some(value)) if !same => query.push((parameter, value.to_owned())),
            (None, None) if SYSTEM.contains(&name) && there(name).is_some() => return None,
            _ => {}
        }
    }
    Some(query)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::SystemTime;

    use sluice_provider::{Attributes, ETag};

    use super::*;
    use crate::form;

    fn found(headers: form::Headers) -> Found {
        let mut map = http::HeaderMap::new();
        for (name, value) in headers {
            map.insert(http::HeaderName::try_from(name).unwrap(), value.try_into().unwrap());
        }
        map.entry("content-type").or_insert("binary/octet-stream".parse().unwrap());
        let (attributes, own) = form::read(&map).unwrap();
        Found { size: 1, tag: ETag::new("tag").unwrap(), modified: SystemTime::UNIX_EPOCH, attributes, own }
    }

    fn told(found: &Found, record: Option<&Record>, shown: &[(&'static str, String)]) -> Option<Vec<(&'static str, String)>> {
        let info = found.info(&Key::new("k").unwrap(), record).unwrap();
        query(found, &info, record, shown)
    }

    #[test]
    fn what_the_remote_tells_by_itself_needs_no_words() {
        let etag = ETag::new("tag").unwrap();
        for pairs in [vec![], vec![("content-type", "text/plain"), ("meta.colour", "blue"), ("checksum.crc32", "AAAAAA==")]] {
            let attributes: Attributes = pairs.into_iter().collect();
            let found = found(form::inline(&attributes, &etag).unwrap().unwrap());
            assert_eq!(told(&found, None, &[]), Some(Vec::new()));
        }
        // Of somebody else's object the remote's type is the type.
        assert_eq!(told(&found(Vec::new()), None, &[]), Some(Vec::new()));
        let shown = [("content-type", "a/b".to_owned())];
        assert_eq!(told(&found(Vec::new()), None, &shown), Some(vec![("response-content-type", "a/b".to_owned())]));
    }

    #[test]
    fn what_the_remote_does_not_know_is_said_or_the_link_is_not_made() {
        let etag = ETag::new("tag").unwrap();
        let attributes: Attributes = [("content-type", "text/plain"), ("expires", "0")].into_iter().collect();
        let record = Record::new("k", &attributes, &etag);
        let bare = found(form::with_record(&Attributes::new(), "id", None).unwrap());
        let said = told(&bare, Some(&record), &[]).unwrap();
        assert_eq!(said, [("response-content-type", "text/plain".to_owned()), ("response-expires", "0".to_owned())]);
        // User metadata that is not there, that nobody has any more, or that no header can carry.
        let user: Attributes = [("meta.a", "b")].into_iter().collect();
        assert_eq!(told(&bare, Some(&Record::new("k", &user, &etag)), &[]), None);
        let there = found(form::with_record(&user, "id", None).unwrap());
        assert_eq!(told(&there, Some(&Record::new("k", &Attributes::new(), &etag)), &[]), None);
        let odd: Attributes = [("meta.a", "größe\n")].into_iter().collect();
        assert_eq!(told(&found(form::inline(&odd, &etag).unwrap().unwrap()), None, &[]), None);
        // Another ETag.
        let other = ETag::new("other").unwrap();
        assert_eq!(told(&found(form::inline(&Attributes::new(), &other).unwrap().unwrap()), None, &[]), None);
        // Another time, because its attributes were changed.
        let changed = found(form::with_record(&Attributes::new(), "id", Some(7)).unwrap());
        assert_eq!(told(&changed, Some(&Record::new("k", &Attributes::new(), &etag)), &[]), None);
        // An object without a Content-Encoding where the remote has one.
        let coded: Attributes = [("content-encoding", "gzip")].into_iter().collect();
        let coded = found(form::with_record(&coded, "id", None).unwrap());
        assert_eq!(told(&coded, Some(&Record::new("k", &Attributes::new(), &etag)), &[]), None);
    }
}
