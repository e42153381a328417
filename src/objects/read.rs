//! Reading.

use std::ops::Range;

use sluice_provider as provider;
use sluice_provider::{Body, Object, ObjectInfo, PartNumber, RangeSpec, ReadOptions, known_size};

use super::body::open;
use super::layer::with_key;
use super::place::Place;
use super::{Found, Objects, Opened, ReadRequest, attribute};
use crate::encryption::is_encrypted;
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
        let info = with_key(Place::new(ns, key, read.version)?.head().await?, key)?;
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
        let place = Place::new(ns, key, read.version)?;
        let guard = self.handle(ns, key, Purpose::Read);
        let (found, range, body) = {
            let _busy = guard.busy();
            let opened = match read.part {
                Some(part) => Box::pin(self.open_part((ns, key), &place, read, part)).await,
                None => self.open_range((ns, key), &place, read).await,
            };
            opened.map_err(|error| known_as(error, key))?
        };
        let found = Found { info: with_key(found.info, key)?, ..found };
        let body = open(body, range.end.saturating_sub(range.start), read.pieces, guard).await?;
        Ok(Opened { found, body })
    }
}

/// NotModified carries metadata: under the key that the caller knows.
pub(super) fn known_as(error: Error, key: &str) -> Error {
    match error.kind() {
        ErrorKind::NotModified(info) => match with_key(ObjectInfo::clone(info), key) {
            Ok(info) => Error::new(ErrorKind::NotModified(Box::new(info)), "read"),
            Err(error) => error,
        },
        _ => error,
    }
}

/// What is told of an object, and the range of it that the body holds.
pub(super) type Reading = (Found, Range<u64>, Body);

impl Objects {
    /// Opens the whole object or a range of it. One call, unless the range does not apply or cannot be satisfied, or the object is
    /// encrypted. What follows then is boxed, so that the frequent case does not carry it around.
    async fn open_range(&self, of: (&Namespace, &str), place: &Place, read: &ReadRequest) -> Result<Reading> {
        let mut unsatisfied = None;
        for _ in 0..TRIES {
            match place.get(&ReadOptions { range: read.range, if_match: None }).await {
                Ok(object) if is_sealed(&object.info, read) => {
                    read.conditions.check(&object.info)?;
                    match Box::pin(self.unsealed(of, place, read, object)).await? {
                        Some(reading) => return Ok(reading),
                        None => continue,
                    }
                }
                Ok(Object { info, range, body }) => {
                    read.conditions.check(&info)?;
                    if read.range.is_none() {
                        return Ok((found(info, None), range, body));
                    }
                    if applies(read, &info).is_some() {
                        return Ok((found(info, Some(range.clone())), range, body));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::Provider(provider::ErrorKind::RangeNotSatisfiable { .. })) => {
                    // A condition that does not hold outweighs the range, and so does an If-Range.
                    let info = Box::pin(place.head()).await?;
                    read.conditions.check(&info)?;
                    if let Some(range) = applies(read, &info) {
                        match range.resolve(known_size(&info)) {
                            Err(error) => return Err(error.into()),
                            // It has grown meanwhile; or its beginning is gone, and goes on to be.
                            Ok(_) => {
                                unsatisfied = Some(error);
                                continue;
                            }
                        }
                    }
                }
                Err(error) => return Err(error),
            }
            // The range is for another version of the object: this one is wanted whole.
            let object = Box::pin(place.get(&ReadOptions::default())).await?;
            read.conditions.check(&object.info)?;
            if is_sealed(&object.info, read) {
                match Box::pin(self.unsealed(of, place, read, object)).await? {
                    Some(reading) => return Ok(reading),
                    None => continue,
                }
            }
            let Object { info, range, body } = object;
            return Ok((found(info, None), range, body));
        }
        Err(unsatisfied.unwrap_or_else(changing))
    }

    /// Opens one part, as the object's own list of parts has it.
    async fn open_part(&self, of: (&Namespace, &str), place: &Place, read: &ReadRequest, part: PartNumber) -> Result<Reading> {
        for _ in 0..TRIES {
            let info = place.head().await?;
            read.conditions.check(&info)?;
            if is_sealed(&info, read) {
                match self.unsealed_part(of, place, read, info, part).await? {
                    Some(reading) => return Ok(reading),
                    None => continue,
                }
            }
            let range = part_range(&info, part)?;
            if let Some(range) = range.clone().filter(Range::is_empty) {
                return Ok((found(info, Some(range.clone())), range, Body::Bytes(bytes::Bytes::new())));
            }
            let spec = range.clone().map(|range| RangeSpec::Between(range.start, range.end - 1));
            match place.get(&ReadOptions { range: spec, if_match: Some(info.etag) }).await {
                Ok(object) => return Ok((found(object.info, range), object.range, object.body)),
                Err(error) if error.is_provider(provider::ErrorKind::PreconditionFailed) => {}
                Err(error) => return Err(error),
            }
        }
        Err(changing())
    }
}

/// Whether the object is encrypted, or a key says that it should be.
fn is_sealed(info: &ObjectInfo, read: &ReadRequest) -> bool {
    read.customer_key.is_some() || is_encrypted(&info.attributes)
}

/// The range, if it applies to this object.
pub(super) fn applies(read: &ReadRequest, info: &ObjectInfo) -> Option<RangeSpec> {
    read.range.filter(|_| read.if_range.as_ref().is_none_or(|condition| condition.holds(info)))
}

/// The bytes of a part; `None` for all of an empty object.
pub(super) fn part_range(info: &ObjectInfo, part: PartNumber) -> Result<Option<Range<u64>>> {
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

pub(super) fn parts_of(info: &ObjectInfo) -> Option<Vec<ObjectPart>> {
    parse_parts(info.attributes.get(attribute::PARTS)?)
}

/// How many parts there were: the count in the ETag of a multipart object.
fn part_count(info: &ObjectInfo) -> Option<usize> {
    let (_, count) = info.etag.as_str().rsplit_once('-')?;
    count.parse().ok()
}

pub(super) fn found(info: ObjectInfo, range: Option<Range<u64>>) -> Found {
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
