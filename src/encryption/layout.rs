//! Where segments and parts lie in what is stored.

use std::ops::Range;

use super::cipher::{TAG_BYTES, WRAPPED_BYTES};

/// Content per segment.
pub(super) const SEGMENT_BYTES: u64 = 64 * 1024;
/// A segment with its tag.
pub(super) const SEALED_BYTES: u64 = SEGMENT_BYTES + TAG_BYTES as u64;
/// What precedes a part: its data key, sealed by the upload's.
pub(super) const HEAD_BYTES: u64 = WRAPPED_BYTES as u64;

/// How many segments content of so many bytes has. An empty one has one too, so that its emptiness is sealed.
pub(super) fn segments(bytes: u64) -> u64 {
    bytes.div_ceil(SEGMENT_BYTES).max(1)
}

/// How many bytes are stored for an object of `bytes` bytes.
pub(super) fn stored_bytes(bytes: u64) -> u64 {
    bytes.saturating_add(segments(bytes).saturating_mul(TAG_BYTES as u64))
}

/// How many bytes are stored for a part of `bytes` bytes of an encrypted upload.
#[must_use]
pub fn stored_part_bytes(bytes: u64) -> u64 {
    stored_bytes(bytes).saturating_add(HEAD_BYTES)
}

/// What an object consists of, in bytes of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One stream.
    Whole(u64),
    /// Parts: number and size.
    Parts(Vec<(u16, u64)>),
}

impl Layout {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => *bytes,
            Self::Parts(parts) => parts.iter().map(|(_, bytes)| bytes).fold(0, |sum, bytes| sum.saturating_add(*bytes)),
        }
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => stored_bytes(*bytes),
            Self::Parts(parts) => parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(stored_part_bytes(*bytes))),
        }
    }
}

/// The segments of one stream that a range touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The number of the part; `None` for an object that is one stream.
    pub(super) part: Option<u16>,
    /// Whether the head of the part precedes the segments in what is fetched.
    pub(super) head: bool,
    /// The content of the whole stream in bytes.
    pub(super) bytes: u64,
    /// The first segment.
    pub(super) first: u64,
    /// The first segment that is not touched.
    pub(super) end: u64,
    /// Content before the range in the first segment.
    pub(super) skip: u64,
    /// Content of the range.
    pub(super) take: u64,
}

impl Span {
    /// The content of a segment in bytes, and whether it is the last.
    pub(super) fn segment(&self, number: u64) -> (u64, bool) {
        let last = number + 1 == segments(self.bytes);
        (if last { self.bytes - number * SEGMENT_BYTES } else { SEGMENT_BYTES }, last)
    }
}

/// What to fetch for a range of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The stored bytes.
    pub(super) stored: Range<u64>,
    /// The head of the first part, where it does not lie at the beginning of them.
    pub(super) head: Option<Range<u64>>,
    pub(super) spans: Vec<Span>,
}

/// What to fetch for `range`, which lies within the content. An empty range asks for the stream that it lies in, as far as the segment.
pub(super) fn plan(layout: &Layout, range: &Range<u64>) -> Plan {
    let mut plan = Plan { stored: 0..0, head: None, spans: Vec::new() };
    let mut touch = |part: Option<u16>, bytes: u64, content: u64, stored: u64| {
        let head = if part.is_some() { HEAD_BYTES } else { 0 };
        let (from, to) = (range.start.max(content) - content, range.end.min(content + bytes).saturating_sub(content));
        let first = (from / SEGMENT_BYTES).min(segments(bytes) - 1);
        let end = to.div_ceil(SEGMENT_BYTES).clamp(first + 1, segments(bytes));
        let begins = stored + head + first * SEALED_BYTES;
        let ends = (stored + head + end * SEALED_BYTES).min(stored + head + stored_bytes(bytes));
        let together = part.is_some() && first == 0;
        if plan.spans.is_empty() {
            plan.stored.start = if together { stored } else { begins };
            plan.head = (part.is_some() && !together).then_some(stored..stored + head);
        }
        plan.stored.end = ends;
        let (skip, take) = (from - first * SEGMENT_BYTES, to.saturating_sub(from));
        plan.spans.push(Span { part, head: together, bytes, first, end, skip, take });
    };
    match layout {
        Layout::Whole(bytes) => touch(None, *bytes, 0, 0),
        Layout::Parts(parts) => {
            let (mut content, mut stored) = (0, 0);
            for (number, bytes) in parts {
                let touched = range.start < content + bytes && range.end > content;
                let empty = range.is_empty() && content == range.start && content + bytes >= range.start;
                if touched || empty {
                    touch(Some(*number), *bytes, content, stored);
                    if empty {
                        break;
                    }
                }
                content += bytes;
                stored += stored_part_bytes(*bytes);
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = SEGMENT_BYTES;

    #[test]
    fn sizes_at_the_borders() {
        for (bytes, tags) in [(0, 1), (1, 1), (S - 1, 1), (S, 1), (S + 1, 2), (2 * S, 2), (2 * S + 1, 3)] {
            assert_eq!(stored_bytes(bytes), bytes + tags * 16);
        }
    }

    #[test]
    fn a_range_costs_its_own_segments() {
        let whole = plan(&Layout::Whole(10 * S), &(3 * S + 5..4 * S + 1));
        assert_eq!((whole.stored, whole.head), (3 * SEALED_BYTES..5 * SEALED_BYTES, None));
        assert_eq!((whole.spans[0].skip, whole.spans[0].take), (5, S - 4));
        let parts = Layout::Parts(vec![(1, 3 * S), (7, 2 * S), (9, 1)]);
        let second = stored_part_bytes(3 * S);
        let across = plan(&parts, &(3 * S - 1..3 * S + 1));
        assert_eq!(across.head, Some(0..HEAD_BYTES));
        assert_eq!(across.stored, HEAD_BYTES + 2 * SEALED_BYTES..second + HEAD_BYTES + SEALED_BYTES);
        let touched: Vec<_> = across.spans.iter().map(|s| (s.part, s.head, s.first, s.end, s.skip, s.take)).collect();
        assert_eq!(touched, [(Some(1), false, 2, 3, S - 1, 1), (Some(7), true, 0, 1, 0, 1)]);
        let end = plan(&parts, &(5 * S..5 * S + 1));
        assert_eq!((end.stored.end, end.head), (parts.stored_bytes(), None));
    }
}
