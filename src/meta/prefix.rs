//! Prefixes as ranges. `LIKE` would read `%` and `_` in a key as wildcards and fold the case of ASCII letters; a range of bytes is exact and
//! is a seek in an index.

/// The smallest text that sorts after every text beginning with `prefix`, `None` when there is none. Compared byte by byte, which
/// for UTF-8 is the order of code points.
pub(crate) fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        if let Some(next) = next_char(last) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// The smallest text that sorts after `text` itself.
pub(crate) fn successor(text: &str) -> String {
    format!("{text}\0")
}

/// The next code point that text can hold: surrogates cannot be in UTF-8.
fn next_char(c: char) -> Option<char> {
    match c {
        '\u{d7ff}' => Some('\u{e000}'),
        _ => char::from_u32(u32::from(c) + 1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends() {
        assert_eq!(end_of_prefix("a").as_deref(), Some("b"));
        assert_eq!(end_of_prefix("a\u{7f}").as_deref(), Some("a\u{80}"));
        assert_eq!(end_of_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(end_of_prefix("a\u{10ffff}\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(end_of_prefix("\u{10ffff}"), None);
        assert_eq!(end_of_prefix(""), None);
    }

    proptest! {
        #[test]
        fn the_range_is_the_prefix(prefix in "\\PC{0,3}|[\u{d7fe}-\u{e001}\u{10fffe}-\u{10ffff}a%_]{0,3}",
                                   text in "\\PC{0,5}|[\u{d7fe}-\u{e001}\u{10fffe}-\u{10ffff}a%_]{0,5}") {
            let inside = text.as_str() >= prefix.as_str() && end_of_prefix(&prefix).is_none_or(|end| text < end);
            prop_assert_eq!(inside, text.starts_with(&prefix));
            prop_assert!(successor(&text) > text);
        }
    }
}
