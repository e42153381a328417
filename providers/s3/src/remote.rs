//! The calls that the mount makes, one function each, and what lies where.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;
use sluice_provider::{
    Attributes, ETag, Error, ErrorKind, ForeignVersion, Key, ObjectInfo, Result, VERSION_ATTRIBUTE, VersionId,
};

use crate::answer::Answer;
use crate::client::{Client, Opened};
use crate::form::{self, Headers, Own, Record};
use crate::payload::Payload;
use crate::provider::lost_record;
use crate::request::{Call, escape_path, escape_query};

/// What the names of the mount's own things begin with, after the mount's prefix. No key that begins so can be stored.
pub(crate) const HIDDEN: &str = ".sluice-s3/";

/// An object as the remote tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) size: u64,
    /// The remote's own ETag: what conditions are made of.
    pub(crate) tag: ETag,
    /// To the second, which is all that HEAD tells.
    pub(crate) modified: SystemTime,
    pub(crate) attributes: Attributes,
    pub(crate) own: Option<Own>,
    /// Which version it is, on a mount that has versions.
    pub(crate) version: Option<VersionId>,
}

/// A part that the remote holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentPart {
    pub(crate) number: u16,
    pub(crate) etag: String,
}

#[derive(Debug, Deserialize)]
struct Created {
    #[serde(rename = "UploadId")]
    upload: String,
}

#[derive(Debug, Deserialize)]
struct Copied {
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(rename = "LastModified", default)]
    modified: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Completed {
    #[serde(rename = "ETag")]
    etag: String,
}

#[derive(Debug, Deserialize)]
struct Parts {
    #[serde(rename = "Part", default)]
    parts: Vec<PartLine>,
}

#[derive(Debug, Deserialize)]
struct PartLine {
    #[serde(rename = "PartNumber")]
    number: u16,
}

/// A bucket at a remote, below a prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) client: Arc<Client>,
    pub(crate) bucket: Arc<str>,
    pub(crate) prefix: Arc<str>,
    /// Reads are not repeated, because others can be asked.
    pub(crate) hasty: bool,
    /// The remote's versions are those of the mount.
    pub(crate) versions: bool,
}

impl Remote {
    /// The remote's name of a key of the mount.
    pub(crate) fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The remote's name of one of the mount's own things.
    pub(crate) fn hidden(&self, name: &str) -> String {
        format!("{}{HIDDEN}{name}", self.prefix)
    }

    pub(crate) fn record_name(&self, id: &str) -> String {
        self.hidden(&format!("r/{id}"))
    }

    pub(crate) async fn head(&self, name: &str, version: Option<&VersionId>) -> Result<Found> {
        let call = Call::new("head object", Method::HEAD, Some(name.to_owned())).hasty(self.hasty);
        let answer = self.client.call(call.version(version)).await?;
        self.found(&answer.headers, content_length(&answer.headers)?)
    }

    /// Opens an object; `range` is the value of the header.
    pub(crate) async fn get(&self, name: &str, version: Option<&VersionId>, range: Option<String>) -> Result<Opened> {
        let mut call = Call::new("get object", Method::GET, Some(name.to_owned())).version(version).hasty(self.hasty);
        if let Some(range) = range {
            call = call.header("range", range);
        }
        self.client.stream(call).await
    }

