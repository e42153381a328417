//! Reading what is encrypted.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sluice_provider as provider;
use sluice_provider::{Body, Object, ObjectInfo, PartNumber, RangeSpec, ReadOptions, known_size};

use super::place::Place;
use super::read::{Reading, applies, found, part_range, parts_of};
use super::{Objects, ReadRequest};
use crate::encryption::{At, CustomerKey, ENVELOPE_ATTRIBUTE, Fetch, Opener};
use crate::error::{Error, Result};
use crate::namespaces::Namespace;

impl Objects {
    /// What was opened, decrypted; `None` when it is another object by now. Conditions have been checked.
    pub(super) async fn unsealed(
        &self,
        of: (&Namespace, &str),
        place: &Place,
        read: &ReadRequest,
        object: Object,
    ) -> Result<Option<Reading>> {
        let Object { info, range, body } = object;
        let size = known_size(&info);
        let stored = Stored { place, info: &info, first: Mutex::new(Some((range, body))) };
        let range = applies(read, &info).map(|range| range.resolve(size));
        let opener = self.opener(of, &info, read.customer_key.as_ref()).await?;
        let range = range.transpose()?;
        let wanted = range.clone().unwrap_or(0..size);
        match opener.read(wanted.clone(), &stored).await {
            Ok(body) => Ok(Some((found(ObjectInfo { size, ..info.clone() }, range), wanted, body))),
            Err(error) => changed(error),
        }
    }

    /// A part of what was found, decrypted; `None` when it is another object by now.
    pub(super) async fn unsealed_part(
        &self,
        of: (&Namespace, &str),
        place: &Place,
        read: &ReadRequest,
        info: ObjectInfo,
        part: PartNumber,
    ) -> Result<Option<Reading>> {
        let opener = self.opener(of, &info, read.customer_key.as_ref()).await?;
        let shown = ObjectInfo { size: known_size(&info), ..info.clone() };
        let range = part_range(&shown, part)?;
        let wanted = range.clone().unwrap_or(0..0);
        if wanted.is_empty() && range.is_some() {
            return Ok(Some((found(shown, range), wanted, Body::Bytes(Bytes::new()))));
        }
        let stored = Stored { place, info: &info, first: Mutex::new(None) };
        match opener.read(wanted.clone(), &stored).await {
            Ok(body) => Ok(Some((found(shown, range), wanted, body))),
            Err(error) => changed(error),
        }
    }

    /// A range of an object that was found before, decrypted.
    ///
    /// # Errors
    /// PreconditionFailed when it is another object by now.
    pub(super) async fn decrypted(
        &self,
        of: (&Namespace, &str),
        place: &Place,
        info: &ObjectInfo,
        customer: Option<&CustomerKey>,
        range: Range<u64>,
    ) -> Result<Body> {
        let opener = self.opener(of, info, customer).await?;
        opener.read(range, &Stored { place, info, first: Mutex::new(None) }).await
    }

    async fn opener(&self, of: (&Namespace, &str), info: &ObjectInfo, customer: Option<&CustomerKey>) -> Result<Opener> {
        let at = At { bucket: &of.0.bucket.name, key: of.1 };
        let parts = || Some(parts_of(info)?.into_iter().map(|part| (part.number, part.size)).collect());
        let opener = self.encryption().open(at, info, parts, customer).await?;
        // Whoever comes here has seen that it is encrypted, or brings a key that is refused.
        opener.ok_or_else(|| provider::Error::new(provider::ErrorKind::Internal, "decrypt what is not encrypted").into())
    }
}

/// `None` when the object is another one by now.
fn changed(error: Error) -> Result<Option<Reading>> {
    if error.is_provider(provider::ErrorKind::PreconditionFailed) { Ok(None) } else { Err(error) }
}

/// The stored bytes of an object that was found.
struct Stored<'a> {
    place: &'a Place,
    info: &'a ObjectInfo,
    /// What the finding has opened already: its range and its bytes.
    first: Mutex<Option<(Range<u64>, Body)>>,
}

impl Stored<'_> {
    /// The bytes, if they are among what is open.
    fn at_hand(&self, stored: &Range<u64>) -> Option<Body> {
        let mut first = self.first.lock();
        let (have, body) = first.as_ref()?;
        if stored.start < have.start || stored.end > have.end {
            return None;
        }
        let offset = stored.start - have.start;
        let length = stored.end - stored.start;
        match body {
            Body::Bytes(bytes) => {
                let from = usize::try_from(offset).ok()?;
                let to = from.checked_add(usize::try_from(length).ok()?)?;
                (to <= bytes.len()).then(|| Body::Bytes(bytes.slice(from..to)))
            }
            Body::File { file, range } => {
                let from = range.start.checked_add(offset)?;
                Some(Body::File { file: file.clone(), range: from..from.checked_add(length)? })
            }
            Body::Socket(_) | Body::Stream(_) if have == stored => first.take().map(|(_, body)| body),
            Body::Socket(_) | Body::Stream(_) => None,
        }
    }
}

#[async_trait]
impl Fetch for Stored<'_> {
    async fn fetch(&self, stored: Range<u64>) -> Result<Body> {
        if let Some(body) = self.at_hand(&stored) {
            return Ok(body);
        }
        let range = RangeSpec::Between(stored.start, stored.end.saturating_sub(1));
        let read = ReadOptions { range: Some(range), if_match: Some(self.info.etag.clone()) };
        let object = self.place.get(&read).await?;
        // Two objects of the same content have the same ETag, but never the same key.
        let envelope = |info: &ObjectInfo| info.attributes.get(ENVELOPE_ATTRIBUTE).map(str::to_owned);
        if envelope(&object.info) != envelope(self.info) || object.range != stored {
            let another = provider::Error::new(provider::ErrorKind::PreconditionFailed, "read on in an object that was replaced");
            return Err(another.into());
        }
        Ok(object.body)
    }
}
