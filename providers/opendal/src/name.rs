//! From keys to paths and back.
//!
//! A segment of a key (the text between slashes) is the name of that very text wherever a service can hold it. Names of ours that are
//! not plain begin with `%`, so a segment that begins like that is never plain:
//!
//! | name | means |
//! |---|---|
//! | `%TEXT` | a segment that cannot be a name: empty, ending in a dot (`.` and `..` are such), beginning with `%`, with white space at an end, with `\`, control characters or characters that XML cannot hold |
//! | `%+TEXT/` | the beginning of a segment longer than a name can be; the rest lies inside. Where there are directories |
//! | `NAME%/` | the directory `NAME`, in the marked layout; there, a segment that ends in `%` is not plain either |
//! | `%!sluice/` | the hidden space, in the root |
//!
//! In `TEXT`, every byte but letters, digits, `-` and `_` of ASCII is `%` and two hexadecimal digits. A name that is no name of any segment
//! belongs to nobody and is not listed.

use std::fmt::Write as _;

use sluice_provider::{Error, ErrorKind, Key, Result};

/// The hidden space.
pub(crate) const HIDDEN: &str = "%!sluice/";
/// The longest name of a directory entry in bytes, as most file systems have it.
const NAME_BYTES: usize = 255;
/// How much of a long segment is in one name, in bytes once escaped.
const PIECE_BYTES: usize = 240;
/// The longest path of an object in bytes, where there are no directories (Azure Blob, GCS and B2 take as much).
pub(crate) const FLAT_BYTES: usize = 1024;

/// How keys are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// Names have a largest length.
    pub(crate) tree: bool,
    /// Directories are marked.
    pub(crate) marked: bool,
    /// The longest path in bytes.
    pub(crate) longest: usize,
}

/// What a name is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A whole segment (with what came before it in long ones).
    Whole(String),
    /// The beginning of one.
    Continued(String),
}

impl Names {
    /// The path of a key. Never leaves the root: no segment of it is empty, `.` or `..`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] for what is too long once escaped.
    pub(crate) fn path(self, key: &Key) -> Result<String> {
        let mut path = String::with_capacity(key.as_str().len() + 8);
        let mut segments = key.as_str().split('/').peekable();
        while let Some(segment) = segments.next() {
            let directory = segments.peek().is_some();
            self.encode(segment, directory, &mut path);
            if directory {
                path.push('/');
            }
        }
        if path.len() > self.longest {
            return Err(Error::new(ErrorKind::InvalidKey, "key is too long for the service").with("bytes", path.len()));
        }
        Ok(path)
    }

    /// Whether a segment is its own name.
    fn is_plain(self, text: &str) -> bool {
        let unfit = |c: char| c.is_control() || matches!(c, '\\' | '\u{fffe}' | '\u{ffff}' | '\u{feff}');
        !(text.is_empty()
            || text.starts_with('%')
            || text.ends_with('.')
            || text.starts_with(char::is_whitespace)
            || text.ends_with(char::is_whitespace)
            || text.contains(unfit)
            || self.marked && text.ends_with('%')
            || self.tree && text.len() + usize::from(self.marked) > NAME_BYTES)
    }

    fn encode(self, segment: &str, directory: bool, out: &mut String) {
        if self.is_plain(segment) {
            out.push_str(segment);
        } else {
            let mut rest = segment;
            loop {
                let fits = if self.tree { fitting(rest) } else { rest.len() };
                if fits == rest.len() {
                    break;
                }
                out.push_str("%+");
                escape(&rest[..fits], out);
                out.push('/');
                rest = &rest[fits..];
            }
            out.push('%');
            escape(rest, out);
        }
        if directory && self.marked {
            out.push('%');
        }
    }

