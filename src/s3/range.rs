//! The Range header as S3 reads it: one byte range is honoured, anything else means the whole object.

use std::borrow::Cow;

use http_range_header::{EndPosition, RangeUnsatisfiableError, StartPosition, parse_range_header};
use sluice_provider::RangeSpec;

use super::error::{Failure, Result};

/// Where no object reaches.
const LAST: u64 = i64::MAX as u64;

/// Reads a `Range`. A malformed one, several ranges and other units are no range at all (RFC 9110 section 14.2 allows to ignore
/// them, and AWS answers 200); `bytes=-0` is a range that nothing satisfies.
pub(crate) fn parse(text: &str) -> Option<RangeSpec> {
    let text = &*countable(text);
    let ranges = match parse_range_header(text.trim()) {
        Ok(parsed) => parsed.ranges,
        Err(RangeUnsatisfiableError::ZeroSuffix) if text.trim() == "bytes=-0" => return Some(RangeSpec::Last(0)),
        Err(_) => return None,
    };
    let [range] = ranges.as_slice() else { return None };
    match (range.start, range.end) {
        (StartPosition::Index(first), EndPosition::Index(last)) => (first <= last).then_some(RangeSpec::Between(first, last)),
        (StartPosition::Index(first), EndPosition::LastByte) => Some(RangeSpec::From(first)),
        (StartPosition::FromLast(count), _) => Some(RangeSpec::Last(count)),
    }
}

/// A header in which no number is larger than any object: a position is where it is, however many digits tell so.
fn countable(text: &str) -> Cow<'_, str> {
    let too_large = |digits: &str| digits.len() > 18 && digits.parse::<u64>().map_or(true, |number| number > LAST);
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = text.split_inclusive(['=', '-', ',']).flat_map(|part| match part.char_indices().next_back() {
        Some((at, '=' | '-' | ',')) => [&part[..at], &part[at..]],
        _ => [part, ""],
    });
    if text.len() < 19 || !parts.clone().any(|part| is_number(part) && too_large(part)) {
        return Cow::Borrowed(text);
    }
    let last = LAST.to_string();
    parts.by_ref().map(|part| if is_number(part) && too_large(part) { &last } else { part }).collect::<String>().into()
}

/// Reads `x-amz-copy-source-range`, which has one form only.
///
/// # Errors
/// `InvalidArgument` for any other form.
pub(crate) fn copy_source(text: &str) -> Result<(u64, u64)> {
    match parse(text) {
        Some(RangeSpec::Between(first, last)) => Ok((first, last)),
        _ => Err(Failure::argument(
            "x-amz-copy-source-range",
            text,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based \
             offsets of the first and last bytes to copy",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_range_counts_and_nothing_else() {
        assert_eq!(parse("bytes=0-499"), Some(RangeSpec::Between(0, 499)));
        assert_eq!(parse("bytes=500-"), Some(RangeSpec::From(500)));
        assert_eq!(parse("bytes=-200"), Some(RangeSpec::Last(200)));
        assert_eq!(parse("bytes=-0"), Some(RangeSpec::Last(0)));
        let beyond = "18446744073709551616";
        assert_eq!(parse(&format!("bytes={beyond}-")), Some(RangeSpec::From(LAST)));
        assert_eq!(parse(&format!("bytes=5-{beyond}")), Some(RangeSpec::Between(5, LAST)));
        assert_eq!(parse(&format!("bytes=-{beyond}")), Some(RangeSpec::Last(LAST)));
        assert_eq!(parse(&format!("bytes=5-{}", u64::MAX)), Some(RangeSpec::Between(5, LAST)));
        for whole in
            ["bytes=500-100", "chars=0-1", "bytes=0-1,3-4", "bytes=", "bytes=a-b", "bytes", "", "bytes=-", "0-4", "bytes=-0,1-2"]
        {
            assert_eq!(parse(whole), None, "{whole}");
        }
    }

    #[test]
    fn a_copy_range_is_exact() {
        assert_eq!(copy_source("bytes=0-9").ok(), Some((0, 9)));
        for bad in ["0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "hello-", "0-2,3-5", "bytes=5-", "bytes=-5"] {
            assert!(copy_source(bad).is_err(), "{bad}");
        }
    }
}
