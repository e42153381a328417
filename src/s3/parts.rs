//! The part sizes that a multipart object remembers (see [`crate::objects::attribute::PARTS`]).

use sluice_provider::Attributes;

use crate::objects::attribute;
use crate::transfer::Algorithm;

/// A part of a finished object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its number.
    pub(crate) number: u16,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its checksums in base64.
    pub(crate) checksums: Vec<(Algorithm, String)>,
}

/// The parts of an object; `None` for a plain one.
pub(crate) fn of(attributes: &Attributes) -> Option<Vec<Part>> {
    let text = attributes.get(attribute::PARTS)?;
    text.split(',').map(part).collect()
}

fn part(text: &str) -> Option<Part> {
    let mut fields = text.split(':');
    let number = fields.next()?.parse().ok()?;
    let size = fields.next()?.parse().ok()?;
    let checksum = |field: &str| {
        let (name, value) = field.split_once('=')?;
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|a| a.name().eq_ignore_ascii_case(name) || a.attribute().eq_ignore_ascii_case(name))?;
        Some((algorithm, value.to_owned()))
    };
    Some(Part { number, size, checksums: fields.filter_map(checksum).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_with_and_without_checksums() {
        let attributes: Attributes = [(attribute::PARTS, "1:5242880:crc32=AAAAAA==,3:7")].into_iter().collect();
        let parts = of(&attributes).unwrap_or_default();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].checksums, [(Algorithm::Crc32, "AAAAAA==".to_owned())]);
        assert_eq!((parts[1].number, parts[1].size), (3, 7));
        assert_eq!(of(&Attributes::new()), None);
    }
}