    /// What a name in a directory is; `None` when it is nobody's. `before` is the beginning of a long segment whose rest this is.
    pub(crate) fn read(self, name: &str, directory: bool, before: &str) -> Option<Piece> {
        if directory && let Some(text) = name.strip_prefix("%+") {
            return Some(Piece::Continued(format!("{before}{}", unescape(text)?)));
        }
        let own = if directory && self.marked { name.strip_suffix('%')? } else { name };
        let segment = match own.strip_prefix('%') {
            Some(text) => format!("{before}{}", unescape(text)?),
            None if before.is_empty() => own.to_owned(),
            None => return None,
        };
        // Exactly one name means a segment: others would be objects that nobody can open.
        let mut again = String::new();
        self.encode(&segment, directory, &mut again);
        let last = again.rsplit('/').next().unwrap_or_default();
        let whole = before.is_empty() != again.contains('/');
        (last == name && whole).then_some(Piece::Whole(segment))
    }
}

fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if is_kept(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else if is_kept(first) {
            bytes.push(first);
            rest = after;
        } else {
            return None;
        }
    }
    String::from_utf8(bytes).ok()
}

/// How many bytes of a text fit into one name; ends between characters.
fn fitting(text: &str) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += if c.is_ascii() && is_kept(c as u8) { 1 } else { 3 * c.len_utf8() };
        if used > PIECE_BYTES {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const FLAT: Names = Names { tree: false, marked: false, longest: FLAT_BYTES };
    const TREE: Names = Names { tree: true, marked: false, longest: 4096 };
    const MARKED: Names = Names { tree: true, marked: true, longest: 4096 };

    fn path(names: Names, key: &str) -> String {
        names.path(&Key::new(key).unwrap()).unwrap()
    }

    #[test]
    fn ordinary_keys_are_their_own_paths() {
        for key in ["a", "a/b/c", "photos/2024/ümlaut 1.jpg", "100%.txt", "a b/+c&d", ".hidden/x", "日本/語"] {
            assert_eq!(path(FLAT, key), key);
            assert_eq!(path(TREE, key), key);
        }
        assert_eq!(path(MARKED, "a/b/c"), "a%/b%/c");
    }

    #[test]
    fn nothing_leaves_the_root() {
        for (key, flat) in [
            ("..", "%%2E%2E"),
            ("../x", "%%2E%2E/x"),
            ("a/../b", "a/%%2E%2E/b"),
            ("a//b", "a/%/b"),
            ("a/", "a/%"),
            ("/a", "%/a"),
            ("%!sluice/stage/x", "%%25%21sluice/stage/x"),
            ("a\\b", "%a%5Cb"),
            (" a", "%%20a"),
        ] {
            assert_eq!(path(FLAT, key), flat);
            assert_eq!(path(TREE, key), flat);
        }
        assert_eq!(path(MARKED, "//"), "%%/%%/%");
        assert!(FLAT.path(&Key::new("\u{1}".repeat(1000)).unwrap()).is_err());
    }

    #[test]
    fn names_are_read_back() {
        for names in [FLAT, TREE, MARKED] {
            for segment in [
                "a",
                "",
                ".",
                "..",
                "%",
                "%%",
                "a%",
                "%41",
                " ",
                "\\",
                "é",
                "\u{0}",
                &"s".repeat(255),
                &"s".repeat(256),
                &"é".repeat(500),
            ] {
                for directory in [false, true] {
                    let mut out = String::new();
                    names.encode(segment, directory, &mut out);
                    let mut before = String::new();
                    let mut pieces = out.split('/').peekable();
                    while let Some(name) = pieces.next() {
                        let last = pieces.peek().is_none();
                        match names.read(name, directory || !last, &before).unwrap() {
                            Piece::Continued(text) => before = text,
                            Piece::Whole(text) => assert_eq!((text.as_str(), last), (segment, true)),
                        }
                    }
                }
            }
        }
        for foreign in ["%41", "%zz", "%!sluice", "%%2e", "%+x"] {
            assert_eq!(TREE.read(foreign, false, ""), None, "{foreign}");
        }
        assert_eq!(MARKED.read("a", true, ""), None);
    }
}