    /// Writes an object. A call under conditions is not repeated when nobody knows what became of it.
    pub(crate) async fn put(
        &self,
        name: &str,
        payload: Payload,
        headers: Headers,
        when: &[(&'static str, String)],
    ) -> Result<Answer> {
        let call = Call::new("put object", Method::PUT, Some(name.to_owned())).headers(headers).payload(payload);
        self.client.call(conditional(call, when)).await
    }

    /// Deletes an object, if it still has this ETag at the remote.
    pub(crate) async fn delete(&self, name: &str, tag: Option<&ETag>) -> Result<()> {
        let mut call = Call::new("delete object", Method::DELETE, Some(name.to_owned()));
        if let Some(tag) = tag {
            call = call.header("if-match", quoted(tag)).once();
        }
        self.client.call(call).await.map(drop)
    }

    /// Copies an object that still has this ETag, with new metadata. Answers the copy's time and version.
    pub(crate) async fn copy(
        &self,
        from: (&str, Option<&VersionId>, &ETag),
        to: &str,
        headers: Headers,
        when: &[(&'static str, String)],
    ) -> Result<(Option<SystemTime>, Option<VersionId>)> {
        let call = Call::new("copy object", Method::PUT, Some(to.to_owned()))
            .headers(headers)
            .header("x-amz-copy-source", self.source(from.0, from.1))
            .header("x-amz-copy-source-if-match", quoted(from.2))
            .header("x-amz-metadata-directive", "REPLACE");
        let answer = self.client.call(conditional(call, when).once()).await?;
        let copied: Copied = answer.xml("copy object")?;
        ETag::new(copied.etag.trim_matches('"'))?;
        Ok((copied.modified.as_deref().and_then(timestamp).map(to_seconds), self.version_of(&answer.headers)?))
    }

    /// The object of a key as the remote tells of it, with its record if it has one.
    pub(crate) async fn look(&self, key: &Key, version: Option<&VersionId>) -> Result<(Found, Option<Record>)> {
        let name = self.name(key);
        let mut missing = None;
        for _ in 0..3 {
            let found = self.head(&name, version).await?;
            let Some(id) = found.record() else { return Ok((found, None)) };
            match self.read_record(id).await {
                Ok((record, _)) => return Ok((found, Some(record))),
                // Most likely the object was replaced since, and its record removed.
                Err(error) if *error.kind() == ErrorKind::NotFound => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(lost_record(key, missing))
    }

    pub(crate) async fn create_upload(&self, name: &str, headers: Headers) -> Result<String> {
        let call =
            Call::new("create multipart upload", Method::POST, Some(name.to_owned())).query("uploads", "").headers(headers);
        let created: Created = self.client.call(call).await?.xml("create multipart upload")?;
        Ok(created.upload)
    }

    pub(crate) async fn put_part(&self, name: &str, upload: &str, number: u16, payload: Payload) -> Result<SentPart> {
        let call = Call::new("upload part", Method::PUT, Some(name.to_owned()))
            .query("partNumber", number.to_string())
            .query("uploadId", upload)
            .payload(payload);
        let answer = self.client.call(call).await?;
        Ok(SentPart { number, etag: etag(&answer.headers)?.as_str().to_owned() })
    }

    /// Copies an object, or bytes of it, into a part.
    pub(crate) async fn copy_part(
        &self,
        from: (&str, Option<&VersionId>, Option<&ETag>),
        range: Option<std::ops::Range<u64>>,
        name: &str,
        upload: &str,
        number: u16,
    ) -> Result<SentPart> {
        let mut call = Call::new("upload part copy", Method::PUT, Some(name.to_owned()))
            .query("partNumber", number.to_string())
            .query("uploadId", upload)
            .header("x-amz-copy-source", self.source(from.0, from.1));
        if let Some(tag) = from.2 {
            call = call.header("x-amz-copy-source-if-match", quoted(tag));
        }
        if let Some(range) = range {
            call = call.header("x-amz-copy-source-range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let copied: Copied = self.client.call(call).await?.xml("upload part copy")?;
        Ok(SentPart { number, etag: ETag::new(copied.etag.trim_matches('"'))?.as_str().to_owned() })
    }

    /// Whether the remote holds a part of this number.
    pub(crate) async fn has_part(&self, name: &str, upload: &str, number: u16) -> Result<bool> {
        let call = Call::new("list parts", Method::GET, Some(name.to_owned()))
            .query("uploadId", upload)
            .query("max-parts", "1")
            .query("part-number-marker", (number - 1).to_string());
        let parts: Parts = self.client.call(call).await?.xml("list parts")?;
        Ok(parts.parts.iter().any(|part| part.number == number))
    }

    /// Publishes an upload; answers when.
    pub(crate) async fn complete(
        &self,
        name: &str,
        upload: &str,
        parts: &[SentPart],
        when: &[(&'static str, String)],
    ) -> Result<Answer> {
        let mut xml = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for SentPart { number, etag } in parts {
            let etag = quick_xml::escape::escape(etag.as_str());
            xml.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{etag}\"</ETag></Part>"));
        }
        xml.push_str("</CompleteMultipartUpload>");
        let call = Call::new("complete multipart upload", Method::POST, Some(name.to_owned()))
            .query("uploadId", upload)
            .header("content-type", "application/xml")
            .payload(Payload::Bytes(xml.into()));
        let answer = self.client.call(conditional(call, when).once()).await?;
        let completed: Completed = answer.xml("complete multipart upload")?;
        ETag::new(completed.etag.trim_matches('"'))?;
        Ok(answer)
    }

    /// Forgets an upload. One that is over is no error.
    pub(crate) async fn abort(&self, name: &str, upload: &str) -> Result<()> {
        let call = Call::new("abort multipart upload", Method::DELETE, Some(name.to_owned())).query("uploadId", upload);
        match self.client.call(call).await {
            Err(error) if *error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    /// A small object of the mount's own, with the remote's ETag of it.
    pub(crate) async fn read_hidden(&self, name: &str) -> Result<(Bytes, ETag)> {
        const MOST: usize = 1024 * 1024;
        let call = Call::new("get object", Method::GET, Some(name.to_owned())).hasty(self.hasty).within();
        let opened = self.client.stream(call).await?;
        let (tag, size) = (etag(&opened.headers)?, content_length(&opened.headers)?);
        Ok((crate::client::collect(self.client.bytes(opened, size), MOST).await?, tag))
    }

    pub(crate) async fn read_record(&self, id: &str) -> Result<(Record, ETag)> {
        let (bytes, tag) = self.read_hidden(&self.record_name(id)).await?;
        let corrupt = || Error::new(ErrorKind::Corrupt, "record of an object").with("record", id);
        Ok((serde_json::from_slice(&bytes).map_err(|e| corrupt().caused_by(e))?, tag))
    }

    pub(crate) async fn write_record(&self, id: &str, record: &Record, when: &[(&'static str, String)]) -> Result<()> {
        let json = serde_json::to_vec(record).map_err(|e| Error::new(ErrorKind::Internal, "record").caused_by(e))?;
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        self.put(&self.record_name(id), Payload::Bytes(json.into()), headers, when).await.map(drop)
    }

    fn source(&self, name: &str, version: Option<&VersionId>) -> String {
        let path = format!("/{}/{}", self.bucket, escape_path(name));
        match version {
            Some(version) => format!("{path}?{}", escape_query(&[("versionId", version.to_string())])),
            None => path,
        }
    }

    /// What the headers of HEAD or GET say of an object of `size` bytes.
    pub(crate) fn found(&self, headers: &HeaderMap, size: u64) -> Result<Found> {
        Ok(Found { version: self.version_of(headers)?, ..found(headers, size)? })
    }

    /// Which version an answer is about, on a mount that has versions.
    pub(crate) fn version_of(&self, headers: &HeaderMap) -> Result<Option<VersionId>> {
        let Some(value) = headers.get("x-amz-version-id").filter(|_| self.versions) else { return Ok(None) };
        value.to_str().ok().map(version_id).transpose()
    }
}

/// A version id as the remote gives it.
pub(crate) fn version_id(text: &str) -> Result<VersionId> {
    VersionId::parse(text).map_err(|e| {
        let error = Error::new(ErrorKind::Unavailable, "version id of the remote").with("bytes", text.len());
        error.with("most", ForeignVersion::MAX_BYTES).caused_by(e)
    })
}

/// Names an object as the remote does. The null version has no name.
pub(crate) fn name_version(attributes: &mut Attributes, version: Option<VersionId>) {
    match version {
        Some(VersionId::Null) | None => drop(attributes.remove(VERSION_ATTRIBUTE)),
        Some(version) => attributes.set(VERSION_ATTRIBUTE, version.to_string()),
    }
}

fn conditional(mut call: Call, when: &[(&'static str, String)]) -> Call {
    for (name, value) in when {
        call = call.header(*name, value).once();
    }
    call
}

impl Found {
    /// What the mount says of it, given its record if it has one.
    pub(crate) fn info(&self, key: &Key, record: Option<&Record>) -> Result<ObjectInfo> {
        let own = self.own.as_ref();
        let given = record.map(|record| record.etag.as_str()).or(own.and_then(|own| own.etag.as_deref()));
        let etag = given.map_or_else(|| Ok(self.tag.clone()), ETag::new)?;
        let mut attributes = record.map_or_else(|| self.attributes.clone(), Record::attributes);
        if self.version.is_some() {
            name_version(&mut attributes, self.version);
        }
        Ok(ObjectInfo { key: key.clone(), size: self.size, etag, modified: self.modified(), attributes })
    }

    /// When it was last written, as far as the mount is concerned.
    pub(crate) fn modified(&self) -> SystemTime {
        let told = self.own.as_ref().and_then(|own| own.modified);
        told.map_or(self.modified, |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    pub(crate) fn record(&self) -> Option<&str> {
        self.own.as_ref()?.record.as_deref()
    }
}

fn found(headers: &HeaderMap, size: u64) -> Result<Found> {
    let modified = headers.get("last-modified").and_then(|value| value.to_str().ok());
    let modified = modified.and_then(|text| httpdate::parse_http_date(text).ok());
    let modified = modified.ok_or_else(|| nonsense("last-modified"))?;
    let (attributes, own) = form::read(headers)?;
    Ok(Found { size, tag: etag(headers)?, modified, attributes, own, version: None })
}

pub(crate) fn etag(headers: &HeaderMap) -> Result<ETag> {
    let tag = headers.get("etag").and_then(|value| value.to_str().ok()).ok_or_else(|| nonsense("etag"))?;
    ETag::new(tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')).map_err(|e| nonsense("etag").caused_by(e))
}

pub(crate) fn content_length(headers: &HeaderMap) -> Result<u64> {
    let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    length.ok_or_else(|| nonsense("content-length"))
}

/// When the remote answered, to the second.
pub(crate) fn date(answer: &Answer) -> SystemTime {
    let told = answer.header("date").and_then(|text| httpdate::parse_http_date(text).ok());
    told.unwrap_or_else(|| to_seconds(SystemTime::now()))
}

pub(crate) fn quoted(tag: &ETag) -> String {
    format!("\"{tag}\"")
}

/// A time of S3's XML (RFC 3339).
pub(crate) fn timestamp(text: &str) -> Option<SystemTime> {
    time::OffsetDateTime::parse(text.trim(), &time::format_description::well_known::Rfc3339).ok().map(Into::into)
}

pub(crate) fn to_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn nonsense(header: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "answer of the remote").with("reason", "it is not S3's").with("header", header)
}
