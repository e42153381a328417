//! Values on their way to a plugin and back. What comes back is believed when it makes sense.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sluice_provider::{
    Attributes, Body, ByteStream, ETag, Error, ErrorKind, Key, Object, ObjectInfo, PutBody, RangeSpec, Result,
};

use crate::bindings;

/// The most of the attributes of an object, in bytes.
const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;
/// The year 9999 has ended.
const END_OF_TIME: u64 = 253_402_300_800;
/// The attribute of what is encrypted at rest: its bytes are not what was sent.
const ENCRYPTED: &str = "sse";

/// Whether a plugin may know and tell of an attribute. Those that say who may see an object, how long it must stay, how it is encrypted,
/// or on which mount its bytes lie are between the gateway and its own providers.
fn open_to_plugins(name: &str) -> bool {
    const HEADERS: [&str; 7] =
        ["content-type", "content-encoding", "content-disposition", "content-language", "cache-control", "expires", "tags"];
    HEADERS.contains(&name) || name.starts_with("meta.") || is_checksum(name)
}

/// Whether an attribute is a checksum of the bytes, which others have not.
pub(crate) fn is_checksum(name: &str) -> bool {
    name.starts_with("checksum.")
}

/// Refuses an object whose bytes a plugin would not recognise.
///
/// # Errors
/// `Unsupported`.
pub(crate) fn readable(attributes: &Attributes, operation: &'static str) -> Result<()> {
    match attributes.get(ENCRYPTED) {
        None => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::Unsupported, operation).with("because", "a plugin cannot read what is encrypted")),
    }
}

/// The attributes that a plugin may know.
pub(crate) fn shown(attributes: &Attributes) -> Vec<(String, String)> {
    attributes.iter().filter(|(name, _)| open_to_plugins(name)).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// The attributes of an object that a plugin is to keep: all of them, or none.
///
/// # Errors
/// `Unsupported` when one of them is not for plugins.
pub(crate) fn kept(attributes: &Attributes, operation: &'static str) -> Result<Vec<(String, String)>> {
    readable(attributes, operation)?;
    match attributes.iter().find(|(name, _)| !open_to_plugins(name)) {
        None => Ok(shown(attributes)),
        Some((name, _)) => Err(Error::new(ErrorKind::Unsupported, operation).with("a plugin cannot keep", name)),
    }
}

fn corrupt(operation: &'static str, what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, operation).with("the plugin answers", what)
}

/// Metadata that a plugin tells.
///
/// # Errors
/// `Corrupt` when it cannot be true.
pub(crate) fn info(key: &Key, told: bindings::Info, operation: &'static str) -> Result<ObjectInfo> {
    let etag = ETag::new(&told.etag).ok().filter(|etag| etag.as_str().len() <= 128);
    let etag = etag.ok_or_else(|| corrupt(operation, "an entity tag that is none"))?;
    let mut size = 0;
    let mut attributes = Attributes::new();
    for (name, value) in told.attributes {
        if !open_to_plugins(&name) || name.len() > 255 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(corrupt(operation, "an attribute that is not for it to tell"));
        }
        // They become headers.
        if value.chars().any(char::is_control) {
            return Err(corrupt(operation, "an attribute with a control character"));
        }
        size += name.len() + value.len();
        attributes.set(name, value);
    }
    if size > MAX_ATTRIBUTE_BYTES {
        return Err(corrupt(operation, "more than 64 KiB of attributes"));
    }
    Ok(ObjectInfo { key: key.clone(), size: told.size, etag, modified: time(told.modified, operation)?, attributes })
}

/// A time that a plugin tells.
///
/// # Errors
/// `Corrupt` when it has more than four digits of a year.
pub(crate) fn time(seconds: u64, operation: &'static str) -> Result<SystemTime> {
    let time = (seconds < END_OF_TIME).then(|| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))).flatten();
    time.ok_or_else(|| corrupt(operation, "a time that is none"))
}

/// An object that a plugin answers.
///
/// # Errors
/// `Corrupt` when its size is not that of its body, or more than it may be.
pub(crate) fn object(
    key: &Key,
    told: bindings::Object,
    most: usize,
    range: Option<RangeSpec>,
    operation: &'static str,
) -> Result<Object> {
    let info = info(key, told.info, operation)?;
    if told.body.len() > most {
        return Err(corrupt(operation, "more than it may"));
    }
    if info.size != told.body.len() as u64 {
        return Err(corrupt(operation, "another number of bytes than it says"));
    }
    part(info, Bytes::from(told.body), range)
}

/// The part of an object that was asked for.
///
/// # Errors
/// `RangeNotSatisfiable`.
pub(crate) fn part(info: ObjectInfo, bytes: Bytes, range: Option<RangeSpec>) -> Result<Object> {
    let size = bytes.len() as u64;
    let range = range.map_or(Ok(0..size), |range| range.resolve(size))?;
    // Both ends lie within what is in memory.
    let (start, end) = (usize::try_from(range.start).unwrap_or(0), usize::try_from(range.end).unwrap_or(bytes.len()));
    Ok(Object { info, range, body: Body::Bytes(bytes.slice(start..end)) })
}

/// What is told of an object to a plugin.
pub(crate) fn told(info: &ObjectInfo, attributes: Vec<(String, String)>) -> bindings::Info {
    let modified = info.modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    bindings::Info { size: info.size, etag: info.etag.as_str().to_owned(), modified, attributes }
}

/// A body on its way in, in memory.
///
/// # Errors
/// The body's own; `TooLarge`.
pub(crate) async fn gather(body: &mut PutBody, most: usize, operation: &'static str) -> Result<Bytes> {
    let too_large = || Error::new(ErrorKind::TooLarge, operation).with("most", most);
    if body.size().is_some_and(|size| size > most as u64) {
        return Err(too_large());
    }
    let mut gathered = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        if gathered.len() + chunk.len() > most {
            return Err(too_large());
        }
        gathered.extend_from_slice(&chunk);
    }
    Ok(gathered.into())
}

/// The bytes of an object that was opened, in memory.
///
/// # Errors
/// `TooLarge`; those of the body; `Corrupt` when it is cut short.
pub(crate) async fn bytes_of(object: Object, most: usize, operation: &'static str) -> Result<Vec<u8>> {
    let length = object.range.end.saturating_sub(object.range.start);
    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= most) else {
        return Err(Error::new(ErrorKind::TooLarge, operation).with("size", length).with("most", most));
    };
    let bytes = match object.body {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::File { file, range } => {
            let read = tokio::task::spawn_blocking(move || {
                use std::os::unix::fs::FileExt as _;
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, range.start).map(|()| bytes)
            });
            let read = read.await.map_err(|error| Error::new(ErrorKind::Internal, operation).caused_by(error))?;
            read.map_err(|error| Error::new(ErrorKind::Unavailable, operation).caused_by(error))?
        }
        Body::Socket(body) => gathered(body.into_stream(), length).await?,
        Body::Stream(stream) => gathered(stream, length).await?,
    };
    if bytes.len() != length {
        return Err(Error::new(ErrorKind::Corrupt, operation).with("size", length).with("bytes", bytes.len()));
    }
    Ok(bytes)
}

/// Up to `length` bytes of a stream, and some more if there are.
async fn gathered(mut stream: ByteStream, length: usize) -> Result<Vec<u8>> {
    use futures::StreamExt as _;
    let mut bytes = Vec::with_capacity(length);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if bytes.len() + chunk.len() > length {
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
