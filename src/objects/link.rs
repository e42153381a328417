//! Readers that are sent to where the bytes are, so that these do not go through the gateway.
//!
//! Only where the answer there is the one that the gateway would give: whoever follows a link sees nothing of what the gateway adds.

use sluice_provider as provider;
use sluice_provider::{Link, ObjectInfo};

use super::layer::with_key;
use super::place::Place;
use super::read::{applies, known_as};
use super::{LinkRequest, Objects, ReadRequest, attribute};
use crate::encryption::is_encrypted;
use crate::error::{Error, Result};
use crate::namespaces::Namespace;

/// Attributes that an answer to a read does not show, or that whoever makes the link has compared: with these an object can be linked to.
/// Tags, locks, lists of rights, storage classes and whatever is new are none of them.
const PLAIN: [&str; 10] = [
    attribute::CONTENT_TYPE,
    attribute::CONTENT_ENCODING,
    attribute::CONTENT_DISPOSITION,
    attribute::CONTENT_LANGUAGE,
    attribute::CACHE_CONTROL,
    attribute::EXPIRES,
    attribute::OWNER,
    attribute::CHECKSUM_TYPE,
    attribute::PARTS,
    attribute::UPLOAD,
];

/// What the names of checksums begin with.
const CHECKSUM: &str = "checksum.";

impl Objects {
    /// Whether readers of a key may be sent elsewhere at all: its mount makes links.
    ///
    /// # Errors
    /// As [`get`](Self::get) for a key that has no mount.
    pub fn makes_links(&self, ns: &Namespace, key: &str) -> Result<bool> {
        let (provider, _, _) = ns.resolve(key)?;
        Ok(provider.links().is_some())
    }

    /// The object as a link, if its mount makes one and the read allows it. Its conditions have been checked then.
    ///
    /// # Errors
    /// Those of a condition that does not hold, and the provider's; that there is no object is left to the read itself to tell.
    pub async fn link(
        &self,
        ns: &Namespace,
        key: &str,
        read: &ReadRequest,
        wish: &LinkRequest,
    ) -> Result<Option<(ObjectInfo, Link)>> {
        let place = Place::new(ns, key, read.version)?;
        let (None, None, None) = (&read.part, &place.version, &read.customer_key) else { return Ok(None) };
        let Some(links) = place.provider.links() else { return Ok(None) };
        let linked = match links.link(&place.key, &wish.shown).await {
            Ok(Some(linked)) => linked,
            Ok(None) => return Ok(None),
            Err(error) if *error.kind() == provider::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(known_as(Error::from(error), key)),
        };
        let info = with_key(linked.info, key)?;
        let range = applies(read, &info);
        if !is_plain(&info) || wish.checksums && range.is_none() && has_checksums(&info) {
            return Ok(None);
        }
        read.conditions.check(&info)?;
        if range.is_some_and(|range| range.resolve(info.size).is_err()) {
            return Ok(None);
        }
        Ok(Some((info, linked.link)))
    }
}

fn is_plain(info: &ObjectInfo) -> bool {
    let plain = |name: &str| PLAIN.contains(&name) || name.starts_with(attribute::USER_PREFIX) || name.starts_with(CHECKSUM);
    !is_encrypted(&info.attributes) && info.attributes.iter().all(|(name, _)| plain(name))
}

fn has_checksums(info: &ObjectInfo) -> bool {
    info.attributes.iter().any(|(name, _)| name.starts_with(CHECKSUM))
}
