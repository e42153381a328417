//! The parts that a multipart object remembers.

use sluice_provider::Attributes;

use crate::objects::attribute;
use crate::uploads::{ObjectPart, parse_parts};

/// The parts of an object; `None` for a plain one.
pub(crate) fn of(attributes: &Attributes) -> Option<Vec<ObjectPart>> {
    parse_parts(attributes.get(attribute::PARTS)?)
}
