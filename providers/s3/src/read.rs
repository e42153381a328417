//! HEAD and GET.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::StatusCode;
use sluice_provider::{Body, Error, ErrorKind, Key, Object, ObjectInfo, RangeSpec, ReadOptions, Result, VersionId};

use crate::client::Opened;
use crate::provider::{Inner, TRIES, lost_record};
use crate::remote::{Remote, content_length};

/// No S3 object is longer, and every server reads such a number.
const END: u64 = i64::MAX as u64;

impl Inner {
    pub(crate) async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.readable(key)?;
        let (info, _) = self.reading(key, |remote| async move { remote.told(key, None, read).await }).await?;
        Ok(info)
    }

    pub(crate) async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        self.readable(key)?;
        let (object, reading) = self.reading(key, |remote| async move { remote.open(key, None, read).await }).await?;
        let Some(reading) = reading else { return Ok(object) };
        let body = match object.body {
            // Under way until the last of it is read, or nobody wants it any more.
            Body::Stream(stream) => Body::Stream(
                stream
                    .inspect(move |_| {
                        let _held = &reading;
                    })
                    .boxed(),
            ),
            Body::Socket(body) => Body::Socket(Box::new(body.holding(reading))),
            body => body,
        };
        Ok(Object { body, ..object })
    }
}

impl Remote {
    /// What the mount says of the object of a key.
    pub(crate) async fn info(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectInfo> {
        let (found, record) = self.look(key, version).await?;
        found.info(key, record.as_ref())
    }

    /// The same under a condition.
    pub(crate) async fn told(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<ObjectInfo> {
        let info = self.info(key, version).await?;
        matches(&info, read)?;
        Ok(info)
    }

    pub(crate) async fn open(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<Object> {
        let name = self.name(key);
        let mut missing = None;
        for _ in 0..TRIES {
            let opened = match read.range {
                Some(RangeSpec::Last(0)) => None,
                range => match self.get(&name, version, range.map(header)).await {
                    Ok(opened) => Some(opened),
                    Err(error) if matches!(error.kind(), ErrorKind::RangeNotSatisfiable { .. }) => None,
                    Err(error) => return Err(error),
                },
            };
            let Some(opened) = opened else {
                // The condition is looked at before the range, and the refusal tells the size.
                let info = self.told(key, version, read).await?;
                match read.range.map(|range| range.resolve(info.size)) {
                    Some(Err(error)) => return Err(error),
                    // It has grown since.
                    _ => continue,
                }
            };
            let (size, range) = extent(&opened, read.range)?;
            let found = self.found(&opened.headers, size)?;
            let record = match found.record() {
                None => None,
                Some(id) => match self.read_record(id).await {
                    Ok((record, _)) => Some(record),
                    Err(error) if *error.kind() == ErrorKind::NotFound => {
                        missing = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            let info = found.info(key, record.as_ref())?;
            matches(&info, read)?;
            let length = range.end - range.start;
            let body = match length {
                0 => Body::Bytes(Bytes::new()),
                _ => self.begun(self.client.body(opened, length)).await?,
            };
            return Ok(Object { info, range, body });
        }
        Err(lost_record(key, missing))
    }

    /// A body. Where others can be asked instead, its first piece is there: after that it is too late for another upstream.
    async fn begun(&self, body: Body) -> Result<Body> {
        let mut body = match body {
            Body::Stream(body) if self.hasty => body,
            Body::Socket(body) if self.hasty => {
                body.begun().await?;
                return Ok(Body::Socket(body));
            }
            body => return Ok(body),
        };
        match body.next().await {
            Some(Ok(first)) => Ok(Body::Stream(stream::iter([Ok(first)]).chain(body).boxed())),
            Some(Err(error)) => Err(error),
            None => Err(Error::new(ErrorKind::Unavailable, "body of the remote").with("reason", "it is empty")),
        }
    }
}

pub(crate) fn matches(info: &ObjectInfo, read: &ReadOptions) -> Result<()> {
    match &read.if_match {
        Some(etag) if *etag != info.etag => Err(Error::new(ErrorKind::PreconditionFailed, "read").with("key", &info.key)),
        _ => Ok(()),
    }
}

/// A range as a header says it. Beyond what any object holds, servers take numbers for nonsense.
fn header(range: RangeSpec) -> String {
    match range {
        RangeSpec::Between(first, last) => format!("bytes={}-{}", first.min(END), last.min(END)),
        RangeSpec::From(first) => format!("bytes={}-", first.min(END)),
        RangeSpec::Last(count) => format!("bytes=-{}", count.min(END)),
    }
}

/// The size of the object, and which part of it an answer holds.
fn extent(opened: &Opened, asked: Option<RangeSpec>) -> Result<(u64, Range<u64>)> {
    let nonsense = || Error::new(ErrorKind::Unavailable, "range of the remote").with("reason", "it is not what was asked for");
    let length = content_length(&opened.headers)?;
    let (size, range) = if opened.status == StatusCode::PARTIAL_CONTENT {
        let text = opened.headers.get("content-range").and_then(|value| value.to_str().ok());
        content_range(text.unwrap_or_default()).ok_or_else(nonsense)?
    } else {
        (length, 0..length)
    };
    let due = match asked {
        Some(asked) => asked.resolve(size)?,
        None => 0..size,
    };
    if range == due && range.end - range.start == length { Ok((size, range)) } else { Err(nonsense()) }
}

/// `bytes first-last/size` (RFC 9110 section 14.4).
fn content_range(text: &str) -> Option<(u64, Range<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then(|| (size, first..last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_makes_sense_or_is_none() {
        assert_eq!(content_range("bytes 3-5/10"), Some((10, 3..6)));
        for nonsense in ["", "bytes 5-3/10", "bytes 0-10/10", "bytes 0-1/*", "bytes */10", "items 0-1/10", "bytes -1-2/3"] {
            assert_eq!(content_range(nonsense), None, "{nonsense}");
        }
        let most = u64::MAX;
        assert_eq!(content_range(&format!("bytes 0-{most}/{most}")), None);
    }

    #[test]
    fn ranges_stay_within_what_servers_read() {
        assert_eq!(header(RangeSpec::Between(0, u64::MAX)), "bytes=0-9223372036854775807");
        assert_eq!(header(RangeSpec::Last(u64::MAX)), "bytes=-9223372036854775807");
        assert_eq!(header(RangeSpec::From(3)), "bytes=3-");
    }
}
