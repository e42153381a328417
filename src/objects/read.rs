//! Reading.

use std::ops::Range;

use sluice_provider as provider;
use sluice_provider::{Body, Key, Object, ObjectInfo, PartNumber, Provider, RangeSpec, ReadOptions};

use super::body::open;
use super::layer::with_key;
use super::{Found, Objects, Opened, ReadRequest, attribute};
use crate::error::{Error, ErrorKind, Result};
use crate::handles::Purpose;
use crate::namespaces::Namespace;
use crate::uploads::{ObjectPart, parse_parts};

/// How often a read that needs two steps starts over when the object changed between them.
const TRIES: usize = 4;

impl Objects {
    /// Metadata; conditions are evaluated, a range is resolved.
    ///
    /// # Errors
    /// The provider's NotFound, `NotModified`, `PreconditionFailed`, RangeNotSatisfiable, `InvalidPartNumber`.
    pub async fn head(&self, ns: &Namespace, key: &str, read: &ReadRequest) -> Result<Found> {
        check_request(read)?;
        let (provider, inner, _) = ns.resolve(key)?;
        let info = with_key(provider.head(&inner, &ReadOptions::default()).await?, key)?;
        read.conditions.check(&info)?;
        let range = match (read.part, applies(read, &info)) {
            (Some(part), _) => part_range(&info, part)?,
            (None, Some(range)) => Some(range.resolve(info.size)?),
            (None, None) => None,
        };
        Ok(found(info, range))
    }

    /// Opens for reading.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub async fn get(&self, ns: &Namespace, key: &str, read: &ReadRequest) -> Result<Opened> {
        check_request(read)?;
        let (provider, inner, _) = ns.resolve(key)?;
        let guard = self.handle(ns, key, Purpose::Read);
        let (found, range, body) = {
            let _busy = guard.busy();
            let opened = match read.part {
                Some(part) => open_part(&*provider, &inner, read, part).await,
                None => open_range(&*provider, &inner, read).await,
            };
            opened.map_err(|error| known_as(error, key))?
        };
        let found = Found { info: with_key(found.info, key)?, ..found };
        let body = open(body, range.end.saturating_sub(range.start), read.pieces, guard).await?;
        Ok(Opened { found, body })
    }
}

/// NotModified carries metadata: under the key that the caller knows.
fn known_as(error: Error, key: &str) -> Error {
    match error.kind() {
        ErrorKind::NotModified(info) => match with_key(ObjectInfo::clone(info), key) {
            Ok(info) => Error::new(ErrorKind::NotModified(Box::new(info)), "read"),
            Err(error) => error,
        },
        _ => error,
    }
}

/// What is told of an object, and the range of it that the body holds.
type Reading = (Found, Range<u64>, Body);

/// Opens the whole object or a range of it. One call, unless the range does not apply or cannot be satisfied.
async fn open_range(provider: &dyn Provider, key: &Key, read: &ReadRequest) -> Result<Reading> {
    for _ in 0..TRIES {
        match provider.get(key, &ReadOptions { range: read.range, if_match: None }).await {
            Ok(Object { info, range, body }) => {
                read.conditions.check(&info)?;
                if read.range.is_none() {
                    return Ok((found(info, None), range, body));
                }
                if applies(read, &info).is_some() {
                    return Ok((found(info, Some(range.clone())), range, body));
                }
            }
            Err(error) if matches!(error.kind(), provider::ErrorKind::RangeNotSatisfiable { .. }) => {
                // A condition that does not hold outweighs the range, and so does an If-Range.
                let info = provider.head(key, &ReadOptions::default()).await?;
                read.conditions.check(&info)?;
                if let Some(range) = applies(read, &info) {
                    match range.resolve(info.size) {
                        Err(error) => return Err(error.into()),
                        // It has grown meanwhile.
                        Ok(_) => continue,
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        // The range is for another version of the object: this one is wanted whole.
        let Object { info, range, body } = provider.get(key, &ReadOptions::default()).await?;
        read.conditions.check(&info)?;
        return Ok((found(info, None), range, body));
    }
    Err(changing())
}

/// Opens one part, as the object's own list of parts has it.
async fn open_part(provider: &dyn Provider, key: &Key, read: &ReadRequest, part: PartNumber) -> Result<Reading> {
    for _ in 0..TRIES {
        let info = provider.head(key, &ReadOptions::default()).await?;
        read.conditions.check(&info)?;
        let range = part_range(&info, part)?;
        if let Some(range) = range.clone().filter(Range::is_empty) {
            return Ok((found(info, Some(range.clone())), range, Body::Bytes(bytes::Bytes::new())));
        }
        let spec = range.clone().map(|range| RangeSpec::Between(range.start, range.end - 1));
        match provider.get(key, &ReadOptions { range: spec, if_match: Some(info.etag) }).await {
            Ok(object) => return Ok((found(object.info, range), object.range, object.body)),
            Err(error) if *error.kind() == provider::ErrorKind::PreconditionFailed => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(changing())
}

/// The range, if it applies to this object.
fn applies(read: &ReadRequest, info: &ObjectInfo) -> Option<RangeSpec> {
    read.range.filter(|_| read.if_range.as_ref().is_none_or(|condition| condition.holds(info)))
}

/// The bytes of a part; `None` for all of an empty object.
fn part_range(info: &ObjectInfo, part: PartNumber) -> Result<Option<Range<u64>>> {
    let beyond = || Error::new(ErrorKind::InvalidPartNumber, "read a part").with("part", part);
    let Some(parts) = parts_of(info) else {
        // A plain object, or one whose parts are too many to be remembered, is its only part.
        return if part.get() == 1 { Ok((info.size > 0).then_some(0..info.size)) } else { Err(beyond()) };
    };
    let mut start = 0_u64;
    for candidate in parts {
        let end = start.saturating_add(candidate.size);
        if candidate.number == part.get() {
            let range = start.min(info.size)..end.min(info.size);
            return Ok((info.size > 0).then_some(range));
        }
        start = end;
    }
    Err(beyond())
}

fn parts_of(info: &ObjectInfo) -> Option<Vec<ObjectPart>> {
    parse_parts(info.attributes.get(attribute::PARTS)?)
}

/// How many parts there were: the count in the ETag of a multipart object.
fn part_count(info: &ObjectInfo) -> Option<usize> {
    let (_, count) = info.etag.as_str().rsplit_once('-')?;
    count.parse().ok()
}

fn found(info: ObjectInfo, range: Option<Range<u64>>) -> Found {
    let parts = part_count(&info);
    Found { info, range, parts }
}

fn check_request(read: &ReadRequest) -> Result<()> {
    if read.part.is_some() && read.range.is_some() {
        let message = "Cannot specify both Range header and partNumber query parameter";
        return Err(Error::new(ErrorKind::InvalidRequest(message.into()), "read"));
    }
    Ok(())
}

fn changing() -> Error {
    Error::new(ErrorKind::Provider(provider::ErrorKind::Conflict), "read of an object that keeps changing")
}
