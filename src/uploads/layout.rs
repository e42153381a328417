//! How an object remembers the parts that it was made of: the `parts` attribute.
//!
//! The form is `number:size` separated by commas, each optionally followed by `:ALGORITHM=base64` for each of its checksums, such
//! as `1:5242880:CRC32=qiUaJw==,2:17:CRC32=AAAAAA==`. Ten thousand parts with checksums would not fit what every provider keeps
//! beside an object, so a long list gives up the parts' checksums, and then writes a run of parts of one size as
//! `first-last:size`.

use std::fmt::Write as _;

use crate::transfer::Algorithm;

/// The attribute that holds the parts of a multipart object.
pub const PARTS_ATTRIBUTE: &str = "parts";
/// The attribute that holds the id of the upload that an object came from: how a repeated Complete knows its own object.
pub const UPLOAD_ATTRIBUTE: &str = "upload";
/// The attribute that tells what the checksum of a multipart object covers: `FULL_OBJECT` or `COMPOSITE`.
pub const CHECKSUM_TYPE_ATTRIBUTE: &str = "checksum.type";

/// The longest list in bytes: three quarters of what every provider keeps, the rest being for metadata, tags and headers.
const MAX_BYTES: usize = 48 * 1024;

/// A part of a finished object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPart {
    /// Its number, as it was uploaded.
    pub number: u16,
    /// Its size in bytes.
    pub size: u64,
    /// Its checksums in base64, where they were kept.
    pub checksums: Vec<(Algorithm, String)>,
}

/// The attribute's value. `None` when even the shortest form would be too long: more than about four thousand parts of sizes that
/// all differ; such an object has no parts that can be read one by one.
#[must_use]
pub fn format_parts(parts: &[ObjectPart]) -> Option<String> {
    let fits = |text: &String| text.len() <= MAX_BYTES;
    let full = join(parts.iter().map(|part| {
        let mut item = format!("{}:{}", part.number, part.size);
        for (algorithm, value) in &part.checksums {
            // Writing to a string does not fail.
            let _ = write!(item, ":{}={value}", algorithm.name());
        }
        item
    }));
    let plain = || join(parts.iter().map(|part| format!("{}:{}", part.number, part.size)));
    let runs = || {
        let runs = parts.chunk_by(|a, b| a.size == b.size && a.number.checked_add(1) == Some(b.number));
        join(runs.filter_map(|run| match (run.first()?, run.last()?) {
            (first, last) if first.number == last.number => Some(format!("{}:{}", first.number, first.size)),
            (first, last) => Some(format!("{}-{}:{}", first.number, last.number, first.size)),
        }))
    };
    Some(full).filter(fits).or_else(|| Some(plain()).filter(fits)).or_else(|| Some(runs()).filter(fits))
}

/// The parts that an attribute's value names; `None` when it makes no sense.
#[must_use]
pub fn parse_parts(value: &str) -> Option<Vec<ObjectPart>> {
    let mut parts = Vec::new();
    for item in value.split(',') {
        let mut fields = item.split(':');
        let (numbers, size) = (fields.next()?, fields.next()?.parse().ok()?);
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        let checksum = |field: &str| {
            let (name, value) = field.split_once('=')?;
            Some((Algorithm::from_name(name)?, value.to_owned()))
        };
        let checksums: Option<Vec<_>> = fields.map(checksum).collect();
        let checksums = checksums?;
        parts.extend((first..=last).map(|number| ObjectPart { number, size, checksums: checksums.clone() }));
    }
    parts.is_sorted_by(|a, b| a.number < b.number).then_some(parts)
}

fn join(items: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&item);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    fn part(number: u16, size: u64, checksums: &[(Algorithm, &str)]) -> ObjectPart {
        ObjectPart { number, size, checksums: checksums.iter().map(|(a, v)| (*a, (*v).to_owned())).collect() }
    }

    #[test]
    fn the_form_is_readable() {
        let parts = [part(1, 5, &[(Algorithm::Crc32, "qiUaJw==")]), part(3, 0, &[])];
        assert_eq!(format_parts(&parts).unwrap(), "1:5:CRC32=qiUaJw==,3:0");
        assert_eq!(parse_parts("1:5:CRC32=qiUaJw==,3:0").unwrap(), parts);
        assert_eq!(parse_parts("1-3:7,4:1").unwrap().iter().map(|p| p.size).collect::<Vec<_>>(), [7, 7, 7, 1]);
        for bad in ["", "1", "1:x", "x:1", "2:1,1:1", "1:1:NOPE=x", "1:1:CRC32", "1:1,"] {
            assert_eq!(parse_parts(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ten_thousand_parts_fit_without_their_checksums() {
        let parts: Vec<_> = (1..=10_000).map(|n| part(n, 8 << 20, &[(Algorithm::Sha256, &"x".repeat(44))])).collect();
        let text = format_parts(&parts).unwrap();
        assert!(text.len() <= MAX_BYTES);
        let sizes: Vec<_> = parse_parts(&text).unwrap().iter().map(|p| (p.number, p.size)).collect();
        assert_eq!(sizes, parts.iter().map(|p| (p.number, p.size)).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(sizes in proptest::collection::btree_map(1..10_000u16, (0..u64::MAX, any::<bool>()), 1..40)) {
            let parts: Vec<_> = sizes.into_iter().map(|(number, (size, sum))| {
                part(number, size, if sum { &[(Algorithm::Sha1, "a+/="), (Algorithm::Crc32c, "AAAAAA==")] } else { &[] })
            }).collect();
            prop_assert_eq!(parse_parts(&format_parts(&parts).unwrap()).unwrap(), parts);
        }
    }
}
